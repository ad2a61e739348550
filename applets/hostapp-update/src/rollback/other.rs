//! The system in the other slot.

use crate::child::{self, text};
use crate::update::image::{Mounted, is_bootable};
use minke_config::os_release;
use minke_sys::process::Spawn;
use minke_sys::{Errno, Error, Result, file};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The last version that cannot go back, or be gone back to (spec os §15.10.1).
const FLOOR: [u32; 3] = [2, 30, 0];
/// How long another system's stage 1 may take to mount its root.
const LIMIT: Duration = Duration::from_secs(120);

/// It, mounted.
pub struct Other {
    /// Its root.
    pub place: PathBuf,
    /// `VERSION` of its os-release.
    pub version: String,
    /// A reference system's root is left to the reboot that follows.
    _image: Option<Mounted>,
}

impl Other {
    /// Mounts the other slot's system: the root image of one of ours, else by its own stage 1 (spec os §1.7.7).
    pub fn mount(root: &Path) -> Result<Self> {
        let slot = root.join(crate::INACTIVE);
        // Opening a folder is what mounts it.
        drop(file::open_folder(&slot.join("."))?);
        let app = slot.join("current");
        let (place, image) = if is_bootable(&app) {
            let image = Mounted::new(&app, root);
            let image = image.map_err(|why| Error::new("mount", format_args!("{why}"), Errno::IO))?;
            (image.place().to_owned(), Some(image))
        } else {
            (by_its_own(&slot)?, None)
        };
        let version = os_release(&place.join("etc/os-release"));
        let version =
            version.get("META_BALENA_VERSION").or_else(|| version.version()).unwrap_or("").to_owned();
        Ok(Self { place, version, _image: image })
    }

    /// Whether it knows what a trial is.
    pub fn is_new_enough(&self) -> bool {
        is_above_floor(&self.version)
    }
}

fn is_above_floor(version: &str) -> bool {
    let mut numbers = [0u32; 3];
    let version = version.split(['+', '-']).next().unwrap_or_default();
    for (number, text) in numbers.iter_mut().zip(version.split('.')) {
        *number = minke_wire::text::number(text).unwrap_or(0);
    }
    numbers > FLOOR
}

/// Lets the stage 1 of the system in `slot` mount it; it prints where.
fn by_its_own(slot: &Path) -> Result<PathBuf> {
    let program = slot.join("sbin/init");
    let (read, write) = minke_sys::process::pipe()?;
    let mut spawn = Spawn::new(&text(&program));
    spawn.arguments.extend([c"-sysroot".into(), text(slot)]);
    spawn.stdio = [None, Some(write), None];
    let exit = child::run(&spawn, "stage 1", LIMIT)?;
    // This side's end of the pipe goes, or it would never end.
    drop(spawn);
    if !exit.success() {
        return Err(Error::new("mount the system of", slot.display(), Errno::IO));
    }
    let mut printed = Vec::new();
    while printed.len() < 4096 && file::read_some(&read, &mut printed).is_ok_and(|more| more) {}
    let place = String::from_utf8_lossy(&printed).trim().to_owned();
    if !place.starts_with('/') {
        return Err(Error::new("mount the system of", slot.display(), Errno::NOENT));
    }
    Ok(place.into())
}

#[cfg(test)]
mod tests {
    use super::is_above_floor;

    #[test]
    fn versions_above_the_floor() {
        for version in ["2.30.1", "2.31.0+rev1", "8.0.2", "2026.1.0-1700000000", "10.0"] {
            assert!(is_above_floor(version), "{version}");
        }
        for version in ["2.30.0", "2.30.0+rev3", "2.9.5", "", "x", "1.99.99"] {
            assert!(!is_above_floor(version), "{version}");
        }
    }
}
