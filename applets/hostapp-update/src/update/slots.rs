//! Which partition runs and which one is to be written: by device numbers, never by a name alone (balenahup issue 405).

use super::why::{Result, Why, refuse};
use minke_boot::Slot;
use minke_sys::block::{self, Found, Places};
use minke_sys::{file, status};
use std::path::{Path, PathBuf};

/// One of the two slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// Which one.
    pub slot: Slot,
    /// The partition's device node.
    pub device: PathBuf,
    /// The partition's device number: `st_dev` of what is mounted from it.
    pub number: u64,
    /// Where it is mounted.
    pub place: PathBuf,
}

impl Side {
    /// An error of what was done with it, which tells a person where that was.
    #[cold]
    #[inline(never)]
    pub fn told(&self, error: &Why) -> Why {
        Why::new(format_args!("slot {} on {}: {error}", self.slot.letter(), self.device.display()))
    }
}

/// Both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    /// The one that runs.
    pub active: Side,
    /// The other one.
    pub inactive: Side,
}

impl Slots {
    /// Finds both, on the disk of the one that is mounted at `/mnt/sysroot/active`. `links`: a test's folder of links
    /// `active` and `inactive`, instead of the kernel's devices.
    pub fn find(root: &Path, links: Option<&Path>) -> Result<Self> {
        let place = root.join(crate::ACTIVE);
        let running = status::of(&place)?.device;
        let (active, inactive) = match links {
            Some(links) => (node_of(links, "active")?, node_of(links, "inactive")?),
            None => of_devices(&Places::default(), running, &place)?,
        };
        let (slot, active) = active;
        let slots = Self {
            active: Side { slot, number: status::of(&active)?.special, device: active, place },
            inactive: Side {
                slot: slot.other(),
                number: status::of(&inactive.1)?.special,
                device: inactive.1,
                place: root.join(crate::INACTIVE),
            },
        };
        let (running_device, other) = (slots.active.device.display(), slots.inactive.device.display());
        if slots.active.number != running {
            refuse!("{running_device} is not what runs: nothing is written");
        }
        if slots.inactive.number == running || slots.inactive.number == 0 || inactive.0 != slot.other() {
            refuse!("{other} is no slot beside {running_device}: nothing is written");
        }
        Ok(slots)
    }
}

/// A slot's letter and its device node.
type Node = (Slot, PathBuf);

fn node_of(links: &Path, name: &str) -> Result<Node> {
    let node = file::real_path(&links.join(name))?;
    let label = block::probe(&node)?.and_then(|found| found.label);
    let slot = label.as_deref().and_then(Slot::of_label);
    // One without a label is to be made anew: what is not A is B.
    Ok((slot.unwrap_or(if name == "active" { Slot::A } else { Slot::B }), node))
}

/// The slot with this device number, and the other one on its disk: by its label, or where the file system is beyond
/// recognition, by the partition's number, as boot loaders count (2 and 3).
fn of_devices(places: &Places, running: u64, place: &Path) -> Result<(Node, Node)> {
    let found = block::scan(places)?;
    let is_running =
        |found: &&Found| status::of(&found.device.path).is_ok_and(|node| node.special == running);
    let Some(active) = found.iter().find(is_running) else {
        refuse!("no partition is mounted at {}: this system cannot update itself", place.display());
    };
    let Some(slot) = letter(active) else {
        refuse!("{} is no slot: it has neither label nor number of one", active.device.path.display());
    };
    let other = slot.other();
    let mut inactive = None;
    for found in &found {
        let (own, disk) = (&found.device, active.device.whole_disk());
        if own.whole_disk() != disk || own.path == active.device.path || own.name == disk {
            continue;
        }
        match found.label() {
            Some(label) if Slot::of_label(label) == Some(other) => {
                inactive = Some(found);
                break;
            }
            // A file system with another label is somebody else's.
            None if letter(found) == Some(other) => inactive = inactive.or(Some(found)),
            _ => {}
        }
    }
    let Some(inactive) = inactive else {
        refuse!("there is no partition {} on the disk of {}", other.label(), active.device.path.display());
    };
    Ok(((slot, active.device.path.clone()), (other, inactive.device.path.clone())))
}

fn letter(found: &Found) -> Option<Slot> {
    if let Some(slot) = found.label().and_then(Slot::of_label) {
        return Some(slot);
    }
    [Slot::A, Slot::B].into_iter().find(|slot| {
        found.device.number.is_some_and(|number| minke_wire::text::number(slot.number()) == Some(number))
    })
}
