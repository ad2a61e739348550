//! Finding the root device as the kernel tells of devices.

use crate::cmdline::Cmdline;
use crate::log;
use crate::why::Why;
use minke_sys::block::{self, Device, Found, Identity, Places};
use minke_sys::event::{Interest, Poller};
use minke_sys::netlink::{Received, Uevents};

use std::time::Duration;

/// How long we wait for the root device without `roottimeout=`: emulated boards take many seconds to find
/// their SD card. (spec os §2.2 has 5 s, for boards with the driver built in.)
const ROOT_TIMEOUT: Duration = Duration::from_secs(30);
/// Tells the next system the root file system's UUID when the kernel command line's is no longer right
/// (spec os §1.3.2).
pub const BOOTPARAM_ROOT: &str = "/run/initramfs/bootparam_root";

/// The block devices, as far as the kernel has told of them.
#[derive(Debug)]
pub struct Devices {
    poller: Poller,
    uevents: Uevents,
    places: Places,
    /// What `root=` names.
    wanted: Identity,
    /// The same until the device is there, then that device: its UUID may change.
    root: Identity,
    timeout: Duration,
    found: Vec<Found>,
}

impl Devices {
    /// Starts to listen, then looks at what is there, so that nothing is missed between the two.
    pub fn watch(cmdline: &Cmdline) -> Result<Self, Why> {
        let Some(wanted) = cmdline.value("root") else {
            return Err(Why("the kernel command line has no root=".into()));
        };
        let Some(root) = Identity::parse(wanted) else {
            return Err(Why(format!("root={wanted} has an unknown form").into()));
        };
        Self::new(root, cmdline)
    }

    /// As [`Self::watch`], for the boot partition and its disk, whatever `root=` says.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    pub fn watch_boot(cmdline: &Cmdline) -> Result<Self, Why> {
        Self::new(Identity::Label("resin-boot".into()), cmdline)
    }

    fn new(root: Identity, cmdline: &Cmdline) -> Result<Self, Why> {
        let seconds = cmdline.value("roottimeout").and_then(minke_wire::text::number);
        let timeout = seconds.map_or(ROOT_TIMEOUT, Duration::from_secs);
        let (poller, uevents) = (Poller::new()?, Uevents::new()?);
        poller.add(&uevents, 0, Interest::Read)?;
        let (places, wanted) = (Places::default(), root.clone());
        let mut devices = Self { poller, uevents, places, wanted, root, timeout, found: Vec::new() };
        devices.refresh();
        Ok(devices)
    }

    /// Waits for the device that `root=` names.
    pub fn wait_for_root(&mut self) -> Result<(), Why> {
        if self.wait(self.timeout, &|devices| devices.root().is_some()) {
            if let Some(root) = self.root() {
                self.root = Identity::Node(root.device.path.clone());
            }
            return Ok(());
        }
        self.log_what_is_there();
        Err(self.missing())
    }

    /// Waits for a boot partition of any name, which counts as the root device then.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    pub fn wait_for_boot(&mut self) -> Result<(), Why> {
        let boot = |devices: &Self| {
            let named = devices.found.iter().filter(|found| name_of(found).is_some_and(is_boot));
            named.min_by_key(|found| found.device.removable).map(|found| found.device.path.clone())
        };
        if self.wait(self.timeout, &|devices| boot(devices).is_some())
            && let Some(path) = boot(self)
        {
            self.root = Identity::Node(path);
            return Ok(());
        }
        self.log_what_is_there();
        Err(self.missing())
    }

    /// It did not come.
    pub fn missing(&self) -> Why {
        let (root, seconds) = (&self.root, self.timeout.as_secs());
        Why(format!("root={root} did not appear within {seconds} s (roottimeout)").into())
    }

    /// Waits until `there` says yes of what was found, at most for `limit`. The answer tells whether it did.
    pub fn wait(&mut self, limit: Duration, there: &dyn Fn(&Self) -> bool) -> bool {
        let end = minke_sys::clock::ahead(limit);
        // One for each disk that may come broken; a medium that forgets what is written must not hold us here.
        let mut repairs = 4;
        loop {
            if there(self) {
                return true;
            }
            if repairs > 0 && self.restore_tables() {
                repairs -= 1;
                continue;
            }
            let left = end.saturating_sub(minke_sys::clock::boottime());
            let mut ready = Vec::new();
            if left.is_zero() || self.poller.wait(&mut ready, Some(left)).is_err() {
                return false;
            }
            if self.take_block_events() {
                self.refresh();
            }
        }
    }

    /// The root device.
    pub fn root(&self) -> Option<&Found> {
        block::find(&self.found, &self.root, None)
    }

    /// The file system with the label `resin-NAME` or `balena-NAME` on the root device's disk.
    pub fn labelled(&self, name: &str) -> Option<&Found> {
        let disk = self.root()?.device.whole_disk();
        let wanted = |found: &&Found| name_of(found) == Some(name) && found.device.whole_disk() == disk;
        self.found.iter().find(wanted)
    }

    /// The file systems and partitions of the root device's disk.
    pub fn on_root_disk(&self) -> impl Iterator<Item = &Found> {
        let disk = self.root().map(|root| root.device.whole_disk());
        self.found
            .iter()
            .filter(move |found| found.device.number.is_some() && Some(found.device.whole_disk()) == disk)
    }

    /// The root device's disk.
    pub fn disk(&self) -> Option<&Device> {
        let disk = self.root()?.device.whole_disk();
        self.found.iter().map(|found| &found.device).find(|device| device.name == disk)
    }

    /// Where devices are found.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Writes down the root file system's UUID when `root=` names another: it was changed in this boot, or the replay
    /// of a journal finished what an earlier boot began.
    pub fn publish_root(&self) {
        let Some(root) = self.root().filter(|root| !self.wanted.names(root)) else { return };
        let text = format!("UUID={}\n", root.uuid().unwrap_or_default());
        log::failure(log::WARNING, minke_sys::file::write(BOOTPARAM_ROOT, text));
    }

    /// A disk without partitions may have a GPT whose front is broken: a power cut while it grew. The kernel does not
    /// look at the second table. The answer tells whether there was one.
    fn restore_tables(&mut self) -> bool {
        let mut restored = false;
        for disk in &self.found {
            let name = &disk.device.name;
            let bare = |other: &Found| other.device.disk.as_ref() != Some(name);
            if disk.device.disk.is_some() || !self.found.iter().all(bare) {
                continue;
            }
            match block::restore_gpt(&self.places, &disk.device) {
                Ok(false) => {}
                Ok(true) => {
                    restored = true;
                    log::line(
                        log::WARNING,
                        format_args!("the GPT of {name} was restored from its second one"),
                    );
                }
                Err(error) => log::line(log::WARNING, format_args!("the GPT of {name} is broken: {error}")),
            }
        }
        if restored {
            self.refresh();
        }
        restored
    }

    /// Reads the superblocks again and renews the links below `/dev/disk`.
    pub fn refresh(&mut self) {
        match block::refresh_links(&self.places, Some(&self.root)) {
            Ok(found) => self.found = found,
            Err(error) => log::line(log::WARNING, format_args!("{error}")),
        }
    }

    fn take_block_events(&mut self) -> bool {
        let mut block = false;
        loop {
            match self.uevents.read() {
                Ok(Received::Event(event)) => block |= event.get("SUBSYSTEM") == Some("block"),
                Ok(Received::Lost) => block = true,
                Ok(Received::Empty) | Err(_) => return block,
            }
        }
    }

    fn log_what_is_there(&self) {
        for found in &self.found {
            let kind = found.superblock.as_ref().map_or("nothing known", |superblock| superblock.kind.name());
            let (name, label) = (found.device.path.display(), found.label().unwrap_or(""));
            let uuid = found.uuid().unwrap_or("");
            log::line(log::INFO, format_args!("there is {name}: {kind} LABEL={label} UUID={uuid}"));
        }
    }
}

/// Whether the boot partition may have this label, without its prefix.
pub fn is_boot(name: &str) -> bool {
    matches!(name, "boot" | "efi" | "rpi" | "imx")
}

/// A file system's label without `resin-` or `balena-`; `None`: it is none of ours.
pub fn name_of(found: &Found) -> Option<&str> {
    let label = found.label()?;
    label.strip_prefix("resin-").or_else(|| label.strip_prefix("balena-"))
}
