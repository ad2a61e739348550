//! Images that came with the device: archives in a folder, loaded before the engine says that it is ready.

use minke_oci::{ImageStore, Platform};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Loads all `*.tar` in `folder` and deletes each when its images are durably in the store. A bad one is
/// renamed to `*.tar.bad`, so that it costs one boot and not every boot. A power cut in between loads it again,
/// which finds the layers that are there already. One for which there is no room waits for a boot with more.
pub fn load(store: &ImageStore, folder: &Path) {
    for path in &archives(folder) {
        match store.load_archive(path, &Platform::host(), &mut |_| ControlFlow::Continue(())) {
            Ok(images) => {
                for image in &images {
                    minke_applet::log::info(format_args!(
                        "preloaded {} ({})",
                        image.names.join(", "),
                        image.id
                    ));
                }
                if let Err(error) = minke_sys::file::remove_durable(path) {
                    minke_applet::log::error(format_args!("{error}"));
                }
            }
            Err(minke_oci::Error::System(error)) if error.errno == minke_sys::Errno::NOSPC => {
                minke_applet::log::error(format_args!(
                    "there is no room for the preloaded archive {}, which the next boot tries again: {error}",
                    path.display()
                ));
            }
            Err(error) => {
                let mut bad = path.clone().into_os_string();
                bad.push(".bad");
                minke_applet::log::error(format_args!(
                    "the preloaded archive {} cannot be loaded and is kept as {}: {error}",
                    path.display(),
                    Path::new(&bad).display()
                ));
                let _ = std::fs::rename(path, &bad).map(|()| minke_sys::file::sync_folder(folder));
            }
        }
    }
}

fn archives(folder: &Path) -> Vec<PathBuf> {
    let mut paths = minke_sys::file::list(folder).unwrap_or_default();
    paths.retain(|path| path.extension().is_some_and(|end| end == "tar"));
    paths
}
