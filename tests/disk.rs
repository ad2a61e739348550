//! Disk images seen from outside: their partitions, by sfdisk's account.

// A test's helper fails the test that calls it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::{run, text};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The file systems of an image of ours, in their order.
const LABELS: [&str; 5] = ["resin-boot", "resin-rootA", "resin-rootB", "resin-state", "resin-data"];

/// A partition of a disk image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// The label of its file system.
    pub label: &'static str,
    /// Its first sector.
    pub start: u64,
    /// Its sectors.
    pub sectors: u64,
}

/// The partitions of an image of ours, but for the extended one.
pub fn partitions(disk: &Path) -> Vec<Partition> {
    let output = text(&run(Command::new("sfdisk").arg("--json").arg(disk)));
    let table: serde_json::Value = serde_json::from_str(&output).unwrap();
    let mut list = table["partitiontable"]["partitions"].as_array().unwrap().clone();
    if list.len() > LABELS.len() {
        list.remove(3);
    }
    assert_eq!(list.len(), LABELS.len(), "{output}");
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    let partition = |(entry, label): (&serde_json::Value, _)| Partition {
        label,
        start: number(&entry["start"]),
        sectors: number(&entry["size"]),
    };
    list.iter().zip(LABELS).map(partition).collect()
}

impl Partition {
    /// Its place on the disk.
    pub fn range(&self) -> Range<u64> {
        self.start..self.start + self.sectors
    }

    /// The one with this label.
    pub fn labelled(disk: &Path, label: &str) -> Self {
        partitions(disk).into_iter().find(|partition| partition.label == label).unwrap()
    }

    /// Takes it out of the disk into a file of its own.
    pub fn extract(&self, disk: &Path) -> PathBuf {
        let path = disk.with_extension(self.label);
        let mut command = Command::new("dd");
        command.arg(format!("if={}", disk.display())).arg(format!("of={}", path.display()));
        command.args(["bs=64K", "iflag=skip_bytes,count_bytes", "conv=sparse", "status=none"]);
        run(command.arg(format!("skip={}", self.start * 512)).arg(format!("count={}", self.sectors * 512)));
        path
    }

    /// Puts a file of [`Partition::extract`] back.
    pub fn put_back(&self, disk: &Path, file: &Path) {
        let disk = File::options().write(true).open(disk).unwrap();
        disk.write_all_at(&std::fs::read(file).unwrap(), self.start * 512).unwrap();
    }
}
