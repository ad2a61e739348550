//! Formats and protocols as pure functions over bytes: no input or output, no clock, no panic on any input.

#![forbid(unsafe_code)]

pub mod civil;
pub mod dhcp;
pub mod dns;
pub mod http;
pub mod journal;
pub mod json;
pub mod kmod;
pub mod mountinfo;
pub mod netlink;
pub mod oci;
pub mod partition;
pub mod superblock;
pub mod table;
pub mod tar;
pub mod unit;
