//! Updates that come to nothing, in one guest: the system that runs is untouched, and a good update succeeds then.

use minke_image::cache::file_digest;
use minke_image::guest::Settings;
use minke_image::machine::Start;
use minke_image::tree::Scratch;
use minke_tests::artefact::{Fault, archive};
use minke_tests::device::{Device, Way, image};
use minke_tests::disk::Partition;
use minke_tests::guest::{FASTEST, try_sh};
use minke_tests::run;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What must not change: the slot that runs, the boot partition but for the times of its files, the selection.
const UNTOUCHED: &str = "sync; echo 3 > /proc/sys/vm/drop_caches; sha256sum $(readlink -f /dev/disk/by-state/active); \
    cd /mnt/boot && find . -type f | sort | xargs sha256sum";

fn refused(device: &mut Device, command: &str, told: &str) {
    let before = device.sh(UNTOUCHED);
    let (said, status) = try_sh(&mut device.guest, command);
    assert_eq!(status, 1, "{command}: {said}");
    let last = said.trim().lines().last().unwrap_or_default();
    assert!(last.contains(told), "'{told}' in {said}");
    assert_eq!(device.sh(UNTOUCHED), before, "{command}");
    device.sh("cat /mnt/boot/resinOS_uEnv.txt | grep -q upgrade_available=0");
}

#[test]
fn a_bad_card_and_a_download_that_breaks_off() {
    let disk = image(FASTEST);
    let slot = Partition::labelled(&disk, "resin-rootB");
    // Every sixteenth of the slot has a spot; the first are in its tables.
    let bad_sectors = (1..16).map(|part| slot.start + slot.sectors / 16 * part + 512).collect();
    let settings = Settings { start: Start::Firmware, bad_sectors, ..Settings::new(FASTEST, &disk) };
    let mut device = Device::on(settings);
    let release = archive(FASTEST, "8.1.0", Fault::None);
    let command = device.command(&release, Way::Registry);
    refused(&mut device, &command, "slot B on /dev/vda3: ");
    let command = device.command(&release, Way::Pipe);
    refused(&mut device, &command, "I/O error (os error 5); the storage medium fails");
    // On another card.
    device.guest.kill();
    device.guest.settings_mut().bad_sectors = Vec::new();
    device.guest.restart().unwrap();
    device.up();
    // The rest never comes. From a registry it is waited for, two and a half minutes in all.
    let all = std::env::var("MINKE_UPDATE").is_ok_and(|all| all == "all");
    for way in [Way::Pipe, Way::Registry].into_iter().take(if all { 2 } else { 1 }) {
        let command = device.command(&release, way);
        device.registry.end(4 << 20);
        refused(&mut device, &command, "");
        device.registry.end(0);
    }
    // It comes in pieces: what was there is not sent again.
    device.registry.sent();
    device.registry.pieces(3 << 20);
    device.install(&release, Way::Registry);
    let (size, sent) = (std::fs::metadata(&release).unwrap().len(), device.registry.sent());
    assert!(sent < size + size / 10, "{sent} bytes were sent for an archive of {size}");
    device.registry.pieces(0);
    device.reboot();
    device.starts(3, "upgrade_available=1 bootcount=1");
    device.up();
    device.is("8.1.0", "3", &[]);
}

/// What the other slot holds.
const OTHER: &str = "cd /mnt/sysroot/inactive && readlink current && find . -type f | sort | xargs sha256sum";

/// What is not for this device, and what has no room, is refused from the documents alone: the other slot keeps its system.
#[test]
fn releases_that_are_not_for_this_device_and_places_without_room() {
    let scratch = Scratch::new("refused").unwrap();
    let mut device = Device::start(FASTEST);
    let release = archive(FASTEST, "8.1.0", Fault::None);
    let good = format!("{} -n", device.command(&release, Way::Pipe));
    device.sh(&good);
    let held = device.sh(OTHER);
    let make = |name: &str, key: Option<&Path>, change: &dyn Fn(&mut Value)| {
        variant(&release, &scratch.join(name), key, change)
    };
    let label = |name: &'static str, value: &'static str| {
        move |config: &mut Value| config["config"]["Labels"][name] = value.into()
    };
    let old = label("io.balena.os-release.VERSION", "7.9.9");
    let check = |device: &mut Device, archive: &Path, told: &str| {
        let command = device.command(archive, Way::Registry);
        device.registry.sent();
        refused(device, &command, told);
        let sent = device.registry.sent();
        assert!(sent < 1 << 20, "{sent} bytes were sent before: {told}");
        assert_eq!(device.sh(OTHER), held, "{told}");
    };
    // (A processor of this kind may run programs for 32-bit Arm.)
    let other = |config: &mut Value| {
        config["architecture"] = "amd64".into();
        config["variant"] = Value::Null;
    };
    check(&mut device, &make("platform", None, &other), "no image for linux/arm64");
    let slug = label("io.balena.os-release.SLUG", "raspberry-pi");
    check(
        &mut device,
        &make("slug", None, &slug),
        "is for the device type raspberry-pi, and this device is a",
    );
    check(&mut device, &make("old", None, &old), "the release 7.9.9 is older than");
    let large = label("io.minke.size", "200000000");
    check(&mut device, &make("large", None, &large), "the release needs 192 MiB, and the slot can take");

    // From here on the device has a key.
    let keys = ["fleet", "foreign"].map(|name| {
        let (public, secret) = (scratch.join(&format!("{name}.pub")), scratch.join(&format!("{name}.key")));
        run(Command::new("minisign").args(["-G", "-W", "-p"]).arg(&public).arg("-s").arg(&secret));
        (fs::read_to_string(public).unwrap(), secret)
    });
    let place = "/mnt/boot/release-keys";
    device.sh(&format!("mkdir {place} && printf '{}' > {place}/fleet.pub && sync", keys[0].0));
    let same = |_: &mut Value| {};
    check(&mut device, &release, "this release is not signed, and this device takes only signed ones");
    check(&mut device, &make("foreign", Some(&keys[1].1), &same), "which is not installed here");
    check(&mut device, &make("replayed", Some(&keys[0].1), &old), "the release 7.9.9 is older than");
    device.sh(&format!("rm -r {place} && sync"));

    // No room for boot files is known before the download as well.
    device.sh("! dd if=/dev/zero of=/mnt/boot/fill bs=64k && sync");
    check(&mut device, &release, "make room for /mnt/boot/");
    device.sh("rm /mnt/boot/fill && sync");
    // A slot that something else fills is found out when it is written.
    device.sh("! dd if=/dev/zero of=/mnt/sysroot/inactive/lost+found/fill bs=64k && sync");
    let command = device.command(&release, Way::Registry);
    refused(&mut device, &command, "No space left on device (os error 28); what runs is untouched");
    device.sh("rm /mnt/sysroot/inactive/lost+found/fill");
    let good = format!("{} -n", device.command(&release, Way::Pipe));
    device.sh(&good);
    assert_eq!(device.sh(OTHER).lines().next(), held.lines().next());
}

/// An archive with another configuration, whose digests are right; signed with a key, if one is given.
fn variant(from: &Path, to: &Path, key: Option<&Path>, change: &dyn Fn(&mut Value)) -> PathBuf {
    let layout = to.join("layout");
    fs::create_dir_all(&layout).unwrap();
    run(Command::new("tar").arg("-xf").arg(from).arg("-C").arg(&layout));
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
        layout.join("blobs").join(digest)
    };
    let put = |descriptor: &mut Value, content: &Value| {
        let path = to.join("blob");
        fs::write(&path, content.to_string()).unwrap();
        let digest = file_digest(&path).unwrap();
        descriptor["size"] = fs::metadata(&path).unwrap().len().into();
        descriptor["digest"] = format!("sha256:{digest}").into();
        fs::rename(&path, layout.join("blobs/sha256").join(digest)).unwrap();
    };
    let mut index = read(&layout.join("index.json"));
    let mut manifest = read(&blob(&index["manifests"][0]));
    let mut config = read(&blob(&manifest["config"]));
    change(&mut config);
    put(&mut manifest["config"], &config);
    if let Some(key) = key {
        let signature = to.join("signature");
        let mut command = Command::new("minisign");
        command.args(["-S", "-W", "-s"]).arg(key).arg("-m").arg(blob(&manifest["config"]));
        run(command.arg("-x").arg(&signature));
        manifest["annotations"] = json!({ "io.minke.signature": fs::read_to_string(signature).unwrap() });
    }
    let entry = &mut index["manifests"][0];
    for name in ["architecture", "variant"] {
        entry["platform"][name] = config[name].clone();
    }
    put(entry, &manifest);
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    let archive = to.join("hostapp.tar");
    run(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&layout).args([
        "oci-layout",
        "index.json",
        "blobs",
    ]));
    archive
}
