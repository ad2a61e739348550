//! Builds bootable images for four architectures, and runs them in QEMU.
//!
//! Two halves, which know little of each other: [`build`] and what it uses make an image from Debian's packages and the
//! release binary; [`guest`] starts a virtual machine from an image and drives its console, its ports and its power.
//! Tests use the second half through [`guest::Guest`].

#![forbid(unsafe_code)]

pub mod arch;
pub mod balena;
pub mod boot_files;
pub mod build;
pub mod cache;
pub mod commands;
pub mod console;
pub mod delta;
pub mod demo;
pub mod error;
pub mod fetch;
pub mod filesystem;
pub mod guest;
pub mod hostapp;
pub mod initramfs;
pub mod kernel;
pub mod kvm;
pub mod machine;
pub mod oci;
pub mod overlay;
pub mod process;
pub mod progress;
pub mod release;
pub mod rootfs;
pub mod shell;
pub mod table;
pub mod tar;
pub mod tool;
pub mod tree;
pub mod units;
pub mod verity;
