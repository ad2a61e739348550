//! What a partition holds, read from its first bytes: ext2/3/4, FAT12/16/32 and squashfs, with label, UUID
//! and the state flags that a mount or a check needs.
//!
//! Layouts: ext from Documentation/filesystems/ext4/super.rst, FAT from Microsoft's "FAT32 File System
//! Specification" (2000) and ECMA-107, squashfs from the kernel's `squashfs_fs.h`. Labels and UUIDs have the
//! spelling of blkid(8).

use std::fmt::Write as _;

/// How many bytes from the start of a partition [`parse`] wants; fewer are accepted and may hide a file
/// system.
pub const HEAD_BYTES: usize = 4096;

/// The most that [`Superblock::directory`] asks for: one FAT cluster or the fixed root folder.
const DIRECTORY_LIMIT: u64 = 64 * 1024;

/// A file system type, with blkid's and mount(8)'s name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ext2: no journal.
    Ext2,
    /// ext3: a journal, and nothing newer.
    Ext3,
    /// ext4.
    Ext4,
    /// FAT12, FAT16 or FAT32; the number is the width of a table entry in bits.
    Fat(u8),
    /// squashfs 4.
    Squashfs,
}

impl Kind {
    /// The name that mount(2) takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Fat(_) => "vfat",
            Self::Squashfs => "squashfs",
        }
    }
}

/// A file system that was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Its type.
    pub kind: Kind,
    /// Its label without padding; `None` when empty.
    pub label: Option<String>,
    /// ext: the UUID, lower case with dashes. FAT: the serial number as `XXXX-XXXX`, upper case.
    pub uuid: Option<String>,
    /// The bytes that the file system spans.
    pub size: u64,
    /// The size in bytes of its blocks (ext, squashfs) or clusters (FAT).
    pub block_size: u32,
    /// FAT: where the root folder lies, offset and length in bytes; its volume entry names the label that
    /// wins over the boot sector's (see [`directory_label`]).
    pub directory: Option<(u64, usize)>,
    /// ext: state and features.
    pub ext: Option<Ext>,
}

/// State and feature words of an ext file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ext {
    /// `s_state`: 1 cleanly unmounted, 2 errors seen, 4 orphans being recovered.
    pub state: u16,
    /// `s_feature_compat`.
    pub compat: u32,
    /// `s_feature_incompat`.
    pub incompat: u32,
    /// `s_feature_ro_compat`.
    pub ro_compat: u32,
}

impl Ext {
    /// Whether the kernel or a check has marked it cleanly unmounted and saw no error.
    pub fn clean(&self) -> bool {
        self.state & 1 != 0 && self.state & 2 == 0
    }

    /// Whether the journal holds what has not reached its place: a reader that knows no journal (a boot
    /// loader) sees old content.
    pub fn needs_recovery(&self) -> bool {
        self.incompat & INCOMPAT_RECOVER != 0
    }

    /// Whether metadata carry checksums (`metadata_csum`).
    pub fn metadata_csum(&self) -> bool {
        self.ro_compat & 0x400 != 0
    }

    /// Whether the checksum seed is stored, so that the UUID can change while mounted
    /// (`metadata_csum_seed`).
    pub fn csum_seed(&self) -> bool {
        self.incompat & 0x2000 != 0
    }
}

const EXT_MAGIC: u16 = 0xEF53;
const COMPAT_HAS_JOURNAL: u32 = 0x4;
const INCOMPAT_RECOVER: u32 = 0x4;
const INCOMPAT_JOURNAL_DEV: u32 = 0x8;
const INCOMPAT_64BIT: u32 = 0x80;
/// What ext3 knows: filetype, recover, meta_bg.
const EXT3_INCOMPAT: u32 = 0x2 | INCOMPAT_RECOVER | 0x10;
/// What ext3 knows: sparse_super, large_file, btree_dir.
const EXT3_RO_COMPAT: u32 = 0x1 | 0x2 | 0x4;

/// Recognises a file system by the first bytes of its partition.
pub fn parse(head: &[u8]) -> Option<Superblock> {
    // ext first: its block lies behind the boot sector, where leftovers of a FAT may survive.
    ext(head).or_else(|| squashfs(head)).or_else(|| fat(head))
}

fn ext(head: &[u8]) -> Option<Superblock> {
    let block = head.get(1024..2048)?;
    if le16(block, 0x38)? != EXT_MAGIC {
        return None;
    }
    let ext = Ext {
        state: le16(block, 0x3A)?,
        compat: le32(block, 0x5C)?,
        incompat: le32(block, 0x60)?,
        ro_compat: le32(block, 0x64)?,
    };
    if ext.incompat & INCOMPAT_JOURNAL_DEV != 0 {
        return None;
    }
    let block_size = 1024u32.checked_shl(le32(block, 0x18)?).filter(|size| (1024..=65536).contains(size))?;
    let high = if ext.incompat & INCOMPAT_64BIT != 0 { le32(block, 0x150)? } else { 0 };
    let blocks = u64::from(high) << 32 | u64::from(le32(block, 0x4)?);
    Some(Superblock {
        kind: ext_kind(&ext),
        label: label(block.get(0x78..0x88)?),
        uuid: uuid(block.get(0x68..0x78)?),
        size: blocks.checked_mul(u64::from(block_size))?,
        block_size,
        directory: None,
        ext: Some(ext),
    })
}

fn ext_kind(ext: &Ext) -> Kind {
    let newer = ext.incompat & !EXT3_INCOMPAT != 0 || ext.ro_compat & !EXT3_RO_COMPAT != 0;
    match (newer, ext.compat & COMPAT_HAS_JOURNAL != 0) {
        (true, _) => Kind::Ext4,
        (false, true) => Kind::Ext3,
        (false, false) => Kind::Ext2,
    }
}

fn squashfs(head: &[u8]) -> Option<Superblock> {
    if head.get(..4)? != b"hsqs" || le16(head, 28)? != 4 {
        return None;
    }
    Some(Superblock {
        kind: Kind::Squashfs,
        label: None,
        uuid: None,
        size: le64(head, 40)?,
        block_size: le32(head, 12)?,
        directory: None,
        ext: None,
    })
}

/// The BIOS parameter block, as far as it is needed.
pub(crate) struct Bpb {
    pub(crate) sector: u64,
    pub(crate) cluster: u64,
    pub(crate) reserved: u64,
    pub(crate) tables: u64,
    pub(crate) root_entries: u64,
    pub(crate) sectors: u64,
    pub(crate) table_sectors: u64,
    pub(crate) wide: bool,
}

pub(crate) fn bpb(head: &[u8]) -> Option<Bpb> {
    let (sector, cluster) = (le16(head, 11)?, *head.get(13)?);
    let (short_table, short_sectors) = (le16(head, 22)?, le16(head, 19)?);
    let wide = short_table == 0;
    let bpb = Bpb {
        sector: sector.into(),
        cluster: cluster.into(),
        reserved: le16(head, 14)?.into(),
        tables: (*head.get(16)?).into(),
        root_entries: le16(head, 17)?.into(),
        sectors: if short_sectors == 0 { le32(head, 32)?.into() } else { short_sectors.into() },
        table_sectors: if wide { le32(head, 36)?.into() } else { short_table.into() },
        wide,
    };
    // A partition table's first sector ends in the same two bytes: the parameters must make sense.
    let media = *head.get(21)?;
    let sane = head.get(510..512)? == [0x55, 0xAA]
        && (512..=4096).contains(&sector)
        && sector.is_power_of_two()
        && cluster.is_power_of_two()
        && bpb.reserved != 0
        && (1..=4).contains(&bpb.tables)
        && bpb.sectors != 0
        && bpb.table_sectors != 0
        && (media == 0xF0 || media >= 0xF8);
    sane.then_some(bpb)
}

fn fat(head: &[u8]) -> Option<Superblock> {
    let bpb = bpb(head)?;
    let root_sectors = (bpb.root_entries * 32).div_ceil(bpb.sector);
    let root_start = bpb.reserved.checked_add(bpb.tables.checked_mul(bpb.table_sectors)?)?;
    let data_start = root_start.checked_add(root_sectors)?;
    let clusters = bpb.sectors.checked_sub(data_start)?.checked_div(bpb.cluster)?;
    let cluster_bytes = bpb.cluster.checked_mul(bpb.sector)?;
    let (bits, extended) = match (bpb.wide, clusters) {
        (true, _) => (32, 66),
        (false, 0..4085) => (12, 38),
        (false, _) => (16, 38),
    };
    let directory = if bpb.wide {
        let into = u64::from(le32(head, 44)?).checked_sub(2)?.checked_mul(bpb.cluster)?;
        (data_start.checked_add(into)?, cluster_bytes)
    } else {
        (root_start, bpb.root_entries * 32)
    };
    let (uuid, label) = match *head.get(extended)? {
        0x29 => (serial(le32(head, extended + 1)?), fat_label(head.get(extended + 5..extended + 16)?)),
        0x28 => (serial(le32(head, extended + 1)?), None),
        _ => (None, None),
    };
    Some(Superblock {
        kind: Kind::Fat(bits),
        label,
        uuid,
        size: bpb.sectors.checked_mul(bpb.sector)?,
        block_size: u32::try_from(cluster_bytes).ok()?,
        directory: Some((
            directory.0.checked_mul(bpb.sector)?,
            usize::try_from(directory.1.min(DIRECTORY_LIMIT)).ok()?,
        )),
        ext: None,
    })
}

/// The label in a FAT root folder: the entry with the volume attribute. `None` when there is none, and then
/// the boot sector's counts.
pub fn directory_label(directory: &[u8]) -> Option<String> {
    const LONG_NAME: u8 = 0x0F;
    const VOLUME: u8 = 0x08;
    const FOLDER: u8 = 0x10;
    for entry in directory.chunks_exact(32) {
        let (first, attributes) = (*entry.first()?, *entry.get(11)?);
        match first {
            0x00 => return None,
            0xE5 => continue,
            _ if attributes & LONG_NAME == LONG_NAME || attributes & (VOLUME | FOLDER) != VOLUME => continue,
            _ => return fat_label(entry.get(..11)?),
        }
    }
    None
}

fn fat_label(field: &[u8]) -> Option<String> {
    let end = field.iter().rposition(|byte| !matches!(byte, b' ' | 0)).map_or(0, |last| last + 1);
    label(field.get(..end)?).filter(|label| label != "NO NAME")
}

/// A padded text field: up to the first NUL.
fn label(field: &[u8]) -> Option<String> {
    let text = field.split(|byte| *byte == 0).next()?;
    (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
}

fn serial(number: u32) -> Option<String> {
    (number != 0).then(|| format!("{:04X}-{:04X}", number >> 16, number & 0xFFFF))
}

/// The usual spelling of 16 bytes; `None` for the all-zero one, which means unset.
pub fn uuid(bytes: &[u8]) -> Option<String> {
    if bytes.iter().all(|byte| *byte == 0) {
        return None;
    }
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    Some(text)
}

pub(crate) fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_le_bytes(*chunk))
}

pub(crate) fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

pub(crate) fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    /// Makes an image with the real tool and removes it afterwards.
    struct Image(PathBuf);

    impl Image {
        fn new(name: &str, megabytes: u64) -> Self {
            let path = std::env::temp_dir().join(format!("minke-sb-{}-{name}", std::process::id()));
            std::fs::File::create(&path).unwrap().set_len(megabytes << 20).unwrap();
            Self(path)
        }

        fn run(self, tool: &str, arguments: &[&str]) -> Self {
            let output = Command::new(tool).args(arguments).arg(&self.0).output().unwrap();
            assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
            self
        }

        fn head(&self) -> Vec<u8> {
            let mut content = std::fs::read(&self.0).unwrap();
            content.truncate(HEAD_BYTES);
            content
        }

        fn directory(&self, superblock: &Superblock) -> Vec<u8> {
            let (offset, length) = superblock.directory.unwrap();
            let offset = usize::try_from(offset).unwrap();
            std::fs::read(&self.0).unwrap()[offset..offset + length].to_vec()
        }
    }

    impl Drop for Image {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn blkid(path: &Path, tag: &str) -> Option<String> {
        let output = Command::new("blkid").args(["-p", "-o", "value", "-s", tag]).arg(path).output().unwrap();
        let value = String::from_utf8(output.stdout).unwrap().trim_end().to_owned();
        (!value.is_empty()).then_some(value)
    }

    fn agrees_with_blkid(image: &Image) -> Superblock {
        let superblock = parse(&image.head()).unwrap();
        assert_eq!(Some(superblock.kind.name().to_owned()), blkid(&image.0, "TYPE"));
        assert_eq!(superblock.uuid, blkid(&image.0, "UUID"));
        let shown = match superblock.directory {
            Some(_) => directory_label(&image.directory(&superblock)),
            None => superblock.label.clone(),
        };
        assert_eq!(shown, blkid(&image.0, "LABEL"));
        superblock
    }

    #[test]
    fn ext_images_as_blkid_sees_them() {
        for (kind, expected) in [("ext2", Kind::Ext2), ("ext3", Kind::Ext3), ("ext4", Kind::Ext4)] {
            let image = Image::new(kind, 8).run("mke2fs", &["-q", "-t", kind, "-L", "resin-state"]);
            let superblock = agrees_with_blkid(&image);
            assert_eq!((superblock.kind, superblock.size), (expected, 8 << 20));
            let ext = superblock.ext.unwrap();
            assert!(ext.clean() && !ext.needs_recovery());
        }
    }

    #[test]
    fn ext_features_that_uuid_changes_need() {
        let image = Image::new("seed", 8).run("mke2fs", &["-q", "-t", "ext4", "-O", "metadata_csum_seed"]);
        let ext = agrees_with_blkid(&image).ext.unwrap();
        assert!(ext.metadata_csum() && ext.csum_seed());
        let image = Image::new("plain", 8).run("mke2fs", &["-q", "-t", "ext4", "-O", "^metadata_csum"]);
        assert!(!agrees_with_blkid(&image).ext.unwrap().metadata_csum());
    }

    #[test]
    fn an_ext_image_that_was_not_unmounted() {
        let image = Image::new("dirty", 8).run("mke2fs", &["-q", "-t", "ext4"]);
        let mut head = image.head();
        head[1024 + 0x3A] = 0;
        head[1024 + 0x60] |= 4;
        let ext = parse(&head).unwrap().ext.unwrap();
        assert!(!ext.clean() && ext.needs_recovery());
        head[1024 + 0x3A] = 3;
        assert!(!parse(&head).unwrap().ext.unwrap().clean());
    }

    #[test]
    fn fat_images_as_blkid_sees_them() {
        for (bits, megabytes) in [(12, 4), (16, 40), (32, 64)] {
            let bits = bits.to_string();
            let image = Image::new(&format!("fat{bits}"), megabytes)
                .run("mkfs.vfat", &["-F", &bits, "-n", "resin-boot", "-i", "bdef1a2b"]);
            let superblock = agrees_with_blkid(&image);
            assert_eq!(superblock.kind, Kind::Fat(bits.parse().unwrap()));
            assert_eq!(superblock.uuid.as_deref(), Some("BDEF-1A2B"));
            assert_eq!(superblock.label.as_deref(), Some("resin-boot"));
            assert_eq!(superblock.size, megabytes << 20);
        }
        let image = Image::new("nolabel", 40).run("mkfs.vfat", &["-F", "16"]);
        assert_eq!(agrees_with_blkid(&image).label, None);
    }

    #[test]
    fn squashfs_is_recognised() {
        let folder = std::env::temp_dir().join(format!("minke-sb-{}-squash", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let image = Image::new("image.squashfs", 0);
        let status = Command::new("mksquashfs")
            .arg(&folder)
            .arg(&image.0)
            .args(["-noappend", "-quiet", "-no-progress"])
            .status();
        std::fs::remove_dir(&folder).unwrap();
        assert!(status.unwrap().success());
        let superblock = agrees_with_blkid(&image);
        assert_eq!((superblock.kind, superblock.block_size), (Kind::Squashfs, 131_072));
    }

    #[test]
    fn a_partition_table_and_noise_are_no_file_system() {
        let mut sector = vec![0u8; HEAD_BYTES];
        sector[510..512].copy_from_slice(&[0x55, 0xAA]);
        assert_eq!(parse(&sector), None);
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[0xFF; HEAD_BYTES]), None);
    }

    #[test]
    fn never_panics_on_mutated_superblocks() {
        let seeds = [
            Image::new("m1", 8).run("mke2fs", &["-q", "-t", "ext4"]).head(),
            Image::new("m2", 40).run("mkfs.vfat", &["-F", "16"]).head(),
            Image::new("m3", 64).run("mkfs.vfat", &["-F", "32"]).head(),
            {
                let mut head = vec![0; 96];
                head[..4].copy_from_slice(b"hsqs");
                head[28] = 4;
                head
            },
        ];
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..400_000u32 {
            let mut head = seeds[round as usize % seeds.len()].clone();
            for _ in 0..1 + random() % 6 {
                // Most hits go where the fields are.
                let base = if random() % 2 == 0 { 0 } else { 1024 };
                let at = (base + usize::try_from(random() % 512).unwrap()) % head.len();
                head[at] = [0, 0xFF, 0x80, 1, random() as u8][usize::try_from(random() % 5).unwrap()];
            }
            if random() % 8 == 0 {
                head.truncate(usize::try_from(random()).unwrap() % head.len());
            }
            let _ = parse(&head);
            let _ = directory_label(&head);
        }
    }
}
