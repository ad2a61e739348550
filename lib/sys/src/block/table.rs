//! Partition tables on disks: the last partition grown, a broken GPT restored, the kernel told.

use super::{Device, Places, number};
use crate::file::{Flags, ioctl, open};
use crate::{Context, Result};
use minke_wire::partition::{Disk, Plan, Write, plan, restore};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

// include/uapi/linux/blkpg.h, include/uapi/linux/fs.h.
const BLKPG: u32 = 0x1269;
const BLKPG_RESIZE_PARTITION: i32 = 3;
const BLKRRPART: u32 = 0x125F;

/// `struct blkpg_partition`; the names are not used.
#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: i32,
    names: [u8; 128],
}

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct BlkpgArgument {
    operation: i32,
    flags: i32,
    length: i32,
    data: *const BlkpgPartition,
}

/// What came of an attempt to grow a partition.
#[derive(Debug, PartialEq, Eq)]
pub enum Growth {
    /// It has the size that it should have, and the table needs no change.
    None,
    /// The table was written; the partition has so many bytes now.
    To(u64),
    /// The table was left alone, for this reason.
    LeftAlone(&'static str),
}

fn geometry(places: &Places, disk: &Device) -> Disk {
    let queue = places.sys.join("class/block").join(&disk.name).join("queue");
    let attribute = |name| number(&queue, name).and_then(|size| size.try_into().ok()).unwrap_or(512);
    let sector: u32 = attribute("logical_block_size");
    Disk {
        sector,
        sectors: disk.size.checked_div(sector.into()).unwrap_or(0),
        physical: attribute("physical_block_size"),
    }
}

/// Lets `partition`, which must be the last on `disk`, end where the disk does, if that adds more than 10 MiB, moves
/// a GPT's second table to the disk's end, and tells the kernel. Partitions of the disk may be in use.
pub fn grow(places: &Places, disk: &Device, partition: &Device) -> Result<Growth> {
    let geometry = geometry(places, disk);
    let Some(wanted) = partition.number else { return Ok(Growth::LeftAlone("it is no partition")) };
    let file = open(&disk.path, Flags::RDWR)?;
    grow_in(&file, &disk.path, &geometry, wanted, partition.start, &mut |size| {
        // Also when the table was right before: an earlier attempt may have ended here.
        if size == partition.size { Ok(()) } else { resize(&file, &disk.path, wanted, partition.start, size) }
    })
}

fn grow_in(
    file: &File,
    path: &Path,
    disk: &Disk,
    number: u32,
    start: u64,
    tell: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Growth> {
    let Plan { writes, size } = match plan(disk, number, start, &mut source(file)) {
        Ok(plan) => plan,
        Err(why) => return Ok(Growth::LeftAlone(why)),
    };
    write_all(file, path, &writes)?;
    tell(size)?;
    Ok(if writes.is_empty() { Growth::None } else { Growth::To(size) })
}

fn source(file: &File) -> impl FnMut(u64, usize) -> Option<Vec<u8>> {
    |offset, length| {
        let mut content = vec![0; length];
        file.read_exact_at(&mut content, offset).ok().map(|()| content)
    }
}

/// Each write reaches the disk before the next is made.
fn write_all(file: &File, path: &Path, writes: &[Write]) -> Result<()> {
    for write in writes {
        file.write_all_at(&write.content, write.offset).on("write", path)?;
        file.sync_data().on("fsync", path)?;
    }
    Ok(())
}

fn resize(file: &File, path: &Path, number: u32, start: u64, size: u64) -> Result<()> {
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let partition = BlkpgPartition {
        start: signed(start),
        length: signed(size),
        number: i32::try_from(number).unwrap_or(0),
        names: [0; 128],
    };
    let argument = BlkpgArgument {
        operation: BLKPG_RESIZE_PARTITION,
        flags: 0,
        length: i32::try_from(size_of::<BlkpgPartition>()).unwrap_or(0),
        data: &raw const partition,
    };
    // SAFETY: `argument` and the partition that it points to live through the call, which reads them.
    let result = unsafe { ioctl(file.as_fd(), BLKPG, (&raw const argument).addr()) };
    result.map(drop).on("resize a partition of", path)
}

/// Makes the first GPT of a disk from its second, when the first is broken, and lets the kernel read the table again.
/// The answer tells whether that was so. No partition of the disk may be in use.
pub fn restore_gpt(places: &Places, disk: &Device) -> Result<bool> {
    let file = open(&disk.path, Flags::RDONLY)?;
    let Some(writes) = restore(&geometry(places, disk), &mut source(&file)) else { return Ok(false) };
    let file = open(&disk.path, Flags::RDWR)?;
    write_all(&file, &disk.path, &writes)?;
    // SAFETY: this request takes no argument.
    let result = unsafe { ioctl(file.as_fd(), BLKRRPART, 0) };
    result.map(|_| true).on("read the partition table of", &disk.path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_partition_of_an_image_file_grows_once() {
        let path = std::env::temp_dir().join(format!("minke-table-{}", std::process::id()));
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        file.set_len(32 << 20).unwrap();
        let mut tool = Command::new("sfdisk").arg("-q").arg(&path).stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut tool.stdin.take().unwrap(), b"label: gpt\nstart=2048, size=8192\n")
            .unwrap();
        assert!(tool.wait().unwrap().success());
        file.set_len(64 << 20).unwrap();
        let disk = Disk { sector: 512, sectors: (64 << 20) / 512, physical: 512 };
        let mut told = Vec::new();
        let mut grow = |start| {
            grow_in(&file, &path, &disk, 1, start, &mut |size| {
                told.push(size);
                Ok(())
            })
        };
        let size = (64 << 20) - (2048 + 33) * 512;
        assert_eq!(grow(2048 * 512).unwrap(), Growth::To(size));
        assert_eq!(grow(2048 * 512).unwrap(), Growth::None);
        assert!(matches!(grow(0).unwrap(), Growth::LeftAlone(_)));
        assert_eq!(told, [size, size]);
        std::fs::remove_file(path).unwrap();
    }
}
