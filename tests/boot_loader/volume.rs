//! The files of a disk image as a boot loader sees them: partitions by number, ext4 without its journal's replay.

use crate::disk::{Partition, partitions};
use crate::text;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The number of the boot partition.
const BOOT: u32 = 1;

/// A disk, and what has been written to its boot partition since, which stays in memory.
#[derive(Debug)]
pub struct Volume {
    disk: PathBuf,
    partitions: Vec<Partition>,
    /// The boot partition, where it is not the disk's.
    boot: Option<PathBuf>,
    written: BTreeMap<String, Vec<u8>>,
}

impl Volume {
    /// Reads the table.
    pub fn open(disk: &Path) -> Self {
        Self { disk: disk.to_path_buf(), partitions: partitions(disk), boot: None, written: BTreeMap::new() }
    }

    /// Reads the boot partition from this file: the disk's own, repaired.
    pub fn with_boot(mut self, partition: &Path) -> Self {
        self.boot = Some(partition.to_path_buf());
        self
    }

    /// A file's content.
    pub fn read(&self, partition: u32, path: &str) -> Option<Vec<u8>> {
        let path = path.trim_start_matches('/');
        if partition != BOOT {
            return self.slot(partition).read(path);
        }
        if let Some(content) = self.written.get(path) {
            return Some(content.clone());
        }
        let mut command = Command::new("mcopy");
        command.env("MTOOLS_SKIP_CHECK", "1").arg("-n").arg("-i").arg(self.boot_place());
        let output = command.arg(format!("::/{path}")).arg("-").output().unwrap();
        output.status.success().then_some(output.stdout)
    }

    /// Is there such a file or folder?
    pub fn exists(&self, partition: u32, path: &str) -> bool {
        if partition == BOOT {
            return self.read(BOOT, path).is_some();
        }
        self.slot(partition).exists(path)
    }

    /// Writes a file of the boot partition, in memory.
    pub fn write(&mut self, path: &str, content: Vec<u8>) {
        self.written.insert(path.trim_start_matches('/').to_owned(), content);
    }

    /// The ext4 of a partition.
    pub fn slot(&self, partition: u32) -> Ext4 {
        Ext4(format!("{}?offset={}", self.disk.display(), self.start(partition)))
    }

    /// mtools' name of the boot partition.
    fn boot_place(&self) -> String {
        match &self.boot {
            Some(file) => file.display().to_string(),
            None => format!("{}@@{}", self.disk.display(), self.start(BOOT)),
        }
    }

    /// Where a partition begins, in bytes: boot partition and roots are the first three.
    fn start(&self, partition: u32) -> u64 {
        assert!((1..4).contains(&partition), "no boot loader of ours reads partition {partition}");
        self.partitions[partition as usize - 1].start * 512
    }
}

/// An ext4, read as it lies there: debugfs replays no journal.
#[derive(Debug)]
pub struct Ext4(String);

impl Ext4 {
    fn request(&self, request: &str) -> String {
        let output = Command::new("debugfs").arg("-R").arg(request).arg(&self.0).output().unwrap();
        // It never fails; what it cannot do it says on the other stream.
        let said = crate::errors(&output);
        if said.lines().any(|line| !line.starts_with("debugfs ")) { said } else { text(&output) }
    }

    /// Is there such a file, folder or link that leads to one?
    pub fn exists(&self, path: &str) -> bool {
        // With a slash at the end a link is followed; a file is listed by its name either way.
        self.request(&format!("stat \"/{}\"", path.trim_start_matches('/'))).contains("Inode:")
    }

    /// A file's content.
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        let to = temporary();
        let request = format!("dump \"/{}\" {}", path.trim_start_matches('/'), to.display());
        self.request(&request);
        let content = std::fs::read(&to).ok();
        let _ = std::fs::remove_file(&to);
        content
    }

    /// The digest of a file, for large ones.
    pub fn digest(&self, path: &str) -> Option<String> {
        let to = temporary();
        self.request(&format!("dump \"/{}\" {}", path.trim_start_matches('/'), to.display()));
        let sum = Command::new("sha256sum").arg(&to).output().unwrap();
        let _ = std::fs::remove_file(&to);
        text(&sum).split_once(' ').map(|(sum, _)| sum.to_owned())
    }

    /// Where a symbolic link points. A short one lies in its inode, a long one is its file's content.
    pub fn link(&self, path: &str) -> Option<String> {
        let said = self.request(&format!("stat \"/{}\"", path.trim_start_matches('/')));
        if !said.contains("Type: symlink") {
            return None;
        }
        let short = said.lines().find_map(|line| line.strip_prefix("Fast link dest: \""));
        match short {
            Some(target) => target.strip_suffix('"').map(str::to_owned),
            None => self.read(path).map(|target| String::from_utf8_lossy(&target).into_owned()),
        }
    }

    /// The names in a folder.
    pub fn list(&self, path: &str) -> Vec<String> {
        let said = self.request(&format!("ls -p \"/{}\"", path.trim_start_matches('/')));
        let name = |line: &str| line.split('/').nth(5).map(str::to_owned);
        let dots = |name: &String| name != "." && name != ".." && !name.is_empty();
        said.lines().filter(|line| line.starts_with('/')).filter_map(name).filter(dots).collect()
    }
}

/// A name for a file of this process.
fn temporary() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("minke-ext4-{}-{number}", std::process::id()))
}
