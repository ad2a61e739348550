//! File systems made into plain files, without mounts and without root rights, the same bytes each time.

use crate::error::{Context, Result};
use crate::table::{Partition, SECTOR, identifier, uuid_text};
use crate::tool::Tool;
use crate::tree::{Scratch, set_folder_modes, set_times, walk};
use std::fmt::Write;
use std::fs::{self, File};
use std::path::Path;

/// What an ext4 file system serves as; this decides its features (decisions 4 and 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Read by GRUB and by Debian's U-Boot: no checksums, no 64-bit block numbers.
    Slot,
    /// State and data: checksums whose seed does not change when the device gives itself a new UUID.
    Storage,
}

/// The bytes of a slot's journal: updates write a few large files, so that the smallest one will do.
const SLOT_JOURNAL_MIB: &str = "4";

/// The size of the empty slot that grows to any size, in sectors: its journal and its tables fit.
const TEMPLATE_SECTORS: u64 = (16 << 20) / SECTOR;

/// Inodes of that template, and of each 128 MiB that it grows to: a slot has some dozens of files.
const TEMPLATE_INODES: &str = "1024";

/// A file system with blocks of 4 KiB must be larger than this to hold a copy of its superblock, in bytes.
const SECOND_SUPERBLOCK: u64 = 129 << 20;

/// How to make one ext4 file system.
#[derive(Debug)]
pub struct Ext4<'a> {
    /// Features by role.
    pub role: Role,
    /// Label and size.
    pub partition: &'a Partition,
    /// What UUID and hash seed derive from.
    pub seed: &'a str,
    /// Its content.
    pub content: &'a Path,
    /// Build stamp, seconds since 1970.
    pub stamp: u64,
}

impl Ext4<'_> {
    /// Makes the file system in the file `to`.
    pub fn make(&self, to: &Path) -> Result<()> {
        let label = self.partition.label;
        let bytes = self.partition.sectors.saturating_mul(SECTOR);
        blank(to, bytes)?;
        set_folder_modes(self.content)?;
        set_times(self.content, self.stamp)?;
        let features = match self.role {
            Role::Slot => "^metadata_csum,^metadata_csum_seed,^64bit,^orphan_file,has_journal",
            Role::Storage => "metadata_csum,metadata_csum_seed,64bit,^orphan_file,has_journal",
        };
        let uuid = uuid_text(identifier(self.seed, label));
        let hash_seed = uuid_text(identifier(self.seed, &format!("{label} hash")));
        let mut extended =
            format!("root_owner=0:0,hash_seed={hash_seed},lazy_itable_init=0,lazy_journal_init=0");
        let template = self.partition.sectors == TEMPLATE_SECTORS;
        let shape: &[&str] = match self.role {
            Role::Slot if template => &["-J", &format!("size={SLOT_JOURNAL_MIB}"), "-N", TEMPLATE_INODES],
            Role::Slot => &["-J", &format!("size={SLOT_JOURNAL_MIB}"), "-i", "65536"],
            Role::Storage => &["-i", "8192"],
        };
        // Room for the group descriptors of 2 TiB; beyond that, growth changes the layout (meta_bg).
        if label == "resin-data" {
            extended.push_str(",resize=536870912");
        }
        // e2fsck finds the superblock's first copy behind as many blocks as have bits in one: behind 8 MiB of small
        // blocks, where 128 MiB of large ones would leave a small partition without.
        let small = self.role == Role::Storage && bytes < SECOND_SUPERBLOCK;
        let block_size = if small { "1024" } else { "4096" };
        Tool::new("mke2fs")
            .env("SOURCE_DATE_EPOCH", self.stamp.to_string())
            .env("E2FSPROGS_FAKE_TIME", self.stamp.to_string())
            .env("MKE2FS_CONFIG", "/dev/null")
            .args(["-q", "-F", "-t", "ext4", "-b", block_size, "-I", "256", "-m", reserve(label)])
            .args(shape)
            .args(["-O", &format!("none,filetype,ext_attr,dir_index,extent,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,resize_inode,{features}")])
            .args(["-L", label, "-U", &uuid, "-E", &extended, "-d"])
            .arg(self.content)
            .arg(to)
            .run()?;
        self.same_owner_and_times(to)
    }

    /// mke2fs copies owner, access and change time of the files that it is given; the image must not tell them.
    fn same_owner_and_times(&self, image: &Path) -> Result<()> {
        let mut script = String::new();
        let mut paths = vec!["/".to_owned()];
        paths.extend(walk(self.content)?.into_iter().map(|(name, _)| format!("/{name}")));
        paths.push("/lost+found".into());
        for path in paths {
            for field in ["atime", "ctime", "mtime", "crtime"] {
                let _ = writeln!(script, "sif \"{path}\" {field} @{}", self.stamp);
            }
            let _ = writeln!(script, "sif \"{path}\" uid 0\nsif \"{path}\" gid 0");
        }
        Tool::new("debugfs")
            .env("E2FSPROGS_FAKE_TIME", self.stamp.to_string())
            .args(["-w", "-f", "-"])
            .arg(image)
            .input(script)
            .run()
    }
}

/// Makes, compressed with gzip, an empty slot from which a device re-makes one of its own that is beyond repair: it
/// writes this over the partition, gives it a label and a UUID in the superblock (which has no checksum), mounts it and lets
/// the kernel grow it (decision 6).
pub fn slot_template(stamp: u64) -> Result<Vec<u8>> {
    let scratch = Scratch::new("template")?;
    let (file, empty) = (scratch.join("slot"), scratch.join("empty"));
    fs::create_dir_all(&empty).on("making", &empty)?;
    let partition = Partition { label: "", number: 0, start: 0, sectors: TEMPLATE_SECTORS };
    Ext4 { role: Role::Slot, partition: &partition, seed: "slot template", content: &empty, stamp }
        .make(&file)?;
    crate::oci::gzip(&fs::read(&file).on("reading", &file)?)
}

/// The share in percent that only the OS may fill: the file systems are mounted with a reserve for nobody's user id,
/// so that it takes CAP_SYS_RESOURCE, which containers lack (spec os §19.3).
///
/// State: 1 MiB of 20. Data: 4.8 MiB of the image's 192, which suffices for what engine and supervisor write to stop
/// containers and to free space, and 1 % of what the device adds: the kernel fills up the last block group without
/// adding to the reserve, then adds whole percents of each new group, so the share must be above 1 by then. Slots
/// are written by updates alone.
fn reserve(label: &str) -> &'static str {
    match label {
        "resin-state" => "5",
        "resin-data" => "2.5",
        _ => "0",
    }
}

/// Makes the FAT boot partition in the file `to`, with the files below `content`; `fat32` as the Raspberry Pi has it.
pub fn make_fat(
    to: &Path,
    partition: &Partition,
    content: &Path,
    seed: &str,
    fat32: bool,
    stamp: u64,
) -> Result<()> {
    blank(to, partition.sectors.saturating_mul(SECTOR))?;
    set_times(content, stamp)?;
    let [a, b, c, d, ..] = identifier(seed, partition.label);
    let serial = format!("{a:02x}{b:02x}{c:02x}{d:02x}");
    // FAT32 needs 65525 clusters, so on a small partition a cluster is one sector.
    let kind: &[&str] = if fat32 { &["-F", "32", "-s", "1"] } else { &["-F", "16"] };
    Tool::new("mkfs.vfat")
        .args(kind)
        .args(["--invariant", "-S", "512", "-n", "resin-boot", "-i", &serial])
        .arg(to)
        .run()?;
    // Folders come before what they hold.
    for (name, path) in walk(content)? {
        if path.is_dir() {
            mtools("mmd", stamp).arg("-i").arg(to).arg(format!("::/{name}")).run()?;
        } else {
            mtools("mcopy", stamp).args(["-m", "-i"]).arg(to).arg(&path).arg(format!("::/{name}")).run()?;
        }
    }
    Ok(())
}

/// Writes one file into an existing FAT image.
pub fn write_to_fat(image: &Path, file: &Path, name: &str) -> Result<()> {
    Tool::new("mcopy")
        .env("MTOOLS_SKIP_CHECK", "1")
        .args(["-o", "-m", "-i"])
        .arg(image)
        .arg(file)
        .arg(format!("::/{name}"))
        .run()
}

/// Reads one file of a FAT file system that begins at `offset` of an image.
pub fn read_from_fat(image: &Path, offset: u64, name: &str) -> Result<Vec<u8>> {
    let place = format!("{}@@{offset}", image.display());
    Tool::new("mcopy")
        .env("MTOOLS_SKIP_CHECK", "1")
        .args(["-n", "-i", &place, &format!("::/{name}"), "-"])
        .bytes()
}

fn mtools(name: &str, stamp: u64) -> Tool {
    Tool::new(name).env("MTOOLS_SKIP_CHECK", "1").env("SOURCE_DATE_EPOCH", stamp.to_string())
}

/// An empty file of this size; unwritten parts take no space.
fn blank(path: &Path, bytes: u64) -> Result<()> {
    if path.exists() {
        fs::remove_file(path).on("removing", path)?;
    }
    File::create(path).and_then(|file| file.set_len(bytes)).on("making", path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cache::file_digest;
    use crate::tree::Root;

    const PARTITION: Partition = Partition { label: "resin-state", number: 4, start: 8192, sectors: 40960 };

    fn content(name: &str) -> Scratch {
        let scratch = Scratch::new(name).unwrap();
        let root = Root::new(scratch.path()).unwrap();
        root.file("folder/file", vec![7; 100_000]).unwrap();
        root.link("folder/file", "link").unwrap();
        scratch
    }

    /// A power cut may leave half of the superblock's two sectors new; its checksum is wrong then.
    #[test]
    fn even_a_small_storage_outlives_a_torn_superblock() {
        use std::os::unix::fs::FileExt;
        let (scratch, from) = (Scratch::new("torn").unwrap(), content("torn-content"));
        let to = scratch.join("state");
        let ext4 = Ext4 {
            role: Role::Storage,
            partition: &PARTITION,
            seed: "seed",
            content: from.path(),
            stamp: 1_700_000_000,
        };
        ext4.make(&to).unwrap();
        // The time of the last mount, and what follows it.
        File::options().write(true).open(&to).unwrap().write_all_at(&[0x5a; 8], 1024 + 44).unwrap();
        let check = |option| std::process::Command::new("e2fsck").arg(option).arg(&to).output().unwrap();
        assert!(check("-n").status.code().unwrap() >= 4);
        let repaired = check("-y");
        assert!(repaired.status.code().unwrap() < 4, "{repaired:?}");
        Tool::new("e2fsck").args(["-fn"]).arg(&to).run().unwrap();
        let listed = Tool::new("debugfs").args(["-R", "stat folder/file"]).arg(&to).text().unwrap();
        assert!(listed.contains("Size: 100000"), "{listed}");
    }

    #[test]
    fn ext4_is_sound_and_the_same_each_time() {
        let scratch = Scratch::new("ext4").unwrap();
        for role in [Role::Slot, Role::Storage] {
            let mut sums = Vec::new();
            for name in ["one", "two"] {
                let from = content("ext4-content");
                let to = scratch.join(name);
                Ext4 {
                    role,
                    partition: &PARTITION,
                    seed: "seed",
                    content: from.path(),
                    stamp: 1_700_000_000,
                }
                .make(&to)
                .unwrap();
                Tool::new("e2fsck").args(["-fn"]).arg(&to).run().unwrap();
                sums.push(file_digest(&to).unwrap());
                std::thread::sleep(std::time::Duration::from_millis(1100));
            }
            assert_eq!(sums.first(), sums.last());
            let features = Tool::new("dumpe2fs").arg("-h").arg(scratch.join("one")).text().unwrap();
            assert_eq!(features.contains("metadata_csum_seed"), role == Role::Storage);
            assert!(features.contains("has_journal"));
        }
    }

    #[test]
    fn the_template_of_a_slot_has_a_slots_features_and_may_grow() {
        let scratch = Scratch::new("template-test").unwrap();
        let packed = slot_template(1_700_000_000).unwrap();
        assert_eq!(packed, slot_template(1_700_000_000).unwrap());
        assert!(packed.len() < 20_000, "{}", packed.len());
        let (template, slot) = (scratch.join("template"), scratch.join("slot"));
        let plain = Tool::new("gzip").arg("-dc").input(packed).bytes().unwrap();
        fs::write(&template, &plain).unwrap();
        Tool::new("e2fsck").args(["-fn"]).arg(&template).run().unwrap();
        let partition = Partition { label: "resin-rootA", sectors: 163_840, ..PARTITION };
        let empty = content("template-content");
        let stamp = 1_700_000_000;
        Ext4 { role: Role::Slot, partition: &partition, seed: "seed", content: empty.path(), stamp }
            .make(&slot)
            .unwrap();
        let features = |image: &Path| {
            let text = Tool::new("dumpe2fs").arg("-h").arg(image).text().unwrap();
            let kept =
                |line: &&str| line.starts_with("Filesystem features") || line.starts_with("Total journal");
            text.lines().filter(kept).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(features(&template), features(&slot));
        for mib in [64, 1024] {
            File::options().write(true).open(&template).unwrap().set_len(mib << 20).unwrap();
            Tool::new("resize2fs").arg(&template).run().unwrap();
            Tool::new("e2fsck").args(["-fn"]).arg(&template).run().unwrap();
        }
    }

    #[test]
    fn fat_is_the_same_each_time_and_reads_back() {
        let scratch = Scratch::new("fat").unwrap();
        let mut sums = Vec::new();
        for name in ["one", "two"] {
            let from = Scratch::new("fat-content").unwrap();
            Root::new(from.path()).unwrap().file("folder/a long name.txt", "text").unwrap();
            let to = scratch.join(name);
            make_fat(
                &to,
                &Partition { sectors: 81920, ..PARTITION },
                from.path(),
                "seed",
                name == "three",
                1_700_000_000,
            )
            .unwrap();
            sums.push(file_digest(&to).unwrap());
            assert_eq!(read_from_fat(&to, 0, "folder/a long name.txt").unwrap(), b"text");
            std::thread::sleep(std::time::Duration::from_millis(2100));
        }
        assert_eq!(sums.first(), sums.last());
    }
}
