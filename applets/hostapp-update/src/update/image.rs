//! The root image of a host app, mounted to be looked into.

use super::why::Result;
use minke_boot::ROOT_IMAGE;
use minke_config::{OsRelease, os_release};
use minke_sys::mount::{self, Flags, Propagation};
use minke_sys::namespace::{self, Namespace};
use minke_sys::{file, status};
use std::path::{Path, PathBuf};

/// Where it is mounted, below the root.
const PLACE: &str = "run/minke/hostapp-update";

/// The root image of the host app in the folder `app`.
pub fn image_of(app: &Path) -> PathBuf {
    app.join(ROOT_IMAGE)
}

/// Whether boot loader and stage 1 find a system in the host app.
pub fn is_bootable(app: &Path) -> bool {
    status::exists(image_of(app)) && status::exists(app.join("boot/vmlinuz"))
}

/// A mounted root image. From the first one on, this thread has a mount namespace of its own: nothing is left behind,
/// however the program ends.
pub struct Mounted {
    place: PathBuf,
}

impl Mounted {
    /// Mounts the root image of the host app in the folder `app`.
    pub fn new(app: &Path, root: &Path) -> Result<Self> {
        let place = root.join(PLACE);
        file::make_folder(&place, 0o700)?;
        namespace::unshare(&[Namespace::Mount])?;
        mount::set_propagation(Path::new("/"), Propagation::Slave, true)?;
        // The handle must stay until the mount holds the device.
        let (device, handle) = mount::attach_loop(&image_of(app))?;
        mount::mount(&device.to_string_lossy(), &place, "squashfs", Flags::RDONLY, "")?;
        drop(handle);
        Ok(Self { place })
    }

    /// Where it is mounted.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Its os-release.
    pub fn os_release(&self) -> OsRelease {
        os_release(&self.place.join("etc/os-release"))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = mount::unmount_lazy(&self.place);
    }
}
