//! A slot's file system made anew, from an empty one that was made along with the image (decision 6): there is no mke2fs
//! on a device, and all file systems have the features that boot loaders read.
//!
//! Power cut: the first block, with the superblock, is wiped first and written last, so there is no file system until it
//! is whole. The next update makes it anew again.

use super::slots::Side;
use super::why::{Result, Why, refuse};
use minke_sys::block;
use minke_sys::file::{self, Flags};
use minke_sys::{Context, status};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The empty file system, compressed.
const TEMPLATE: &str = "usr/share/minke/slot.ext4.gz";
/// The longest that is read, in bytes.
const TEMPLATE_LIMIT: usize = 4 << 20;
/// What is written last.
const HEAD: usize = 4096;
/// Where the superblock has the UUID and the label; no checksum covers them (ext4's super.rst).
const UUID: usize = 1024 + 0x68;
const LABEL: usize = 1024 + 0x78;
/// Bytes of a label.
const LABEL_LENGTH: usize = 16;

/// Makes the file system of `side` anew. The partition must not be mounted, and cannot be the one that runs.
pub fn remake(side: &Side, active: &Side, root: &Path) -> Result<()> {
    let path = root.join(TEMPLATE);
    let template = file::read_bounded(&path, TEMPLATE_LIMIT)?;
    let uuid = block::fresh_uuid()?;
    // Of a block device, O_EXCL refuses one that is in use.
    let device = file::open(&side.device, Flags::RDWR | Flags::EXCL)?;
    let number = status::of_open(&device)?.special;
    if number != side.number || number == active.number {
        refuse!("{} is not the partition that it was: nothing is written", side.device.display());
    }
    let write = |bytes: &[u8], place: u64| device.write_all_at(bytes, place).on("write", &side.device);
    let sync = || device.sync_data().on("fsync", &side.device);
    write(&[0; HEAD], 0)?;
    sync()?;
    let (mut head, mut place) = (Vec::new(), 0u64);
    let made = minke_oci::gunzip_bytes(&template, &mut |content| {
        let rest = HEAD.saturating_sub(head.len()).min(content.len());
        let (first, content) = content.split_at_checked(rest).unwrap_or((content, &[]));
        head.extend_from_slice(first);
        place = place.saturating_add(first.len() as u64);
        write(content, place)?;
        place = place.saturating_add(content.len() as u64);
        Ok(())
    });
    made.map_err(|error| Why::new(format_args!("make a file system of {}: {error}", path.display())))?;
    let mut label = side.slot.label().as_bytes().to_vec();
    label.resize(LABEL_LENGTH, 0);
    for (at, bytes) in [(UUID, uuid.as_slice()), (LABEL, &label)] {
        for (place, byte) in head.iter_mut().skip(at).zip(bytes) {
            *place = *byte;
        }
    }
    sync()?;
    write(&head, 0)?;
    Ok(sync()?)
}

/// Lets the file system, which is mounted, fill its partition.
pub fn grow(side: &Side) -> Result<()> {
    let Some(found) = block::probe(&side.device)? else {
        refuse!("{} holds no file system", side.device.display());
    };
    let blocks = block::size(&side.device)? / u64::from(found.block_size).max(1);
    Ok(block::resize(&side.place, blocks)?)
}
