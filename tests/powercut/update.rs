//! An update of the host OS, from its first write to the end of the trial: whenever the power goes, the boot loader's own
//! rules lead to a slot whose content is whole, the old one or the new one.

use crate::disk::files;
use crate::length;
use crate::log::{self, Entry};
use crate::look::{Files, Look, State, boots};
use crate::replay::{Content, Cut, Fate, Replay};
use minke_image::arch::Arch;
use minke_image::guest::Settings;
use minke_image::tree::Scratch;
use minke_tests::Random;
use minke_tests::artefact::{Fault, archive, contents, id};
use minke_tests::boot_loader::{End, Ext4, Fat, Loader, Volume};
use minke_tests::device::{Device, Way};
use minke_tests::disk::Partition;
use minke_tests::guest::{FASTEST, power_off};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// How many of the disks boot, without `MINKE_POWERCUT_BOOTS`.
const BOOTS: usize = 30;
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

/// How U-Boot's and GRUB's record of a selection begins that names the new slot.
const CHOSEN: [&[u8]; 2] = [b"resin_root_part=3\n", b"# GRUB Environment Block\nresin_root_part=3\n"];
/// How many writes are left out in turn, to see whether that is noticed.
const NOTICED: usize = 4;

/// Paths below a host app's folder with the digests of their files.
type App = BTreeMap<String, String>;

/// What the update leads from and to.
struct Known {
    /// The content of each host app by its id.
    apps: BTreeMap<String, App>,
    /// The boot partition's files before and after.
    boot: [Files; 2],
    /// How often each slot was chosen.
    chosen: BTreeMap<u32, usize>,
    /// The partitions that have been looked at, by their content, and the slots whose every file had its digest.
    fats: BTreeMap<Content, Rc<Fat>>,
    slots: BTreeMap<Content, Rc<Ext4>>,
    whole: BTreeSet<Content>,
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

/// An update that was recorded.
struct Recorded {
    /// The disk before and after it.
    before: PathBuf,
    after: PathBuf,
    /// What it wrote, and with which entry it began.
    log: Vec<Entry>,
    from: usize,
    /// How the device starts.
    settings: Settings,
}

/// Lets a device install this archive, start it and find it well.
fn record(arch: Arch, new: &Path, folder: &Path) -> Recorded {
    let mut device = Device::start(arch);
    let settings = device.guest.settings_mut().clone();
    power_off(&mut device.guest);
    let before = folder.join("before.img");
    device.guest.overlay().export(&before).unwrap();

    let writes = folder.join("writes.log");
    let mut device =
        Device::on(Settings { write_log: Some(writes.clone()), image: before.clone(), ..settings.clone() });
    device.sh("sync");
    let from = length(&writes);
    device.install(new, Way::Registry);
    device.reboot();
    device.starts(3, "upgrade_available=1 bootcount=1");
    device.up();
    device.is("8.1.0", "3", &[]);
    device.sh("sync");
    let log = log::read(&writes);
    let from = log.iter().position(|entry| entry.end > from).unwrap();
    power_off(&mut device.guest);
    let after = folder.join("after.img");
    device.guest.overlay().export(&after).unwrap();
    Recorded { before, after, log, from, settings }
}

fn update(arch: Arch) {
    let scratch = Scratch::new("powercut-update").unwrap();
    let new = archive(arch, "8.1.0", Fault::None);
    let recorded = record(arch, &new, scratch.path());
    let mut known = Known::of(&recorded, &new);
    let settings = |disk: &Path| Settings { image: disk.to_path_buf(), ..recorded.settings.clone() };
    let mut look = Look::new(&recorded.before, (&recorded.log, recorded.from), scratch.path(), &of_boot);
    look.settings = &settings;
    look.boots = boots(BOOTS);
    let again = archive(arch, "8.2.0", Fault::None);
    look.at_all(&mut |state| known.check(state), &|guest, foretold, number| {
        // What the real boot loader did is what we took it to do.
        let line = guest.console();
        let line = line.lines().find(|line| line.contains("starts partition ")).unwrap_or_default();
        assert!(line.contains(&format!("starts partition {foretold} ")), "{line}");
        let mut device = Device::of(guest);
        device.settled();
        device.keeps();
        let version = device.sh(". /etc/os-release; echo $VERSION");
        assert!(["8.0.2", "8.1.0"].contains(&version.as_str()), "{version}");
        if number % AGAIN == 0 {
            device.install(&again, Way::Registry);
            device.reboot();
            device.starts(5 - foretold, "upgrade_available=1 bootcount=1");
            device.up();
            device.settled();
            assert_eq!(device.sh(". /etc/os-release; echo $VERSION"), "8.2.0");
            device.keeps();
        }
    });
    println!("first starts by slot: {:?}", known.chosen);
    assert!(known.chosen.len() == 2, "both slots are chosen somewhere in an update");
    known.notices(&recorded, scratch.path());
}

impl Known {
    fn of(recorded: &Recorded, new: &Path) -> Self {
        let volume = Volume::open(&recorded.before);
        let old = volume.slot(2);
        Self {
            apps: BTreeMap::from([(old_id(old), of_slot(old)), (id(new), contents(new))]),
            boot: [boot_files(&recorded.before), boot_files(&recorded.after)],
            chosen: BTreeMap::new(),
            fats: BTreeMap::new(),
            slots: BTreeMap::new(),
            whole: BTreeSet::new(),
        }
    }

    /// Were the slot selected before all of its content is on the disk, that would not go unnoticed: with any one of
    /// the largest writes to it left out, the disk right after the selection is found wrong.
    fn notices(&mut self, recorded: &Recorded, folder: &Path) {
        let slot = Partition::labelled(&recorded.before, "resin-rootB").range();
        let chosen = |entry: &Entry| CHOSEN.iter().any(|record| entry.data.starts_with(record));
        let selection = recorded.from + recorded.log[recorded.from..].iter().position(chosen).unwrap();
        let mut writes: Vec<usize> = (recorded.from..selection).collect();
        writes.retain(|number| slot.contains(&recorded.log[*number].sector));
        writes.sort_by_key(|number| Reverse(recorded.log[*number].data.len()));
        for late in &writes[..NOTICED] {
            let mut log = recorded.log[..=selection].to_vec();
            log.remove(*late);
            let look = Look::new(&recorded.before, (&log, recorded.from), folder, &of_boot);
            let cut = Cut { entries: log.len(), fate: Fate::Whole };
            let mut replay = Replay::new(&log, &recorded.before, folder);
            replay.at(cut, &mut Random::new(1));
            let mut seen = BTreeMap::new();
            let check = || self.check(&look.state(&replay, cut, &mut seen));
            eprintln!("the write {late} to the slot comes late, which must be noticed:");
            assert!(catch_unwind(AssertUnwindSafe(check)).is_err(), "without the write {late}");
        }
    }

    /// Looks at a disk; the slot of its first start.
    fn check(&mut self, state: &State<'_>) -> u32 {
        let (partition, content) = state.partition("resin-boot");
        let boot = Rc::clone(self.fats.entry(content).or_insert_with(|| Fat::at(state.disk, &partition)));
        let first = self.starts(state, boot);
        *self.chosen.entry(first).or_default() += 1;
        // Stage 1 of whatever was started repairs the boot partition: it is whole then, and the choice is the same.
        let repaired = state.files("resin-boot");
        assert_eq!(
            self.starts(state, Fat::with(repaired)),
            first,
            "the choice after the repair of the boot partition"
        );
        self.boot_files(repaired);
        first
    }

    /// Four starts that come to nothing: each is of a whole system, and the last is of a system that was well before.
    fn starts(&mut self, state: &State<'_>, boot: Rc<Fat>) -> u32 {
        let slots = ["resin-rootA", "resin-rootB"].map(|label| {
            let (partition, content) = state.partition(label);
            Rc::clone(self.slots.entry(content).or_insert_with(|| Ext4::at(state.disk, &partition)))
        });
        let mut loader = Loader { volume: Volume::of(boot, slots) };
        let mut started = Vec::new();
        for _ in 0..4 {
            match loader.pass() {
                End::Start(start) => started.push(start.slot),
                End::Reset => panic!("the boot loader starts nothing"),
            }
        }
        for (slot, label) in [(2, "resin-rootA"), (3, "resin-rootB")] {
            let (_, content) = state.partition(label);
            if started.contains(&slot) && !self.whole.contains(&content) {
                self.whole(loader.volume.slot(slot));
                self.whole.insert(content);
            }
        }
        assert!(started == [3, 3, 3, 3] || started[3] == 2, "{started:?}");
        started[0]
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
    fn boot_files(&self, found: &Files) {
        for name in self.boot[0].keys() {
            assert!(found.contains_key(name) || OWN.contains(&name.as_str()), "{name} is gone");
        }
        for (name, content) in found {
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
fn of_slot(slot: &Ext4) -> App {
    let top = format!("hostapps/{}", old_id(slot));
    let boot = slot.list(&format!("{top}/boot")).into_iter().map(|name| format!("boot/{name}"));
    let names = slot.list(&top).into_iter().filter(|name| name != "boot").chain(boot);
    let with_digest = |name: String| {
        let digest = slot.digest(&format!("{top}/{name}")).unwrap();
        (name, digest)
    };
    let content: App = names.map(with_digest).collect();
    assert!(content.contains_key("boot/vmlinuz") && content.contains_key("rootfs.squashfs"), "{content:?}");
    content
}

/// Of the boot partition, all files.
fn of_boot(label: &str, partition: &Path) -> Files {
    if label == "resin-boot" { files(partition) } else { Files::new() }
}

fn boot_files(disk: &Path) -> Files {
    files(&Partition::labelled(disk, "resin-boot").extract(disk))
}
