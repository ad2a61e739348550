//! A partition or an image file as what the FAT check works on.

use crate::file::{Flags, open};
use crate::{Context, Error, Result};
use minke_wire::fat::{self, Failure, Medium, Refused, Report};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What came of a check that did not fail.
#[derive(Debug)]
pub enum Checked {
    /// It is in order now; the report tells what was repaired.
    Whole(Report),
    /// It was left as it is, for this reason.
    LeftAlone(&'static str),
}

struct Disk<'a> {
    file: File,
    path: &'a Path,
    start: u64,
    error: Option<Error>,
}

impl Disk<'_> {
    fn keep<T>(
        &mut self,
        operation: &'static str,
        result: std::io::Result<T>,
    ) -> std::result::Result<T, Refused> {
        result.on(operation, self.path).map_err(|error| {
            self.error = Some(error);
            Refused
        })
    }
}

impl Medium for Disk<'_> {
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> std::result::Result<(), Refused> {
        let read = self.file.read_exact_at(buffer, self.start.saturating_add(offset));
        self.keep("read", read)
    }

    fn write(&mut self, offset: u64, content: &[u8]) -> std::result::Result<(), Refused> {
        let written = self.file.write_all_at(content, self.start.saturating_add(offset));
        self.keep("write", written)
    }

    fn sync(&mut self) -> std::result::Result<(), Refused> {
        let synced = self.file.sync_data();
        self.keep("fsync", synced)
    }
}

/// Checks and repairs the FAT16 or FAT32 file system in the `length` bytes from `start` of a partition or an image
/// file. A partition must not be mounted (`EBUSY`).
pub fn check_fat(path: &Path, start: u64, length: u64) -> Result<Checked> {
    on_disk(path, start, &mut |disk| fat::check(disk, length))
}

/// Gives the FAT file system there a serial number: the UUID that blkid(8) shows.
pub fn set_fat_serial(path: &Path, start: u64, length: u64, serial: u32) -> Result<Checked> {
    on_disk(path, start, &mut |disk| fat::set_serial(disk, length, serial).map(|()| Report::default()))
}

fn on_disk(
    path: &Path,
    start: u64,
    work: &mut dyn FnMut(&mut dyn Medium) -> std::result::Result<Report, Failure>,
) -> Result<Checked> {
    // Of a block device, O_EXCL refuses one that is in use.
    let file = open(path, Flags::RDWR | Flags::EXCL)?;
    let mut disk = Disk { file, path, start, error: None };
    match work(&mut disk) {
        Ok(report) => Ok(Checked::Whole(report)),
        Err(Failure::LeftAlone(why)) => Ok(Checked::LeftAlone(why)),
        Err(Failure::Medium) => {
            Err(disk.error.unwrap_or_else(|| Error::new("check", path.display(), Errno::IO)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_file_system_inside_an_image() {
        const START: u64 = 4 << 20;
        let path = std::env::temp_dir().join(format!("minke-medium-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        file.set_len(START + (8 << 20)).unwrap();
        let offset = format!("--offset={}", START / 512);
        let tool = |tool: &str, arguments: &[&str]| {
            let output = Command::new(tool).arg(&path).args(arguments).output().unwrap();
            assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        tool("mkfs.vfat", &["8192", "-F", "16", "-s", "1", "-n", "resin-boot", &offset]);
        // Not unmounted, as after a power cut.
        file.write_all_at(&[1], START + 37).unwrap();
        let Ok(Checked::Whole(report)) = check_fat(&path, START, 8 << 20) else { panic!() };
        assert_eq!(report.text(), "mark of an unclean end");
        assert!(matches!(set_fat_serial(&path, START, 8 << 20, 0xBDEF_0001), Ok(Checked::Whole(_))));
        let uuid = tool("blkid", &["-p", "-o", "value", "-s", "UUID", "-O", &START.to_string()]);
        assert_eq!(uuid.trim(), "BDEF-0001");
        assert!(matches!(check_fat(&path, 0, 8 << 20), Ok(Checked::LeftAlone(_))));
        assert_eq!(check_fat(&path, 64 << 20, 8 << 20).unwrap_err().operation, "read");
        std::fs::remove_file(path).unwrap();
    }
}
