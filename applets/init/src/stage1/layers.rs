//! A host app as a reference system's container engine stores it in a slot: folders that an overlay shows as one
//! (spec os §1.6, §1.7.2).

use minke_sys::file;
use minke_sys::mount::{self, Flags};
use minke_sys::status::is_dir;
use std::path::{Path, PathBuf};

/// The most layers that an image of theirs has, as the engine allows.
const LIMIT: usize = 128;

/// One host app.
#[derive(Debug)]
pub struct Layers {
    /// The layers, the topmost first.
    pub folders: Vec<PathBuf>,
    /// Where they are shown as one.
    pub merged: PathBuf,
}

/// The layers of the host app whose folder in the slot is `app`; its name is the container's id. `None`: there are none.
pub fn of(slot: &Path, app: &Path) -> Option<Layers> {
    let balena = slot.join("balena");
    let id = app.file_name()?;
    let place = balena.join("image/overlay2/layerdb/mounts").join(id).join("mount-id");
    let mount = file::text(place);
    let mount = mount.trim();
    if !is_name(mount) {
        return None;
    }
    let overlay = balena.join("overlay2");
    let own = overlay.join(mount);
    let mut folders = vec![own.join("diff")];
    // `l/NAME:l/NAME`: short links to the layers' folders.
    for link in file::text(own.join("lower")).trim().split(':').take(LIMIT) {
        let Some(link) = link.strip_prefix("l/").filter(|name| is_name(name)) else { continue };
        let Ok(target) = std::fs::read_link(overlay.join("l").join(link)) else { continue };
        // `../ID/diff`. The engine's own layer with its mount points is none of the image's.
        let mut parts = target.to_str()?.split('/');
        if let (Some(".."), Some(id), Some("diff"), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
            && is_name(id)
            && !id.ends_with("-init")
        {
            folders.push(overlay.join(id).join("diff"));
        }
    }
    folders.retain(|folder| is_dir(folder));
    (!folders.is_empty()).then(|| Layers { folders, merged: own.join("merged") })
}

/// Ids and short names are letters, digits and dashes: nothing leads out of the folder that they are in.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl Layers {
    /// Mounts the layers as one, read-only, as there is no folder for changes.
    pub fn mount(&self) -> minke_sys::Result<()> {
        let mut options = String::from("lowerdir=");
        for (number, folder) in self.folders.iter().enumerate() {
            if number > 0 {
                options.push(':');
            }
            options.push_str(&folder.to_string_lossy());
        }
        // An overlay has at least two folders.
        if self.folders.len() == 1 {
            options.push(':');
            options.push_str(&self.merged.to_string_lossy());
        }
        mount::mount("overlay", &self.merged, "overlay", Flags::RDONLY, &options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn layers_in_order_and_none_from_outside() {
        let slot = std::env::temp_dir().join(format!("minke-layers-{}", std::process::id()));
        let overlay = slot.join("balena/overlay2");
        for layer in ["top", "top-init", "upper", "lower", "gone"] {
            fs::create_dir_all(overlay.join(layer).join("diff")).unwrap();
        }
        fs::create_dir_all(overlay.join("l")).unwrap();
        for (name, target) in [
            ("I", "../top-init/diff"),
            ("U", "../upper/diff"),
            ("L", "../lower/diff"),
            ("G", "../nothing/diff"),
            ("O", "../../../../etc"),
            ("A", "/etc"),
        ] {
            symlink(target, overlay.join("l").join(name)).unwrap();
        }
        fs::write(overlay.join("top/lower"), "l/I:l/U:l/L:l/G:l/O:l/A:l/..:x/U:").unwrap();
        let mounts = slot.join("balena/image/overlay2/layerdb/mounts/c1");
        fs::create_dir_all(&mounts).unwrap();
        fs::write(mounts.join("mount-id"), "top\n").unwrap();
        let found = of(&slot, &slot.join("hostapps/c1")).unwrap();
        let names = ["top/diff", "upper/diff", "lower/diff"].map(|name| overlay.join(name));
        assert_eq!((found.folders, found.merged), (names.to_vec(), overlay.join("top/merged")));
        assert!(of(&slot, &slot.join("hostapps/c2")).is_none());
        for wrong in ["", "../top", "/top", "top/diff"] {
            fs::write(mounts.join("mount-id"), wrong).unwrap();
            assert!(of(&slot, &slot.join("hostapps/c1")).is_none(), "{wrong}");
        }
        fs::remove_dir_all(&slot).unwrap();
    }
}
