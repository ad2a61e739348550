//! The partitions' devices: found by their links, waited for by the kernel's messages.

use minke_sys::block::{self, Identity, Places};
use minke_sys::event::{Interest, Poller};
use minke_sys::netlink::{Received, Uevents};
use minke_sys::{Result, clock, file};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Finds devices by label.
pub struct Devices {
    /// The folder of the links, `/dev/disk`.
    links: PathBuf,
    /// The kernel's devices, unless a test brings its own links.
    places: Option<Places>,
    root: Option<Identity>,
    uevents: Option<Uevents>,
    deadline: Duration,
}

impl Devices {
    /// The system's devices, or those that the folder `links` names; each is waited for until `wait` from now.
    pub fn new(links: Option<&Path>, wait: Duration) -> Self {
        let deadline = clock::monotonic().saturating_add(wait);
        if let Some(links) = links {
            return Self { links: links.to_owned(), places: None, root: None, uevents: None, deadline };
        }
        let places = Places::default();
        // Opened before the first look, so that no device comes unseen between the look and the wait.
        let uevents = Uevents::new().ok();
        Self {
            links: places.dev.join("disk"),
            places: Some(places),
            root: root_identity(),
            uevents,
            deadline,
        }
    }

    /// The device with this label, `resin-…` or with the newer prefix `balena-…`: by-state, by-label,
    /// by-partlabel (spec os §1.2). Also `active` and `inactive`.
    pub fn find(&self, label: &str) -> Option<PathBuf> {
        let name = label.strip_prefix("resin-").unwrap_or(label);
        for folder in ["by-state", "by-label", "by-partlabel"] {
            for prefix in ["resin-", "balena-", ""] {
                // The slots have names without a prefix, which only we give.
                if prefix.is_empty() && (name != label || folder != "by-state") {
                    continue;
                }
                let link = self.links.join(format!("{folder}/{prefix}{name}"));
                if let Ok(device) = file::real_path(&link) {
                    return Some(device);
                }
            }
        }
        None
    }

    /// Looks at all devices and makes their links.
    pub fn refresh(&self) -> Result<()> {
        match &self.places {
            Some(places) => block::refresh_links(places, self.root.as_ref()).map(drop),
            None => Ok(()),
        }
    }

    /// Sleeps until a block device came or changed, and makes the links anew. `false`: the time is over.
    pub fn wait(&mut self) -> Result<bool> {
        let poller = Poller::new()?;
        if let Some(uevents) = &self.uevents {
            poller.add(uevents, 0, Interest::Read)?;
        }
        let mut ready = Vec::new();
        loop {
            let left = self.deadline.saturating_sub(clock::monotonic());
            if left.is_zero() {
                return Ok(false);
            }
            poller.wait(&mut ready, Some(left))?;
            if self.uevents.as_mut().is_some_and(block_device_came) {
                self.refresh()?;
                return Ok(true);
            }
        }
    }
}

/// Takes all messages and tells whether one says that a block device came or changed.
fn block_device_came(uevents: &mut Uevents) -> bool {
    let mut came = false;
    loop {
        match uevents.read() {
            Ok(Received::Event(event)) => {
                came |= matches!(event.action, "add" | "change") && event.get("SUBSYSTEM") == Some("block");
            }
            Ok(Received::Lost) => came = true,
            Ok(Received::Empty) | Err(_) => return came,
        }
    }
}

/// The root file system's identity: the one that the initramfs wrote when it changed it in this boot, else the
/// kernel command line's (spec os §1.3.2).
fn root_identity() -> Option<Identity> {
    const LIMIT: usize = 64 * 1024;
    let text = |path: &str| String::from_utf8(file::read_bounded(Path::new(path), LIMIT).ok()?).ok();
    let changed = text("/run/initramfs/bootparam_root");
    if let Some(identity) = changed.and_then(|text| Identity::parse(text.trim())) {
        return Some(identity);
    }
    // The last `root=` counts, as for the kernel.
    let line = text("/proc/cmdline")?;
    Identity::parse(line.split_ascii_whitespace().rev().find_map(|word| word.strip_prefix("root="))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_links_are_tried_in_order() {
        let folder = std::env::temp_dir().join(format!("minke-links-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        for name in ["by-label", "by-state"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
            std::fs::write(folder.join(name).join("resin-data"), name).unwrap();
        }
        let mut devices = Devices::new(Some(&folder), Duration::ZERO);
        assert_eq!(devices.find("resin-data"), folder.join("by-state/resin-data").canonicalize().ok());
        std::fs::remove_dir_all(folder.join("by-state")).unwrap();
        assert_eq!(devices.find("resin-data"), folder.join("by-label/resin-data").canonicalize().ok());
        assert_eq!(devices.find("resin-boot"), None);
        std::fs::write(folder.join("by-label/balena-boot"), "").unwrap();
        assert_eq!(devices.find("resin-boot"), folder.join("by-label/balena-boot").canonicalize().ok());
        assert!(!devices.wait().unwrap());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
