//! Whole images in QEMU. Each test has a guest of its own on an overlay of one image per architecture. Checks
//! of a feature run on the guest that boots fastest; the boot chains run on all.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod automount;
mod broken_slot;
mod chain;
mod cloud;
mod config;
mod development;
mod disk;
mod disk_growth;
mod dns;
mod leap;
mod mdns;
mod netem;
mod ntp;
mod nts;
mod openntpd;
mod preload;
mod services;
mod settings;
mod stage;
mod state;
mod time;
mod triggers;
mod update;
mod update_command;
mod update_faults;
mod vpn;
mod watchdog;
mod weight;

use minke_tests::guest;
