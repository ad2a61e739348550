//! Boot file deployment (spec os §15.6): the system's pristine copies in `/resin-boot` go to the boot partition.
//!
//! Everything is computed before anything is touched. Files that are as they should be are not written, and in most
//! updates that is all of them. A cut anywhere leaves each file whole, old or new (`minke_boot::place`), and the order
//! keeps the set bootable: names that are new come first, as nothing refers to them yet; then what a boot loader reads
//! (device trees, scripts), then boot loaders, then the firmware's files. So whatever starts finds files of its own
//! version or of a later one, made to be found by it; and either set starts both slots, as the selection says which.

mod fingerprint;
mod plan;

use minke_applet::log;
use minke_boot::place;
use minke_config::fatrw::{self, WhenFull};
use minke_config::{Paths, Store, Value, os_release};
use minke_sys::{Errno, Error, Result, file, space};
use plan::{File, State};
use std::path::Path;

/// What stays free on the boot partition, in bytes.
const RESERVE: u64 = 524_288;

/// Where the copies are.
const PRISTINE: &str = "resin-boot";

/// Brings the boot partition to what the system below `root` has. `during_update`: that is a system which does not run
/// yet, so nothing is touched when there is no room, and names that are new go again when something fails.
pub fn deploy(root: &Path, during_update: bool) -> Result<()> {
    let (from, to) = (root.join(PRISTINE), root.join(crate::BOOT));
    if during_update {
        keep_development_mode(root, &to)?;
    }
    plan::remove_leftovers(&to)?;
    let files = plan::make(&from, &to)?;
    if let Err(error) = fits(&files, &to) {
        if during_update {
            return Err(error);
        }
        log::error(format_args!("{error}; as many files as have room are put back"));
    }
    let mut result = Ok(());
    let mut made = 0usize;
    for file in files.iter().filter(|file| file.state != State::Same) {
        result = put(&from.join(&file.path), &to.join(&file.path), during_update);
        if result.is_err() {
            break;
        }
        made = made.saturating_add(1);
    }
    if result.is_err() && during_update {
        for file in files.iter().filter(|file| file.state == State::New) {
            let _ = file::remove_durable(&to.join(&file.path));
        }
        return result;
    }
    result?;
    if made > 0 {
        log::info(format_args!("{made} of {} boot files were written", files.len()));
    }
    fingerprint::write(&to)
}

/// Whether the boot partition has room for the files of a release, by the list in its documents; one without a list is
/// looked at when it is there.
pub fn has_room(list: &str, boot: &Path) -> Result<()> {
    fits(&plan::of_list(list, boot)?, boot)
}

fn fits(files: &[File], boot: &Path) -> Result<()> {
    let cluster = space::of(boot)?;
    plan::fits(files, cluster.available, cluster.unit, RESERVE)
}

fn put(from: &Path, to: &Path, during_update: bool) -> Result<()> {
    if let Some(folder) = to.parent() {
        file::make_folder(folder, 0o755)?;
    }
    match place::copy(from, to) {
        // On the way back a file without protection is better than none.
        Err(error) if error.errno == Errno::NOSPC && !during_update => {
            fatrw::copy(from, to, None, WhenFull::Unprotected)
        }
        done => done,
    }
}

/// A development system of the time before `developmentMode` stays one (spec os §15.6.4). What runs is told by its
/// `os-release` on the boot partition, so this comes before the files.
fn keep_development_mode(root: &Path, boot: &Path) -> Result<()> {
    if os_release(&boot.join("os-release")).get("VARIANT") != Some("Development") {
        return Ok(());
    }
    let store = Store::new(Paths::below(root));
    if store.load().config.get("developmentMode").is_some() {
        return Ok(());
    }
    log::info(format_args!("config.json gets developmentMode, as this is a development system"));
    let set = store.update(&mut |config| config.set("developmentMode", Value::Bool(true)));
    // A broken config.json is its owner's to mend, and no reason to keep an old system.
    if let Err(error) = set {
        log::warn(format_args!("{error}"));
    }
    Ok(())
}

/// What does not fit, and where.
fn no_room(path: &str, missing: u64) -> Error {
    let object = format_args!("/mnt/boot/{path}: {} KiB more are needed", missing.div_ceil(1024));
    Error::new("make room for", object, Errno::NOSPC)
}
