//! The list of the boot partition's files with their MD5 sums (spec os §1.8), as `md5sum -c` reads it.

use super::plan::{self, FINGERPRINT};
use minke_applet::log;
use minke_boot::place;
use minke_config::Md5;
use minke_sys::{Context, Result, file};
use std::path::Path;

/// Lists what is there now. A list that is right is not written. A file that cannot be read is left out: the system
/// needs none that it has not just written.
pub fn write(boot: &Path) -> Result<()> {
    let mut names = Vec::new();
    for file in plan::walk(boot)? {
        if is_listed(&file.path) {
            names.push(file.path);
        }
    }
    names.sort_unstable();
    let mut text = String::new();
    for name in &names {
        match sum(&boot.join(name)) {
            Ok(sum) => text.push_str(&sum),
            Err(error) => {
                log::warn(format_args!("{error}"));
                continue;
            }
        }
        text.push_str("  ");
        text.push_str(name);
        text.push('\n');
    }
    let path = boot.join(FINGERPRINT);
    if file::read_bounded(&path, text.len()).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    place::put(&path, text.as_bytes())
}

/// A file's MD5 sum.
pub fn sum(path: &Path) -> Result<String> {
    let mut sum = Md5::default();
    let file = file::open_to_read(path)?;
    let mut piece = Vec::new();
    while file::read_some(&file, &mut piece).on("read", path)? {
        sum.update(&piece);
        piece.clear();
    }
    Ok(sum.hex())
}

fn is_listed(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name != "config.json" && !minke_boot::RECORDS.contains(&name)
}
