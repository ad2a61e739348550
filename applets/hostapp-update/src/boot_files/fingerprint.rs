//! The list of the boot partition's files with their MD5 sums (spec os §1.8), as `md5sum -c` reads it.

use super::plan::FINGERPRINT;
use minke_boot::place;
use minke_config::Md5;
use minke_sys::{Result, file, status};
use std::path::Path;

/// The most files that are listed, and how deep their folders lie.
const MOST: usize = 4096;
const DEPTH: usize = 8;

/// What boot loaders write at each start of a trial, and the last step of an update.
const SELECTION: [&str; 4] = ["grubenv", "bootenv", "resinOS_uEnv.txt", "bootcount.env"];

/// Lists what is there now. A list that is right is not written.
pub fn write(boot: &Path) -> Result<()> {
    let mut names = Vec::new();
    collect(boot, String::new(), DEPTH, &mut names)?;
    names.sort();
    let mut text = String::new();
    for name in &names {
        let mut sum = Md5::default();
        let file = file::open_to_read(boot.join(name))?;
        let mut piece = Vec::new();
        while file::read_some(&file, &mut piece).unwrap_or(false) {
            sum.update(&piece);
            piece.clear();
        }
        text.push_str(&sum.hex());
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

fn collect(boot: &Path, folder: String, depth: usize, names: &mut Vec<String>) -> Result<()> {
    for path in file::list(&boot.join(&folder))? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let status = status::of_link(&path)?;
        let below = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        if status.is_dir() && depth > 0 {
            collect(boot, below, depth.saturating_sub(1), names)?;
        } else if status.is_file() && is_listed(name) && names.len() < MOST {
            names.push(below);
        }
    }
    Ok(())
}

fn is_listed(name: &str) -> bool {
    !matches!(name, "config.json" | FINGERPRINT) && !SELECTION.contains(&name)
}
