//! A writable qcow2 layer over an image: the image stays as it was built.

use crate::error::{Context, Error, Result};
use crate::filesystem::{read_from_fat, write_to_fat};
use crate::tool::Tool;
use crate::tree::Scratch;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Unit of copying between a partition's file and the overlay.
const BLOCK: usize = 64 << 10;

/// Partition 1 begins here in every image of ours (spec os §1.1.1).
const BOOT_START: u64 = 4 << 20;

/// The overlay of one guest.
#[derive(Debug)]
pub struct Overlay {
    path: PathBuf,
}

impl Overlay {
    /// A new overlay, unless there is one, which is then used again.
    pub fn create(image: &Path, path: &Path) -> Result<Overlay> {
        if !path.exists() {
            let image = fs::canonicalize(image).on("finding the image", image)?;
            Tool::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
                .arg(&image)
                .arg(path)
                .run()?;
        }
        Ok(Overlay { path: path.to_path_buf() })
    }

    /// The qcow2 file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole disk as a plain file, for checks of its file systems. The guest must be off.
    pub fn export(&self, to: &Path) -> Result<()> {
        Tool::new("qemu-img").args(["convert", "-f", "qcow2", "-O", "raw"]).arg(&self.path).arg(to).run()
    }

    /// Makes the disk larger, as a larger card is than the image written to it. The guest must be off.
    pub fn grow(&self, bytes: u64) -> Result<()> {
        Tool::new("qemu-img")
            .args(["resize", "-q", "-f", "qcow2"])
            .arg(&self.path)
            .arg(format!("+{bytes}"))
            .run()
    }

    /// Writes `config.json` on the boot partition. The guest must be off.
    pub fn write_config(&self, content: &[u8]) -> Result<()> {
        self.write_boot_file("config.json", content)
    }

    /// Writes one file on the boot partition. The guest must be off.
    pub fn write_boot_file(&self, name: &str, content: &[u8]) -> Result<()> {
        let scratch = Scratch::new("overlay")?;
        let disk = scratch.join("disk");
        self.export(&disk)?;
        let (before, after) = (scratch.join("before"), scratch.join("after"));
        extract_boot(&disk, &before)?;
        fs::copy(&before, &after).on("copying", &before)?;
        let file = scratch.join("content");
        fs::write(&file, content).on("writing", &file)?;
        write_to_fat(&after, &file, name)?;
        self.write_changes(&before, &after)
    }

    /// Reads one file of the boot partition. The guest must be off.
    pub fn read_boot_file(&self, name: &str) -> Result<Vec<u8>> {
        let scratch = Scratch::new("overlay")?;
        let disk = scratch.join("disk");
        self.export(&disk)?;
        read_from_fat(&disk, BOOT_START, name)
    }

    /// Puts those blocks of the boot partition into the overlay that differ.
    fn write_changes(&self, before: &Path, after: &Path) -> Result<()> {
        let (old, new) = (fs::read(before).on("reading", before)?, fs::read(after).on("reading", after)?);
        let scratch = Scratch::new("blocks")?;
        let mut tool = Tool::new("qemu-io").args(["-f", "qcow2"]);
        let mut changed = false;
        for (number, (was, is)) in old.chunks(BLOCK).zip(new.chunks(BLOCK)).enumerate() {
            if was != is {
                let file = scratch.join(&number.to_string());
                fs::write(&file, is).on("writing", &file)?;
                let at = BOOT_START.saturating_add((number as u64).saturating_mul(BLOCK as u64));
                tool = tool.args(["-c", &format!("write -q -s {} {at} {}", file.display(), is.len())]);
                changed = true;
            }
        }
        if changed { tool.arg(&self.path).run() } else { Ok(()) }
    }
}

/// `config.json` of an image file.
pub fn image_config(image: &Path) -> Result<Vec<u8>> {
    read_from_fat(image, BOOT_START, "config.json")
}

fn extract_boot(disk: &Path, to: &Path) -> Result<()> {
    let file = File::open(disk).on("opening", disk)?;
    let mut length = 0;
    let mut head = [0; 512];
    file.read_exact_at(&mut head, BOOT_START).on("reading", disk)?;
    // The BIOS parameter block tells the size: 16 bits at 19, or 32 bits at 32 when those are zero.
    if let (Some([a, b]), Some([c, d, e, f])) = (head.get(19..21), head.get(32..36)) {
        let small = u32::from(u16::from_le_bytes([*a, *b]));
        let sectors = if small == 0 { u32::from_le_bytes([*c, *d, *e, *f]) } else { small };
        length = u64::from(sectors).saturating_mul(512);
    }
    if length == 0 {
        return Err(Error::Invalid(format!(
            "{}: the boot partition holds no FAT file system",
            disk.display()
        )));
    }
    use std::io::{Seek, SeekFrom};
    let mut file = file;
    file.seek(SeekFrom::Start(BOOT_START)).on("reading", disk)?;
    let mut target = File::create(to).on("making", to)?;
    std::io::copy(&mut file.take(length), &mut target).on("copying to", to)?;
    Ok(())
}
