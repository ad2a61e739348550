//! Another system's hook runner in a chroot of its image, in a mount namespace of its own: whatever happens, nothing of
//! it stays mounted.

use super::{Phase, RUNNERS, environment};
use crate::child::text;
use minke_sys::mount::{self, Flags, Propagation};
use minke_sys::namespace::{self, Namespace};
use minke_sys::{Errno, Error, Result, process, status};
use std::ffi::CString;
use std::path::Path;

/// What hooks see of the running system (spec os §15.2).
const BOUND: [&str; 5] = ["dev", "proc", "sys", "run", "mnt"];
/// Where hooks may write for the moment, as far as the image has these folders.
const VOLATILE: [&str; 3] = ["tmp", "var/volatile", "var/cache"];

/// Makes this process the runner of the system mounted at `image`. It returns only an error.
pub fn execute(image: &Path, phases: &[Phase]) -> Result<()> {
    let image = minke_sys::file::real_path(image)?;
    let Some(runner) = RUNNERS.iter().find(|name| status::of_link(image.join(name)).is_ok()) else {
        return Err(Error::new("find hostapp-update-hooks in", image.display(), Errno::NOENT));
    };
    namespace::unshare(&[Namespace::Mount])?;
    // What is mounted automatically outside arrives here; what is mounted here stays here.
    mount::set_propagation(Path::new("/"), Propagation::Slave, true)?;
    for folder in BOUND {
        mount::bind(&Path::new("/").join(folder), &image.join(folder), true)?;
    }
    for folder in VOLATILE {
        // Not through a link: it leads out of the image.
        let place = image.join(folder);
        if status::of_link(&place).is_ok_and(|status| status.is_dir()) {
            mount::mount("tmpfs", &place, "tmpfs", Flags::NOSUID | Flags::NODEV, "mode=755")?;
        }
    }
    mount::chroot(&image)?;
    namespace::change_folder(Path::new("/"))?;
    let runner = text(&Path::new("/").join(runner));
    let mut arguments: Vec<CString> = vec![runner.clone()];
    for phase in phases.iter().filter(|phase| **phase != Phase::Forward) {
        arguments.push(text(Path::new(&format!("--{}", phase.word()))));
    }
    let during_update = std::env::var_os("DURING_UPDATE").is_some_and(|value| value == "1");
    process::execute(&runner, &arguments, &environment(during_update, None))
}
