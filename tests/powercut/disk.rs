//! A disk after a power cut: what stage 1 would do to it, and what is on it then.

use crate::look::Files;
use minke_tests::{run, text};
use std::path::Path;
use std::process::Command;

/// Repairs an ext4 as stage 1 does: carefully, and where that gives up, as after a superblock that was written in
/// part, with every question answered yes, and once more. It has no fault then.
pub fn repair_ext4(partition: &Path) {
    let mut said = String::new();
    let repaired = ["-p", "-y", "-y"].iter().any(|option| {
        let output = Command::new("e2fsck").arg(option).arg(partition).output().unwrap();
        said.push_str(&text(&output));
        output.status.code().is_some_and(|status| status < 4)
    });
    assert!(repaired, "e2fsck {}: {said}", partition.display());
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

/// All files of the FAT by their paths.
pub fn files(partition: &Path) -> Files {
    let to = partition.with_extension("tree");
    let _ = std::fs::remove_dir_all(&to);
    std::fs::create_dir(&to).unwrap();
    run(Command::new("mcopy").args(["-n", "-s", "-Q", "-i"]).arg(partition).arg("::/*").arg(&to));
    let paths = minke_image::tree::walk(&to).unwrap().into_iter().filter(|(_, path)| path.is_file());
    paths.map(|(name, path)| (name, std::fs::read(path).unwrap())).collect()
}

/// A file of an ext4, or nothing.
pub fn ext4_file(partition: &Path, path: &str) -> Option<Vec<u8>> {
    let to = partition.with_extension("file");
    let _ = std::fs::remove_file(&to);
    run(Command::new("debugfs").arg("-R").arg(format!("dump /{path} {}", to.display())).arg(partition));
    std::fs::read(&to).ok()
}

/// Repairs the boot partition as stage 1 does; the other checker must find no fault then.
pub fn repair_fat(partition: &Path) {
    let length = std::fs::metadata(partition).unwrap().len();
    let checked = minke_sys::block::check_fat(partition, 0, length);
    assert!(matches!(checked, Ok(minke_sys::block::Checked::Whole(_))), "{checked:?}");
    run(Command::new("fsck.vfat").arg("-n").arg(partition));
}
