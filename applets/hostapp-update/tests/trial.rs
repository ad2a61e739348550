//! Hooks, boot files, the trial and the way back, on files below a temporary folder.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use minke_boot::{Chain, Selection, Slot};
use minke_tests::program::{self, Root, command, outcome};
use minke_tests::run;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Not a test of its own: the program, when this executable is started as it.
#[test]
fn entry() {
    program::entry(minke_hostapp_update::APPLET.programs);
}

/// A device whose slot A runs, with slot B filled.
struct Device(Root);

impl Device {
    fn new(name: &str) -> Self {
        let folders = [
            "etc/hostapp-update-hooks.d",
            "dev/disk/by-state",
            "mnt/data",
            "mnt/sysroot/active",
            "mnt/sysroot/inactive/current/boot",
            "resin-boot/EFI/BOOT",
        ];
        let device = Self(Root::new("hostapp-update", name, &folders));
        device.runs(Slot::A);
        device.put("etc/os-release", "VERSION=\"8.1.0\"\n");
        device.put("mnt/boot/resinOS_uEnv.txt", "resin_root_part=2\nupgrade_available=0\n");
        device.put("mnt/boot/bootcount.env", "bootcount=0\n");
        device.put("resin-boot/resinOS_uEnv.txt", "resin_root_part=2\nupgrade_available=0\n");
        device.config("{}");
        device
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.0.join(path)
    }

    fn config(&self, text: &str) {
        self.0.config(text);
    }

    fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        std::fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        std::fs::write(self.path(path), content).unwrap();
    }

    fn script(&self, path: &str, text: &str) {
        self.put("script", format!("#!/bin/sh\n{text}\n"));
        // One that this process writes could not be executed while another test's child has the open file.
        let mut install = Command::new("install");
        run(install.args(["-D", "-m", "755"]).args([self.path("script"), self.path(path)]));
    }

    fn read(&self, path: &str) -> String {
        self.0.read(path).unwrap_or_default()
    }

    fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// Makes the links that tell which slot runs.
    fn runs(&self, slot: Slot) {
        let links = self.path("dev/disk/by-state");
        for (name, slot) in [("active", slot), ("inactive", slot.other())] {
            let node = self.path(&format!("dev/{}", slot.letter()));
            std::fs::write(&node, "").unwrap();
            for link in [links.join(name), links.join(slot.label())] {
                let _ = std::fs::remove_file(&link);
                symlink(&node, link).unwrap();
            }
        }
    }

    fn selection(&self) -> Selection {
        Chain::UBoot.read(&self.path("mnt/boot")).unwrap()
    }

    fn select(&self, root: Slot, upgrade_available: bool, bootcount: u32) {
        let selection = Selection { root, upgrade_available, bootcount };
        Chain::UBoot.write(&self.path("mnt/boot"), &selection).unwrap();
    }

    /// Runs the hooks: exit status and log.
    fn hooks(&self, during_update: &str, words: &[&str]) -> (i32, String) {
        let root = self.0.0.to_str().unwrap();
        let mut command = command("hostapp-update-hooks", &[&["--root", root], words].concat());
        let (status, _, log) = outcome(command.env("DURING_UPDATE", during_update).output().unwrap());
        (status, log)
    }

    fn state(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.path("mnt/state")).unwrap();
        let mut names: Vec<String> =
            names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name.starts_with("rollback") && name != "rollback-health.conf");
        names.sort();
        names
    }

    /// A trial that is judged at once, and rarely.
    fn impatient(&self, count: u32) {
        self.put("mnt/state/rollback-health.conf", format!("COUNT={count}\nTIMEOUT=1\nDELAY=0\n"));
    }

    /// An engine and a supervisor that are well; the supervisor's port is in `config.json`.
    fn is_well(&self) {
        let socket = self.path("run/balena-engine.sock");
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let engine = UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || engine.incoming().for_each(|peer| answer(peer.unwrap())));
        let supervisor = TcpListener::bind("127.0.0.1:0").unwrap();
        self.config(&format!("{{\"listenPort\":{}}}", supervisor.local_addr().unwrap().port()));
        std::thread::spawn(move || supervisor.incoming().for_each(|peer| answer(peer.unwrap())));
    }
}

fn answer(mut peer: impl Read + Write) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && peer.read(&mut byte).is_ok_and(|count| count > 0) {
        head.push(byte[0]);
    }
    let _ = peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK");
}

const HOOKS: &str = "etc/hostapp-update-hooks.d";

#[test]
fn a_forward_run_does_everything_and_selects_last() {
    let device = Device::new("forward");
    device.put("resin-boot/boot.scr", "new script");
    device.put("resin-boot/overlays/a.dtbo", "new overlay");
    device.put("resin-boot/config.txt", "from the image");
    device.put("resin-boot/extra_uEnv.txt", "# empty");
    device.put("mnt/boot/boot.scr", "old script");
    device.put("mnt/boot/config.txt", "the owner's");
    device.put("mnt/boot/os-release", "VARIANT=\"Development\"\n");
    device.put("mnt/state/rollback-altboot-triggered", "");
    // Between the others, and what it sees of them.
    let look =
        "cat $HOOKS_DIR/../../mnt/boot/resinOS_uEnv.txt; ls $HOOKS_DIR/../../mnt/state | grep rollback";
    device.script(
        &format!("{HOOKS}/90-look"),
        &format!("{{ {look}; }} >$HOOKS_DIR/../seen; echo $DURING_UPDATE >>$HOOKS_DIR/../seen"),
    );
    device.put(&format!("{HOOKS}/70-v2/forward"), "echo plain >$HOOKS_DIR/../plain");
    device.script(&format!("{HOOKS}/70-v2/before"), "exit 1");
    let (status, log) = device.hooks("1", &[]);
    assert_eq!(status, 0, "{log}");
    assert_eq!(device.selection(), Selection { root: Slot::B, upgrade_available: true, bootcount: 0 });
    assert_eq!(device.read("mnt/boot/boot.scr"), "new script");
    assert_eq!(device.read("mnt/boot/overlays/a.dtbo"), "new overlay");
    assert_eq!(device.read("mnt/boot/config.txt"), "the owner's");
    assert_eq!(device.read("mnt/boot/extra_uEnv.txt"), "# empty");
    assert!(device.read("mnt/boot/config.json").contains("\"developmentMode\": true"), "{log}");
    assert_eq!(
        device.read("etc/seen"),
        "resin_root_part=2\nupgrade_available=0\nrollback-altboot-breadcrumb\nrollback-health-breadcrumb\n1\n"
    );
    assert_eq!(device.read("etc/plain"), "plain\n");
    assert!(device.has("mnt/data/remove_me_to_reset"));
    assert_eq!(device.state(), ["rollback-altboot-breadcrumb", "rollback-health-breadcrumb"]);
    assert_eq!(device.read("mnt/state/rollback-altboot-breadcrumb"), "8.1.0");
    let listed = device.read("mnt/boot/balenaos.fingerprint");
    let names: Vec<&str> = listed.lines().map(|line| line.split_once("  ").unwrap().1).collect();
    assert_eq!(names, ["boot.scr", "config.txt", "extra_uEnv.txt", "os-release", "overlays/a.dtbo"]);
    let check = Command::new("md5sum")
        .args(["-c", "--quiet", "balenaos.fingerprint"])
        .current_dir(device.path("mnt/boot"))
        .status();
    assert!(check.unwrap().success());

    // The same again changes nothing but the selection.
    let inode =
        |path: &str| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(device.path(path)).unwrap());
    let before = inode("mnt/boot/boot.scr");
    assert_eq!(device.hooks("1", &[]).0, 0);
    assert_eq!(inode("mnt/boot/boot.scr"), before);

    // Back: for good, and nothing tells of a trial.
    assert_eq!(device.hooks("0", &[]).0, 0);
    assert_eq!(device.selection(), Selection { root: Slot::A, upgrade_available: false, bootcount: 0 });
    assert!(device.state().is_empty());
}

#[test]
fn a_hook_that_fails_ends_it_before_the_selection() {
    let device = Device::new("fails");
    device.script(&format!("{HOOKS}/85-broken"), "echo words >&2; exit 3");
    device.script(&format!("{HOOKS}/10-v2/cleanup"), "touch $HOOKS_DIR/../cleaned");
    let (status, log) = device.hooks("1", &[]);
    assert_eq!(status, 1);
    assert!(log.contains("85-broken: status 3") && log.contains("words"), "{log}");
    assert_eq!(log.matches("status 3").count(), 1, "once is enough: {log}");
    assert!(!log.contains("os error"), "{log}");
    assert!(device.has("etc/cleaned"));
    assert_eq!(device.selection().root, Slot::A);
    // A script of a step's name replaces it.
    std::fs::remove_file(device.path(&format!("{HOOKS}/85-broken"))).unwrap();
    device.script(&format!("{HOOKS}/99-select"), "touch $HOOKS_DIR/../selected");
    assert_eq!(device.hooks("1", &[]).0, 0);
    assert!(device.has("etc/selected") && device.selection().root == Slot::A);
}

#[test]
fn phases_a_folder_of_ones_own_and_traces() {
    let device = Device::new("phases");
    device.config("{\"debug\": 1}");
    for phase in ["before", "forward", "after", "commit"] {
        device.script(&format!("own/5-v2/{phase}"), &format!("echo {phase} >>$HOOKS_DIR/../order"));
    }
    let folder = device.path("own");
    let folder = folder.to_str().unwrap();
    let (status, log) = device.hooks("1", &["--full", "--dir", folder]);
    assert_eq!(status, 0, "{log}");
    assert!(log.contains("+ echo before"), "{log}");
    assert_eq!(device.hooks("0", &["--commit", "--dir", folder]).0, 0);
    assert_eq!(device.read("order"), "before\nforward\nafter\ncommit\n");
    assert_eq!(device.selection().root, Slot::A, "what is built in belongs to the system's own folder");
    assert_eq!(device.hooks("1", &["extra"]).0, 2);
}

#[test]
fn without_a_kernel_or_links_nothing_is_selected() {
    let device = Device::new("nothing");
    std::fs::remove_dir_all(device.path("mnt/sysroot/inactive/current")).unwrap();
    let (status, log) = device.hooks("1", &[]);
    assert!(status == 1 && log.contains("select a slot without"), "{log}");
    std::fs::remove_dir_all(device.path("dev/disk")).unwrap();
    let (status, log) = device.hooks("0", &[]);
    assert!(status == 1 && log.contains("find which slot is active"), "{log}");
    assert_eq!(device.selection(), Selection::default());
}

#[test]
fn a_boot_file_that_cannot_be_written_takes_new_names_with_it() {
    let device = Device::new("cannot");
    device.put("resin-boot/a-new-name", "x");
    device.put("resin-boot/boot.scr", "new");
    // Something else stands there.
    device.put("mnt/boot/boot.scr/inside", "");
    let (status, log) = device.hooks("1", &[]);
    assert!(status == 1 && log.contains("boot.scr"), "{log}");
    assert!(!device.has("mnt/boot/a-new-name"));
    assert_eq!(device.selection().root, Slot::A);
}

#[test]
fn a_system_that_is_well_stays() {
    let device = Device::new("well");
    device.runs(Slot::B);
    device.select(Slot::B, true, 1);
    old_system(&device);
    device.is_well();
    device.impatient(3);
    for mark in ["health-breadcrumb", "altboot-breadcrumb"] {
        device.put(&format!("mnt/state/rollback-{mark}"), "");
    }
    device.put("mnt/state/rollback-health-variables", "BALENAOS_ROLLBACK_VPNONLINE=1\n");
    device.put("run/openvpn/vpn_status/active", "");
    device.script("etc/rollback-health.d/once", "test -e \"$0.second\" || { touch \"$0.second\"; exit 7; }");
    device.script(&format!("{HOOKS}/5-v2/commit"), "touch $HOOKS_DIR/../committed");
    let (status, _, log) = device.0.run("rollback-health", &[]);
    assert_eq!(status, 0, "{log}");
    assert!(log.contains("attempt 1 of 3") && log.contains("once: status 7"), "{log}");
    assert_eq!(device.selection(), Selection { root: Slot::B, upgrade_available: false, bootcount: 0 });
    assert!(device.state().is_empty() && device.has("etc/committed"));
}

/// Slot A's system mounts itself, as a reference system's stage 1 does; it has no hooks.
fn old_system(device: &Device) {
    device.put("old/etc/os-release", "VERSION=\"8.0.2\"\n");
    let old = device.path("old");
    device.script(
        "mnt/sysroot/inactive/sbin/init",
        &format!("test \"$1\" = -sysroot && printf %s {}", old.display()),
    );
}

#[test]
fn a_system_that_is_not_well_goes() {
    let device = Device::new("unwell");
    device.runs(Slot::B);
    device.select(Slot::B, true, 1);
    old_system(&device);
    device.is_well();
    device.impatient(2);
    for mark in ["health-breadcrumb", "altboot-breadcrumb"] {
        device.put(&format!("mnt/state/rollback-{mark}"), "");
    }
    device.put(
        "mnt/state/rollback-health-variables",
        "BALENAOS_ROLLBACK_VPNONLINE=1\nBALENAOS_ROLLBACK_NETWORK=1\n",
    );
    let (status, out, log) = device.0.run("rollback-health", &["check"]);
    assert!(status == 1 && out.contains("engine: well") && out.contains("VPN: it was up"), "{out}{log}");
    let (status, _, log) = device.0.run("rollback-health", &[]);
    assert_eq!(status, 0, "{log}");
    // Its hooks could not run, and it is selected all the same.
    assert_eq!(device.selection(), Selection { root: Slot::A, upgrade_available: false, bootcount: 0 });
    assert_eq!(device.state(), ["rollback-health-failed", "rollback-unreported", "rollback.json"]);
    let record = device.read("mnt/state/rollback.json");
    for part in [
        "\"by\": \"health\"",
        "\"from\": \"8.1.0\"",
        "\"to\": \"8.0.2\"",
        "\"attempts\": 2",
        "VPN: it was up",
        "network: there was",
    ] {
        assert!(record.contains(part), "{part}: {record}");
    }
    // No cloud knows this device.
    assert_eq!(device.0.run("rollback-health", &["report"]).0, 0);
    assert!(!device.has("mnt/state/rollback-unreported"));
}

#[test]
fn a_rollback_is_reported_once_and_a_record_is_never_lost() {
    let device = Device::new("report");
    let report = || device.0.run("rollback-health", &["report"]);
    let record = |reported: bool| {
        let text = r#"{"by":"health","from":"9.0.0","to":"8.1.0","reason":"engine: no answer","reported":"#;
        format!("{text}{reported}}}")
    };
    // Nothing to report: nothing is written.
    assert_eq!(report().0, 0);
    assert!(device.state().is_empty());
    device.put("mnt/state/rollback-unreported", "");
    device.put("mnt/state/rollback.json", "{ no record");
    let (status, _, log) = report();
    assert!(status == 0 && log.contains("cannot be understood"), "{log}");
    assert_eq!(device.read("mnt/state/rollback.json"), "{ no record");
    assert_eq!(device.state(), ["rollback.json"]);

    let cloud = |address: &str| {
        device.config(&format!(
            r#"{{"apiEndpoint":"http://{address}","uuid":"0123abcd","deviceApiKey":"secret","deviceId":7}}"#
        ));
    };
    // Nobody listens there.
    cloud("127.0.0.1:1");
    device.put("mnt/state/rollback-unreported", "");
    device.put("mnt/state/rollback.json", record(false));
    let (status, _, log) = report();
    assert!(status == 1 && log.contains("not reported yet"), "{log}");
    assert_eq!(device.state(), ["rollback-unreported", "rollback.json"]);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    cloud(&listener.local_addr().unwrap().to_string());
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut request = String::new();
        let mut buffer = [0; 4096];
        while !request.ends_with('}') {
            let count = socket.read(&mut buffer).unwrap();
            request.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        request
    });
    assert_eq!(report().0, 0);
    let request = server.join().unwrap();
    assert!(request.starts_with("PATCH /v6/device(uuid='0123abcd') HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("Rolled back from 9.0.0 to 8.1.0: engine: no answer"), "{request}");
    assert_eq!(device.state(), ["rollback.json"]);
    assert!(device.read("mnt/state/rollback.json").contains("\"reported\": true"));
    // A cut after the record, before its mark went: nobody listens any more, and nobody has to.
    device.put("mnt/state/rollback-unreported", "");
    assert_eq!(report().0, 0);
    assert_eq!(device.state(), ["rollback.json"]);
}

#[test]
fn who_stops_a_trial_keeps_what_runs() {
    let device = Device::new("stop");
    // Before its first boot; after the boot loader has fallen back; while it runs.
    for (running, count) in [(Slot::A, 0), (Slot::A, 4), (Slot::B, 1)] {
        device.runs(running);
        device.select(Slot::B, true, count);
        for mark in ["health", "altboot"] {
            device.put(&format!("mnt/state/rollback-{mark}-breadcrumb"), "");
        }
        assert_eq!(device.0.run("rollback-health", &["stop"]).0, 0);
        assert_eq!(device.selection(), Selection { root: running, upgrade_available: false, bootcount: 0 });
        assert!(device.state().is_empty());
    }
}

#[test]
fn beside_the_kexec_chains_record_none_of_u_boots_is_made() {
    let device = Device::new("bootenv");
    let bootenv = device.path("mnt/boot/bootenv");
    std::fs::remove_file(device.path("mnt/boot/resinOS_uEnv.txt")).unwrap();
    std::fs::write(&bootenv, format!("{:#<1024}", "# GRUB Environment Block\n")).unwrap();
    assert_eq!(device.hooks("1", &[]).0, 0);
    let boot = device.path("mnt/boot");
    let selection = Chain::BalenaBootloader.read(&boot).unwrap();
    assert_eq!(selection, Selection { root: Slot::B, upgrade_available: true, bootcount: 0 });
    assert!(!device.has("mnt/boot/resinOS_uEnv.txt"));
}

#[test]
fn without_a_way_back_the_system_stays() {
    let device = Device::new("no-way");
    device.runs(Slot::B);
    device.impatient(1);
    for version in [None, Some("2.30.0")] {
        device.select(Slot::B, true, 2);
        device.put("mnt/state/rollback-health-breadcrumb", "");
        if let Some(version) = version {
            old_system(&device);
            device.put("old/etc/os-release", format!("VERSION={version}\n"));
        }
        let (status, _, log) = device.0.run("rollback-health", &[]);
        assert!(status == 0 && log.contains("no way back"), "{log}");
        assert_eq!(device.selection(), Selection { root: Slot::B, upgrade_available: false, bootcount: 0 });
        assert!(device.state().is_empty());
    }
}

#[test]
fn an_update_that_waits_for_its_reboot_is_left_alone() {
    let device = Device::new("pending");
    device.select(Slot::B, true, 0);
    for mark in ["health-breadcrumb", "altboot-breadcrumb"] {
        device.put(&format!("mnt/state/rollback-{mark}"), "");
    }
    for program in ["rollback-health", "rollback-altboot"] {
        assert_eq!(device.0.run(program, &[]).0, 0);
    }
    assert_eq!(device.selection(), Selection { root: Slot::B, upgrade_available: true, bootcount: 0 });
    assert_eq!(device.state().len(), 2);
}

#[test]
fn breadcrumbs_without_a_trial_go() {
    let device = Device::new("over");
    for (root, upgrade) in [(Slot::A, false), (Slot::B, true)] {
        device.select(root, upgrade, 4);
        device.put("mnt/state/rollback-health-breadcrumb", "");
        device.put("mnt/state/rollback-altboot-breadcrumb", "");
        let (status, _, log) = device.0.run("rollback-health", &[]);
        assert_eq!(status, 0, "{log}");
        assert_eq!(device.selection(), Selection { root: Slot::A, upgrade_available: false, bootcount: 0 });
        assert!(device.state().is_empty());
    }
}

#[test]
fn the_slot_that_the_boot_loader_fell_back_to_is_selected() {
    let device = Device::new("altboot");
    device.put("resin-boot/boot.scr", "this system's");
    device.put("mnt/boot/boot.scr", "the other's");
    device.select(Slot::B, true, 4);
    assert_eq!(device.0.run("rollback-altboot", &[]).0, 0);
    assert_eq!(device.selection().root, Slot::B, "without a breadcrumb it is somebody's choice");
    for mark in ["health-breadcrumb", "altboot-breadcrumb", "health-variables"] {
        device.put(&format!("mnt/state/rollback-{mark}"), "");
    }
    device.put("mnt/state/rollback-altboot-breadcrumb", "9.9.9\n");
    let (status, _, log) = device.0.run("rollback-altboot", &[]);
    assert_eq!(status, 0, "{log}");
    assert_eq!(device.selection(), Selection { root: Slot::A, upgrade_available: false, bootcount: 0 });
    assert_eq!(device.read("mnt/boot/boot.scr"), "this system's");
    assert_eq!(device.state(), ["rollback-altboot-triggered", "rollback-unreported", "rollback.json"]);
    let record = device.read("mnt/state/rollback.json");
    assert!(record.contains("\"attempts\": 3") && record.contains("slot B was started"), "{record}");
    assert!(record.contains("\"from\": \"9.9.9\""), "{record}");
}

#[test]
fn a_slot_that_comes_up_after_failed_starts_is_on_trial_no_longer() {
    let device = Device::new("again");
    // Stage 1 counted two starts of a system without a judge, or a cut came before its second write.
    for (upgrade, count) in [(true, 3), (false, 0)] {
        device.select(Slot::A, upgrade, count);
        device.put("mnt/state/rollback-altboot-breadcrumb", "8.1.0");
        assert_eq!(device.0.run("rollback-altboot", &[]).0, 0);
        assert_eq!(device.selection(), Selection { root: Slot::A, upgrade_available: false, bootcount: 0 });
        assert!(device.state().is_empty());
    }
    // One with a judge goes on.
    device.select(Slot::A, true, 1);
    for mark in ["health", "altboot"] {
        device.put(&format!("mnt/state/rollback-{mark}-breadcrumb"), "");
    }
    assert_eq!(device.0.run("rollback-altboot", &[]).0, 0);
    assert!(device.selection().upgrade_available && device.state().len() == 2);
}

#[test]
fn a_shutdown_in_order_is_no_failed_start() {
    let device = Device::new("pause");
    device.select(Slot::B, true, 2);
    assert_eq!(device.0.run("rollback-health", &["pause"]).0, 0);
    assert_eq!(device.selection().bootcount, 2, "without a trial of ours nothing is touched");
    device.put("mnt/state/rollback-altboot-breadcrumb", "");
    assert_eq!(device.0.run("rollback-health", &["pause"]).0, 0);
    assert_eq!(device.selection(), Selection { root: Slot::B, upgrade_available: true, bootcount: 0 });
    assert_eq!(device.0.run("rollback-health", &["nonsense"]).0, 2);
    assert_eq!(device.0.run("rollback-altboot", &["nonsense"]).0, 2);
    assert!(Path::new(&device.path("mnt/state/rollback-altboot-breadcrumb")).exists());
}
