//! `udev-rules apply`: `os-udevrules.service`.

use crate::FOLDER;
use crate::rules::{LIMIT, Rule, wanted};
use minke_applet::log;
use minke_config::{Origin, Store};
use minke_control::init;
use minke_sys::{Context, Result, file, status};
use std::path::{Path, PathBuf};

const README: &str = "These files are made from os.udevRules in config.json (/mnt/boot/config.json).\n\
    Whatever else is put here is removed.\n";

/// Makes the files those of the configuration, and lets udev know if any of them changed.
pub fn run(store: &Store, root: &Path) -> Result<u8> {
    let loaded = store.load();
    if let (Origin::Default, Some(message)) = (&loaded.origin, loaded.message()) {
        log::error(format_args!("the udev rules stay as they are: {message}"));
        return Ok(1);
    }
    let wanted = wanted(&loaded.config);
    for problem in &wanted.problems {
        log::warn(format_args!("{problem}"));
    }
    if wanted.unknown {
        return Ok(1);
    }
    let folder = root.join(FOLDER);
    file::make_folder(&folder, 0o755)?;
    let written = write(&folder, &wanted.rules);
    let removed = remove(&folder, &wanted.rules)?;
    // On a full disk, what was removed may have made the room.
    let written = match written {
        Err(_) if removed > 0 => write(&folder, &wanted.rules),
        written => written,
    }?;
    let readme = folder.join("README");
    if !status::exists(&readme) {
        file::write_durable(&readme, README.as_bytes(), 0o644)?;
    }
    if written.saturating_add(removed) > 0 {
        let all = wanted.rules.len();
        log::info(format_args!("udev rules: {written} written, {removed} removed, {all} in effect"));
        if root == Path::new("/") {
            tell_udev();
        }
    }
    Ok(0)
}

/// Writes what is missing or differs; how many.
///
/// All contents go to the disk together, and then all names: ten thousand rules are two waits for the disk and not
/// twenty thousand. Power cut: each file is the old or the new one, whole, or not there yet; what is left of a
/// new one is no rule file by its name and is removed by the next run, which also writes the rest.
fn write(folder: &Path, rules: &[Rule<'_>]) -> Result<usize> {
    let mut fresh = Vec::new();
    let written = write_fresh(folder, rules, &mut fresh);
    let done = written.and_then(|()| match fresh.is_empty() {
        true => Ok(()),
        false => file::sync_file_system(folder),
    });
    if let Err(error) = done {
        // A full disk must not keep what nobody uses.
        for (path, _) in &fresh {
            let _ = std::fs::remove_file(path);
        }
        return Err(error);
    }
    for (path, rule) in &fresh {
        std::fs::rename(path, folder.join(&rule.file)).on("rename", path)?;
    }
    if !fresh.is_empty() {
        file::sync_folder(folder)?;
    }
    Ok(fresh.len())
}

fn write_fresh<'a>(
    folder: &Path,
    rules: &'a [Rule<'a>],
    fresh: &mut Vec<(PathBuf, &'a Rule<'a>)>,
) -> Result<()> {
    for rule in rules {
        let path = folder.join(&rule.file);
        let content = rule.content();
        let own = status::of_link(&path).is_ok_and(|status| status.is_file());
        if own && file::read_optional(&path, LIMIT).ok().flatten().as_deref() == Some(&content) {
            continue;
        }
        let path = folder.join(format!(".{}.new", rule.file));
        // Noted first: a half-written one has to be removed too. A link that waits there is not followed.
        let _ = std::fs::remove_file(&path);
        fresh.push((path.clone(), rule));
        file::write(&path, &content)?;
        file::set_mode(&path, 0o644)?;
    }
    Ok(())
}

/// Removes all other files but the README; how many rules were among them. Folders are not ours.
fn remove(folder: &Path, rules: &[Rule<'_>]) -> Result<usize> {
    let (mut removed, mut any) = (0, false);
    for path in file::list(folder)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let kept = rules.binary_search_by(|rule| rule.file.as_str().cmp(name)).is_ok();
        if kept || name == "README" || status::of_link(&path).is_ok_and(|status| status.is_dir()) {
            continue;
        }
        std::fs::remove_file(&path).on("remove", &path)?;
        any = true;
        removed += usize::from(name.ends_with(".rules"));
    }
    if any {
        file::sync_folder(folder)?;
    }
    Ok(removed)
}

/// Lets udev read the rules and look at all devices again. Without it, the rules wait for the next boot; that is no
/// failure of theirs.
fn tell_udev() {
    let told = init::job("reload", &["systemd-udevd.service"], false)
        .and_then(|()| init::job("restart", &["systemd-udev-trigger.service"], false));
    if let Err(error) = told {
        log::info(format_args!("the rules take effect when udev starts: {error}"));
    }
}
