//! Updates that come to nothing, in one guest: the system that runs is untouched, and a good update succeeds then.

use minke_image::cache::file_digest;
use minke_image::guest::Settings;
use minke_image::machine::Start;
use minke_image::tree::Scratch;
use minke_tests::artefact::{Fault, archive, contents};
use minke_tests::device::{Device, Way, image};
use minke_tests::disk::Partition;
use minke_tests::guest::{FASTEST, try_sh};
use minke_tests::{project, run};
use serde_json::{Value, json};
use std::collections::BTreeMap;
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
    // With its network.
    device.keeps();
    // The rest never comes. From a registry it is waited for, two and a half minutes in all.
    let all = std::env::var("MINKE_UPDATE").is_ok_and(|all| all == "all");
    let ways = [
        (Way::Pipe, "the archive is cut short"),
        (Way::Registry, "the peer closed the connection in the middle of a message"),
    ];
    for (way, told) in ways.into_iter().take(if all { 2 } else { 1 }) {
        let command = device.command(&release, way);
        device.registry.end(4 << 20);
        refused(&mut device, &command, told);
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
    deltas(&mut device, &release);
}

/// Deltas from what runs, each leading to the very files of the whole release; and those that cannot be used.
fn deltas(device: &mut Device, base: &Path) {
    let scratch = Scratch::new("deltas").unwrap();
    let [next, after] = ["8.1.1", "8.1.2"].map(|version| archive(FASTEST, version, Fault::None));
    let delta = |from: &Path, to: &Path, name: &str| {
        let delta = scratch.join(name);
        let mut command = Command::new(project().join("image/build"));
        run(command.arg("--delta").arg(from).arg(to).arg("-o").arg(&delta));
        delta
    };
    let (good, foreign) = (delta(base, &next, "good.tar"), delta(&next, &after, "foreign.tar"));
    let whole = device.registry.offer("os", &next);
    let size = fs::metadata(&next).unwrap().len();
    let reference = device.registry.offer("delta", &good);
    let others = [
        (device.registry.offer("foreign", &foreign), "this delta starts from host app "),
        (device.registry.offer("damaged", &good), "damaged"),
        (reference.replace("/delta:", "/nothing:"), "No such image: "),
    ];
    // One wrong bit in the middle of the layer, its largest blob.
    let blobs = fs::read_dir(device.registry.layout("damaged").join("blobs/sha256")).unwrap();
    let blob =
        blobs.map(|entry| entry.unwrap().path()).max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut content = fs::read(&blob).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 4;
    fs::write(blob, content).unwrap();
    let expected = contents(&next);
    let filled = |device: &mut Device, command: &str| {
        device.registry.sent();
        let (said, status) = try_sh(&mut device.guest, command);
        assert_eq!(status, 0, "{command}: {said}");
        let listed = device
            .sh("cd /mnt/sysroot/inactive/current/ && find . -type f | xargs sha256sum | sed 's| \\./||'");
        let pair =
            |line: &str| line.split_once(' ').map(|(sum, path)| (path.trim().to_owned(), sum.to_owned()));
        assert_eq!(
            listed.lines().filter_map(pair).collect::<BTreeMap<_, _>>(),
            expected,
            "{command}: {said}"
        );
        (said, device.registry.sent())
    };
    let pipe = |device: &Device, name: &str| {
        format!("wget -q -O - {} | hostapp-update -n -f -", device.registry.archive(name))
    };
    let command = pipe(device, "foreign");
    refused(device, &command, "; use the full image");
    let plain = "hostapp-update --insecure-registry";
    for (other, told) in others {
        let (said, sent) = filled(device, &format!("{plain} -n --delta {other} -i {whole}"));
        assert!(said.contains("the delta cannot be used (") && said.contains(told), "{told}: {said}");
        assert!(said.contains("taking the whole release") && sent > size / 2, "{told}: {sent}: {said}");
    }
    for command in [
        pipe(device, "delta"),
        format!("{plain} -n -i {reference}"),
        format!("{plain} --delta {reference} -i {whole}"),
    ] {
        let (said, sent) = filled(device, &command);
        assert!(!said.contains("cannot be used") && sent < size / 10, "{command}: {sent}: {said}");
    }
    device.reboot();
    device.starts(2, "upgrade_available=1 bootcount=1");
    device.up();
    device.is("8.1.1", "2", &[]);
}

/// What the other slot holds.
const OTHER: &str = "cd /mnt/sysroot/inactive && readlink current && find . -type f | sort | xargs sha256sum";

/// The same of its system alone, whatever its id is.
const FILES: &str = "cd /mnt/sysroot/inactive/current/ && find . -type f | sort | xargs sha256sum";

/// What is not for this device, and what has no room, is refused from the documents alone: the other slot keeps its system.
#[test]
fn releases_that_are_not_for_this_device_and_places_without_room() {
    let scratch = Scratch::new("refused").unwrap();
    let mut device = Device::start(FASTEST);
    let release = archive(FASTEST, "8.1.0", Fault::None);
    let good = format!("{} -n", device.command(&release, Way::Pipe));
    device.sh(&good);
    let (held, files) = (device.sh(OTHER), device.sh(FILES));
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
    let signed = make("signed", Some(&keys[0].1), &same);
    let command = format!("{} -n", device.command(&signed, Way::Registry));
    let said = device.sh(&command);
    assert!(said.contains(", signed with key "), "{said}");
    assert_eq!(device.sh(FILES), files);
    device.sh(&format!("rm -r {place} && sync"));
    let good = format!("{} -n", device.command(&release, Way::Pipe));
    device.sh(&good);

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
    // One whose head was overwritten is made anew, as large as its partition.
    let size = "stat -f -c %b /mnt/sysroot/inactive";
    let before = device.sh(size).parse::<u64>().unwrap();
    device.sh(
        "umount /mnt/sysroot/inactive && dd if=/dev/zero of=/dev/vda3 bs=1M count=1 conv=notrunc,fsync && \
               ! ls /mnt/sysroot/inactive/current",
    );
    let said = device.sh(&format!("({good}) 2>&1"));
    assert!(said.contains("slot B on /dev/vda3 is made anew: "), "{said}");
    assert_eq!(device.sh(FILES), files);
    let now = device.sh(size).parse::<u64>().unwrap();
    assert!(now.abs_diff(before) < before / 50, "{before} blocks, and {now} now");
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
