//! A disk after a power cut: what stage 1 would do to it, and what is on it then.

use minke_tests::{run, text};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where partitions lie: label, first sector, sectors.
pub type Partitions = Vec<(&'static str, u64, u64)>;

/// The partitions of a disk with an msdos table, by sfdisk's account.
pub fn partitions(disk: &Path) -> Partitions {
    let output = text(&run(Command::new("sfdisk").arg("--json").arg(disk)));
    let table: serde_json::Value = serde_json::from_str(&output).unwrap();
    let list = table["partitiontable"]["partitions"].as_array().unwrap();
    let labels = ["resin-boot", "resin-rootA", "resin-rootB", "", "resin-state", "resin-data"];
    assert_eq!(list.len(), labels.len());
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    let places = list
        .iter()
        .zip(labels)
        .map(|(entry, label)| (label, number(&entry["start"]), number(&entry["size"])));
    places.filter(|(label, ..)| !label.is_empty()).collect()
}

/// Takes a partition out of the disk.
pub fn extract(disk: &Path, partitions: &Partitions, label: &str) -> PathBuf {
    let (_, start, sectors) = partitions.iter().find(|(name, ..)| *name == label).unwrap();
    let path = disk.with_extension(label);
    let mut command = Command::new("dd");
    command.arg(format!("if={}", disk.display())).arg(format!("of={}", path.display()));
    command.args(["bs=512", "conv=sparse", "status=none"]);
    run(command.arg(format!("skip={start}")).arg(format!("count={sectors}")));
    path
}

/// Repairs an ext4 as stage 1 does, and says whether it has no fault then.
pub fn repair_ext4(partition: &Path) {
    let output = Command::new("e2fsck").arg("-p").arg(partition).output().unwrap();
    let status = output.status.code().unwrap();
    assert!(status < 4, "e2fsck -p {}: {status}: {}", partition.display(), text(&output));
    run(Command::new("e2fsck").args(["-f", "-n"]).arg(partition));
}

/// The files in the top folder of the FAT whose names begin with `config.json` or are its copies, in a folder.
pub fn config_files(partition: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir(to).unwrap();
    let list = text(&run(Command::new("mdir").args(["-b", "-a", "-i"]).arg(partition).arg("::/")));
    for name in list.lines().filter_map(|line| line.strip_prefix("::/")) {
        if name.contains("config.json") {
            run(Command::new("mcopy")
                .args(["-n", "-i"])
                .arg(partition)
                .arg(format!("::/{name}"))
                .arg(to.join(name)));
        }
    }
}

/// A file of an ext4, or nothing.
pub fn ext4_file(partition: &Path, path: &str) -> Option<Vec<u8>> {
    let to = partition.with_extension("file");
    let _ = std::fs::remove_file(&to);
    run(Command::new("debugfs").arg("-R").arg(format!("dump {path} {}", to.display())).arg(partition));
    std::fs::read(&to).ok()
}

/// Repairs the boot partition as stage 1 does; the other checker must find no fault then.
pub fn repair_fat(partition: &Path) {
    let length = std::fs::metadata(partition).unwrap().len();
    let checked = minke_sys::block::check_fat(partition, 0, length);
    assert!(matches!(checked, Ok(minke_sys::block::Checked::Whole(_))), "{checked:?}");
    run(Command::new("fsck.vfat").arg("-n").arg(partition));
}
