//! The slot that is written: proven to be the other one, made unbootable first, emptied, filled, and settled.
//!
//! Power cut: until [`Writing::select_content`] has switched `/current`, the slot holds no system for any boot loader
//! or stage 1, which then start the other one; what is left of an update is removed by the next one, or taken up.

use super::remake;
use super::slots::Slots;
use super::why::{Result, refuse};
use minke_applet::log;
use minke_sys::block;
use minke_sys::mount::{self, Flags};
use minke_sys::{file, space, status};
use minke_wire::mountinfo;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where host apps lie in a slot.
const APPS: &str = "hostapps";
/// What is being written there, and the record by which it can be taken up.
const NEW: &str = ".new";
const RESUME: &str = ".new.resume";
/// The link to the host app that is started.
const CURRENT: &str = "current";
/// How many updates led to this slot's content.
const COUNTER: &str = "counter";

/// The folders of a slot (spec os §1.6).
const FOLDERS: [&str; 9] = ["dev", "proc", "sys", "run", "tmp", "sbin", "mnt/state", "etc", APPS];
/// What else belongs in a slot.
const OTHERS: [&str; 3] = ["mnt", COUNTER, "lost+found"];

/// The other slot, mounted and proven.
#[derive(Debug)]
pub struct Writing<'a> {
    slots: &'a Slots,
}

impl<'a> Writing<'a> {
    /// Mounts the slot for writing. One that cannot be mounted, or whose file system has errors, is made anew from the
    /// template in the system below `root`: nothing in it is wanted any more. (What a check can mend, stage 1's has
    /// mended at this boot.)
    pub fn open(slots: &'a Slots, root: &Path) -> Result<Self> {
        let side = &slots.inactive;
        let writing = Self { slots };
        let broken = match mounted(slots) {
            Err(error) => Some(error.to_string()),
            Ok(()) if has_errors(&side.device) => Some("its file system has errors".to_owned()),
            Ok(()) if is_read_only(&side.place) => Some("it is read-only".to_owned()),
            Ok(()) => None,
        };
        if let Some(why) = broken {
            let device = side.device.display();
            log::warn(format_args!("slot {} on {device} is made anew: {why}", side.slot.letter()));
            unmount(slots)?;
            remake::remake(side, &slots.active, root)?;
            mounted(slots)?;
            // A small slot may do.
            if let Err(error) = remake::grow(side) {
                log::warn(format_args!("{error}"));
            }
        }
        writing.prove()?;
        Ok(writing)
    }

    /// Takes the slot out of the boot loaders' sight, then removes what it held, but what an update like this one has
    /// left, and makes the folders.
    pub fn empty(&self) -> Result<()> {
        self.prove()?;
        let place = &self.slots.inactive.place;
        file::remove_durable(&place.join(CURRENT))?;
        for path in file::list(place)? {
            if !is_one_of(&path, &FOLDERS) && !is_one_of(&path, &OTHERS) {
                file::remove_all(&path)?;
            }
        }
        for folder in FOLDERS {
            file::make_folder(&place.join(folder), 0o755)?;
        }
        for path in file::list(&place.join(APPS))? {
            if !is_one_of(&path, &[NEW, RESUME]) {
                file::remove_all(&path)?;
            }
        }
        file::write(place.join("etc/machine-id"), "")?;
        file::set_link(&place.join("boot"), Path::new("current/boot"))?;
        Ok(file::sync_file_system(place)?)
    }

    /// Gives what was unpacked its id, makes it the slot's system, and lets it all reach its place on the disk.
    pub fn select_content(&self, id: &str) -> Result<PathBuf> {
        self.prove()?;
        let place = &self.slots.inactive.place;
        let apps = place.join(APPS);
        let app = apps.join(id);
        file::sync_file_system(place)?;
        file::remove_all(&app)?;
        file::rename(&new_folder(place), &app)?;
        file::sync_folder(&apps)?;
        let counter = counter(&self.slots.active.place).saturating_add(1);
        file::write_durable(&place.join(COUNTER), format!("{counter}\n").as_bytes(), 0o644)?;
        file::set_link(&place.join(CURRENT), &Path::new(APPS).join(id))?;
        file::sync_folder(place)?;
        // Boot loaders replay no journal.
        block::settle(place)?;
        Ok(app)
    }

    /// That what is mounted there is the partition that was found, and not the one that runs.
    fn prove(&self) -> Result<()> {
        let place = &self.slots.inactive.place;
        let number = status::of(place)?.device;
        if number != self.slots.inactive.number || number == self.slots.active.number {
            refuse!("another file system is mounted at {}: nothing is written", place.display());
        }
        Ok(())
    }
}

/// Makes sure that the slot is mounted: by the automatic mount point, or where there is none, here.
pub fn mounted(slots: &Slots) -> Result<()> {
    let side = &slots.inactive;
    // Opening a folder is what mounts it; asking after it would not.
    let folder = file::open_folder(&side.place.join("."))?;
    if status::of_open(&folder)?.device == side.number {
        return Ok(());
    }
    drop(folder);
    Ok(mount::mount(&side.device.to_string_lossy(), &side.place, "ext4", Flags::empty(), "")?)
}

fn unmount(slots: &Slots) -> Result<()> {
    while status::of(&slots.inactive.place).is_ok_and(|status| status.device == slots.inactive.number) {
        mount::unmount(&slots.inactive.place)?;
    }
    Ok(())
}

/// Whether the kernel or a check has found errors in the file system (`s_state`).
fn has_errors(device: &Path) -> bool {
    let ext = block::probe(device).ok().flatten().and_then(|found| found.ext);
    ext.is_none_or(|ext| ext.state & 2 != 0)
}

fn is_read_only(place: &Path) -> bool {
    let table = mountinfo::parse(&mount::mountinfo().unwrap_or_default());
    let Some(mount) = mountinfo::find(&table, &place.to_string_lossy()) else { return false };
    mount.options.split(',').chain(mount.super_options.split(',')).any(|word| word == "ro")
}

fn is_one_of(path: &Path, names: &[&str]) -> bool {
    let name = path.file_name().map(OsStrExt::as_bytes);
    names.iter().any(|one| Some(one.as_bytes()) == name)
}

/// A slot's counter; 0 when there is none.
fn counter(place: &Path) -> u64 {
    minke_wire::text::number(file::text(place.join(COUNTER)).trim()).unwrap_or(0)
}

/// The host app that a slot starts: its id.
pub fn current(place: &Path) -> Option<String> {
    let link = std::fs::read_link(place.join(CURRENT)).ok()?;
    Some(link.file_name()?.to_str()?.to_owned())
}

/// The folder of the host app with this id.
pub fn folder(place: &Path, id: &str) -> PathBuf {
    place.join(APPS).join(id)
}

/// Where the next host app of a slot is unpacked to.
pub fn new_folder(place: &Path) -> PathBuf {
    place.join(APPS).join(NEW)
}

/// Bytes that an update which did not come to its end has left; `None`: none has.
pub fn interrupted(place: &Path) -> Option<u64> {
    let mut bytes = None;
    let mut folders = vec![new_folder(place)];
    while let Some(folder) = folders.pop() {
        for path in file::list(&folder).ok()? {
            let Ok(status) = status::of_link(&path) else { continue };
            if status.is_dir() {
                folders.push(path);
            } else {
                bytes = Some(status.length.saturating_add(bytes.unwrap_or(0)));
            }
        }
    }
    bytes
}

/// Bytes that a slot can take when it is empty.
pub fn room(slots: &Slots) -> Result<u64> {
    if mounted(slots).is_ok() {
        // What stands there is removed first.
        let space = space::of(&slots.inactive.place)?;
        return Ok(space.total);
    }
    // It will be made anew: a journal, and what finds things.
    let size = block::size(&slots.inactive.device)?;
    Ok(size.saturating_sub(size >> 5))
}
