//! An update of the host OS, from its first write to the end of the trial: whenever the power goes, the boot loader's own
//! rules lead to a slot whose content is whole, the old one or the new one.

use crate::disk::{files, repair_fat};
use crate::log;
use crate::{Look, length};
use minke_image::arch::Arch;
use minke_image::guest::Settings;
use minke_image::machine::Start;
use minke_image::tree::Scratch;
use minke_tests::artefact::{Fault, archive, contents, id};
use minke_tests::boot_loader::{End, Ext4, Loader, Volume};
use minke_tests::device::{Device, Way};
use minke_tests::disk::Partition;
use minke_tests::guest::{FASTEST, power_off};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Disks that boot: one from each part of the update.
const BOOTS: usize = 6;
/// Of those that boot, every so many is updated once more.
const AGAIN: usize = 5;
/// Files of the boot partition that belong to the device or change with the selection.
const OWN: &[&str] = &[
    "config.json",
    "resinOS_uEnv.txt",
    "bootcount.env",
    "grubenv",
    "extra_uEnv.txt",
    "grub_extraenv",
    "balenaos.fingerprint",
];

/// Paths below a host app's folder with the digests of their files.
type Content = BTreeMap<String, String>;

/// What the update leads from and to.
struct Known {
    /// The content of each host app by its id.
    apps: BTreeMap<String, Content>,
    /// The boot partition's files before and after.
    boot: [BTreeMap<String, Vec<u8>>; 2],
    /// How often each slot was chosen.
    chosen: BTreeMap<u32, usize>,
}

#[test]
fn host_update() {
    update(FASTEST);
}

#[test]
#[ignore = "MINKE_POWERCUT=all"]
fn host_update_by_grub() {
    update(Arch::X86_64);
}

fn update(arch: Arch) {
    let firmware = |disk: &Path| Settings {
        image: disk.to_path_buf(),
        start: Start::Firmware,
        ..minke_tests::guest::direct(arch)
    };
    let scratch = Scratch::new("powercut-update").unwrap();
    let mut device = Device::start(arch);
    power_off(&mut device.guest);
    let before = scratch.join("before.img");
    device.guest.overlay().export(&before).unwrap();
    let new = archive(arch, "8.1.0", Fault::None);

    let writes = scratch.join("writes.log");
    let mut device = Device::on(Settings { write_log: Some(writes.clone()), ..firmware(&before) });
    device.sh("sync");
    let from = length(&writes);
    device.install(&new, Way::Registry);
    device.reboot();
    device.starts(3, "upgrade_available=1 bootcount=1");
    device.up();
    device.is("8.1.0", "3", &[]);
    device.sh("sync");
    let log = log::read(&writes);
    let from = log.iter().position(|entry| entry.end > from).unwrap();
    power_off(&mut device.guest);
    let after = scratch.join("after.img");
    device.guest.overlay().export(&after).unwrap();

    let old = Volume::open(&before).slot(2);
    let mut known = Known {
        apps: BTreeMap::from([(old_id(&old), of_slot(&old)), (id(&new), contents(&new))]),
        boot: [boot_files(&before), boot_files(&after)],
        chosen: BTreeMap::new(),
    };
    let predicted = Cell::new(0);
    let mut booted = 0;
    let mut look = Look::new(&before, &log, from, scratch.path());
    let wanted = std::env::var("MINKE_POWERCUT_BOOTS").ok().and_then(|number| number.parse().ok());
    look.boots = wanted.unwrap_or(BOOTS);
    look.settings = &firmware;
    let again = archive(arch, "8.2.0", Fault::None);
    look.at_all(&mut |disk, _| predicted.set(known.check(disk)), &mut |guest| {
        // What the real boot loader did is what we took it to do.
        let line = guest.console();
        let line = line.lines().find(|line| line.contains("starts partition ")).unwrap_or_default();
        assert!(line.contains(&format!("starts partition {} ", predicted.get())), "{line}");
        let mut device = Device::of(guest);
        device.settled();
        device.keeps();
        let version = device.sh(". /etc/os-release; echo $VERSION");
        assert!(["8.0.2", "8.1.0"].contains(&version.as_str()), "{version}");
        if booted % AGAIN == 0 {
            device.install(&again, Way::Registry);
            device.reboot();
            device.starts(5 - predicted.get(), "upgrade_available=1 bootcount=1");
            device.up();
            device.settled();
            assert_eq!(device.sh(". /etc/os-release; echo $VERSION"), "8.2.0");
            device.keeps();
        }
        booted += 1;
    });
    println!("first starts by slot: {:?}", known.chosen);
    assert!(known.chosen.len() == 2, "both slots are chosen somewhere in an update");
}

impl Known {
    /// Looks at a disk; the slot of its first start.
    fn check(&mut self, disk: &Path) -> u32 {
        let first = self.starts(disk, None);
        *self.chosen.entry(first).or_default() += 1;
        // Stage 1 of whatever was started repairs the boot partition: it is whole then, and the choice is the same.
        let boot = Partition::labelled(disk, "resin-boot").extract(disk);
        repair_fat(&boot);
        assert_eq!(
            self.starts(disk, Some(&boot)),
            first,
            "the choice after the repair of the boot partition"
        );
        self.boot_files(&boot);
        first
    }

    /// Four starts that come to nothing: each is of a whole system, and the last is of a system that was well before.
    fn starts(&self, disk: &Path, boot: Option<&PathBuf>) -> u32 {
        let mut loader = Loader::new(disk);
        if let Some(boot) = boot {
            loader.volume = loader.volume.with_boot(boot);
        }
        let mut slots = Vec::new();
        for _ in 0..4 {
            match loader.pass() {
                End::Start(start) => slots.push(start.slot),
                End::Reset => panic!("the boot loader starts nothing"),
            }
        }
        for slot in [2, 3] {
            if slots.contains(&slot) {
                self.whole(&loader.volume.slot(slot));
            }
        }
        assert!(slots == [3, 3, 3, 3] || slots[3] == 2, "{slots:?}");
        slots[0]
    }

    /// A slot that is started holds every file of one version.
    fn whole(&self, slot: &Ext4) {
        let id = old_id(slot);
        let content = self.apps.get(&id).unwrap_or_else(|| panic!("a slot with the unknown host app {id}"));
        for (path, digest) in content {
            let found = slot.digest(&format!("hostapps/{id}/{path}"));
            assert_eq!(found.as_ref(), Some(digest), "{path} of {id}");
        }
    }

    /// Every file is the old or the new one, and there are no others than theirs.
    fn boot_files(&self, boot: &Path) {
        let found = files(boot);
        for name in self.boot[0].keys() {
            assert!(found.contains_key(name) || OWN.contains(&name.as_str()), "{name} is gone");
        }
        for (name, content) in &found {
            let own = OWN.contains(&name.as_str()) || name.starts_with("config.json");
            let known = self.boot.iter().filter_map(|files| files.get(name)).any(|known| known == content);
            // Copies that were being made stay beside; one whose long name the cut has torn off has its short name.
            let copy = name.to_ascii_lowercase().ends_with(".new");
            assert!(own || known || copy, "{name} is neither the old nor the new one");
        }
    }
}

/// The id of the host app that a slot's link names.
fn old_id(slot: &Ext4) -> String {
    let target =
        slot.link("current").unwrap_or_else(|| panic!("a slot that is started has no link 'current'"));
    target.trim_start_matches("hostapps/").to_owned()
}

/// The content of the host app of a slot that nobody has touched yet.
fn of_slot(slot: &Ext4) -> Content {
    let top = format!("hostapps/{}", old_id(slot));
    let boot = slot.list(&format!("{top}/boot")).into_iter().map(|name| format!("boot/{name}"));
    let names = slot.list(&top).into_iter().filter(|name| name != "boot").chain(boot);
    let with_digest = |name: String| {
        let digest = slot.digest(&format!("{top}/{name}")).unwrap();
        (name, digest)
    };
    let content: Content = names.map(with_digest).collect();
    assert!(content.contains_key("boot/vmlinuz") && content.contains_key("rootfs.squashfs"), "{content:?}");
    content
}

fn boot_files(disk: &Path) -> BTreeMap<String, Vec<u8>> {
    files(&Partition::labelled(disk, "resin-boot").extract(disk))
}
