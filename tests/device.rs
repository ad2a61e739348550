//! A device that is updated: a guest behind its firmware, with a container that keeps something in a volume, and the registry
//! that its updates come from.

// A test's helper fails the test that calls it.
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

use crate::disk::Partition;
use crate::guest::{BOOT, build, first_line, get_until, sh, start, try_sh, until};
use crate::registry::Registry;
use crate::{parts, project, run};
use minke_image::arch::Arch;
use minke_image::demo;
use minke_image::guest::{Guest, Settings};
use minke_image::machine::Start;
use minke_image::shell::SHELL_SIGN;
use minke_image::tree::Scratch;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Attempts that suffice for a system that is well, however busy the machine is.
pub const PATIENT: u32 = 60;

/// What the container's volume holds.
const KEPT: &str = "kept over updates";

/// How a release comes to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From a registry.
    Registry,
    /// As an archive that is read from a pipe.
    Pipe,
    /// As an archive on the data partition, from [`Device::with`].
    Card,
}

/// The device.
#[derive(Debug)]
pub struct Device {
    /// The machine.
    pub guest: Guest,
    /// Where updates come from.
    pub registry: Registry,
    /// Its disk, where it is not the image that all devices share.
    _card: Option<Scratch>,
}

/// The image of a development device whose container has a volume below its web pages.
pub fn image(arch: Arch) -> PathBuf {
    image_of(arch, "keep", &[])
}

/// As [`image`], with a name and options of its own. Built once in a test process, and one at a time: all are made from
/// the same files.
fn image_of(arch: Arch, name: &str, more: &[&str]) -> PathBuf {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let image = format!("minke-test-{name}-{}.img", arch.name());
    built.entry(image).or_insert_with_key(|image| make_image(arch, image, more)).clone()
}

fn make_image(arch: Arch, image: &str, more: &[&str]) -> PathBuf {
    let out = project().join("out");
    std::fs::create_dir_all(&out).unwrap();
    let (archive, apps) =
        (out.join(format!("test-keep-{}.tar", arch.name())), out.join("test-keep-apps.json"));
    let parts = parts(arch);
    let content = demo::image(arch, &parts, 1_700_000_000).unwrap();
    std::fs::write(&archive, content).unwrap();
    let mut target = demo::apps();
    let app = target["apps"].as_object_mut().unwrap().values_mut().next().unwrap();
    let release = app["releases"].as_object_mut().unwrap().values_mut().next().unwrap();
    release["volumes"] = json!({ "keep": {} });
    release["services"]["demo"]["composition"]["volumes"] = json!(["keep:/www/keep"]);
    std::fs::write(&apps, target.to_string()).unwrap();
    let options = ["--preload", archive.to_str().unwrap(), "--app", apps.to_str().unwrap()];
    let options = [options.as_slice(), more].concat();
    build(arch, image, &options)
}

impl Device {
    /// Starts a device for the first time.
    pub fn start(arch: Arch) -> Self {
        Self::on(Settings { start: Start::Firmware, ..Settings::new(arch, &image(arch)) })
    }

    /// Starts a device for the first time whose boot chain is the balena bootloader: a kernel that selects by `bootenv`.
    pub fn kexec(arch: Arch) -> Self {
        let image = image_of(arch, "keep-kexec", &["--boot-chain", "balena"]);
        Self::on(Settings { start: Start::Stage2, ..Settings::new(arch, &image) })
    }

    /// Starts a device for the first time with archives on its data partition.
    pub fn with(arch: Arch, archives: &[&Path]) -> Self {
        let (image, card) = (image(arch), Scratch::new("card").unwrap());
        let disk = card.join("disk.img");
        run(Command::new("cp").arg("--sparse=always").arg(&image).arg(&disk));
        let data = Partition::labelled(&disk, "resin-data");
        let file = data.extract(&disk);
        for archive in archives {
            let request = format!("write {} {}", archive.display(), on_card(archive));
            run(Command::new("debugfs").args(["-w", "-R", &request]).arg(&file));
        }
        data.put_back(&disk, &file);
        std::fs::remove_file(file).unwrap();
        let settings = Settings { start: Start::Firmware, image: disk, ..Settings::new(arch, &image) };
        Self { _card: Some(card), ..Self::on(settings) }
    }

    /// Starts it with settings of the test's own.
    pub fn on(settings: Settings) -> Self {
        let mut device = Self::of(start(settings));
        first_line(&mut device.guest);
        device.trial(PATIENT, 3);
        device.sh(&format!("echo '{KEPT}' > $(echo /var/lib/docker/volumes/*keep*/_data)/marker && sync"));
        // The network may come later than the container.
        device.keeps();
        device
    }

    /// A guest that runs.
    pub fn of(guest: Guest) -> Self {
        Self { guest, registry: Registry::start(), _card: None }
    }

    /// Sets how often a system on trial is asked, three seconds apart, and after how many seconds first.
    pub fn trial(&mut self, count: u32, delay: u32) {
        let settings = format!("COUNT={count}\\nTIMEOUT=3\\nDELAY={delay}\\n");
        self.sh(&format!("printf '{settings}' > /mnt/state/rollback-health.conf && sync"));
    }

    /// Runs a command that must succeed.
    pub fn sh(&mut self, command: &str) -> String {
        sh(&mut self.guest, command)
    }

    /// Runs a command again and again until it succeeds.
    pub fn until(&mut self, command: &str) -> String {
        until(&mut self.guest, command)
    }

    /// The command that installs an archive.
    pub fn command(&self, archive: &Path, way: Way) -> String {
        if way == Way::Card {
            return format!("hostapp-update -f /mnt/data/{}", on_card(archive));
        }
        let reference = self.registry.offer("os", archive);
        match way {
            Way::Registry => format!("hostapp-update --insecure-registry -i {reference}"),
            Way::Pipe | Way::Card => {
                format!("wget -q -O - {} | hostapp-update -f -", self.registry.archive("os"))
            }
        }
    }

    /// Installs an archive, which must succeed.
    pub fn install(&mut self, archive: &Path, way: Way) -> String {
        let command = self.command(archive, way);
        let (said, status) = try_sh(&mut self.guest, &command);
        assert_eq!(status, 0, "{command}: {said}");
        said
    }

    /// Reboots in order.
    pub fn reboot(&mut self) {
        self.guest.send("\nreboot\n").unwrap();
    }

    /// Waits until the boot loader starts this partition, with `upgrade_available` and `bootcount` so.
    pub fn starts(&mut self, partition: u32, counted: &str) {
        let (sign, slot) = match self.guest.settings_mut().start {
            Start::Stage2 => ("bootenv starts resin-root", if partition == 3 { "B" } else { "A" }.to_owned()),
            _ => ("starts partition ", partition.to_string()),
        };
        let line = self.guest.wait_for(sign, BOOT).unwrap_or_else(|error| panic!("{error}"));
        assert!(line.contains(&format!("{sign}{slot} ({counted}")), "{line}");
    }

    /// Waits until the system that starts has a shell.
    pub fn up(&mut self) {
        self.guest.forget_shell();
        self.guest.wait_for(SHELL_SIGN, BOOT).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Waits until nothing is on trial.
    pub fn settled(&mut self) {
        self.until(
            "cd /mnt/boot; ! grep -q upgrade_available=1 resinOS_uEnv.txt grubenv bootenv 2>/dev/null",
        );
    }

    /// What the device is in the end: version, partition, files about rollbacks, and its volume as the container has it.
    pub fn is(&mut self, version: &str, partition: &str, files: &[&str]) {
        self.settled();
        let found =
            self.sh(". /etc/os-release; echo $VERSION; basename $(readlink -f /dev/disk/by-state/active)");
        assert_eq!(found.split_whitespace().next(), Some(version));
        assert!(found.ends_with(partition), "{found}");
        let console = self.guest.console();
        for flaw in ["ordering cycle", "mnt-sysroot-inactive.service: failed"] {
            assert!(!console.contains(flaw), "{console}");
        }
        let list = "cd /mnt/state; ls -d rollback-* | grep -vx -e rollback-health.conf -e rollback-unreported || true";
        let wanted = files.join(" ");
        // What ends a trial selects first, and then tidies up.
        self.until(&format!("about=$({list}); echo $about; [ \"$(echo $about)\" = '{wanted}' ]"));
        self.keeps();
    }

    /// The container runs and has its volume.
    pub fn keeps(&self) {
        get_until(&self.guest, demo::PORT, "/keep/marker", KEPT);
    }
}

/// An archive's name on a data partition: that of its folder in the cache.
fn on_card(archive: &Path) -> String {
    let name = archive.parent().and_then(Path::file_name).unwrap_or_default();
    format!("{}.tar", name.to_string_lossy())
}
