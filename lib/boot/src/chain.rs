//! The selection records of the three boot chains.

use crate::{Selection, Slot, place, rule};
use minke_sys::{Errno, Error, Result, file, status};
use minke_wire::bootenv::{self, Format};
use std::path::{Path, PathBuf};

/// The longest record that is read, in bytes: what is beyond no boot loader's script reads either.
const LIMIT: usize = 64 << 10;

/// The boot chains (spec os §2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chain {
    /// `resinOS_uEnv.txt` for root and flag, `bootcount.env` for the count, which U-Boot writes itself.
    ///
    /// Two files are one record by the order of writes: the count means something only while the flag is set, so it
    /// is cleared before the flag is set, and after the flag was taken away. A cut in between leaves what was before,
    /// at most with its count at 0, which gives a trial under way its tries again.
    UBoot,
    /// `grubenv`: all three in the first sector.
    Grub,
    /// `bootenv` of the kernel that starts the slot's kernel by kexec: all three in the first sector.
    BalenaBootloader,
}

/// The chains in the order in which their files are looked for (spec os §15.10.2).
const ORDER: [Chain; 3] = [Chain::UBoot, Chain::BalenaBootloader, Chain::Grub];

/// Where `grubenv` may stand: ours, a reference system's.
const GRUB_PLACES: [&str; 3] = ["grubenv", "EFI/BOOT/grubenv", "grub/grubenv"];

const U_BOOT_FILE: &str = "resinOS_uEnv.txt";
const U_BOOT_COUNT: &str = "bootcount.env";
const BOOTENV: &str = "bootenv";

/// The variables.
const ROOT: &str = "resin_root_part";
const UPGRADE: &str = "upgrade_available";
const COUNT: &str = "bootcount";

impl Chain {
    /// The chain of a device: the one that started this system, as the kernel's command line tells, if it has a record
    /// on the boot partition mounted at `boot`; else the first that has. Where somebody deleted the record, the loader's
    /// own files tell which it is. Without any an error: nothing could be selected.
    pub fn find(boot: &Path) -> Result<Self> {
        Self::find_by(boot, &file::text("/proc/cmdline"))
    }

    /// As [`Self::find`], with the command line.
    fn find_by(boot: &Path, cmdline: &str) -> Result<Self> {
        let booted = Self::of_cmdline(cmdline);
        let recorded = booted.filter(|chain| chain.has_record(boot));
        if let Some(chain) =
            recorded.or_else(|| ORDER.into_iter().find(|chain| chain.has_record(boot))).or(booted)
        {
            return Ok(chain);
        }
        for (name, chain) in [("boot.scr", Self::UBoot), ("EFI/BOOT/grub.cfg", Self::Grub)] {
            if status::exists(boot.join(name)) {
                return Ok(chain);
            }
        }
        Err(Error::new("find the slot selection in", boot.display(), Errno::NOENT))
    }

    /// The chain that started a kernel with this command line, where it can be told: the kexec stage adds
    /// `minke.chain=bootenv`, GRUB says where the kernel came from.
    fn of_cmdline(cmdline: &str) -> Option<Self> {
        let mut grub = None;
        for word in cmdline.split_ascii_whitespace() {
            if word == "minke.chain=bootenv" {
                return Some(Self::BalenaBootloader);
            }
            if word.starts_with("BOOT_IMAGE=(") {
                grub = Some(Self::Grub);
            }
        }
        grub
    }

    fn has_record(self, boot: &Path) -> bool {
        status::of(self.path(boot)).is_ok_and(|status| status.is_file())
    }

    /// The file with root and flag.
    pub fn path(self, boot: &Path) -> PathBuf {
        match self {
            Self::UBoot => boot.join(U_BOOT_FILE),
            Self::BalenaBootloader => boot.join(BOOTENV),
            Self::Grub => {
                let mut places = GRUB_PLACES.into_iter().map(|place| boot.join(place));
                places.find(|path| status::exists(path)).unwrap_or_else(|| boot.join("grubenv"))
            }
        }
    }

    /// The name that `status` shows.
    pub fn name(self) -> &'static str {
        match self {
            Self::UBoot => "U-Boot",
            Self::Grub => "GRUB",
            Self::BalenaBootloader => "balena bootloader",
        }
    }

    fn format(self) -> Format {
        if self == Self::UBoot { Format::Text } else { Format::Block }
    }

    /// What the boot loader will make of the record at its next pass: garbage and a missing file are slot A without
    /// a trial, as its script has it. An error is a disk that cannot be read.
    pub fn read(self, boot: &Path) -> Result<Selection> {
        let path = self.path(boot);
        let content = read(&path)?;
        let get = |name| bootenv::get(self.format(), &content, name);
        let second = if self == Self::BalenaBootloader { "B" } else { "3" };
        let bootcount = match self {
            Self::UBoot => {
                let content = read(&boot.join(U_BOOT_COUNT))?;
                bootenv::get(Format::Text, &content, COUNT).and_then(minke_wire::text::number)
            }
            _ => get(COUNT).and_then(minke_wire::text::number),
        };
        Ok(Selection {
            root: if get(ROOT) == Some(second) { Slot::B } else { Slot::A },
            upgrade_available: get(UPGRADE) == Some("1"),
            bootcount: bootcount.unwrap_or(0),
        })
    }

    /// The variables of a selection, in the order in which they stand.
    pub(crate) fn record(self, selection: &Selection) -> [(&'static str, &'static str); 3] {
        let root = match self {
            Self::BalenaBootloader => selection.root.letter(),
            _ => selection.root.number(),
        };
        let upgrade = if selection.upgrade_available { "1" } else { "0" };
        // Nothing counts further.
        let count = match selection.bootcount {
            0 => "0",
            1 => "1",
            2 => "2",
            3 => "3",
            _ => "4",
        };
        [(ROOT, root), (UPGRADE, upgrade), (COUNT, count)]
    }

    /// Stores a selection. Power cut: the old or the new one, see the variants; then it is on the disk.
    pub fn write(self, boot: &Path, selection: &Selection) -> Result<()> {
        let record = self.record(selection);
        let path = self.path(boot);
        let [first, second, third] = record;
        if self != Self::UBoot {
            return put(&path, Format::Block, &record);
        }
        let store_count = || put(&boot.join(U_BOOT_COUNT), Format::Text, &[third]);
        if selection.upgrade_available {
            store_count()?;
        }
        put(&path, Format::Text, &[first, second])?;
        if !selection.upgrade_available {
            store_count()?;
        }
        Ok(())
    }

    /// Selects a slot, for a trial or for good, with the count at 0.
    pub fn select(self, boot: &Path, slot: Slot, trial: bool) -> Result<()> {
        self.write(boot, &Selection { root: slot, upgrade_available: trial, bootcount: 0 })
    }

    /// Gives a trial its tries again: for a shutdown that somebody asked for (spec os §15.10.7).
    pub fn clear_count(self, boot: &Path) -> Result<()> {
        let selection = self.read(boot)?;
        if !selection.upgrade_available || selection.bootcount == 0 {
            return Ok(());
        }
        self.write(boot, &Selection { bootcount: 0, ..selection })
    }

    /// Ends a trial: the selected slot stays for good.
    pub fn commit(self, boot: &Path) -> Result<()> {
        let selection = self.read(boot)?;
        self.write(boot, &Selection { upgrade_available: false, bootcount: 0, ..selection })
    }

    /// One pass of the boot loader, for the kexec stage: counts, stores, and says which slot to start.
    pub fn pass(self, boot: &Path) -> Result<Slot> {
        let selection = self.read(boot)?;
        let (slot, next) = rule::next(selection);
        if next != selection {
            self.write(boot, &next)?;
        }
        Ok(slot)
    }
}

/// The content of a record; empty when there is none.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    match file::read_optional(path, LIMIT) {
        Ok(content) => Ok(content.unwrap_or_default()),
        // No boot loader has room for that, so it is garbage.
        Err(error) if error.errno == Errno::FBIG => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Sets variables of the file at `path`. What is so already is not written.
fn put(path: &Path, format: Format, values: &[(&str, &str)]) -> Result<()> {
    let old = read(path)?;
    let new = bootenv::set(format, &old, values);
    if new == old {
        return Ok(());
    }
    place::overwrite(path, &old, &new)
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
