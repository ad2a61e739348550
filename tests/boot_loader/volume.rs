//! The files of a disk image as a boot loader sees them: partitions by number, ext4 without its journal's replay.

use crate::disk::{Partition, partitions};
use crate::text;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The number of the boot partition.
const BOOT: u32 = 1;

/// A disk, and what has been written to its boot partition since, which stays in memory.
#[derive(Debug)]
pub struct Volume {
    boot: Rc<Fat>,
    slots: [Rc<Ext4>; 2],
    written: BTreeMap<String, Vec<u8>>,
}

impl Volume {
    /// Reads the table.
    pub fn open(disk: &Path) -> Self {
        let [boot, first, second, ..] = &partitions(disk)[..] else { panic!("no table of ours") };
        Self::of(Fat::at(disk, boot), [first, second].map(|slot| Ext4::at(disk, slot)))
    }

    /// The disk that has these partitions.
    pub fn of(boot: Rc<Fat>, slots: [Rc<Ext4>; 2]) -> Self {
        Self { boot, slots, written: BTreeMap::new() }
    }

    /// A file's content.
    pub fn read(&self, partition: u32, path: &str) -> Option<Vec<u8>> {
        if partition != BOOT {
            return self.slot(partition).read(path);
        }
        let written = self.written.get(&name(path));
        written.cloned().or_else(|| self.boot.read(path))
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
        self.written.insert(name(path), content);
    }

    /// The ext4 of a partition: roots are the second and the third.
    pub fn slot(&self, partition: u32) -> &Ext4 {
        match partition {
            2 => &self.slots[0],
            3 => &self.slots[1],
            _ => panic!("no boot loader of ours reads partition {partition}"),
        }
    }
}

/// By what a file of the boot partition is found: FAT's names have no case.
fn name(path: &str) -> String {
    path.trim_start_matches('/').to_ascii_lowercase()
}

/// The boot partition. It remembers its answers, so whoever looks at many disks can have one for all whose boot
/// partitions hold the same.
#[derive(Debug)]
pub struct Fat {
    /// mtools' name of it. Without one, its files are all known.
    place: Option<String>,
    found: RefCell<BTreeMap<String, Option<Vec<u8>>>>,
}

impl Fat {
    /// Where it lies on a disk.
    pub fn at(disk: &Path, partition: &Partition) -> Rc<Self> {
        let place = format!("{}@@{}", disk.display(), partition.start * 512);
        Rc::new(Self { place: Some(place), found: RefCell::default() })
    }

    /// One with these files.
    pub fn with(files: &BTreeMap<String, Vec<u8>>) -> Rc<Self> {
        let found = files.iter().map(|(path, content)| (name(path), Some(content.clone()))).collect();
        Rc::new(Self { place: None, found: RefCell::new(found) })
    }

    /// A file's content.
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        if let Some(known) = self.found.borrow().get(&name(path)) {
            return known.clone();
        }
        let mut command = Command::new("mcopy");
        command.env("MTOOLS_SKIP_CHECK", "1").args(["-n", "-i", self.place.as_ref()?]);
        let output = command.arg(format!("::/{}", path.trim_start_matches('/'))).arg("-").output().unwrap();
        let content = output.status.success().then_some(output.stdout);
        self.found.borrow_mut().insert(name(path), content.clone());
        content
    }
}

/// An ext4, read as it lies there: debugfs replays no journal. It remembers its answers as [`Fat`] does.
#[derive(Debug)]
pub struct Ext4 {
    place: String,
    said: RefCell<BTreeMap<String, String>>,
    read: RefCell<BTreeMap<String, Option<Vec<u8>>>>,
}

impl Ext4 {
    /// Where it lies on a disk.
    pub fn at(disk: &Path, partition: &Partition) -> Rc<Self> {
        let place = format!("{}?offset={}", disk.display(), partition.start * 512);
        Rc::new(Self { place, said: RefCell::default(), read: RefCell::default() })
    }

    /// What debugfs says to this.
    fn ask(&self, request: &str) -> String {
        let output = Command::new("debugfs").arg("-R").arg(request).arg(&self.place).output().unwrap();
        // It never fails; what it cannot do it says on the other stream.
        let said = crate::errors(&output);
        if said.lines().any(|line| !line.starts_with("debugfs ")) { said } else { text(&output) }
    }

    fn request(&self, request: String) -> String {
        self.said.borrow_mut().entry(request).or_insert_with_key(|request| self.ask(request)).clone()
    }

    /// Is there such a file, folder or link that leads to one?
    pub fn exists(&self, path: &str) -> bool {
        // With a slash at the end a link is followed; a file is listed by its name either way.
        self.request(format!("stat \"/{}\"", path.trim_start_matches('/'))).contains("Inode:")
    }

    /// A file's content.
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        let dump = |path: &String| {
            let to = self.dump(path);
            let content = std::fs::read(&to).ok();
            let _ = std::fs::remove_file(&to);
            content
        };
        self.read.borrow_mut().entry(path.to_owned()).or_insert_with_key(dump).clone()
    }

    /// The digest of a file, for large ones.
    pub fn digest(&self, path: &str) -> Option<String> {
        let to = self.dump(path);
        let sum = Command::new("sha256sum").arg(&to).output().unwrap();
        let _ = std::fs::remove_file(&to);
        text(&sum).split_once(' ').map(|(sum, _)| sum.to_owned())
    }

    /// Takes a file out, if it is there.
    fn dump(&self, path: &str) -> PathBuf {
        let to = temporary();
        self.ask(&format!("dump \"/{}\" {}", path.trim_start_matches('/'), to.display()));
        to
    }

    /// Where a symbolic link points. A short one lies in its inode, a long one is its file's content.
    pub fn link(&self, path: &str) -> Option<String> {
        let said = self.request(format!("stat \"/{}\"", path.trim_start_matches('/')));
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
        let said = self.request(format!("ls -p \"/{}\"", path.trim_start_matches('/')));
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
