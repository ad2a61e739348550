//! What the owner has put on the boot partition for the network manager (spec os §11.2.1).

use minke_applet::{log, report};
use minke_sys::{Result, file, status};
use std::path::Path;

/// The largest file that is copied.
const LIMIT: usize = 1 << 20;

/// Copies profiles and scripts to where the network manager looks for them, in place of files of the same names; nothing
/// is deleted there. What is the same already is not written again.
///
/// Power cut: each file is the old or the new one, whole; the next boot copies the rest.
pub fn copy(root: &Path) -> Result<u8> {
    let mut worst = 0;
    for (name, mode) in [("system-connections", 0o600), ("dispatcher.d", 0o755)] {
        let source = root.join("mnt/boot").join(name);
        if !status::is_dir(&source) {
            continue;
        }
        let target = root.join("etc/NetworkManager").join(name);
        file::make_folder(&target, 0o755)?;
        for path in file::list(&source)? {
            let copy = target.join(path.file_name().unwrap_or_default());
            // One file that cannot be copied leaves the others alone.
            worst = worst.max(report(copy_one(&path, &copy, mode)));
        }
    }
    Ok(worst)
}

fn copy_one(path: &Path, copy: &Path, mode: u32) -> Result<u8> {
    if !status::of(path)?.is_file() {
        return Ok(0);
    }
    let content = file::read_bounded(path, LIMIT)?;
    // A profile that others may read is refused by its reader.
    let is_right = status::of_link(copy).is_ok_and(|it| it.is_file() && it.uid == 0 && it.mode() == mode);
    if !is_right || file::read_optional(copy, LIMIT).ok().flatten().as_deref() != Some(&content) {
        file::write_durable(copy, &content, mode)?;
        log::info(format_args!("balena-net-config: {} is copied from the boot partition", copy.display()));
    }
    Ok(0)
}
