//! The boot chain "balena bootloader" (spec os §2.1.4): a kernel started with `balena_stage2` reads `bootenv` on the boot
//! partition and starts the selected slot's kernel by kexec. Here QEMU starts that first kernel; a board's firmware would
//! read it from the boot partition.

use crate::error::{Context, Error, Result};
use crate::hostapp::Tree;
use crate::tree::Root;
use std::fs;
use std::path::Path;

/// The record of the slot selection.
pub const BOOTENV: &str = "bootenv";

/// Files of the other chains.
const OTHERS: &[&str] =
    &["EFI", "grub_extraenv", "grubenv", "boot.scr", "resinOS_uEnv.txt", "bootcount.env", "extra_uEnv.txt"];

/// Who selects the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootChain {
    /// The architecture's boot loader: GRUB or U-Boot.
    Usual,
    /// The balena bootloader.
    Balena,
}

impl BootChain {
    /// Reads a name as the command line has it.
    pub fn parse(name: &str) -> Result<BootChain> {
        match name {
            "usual" => Ok(BootChain::Usual),
            "balena" => Ok(BootChain::Balena),
            name => Err(Error::Usage(format!("no boot chain '{name}'; there are usual and balena"))),
        }
    }

    /// What changes in what is built.
    pub fn change(self, tree: &Tree<'_>) -> Result<()> {
        match (self, tree) {
            (BootChain::Balena, Tree::BootFiles(root)) => boot_files(root),
            _ => Ok(()),
        }
    }
}

fn boot_files(root: &Root) -> Result<()> {
    for name in OTHERS {
        let path = root.at(name);
        if path.is_dir() {
            fs::remove_dir_all(&path).on("removing", &path)?;
        } else if path.exists() {
            fs::remove_file(&path).on("removing", &path)?;
        }
    }
    root.file(BOOTENV, environment("A", "0", "0"))?;
    crate::boot_files::list(root)
}

/// The record: a block as GRUB has it, with the slots' letters.
pub fn environment(root_part: &str, upgrade_available: &str, bootcount: &str) -> String {
    crate::boot_files::grub_environment(root_part, upgrade_available, bootcount)
}

/// Whether the image to which the folder `boot` belongs has this chain.
pub fn is_chain_of(boot: &Path) -> bool {
    boot.join(BOOTENV).exists()
}
