//! Formats and protocols as pure functions over bytes: no input or output, no clock, no panic on any input.

#![forbid(unsafe_code)]

pub mod dhcp;
pub mod kmod;
pub mod mountinfo;
pub mod netlink;
pub mod superblock;
pub mod tar;
pub mod unit;
