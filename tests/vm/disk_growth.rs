//! The first boot on a disk that is larger than the image: growth and unique UUIDs, also when an earlier boot was cut;
//! and partitions that are full.

use crate::guest::{FASTEST, direct, first_line, get_until, image, power_off, sh, start, try_sh, until};
use minke_image::arch::Arch;
use minke_image::guest::{Guest, Settings};
use minke_image::tree::Scratch;
use minke_tests::disk::{Partition, partitions};
use minke_tests::{run, text};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// A guest whose disk has so many MiB, on `base` or on the architecture's image.
fn enlarged(arch: Arch, base: Option<&Path>, mib: u64, keep: &Path) -> Guest {
    let base = base.map_or_else(|| image(arch), Path::to_path_buf);
    std::fs::create_dir_all(keep).unwrap();
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
    run(command.arg(base).arg(keep.join("disk.qcow2")).arg(format!("{mib}M")));
    start(Settings { keep: Some(keep.to_path_buf()), ..direct(arch) })
}

/// The partitions of the disk, in whose table sfdisk must find no fault.
fn table(disk: &Path) -> Vec<Partition> {
    let said = run(Command::new("sfdisk").arg("--verify").arg(disk));
    let said = text(&said) + &minke_tests::errors(&said);
    assert!(!said.contains("corrupt") && !said.contains("mismatch"), "{said}");
    partitions(disk)
}

/// UUIDs by label. All file systems are checked on the way; slots and storage must be in perfect order.
fn uuids(guest: &Guest) -> Vec<(String, String)> {
    let disk = guest.folder().join("exported");
    guest.overlay().export(&disk).unwrap();
    let mut found = Vec::new();
    for partition in table(&disk) {
        let file = partition.extract(&disk);
        let value = |tag: &str| {
            let output = Command::new("blkid").args(["-p", "-o", "value", "-s", tag]).arg(&file).output();
            text(&output.unwrap()).trim().to_owned()
        };
        match value("TYPE").as_str() {
            "ext4" => drop(run(Command::new("e2fsck").args(["-f", "-n"]).arg(&file))),
            "vfat" => drop(run(Command::new("fsck.vfat").arg("-n").arg(&file))),
            _ => {}
        }
        if !value("LABEL").is_empty() {
            found.push((value("LABEL"), value("UUID")));
        }
        std::fs::remove_file(file).unwrap();
    }
    std::fs::remove_file(disk).unwrap();
    assert_eq!(found.len(), 5, "{found:?}");
    found
}

fn are_unique(uuids: &[(String, String)]) {
    for (label, uuid) in uuids {
        let prefix = if label == "resin-boot" { "BDEF-" } else { "ba1eadef-" };
        assert!(uuid.starts_with(prefix), "{label} has {uuid}");
        assert_eq!(uuids.iter().filter(|(_, other)| other == uuid).count(), 1, "{uuids:?}");
    }
}

/// MiB that the data file system holds.
fn data_mib(guest: &mut Guest) -> u64 {
    let blocks = sh(guest, "stat -f -c '%b %S' /mnt/data");
    let (blocks, size) = blocks.split_once(' ').unwrap();
    (blocks.parse::<u64>().unwrap() * size.parse::<u64>().unwrap()) >> 20
}

/// What stage 1 and mount-state said about the disk.
fn said(guest: &mut Guest) -> String {
    sh(guest, "cat /run/initramfs/initramfs.debug; journalctl -b -o cat -u mount-state --no-pager; true")
}

#[test]
fn a_gpt_disk_grows_once_and_a_broken_table_is_restored() {
    let scratch = Scratch::new("gpt").unwrap();
    let mut guest = enlarged(Arch::X86_64, None, 3072, &scratch.join("guest"));
    first_line(&mut guest);
    let first = said(&mut guest);
    assert!(first.contains("has the UUID ba1eadef") && first.contains("MiB now"), "{first}");
    let size = data_mib(&mut guest);
    assert!(size > 2600, "{size} MiB");
    // One percent stays for the OS.
    let left = sh(&mut guest, "stat -f -c '%f %a' /mnt/data");
    let (free, available) = left.split_once(' ').unwrap();
    let reserve = free.parse::<u64>().unwrap() - available.parse::<u64>().unwrap();
    assert!((6000..20_000).contains(&reserve), "{reserve} blocks");
    sh(&mut guest, "mount-state check && test ! -e /run/initramfs/bootparam_root.mux");
    let root = sh(&mut guest, "cat /run/initramfs/bootparam_root");
    sh(&mut guest, &format!("test /dev/disk/by-state/active -ef /dev/disk/by-uuid/{}", &root[5..]));
    let identity = sh(&mut guest, "config-json get uuid; cat /etc/machine-id");
    power_off(&mut guest);
    let before = uuids(&guest);
    are_unique(&before);

    // A power cut while the table was written: its header does not fit its entries.
    run(Command::new("qemu-io")
        .args(["-f", "qcow2", "-c", "write -q -P 7 1040 8"])
        .arg(guest.overlay().path()));
    guest.restart().unwrap();
    first_line(&mut guest);
    let second = said(&mut guest);
    assert!(second.contains("was restored from its second one"), "{second}");
    assert!(!second.contains("has the UUID") && !second.contains("MiB now"), "{second}");
    assert_eq!(data_mib(&mut guest), size);
    assert_eq!(sh(&mut guest, "config-json get uuid; cat /etc/machine-id"), identity);
    assert!(!sh(&mut guest, "ls /run/initramfs").contains("bootparam_root"));
    power_off(&mut guest);
    assert_eq!(uuids(&guest), before);
}

/// An earlier first boot was cut after slot B and state had their UUIDs and after the table was written.
#[test]
fn an_msdos_disk_whose_first_boot_was_cut() {
    let scratch = Scratch::new("msdos").unwrap();
    let disk = scratch.join("disk.img");
    std::fs::copy(image(Arch::Armv7), &disk).unwrap();
    let file = std::fs::File::options().write(true).open(&disk).unwrap();
    file.set_len(2 << 30).unwrap();
    let resize = |number: &str, line: &[u8]| {
        let mut command = Command::new("sfdisk");
        command.args(["-q", "--no-reread", "-N", number]).arg(&disk).stdin(Stdio::piped());
        let mut tool = command.spawn().unwrap();
        tool.stdin.take().unwrap().write_all(line).unwrap();
        assert!(tool.wait().unwrap().success());
    };
    resize("4", b", +\n");
    resize("6", b", +\n");
    let places = table(&disk);
    let half = ["ba1eadef-0000-4000-8000-00000000000b", "ba1eadef-0000-4000-8000-000000000005"];
    for (place, uuid) in [places[2], places[3]].into_iter().zip(half) {
        let part = place.extract(&disk);
        run(Command::new("tune2fs").args(["-U", uuid]).arg(&part));
        place.put_back(&disk, &part);
    }
    let mut guest = enlarged(Arch::Armv7, Some(&disk), 4096, &scratch.join("guest"));
    first_line(&mut guest);
    let log = said(&mut guest);
    assert_eq!(log.matches("has the UUID ba1eadef").count(), 2, "{log}");
    let size = data_mib(&mut guest);
    assert!(size > 3500, "{size} MiB");
    sh(&mut guest, "mount-state check");
    power_off(&mut guest);
    let found = uuids(&guest);
    are_unique(&found);
    for uuid in half {
        assert!(found.iter().any(|(_, other)| other == uuid), "{found:?}");
    }
}

/// A container fills the data partition; then somebody on the host fills state and data to the last block. Engine
/// and supervisor answer, also after a boot.
#[test]
fn full_partitions_stop_nothing() {
    let mut guest = start(direct(FASTEST));
    first_line(&mut guest);
    let fill = "while cat /bin/busybox >> /fill; do :; done; echo the container has filled it; exec /service";
    sh(
        &mut guest,
        &format!(
            "systemctl stop balena-supervisor && rm -rf /mnt/data/resin-data/* && \
             sed 's|\"composition\": {{|\"composition\": {{ \"command\": [\"sh\", \"-c\", \"{fill}\"],|' \
             /mnt/data/apps.json.preloaded > /mnt/data/apps.json && systemctl start balena-supervisor"
        ),
    );
    until(&mut guest, "journalctl -b -o cat --no-pager | grep -q '^the container has filled it'");
    // What is left is not for containers.
    let left = sh(&mut guest, "stat -f -c '%a %f' /mnt/data");
    let (available, free) = left.split_once(' ').unwrap();
    assert!(available.parse::<u64>().unwrap() < 256 && free.parse::<u64>().unwrap() > 256, "{left}");
    // Nor for images, whose loads the engine ends: first that of the archive itself, then with room for it that of its layer.
    let load = "rm -rf /tmp/image && mkdir /tmp/image && cd /tmp/image && dd if=/dev/zero of=zeros bs=1M count=60 && \
        tar -cf layer.tar zeros && id=$(sha256sum < layer.tar | cut -c1-64) && gzip layer.tar && mv layer.tar.gz layer.tar && \
        printf '{\"architecture\":\"arm64\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:%s\"]}}' $id > config.json && \
        echo '[{\"Config\":\"config.json\",\"RepoTags\":[\"large:1\"],\"Layers\":[\"layer.tar\"]}]' > manifest.json && \
        tar -cf all.tar config.json manifest.json layer.tar && ! balena load -i all.tar 2>&1";
    for room in ["true", "rm /mnt/data/.reserve"] {
        let text = sh(&mut guest, &format!("{room} && {load}"));
        assert!(text.contains("No space left"), "{text}");
        sh(&mut guest, "sync; ! balena images | grep large && [ -z \"$(ls -A /var/lib/docker/tmp)\" ]");
        let free: u64 = sh(&mut guest, "stat -f -c %f /mnt/data").parse().unwrap();
        assert!(free > 256, "{free}");
    }
    sh(&mut guest, "dd if=/dev/zero of=/mnt/data/.reserve bs=64k count=32");
    sh(
        &mut guest,
        "systemctl restart balena && dd if=/dev/zero of=/mnt/data/ours bs=64k count=4 && balena ps",
    );
    until(&mut guest, "balena ps | grep -q demo");

    let (text, _) =
        try_sh(&mut guest, "cat /dev/zero > /mnt/data/fill; cat /dev/zero > /mnt/state/fill; sync");
    assert_eq!(text.matches("No space left").count(), 2, "{text}");
    power_off(&mut guest);
    guest.restart().unwrap();
    first_line(&mut guest);
    until(&mut guest, "systemctl is-active -q balena && systemctl is-active -q balena-supervisor");
    get_until(&guest, 48484, "/ping", "OK");
    let log = said(&mut guest);
    for label in ["resin-state", "resin-data"] {
        assert!(log.contains(&format!("{label} is full: its reserve is given up")), "{log}");
    }
    // What the reserve was for; and a boot brings it back when there is room.
    sh(&mut guest, "echo kept > /mnt/state/probe && sync && rm /mnt/data/fill /mnt/state/fill");
    // In the container, as a user would: its file system knows the file.
    sh(&mut guest, "rm -f /proc/[0-9]*/root/fill && sync");
    sh(
        &mut guest,
        "mount-state start && ls /mnt/state/.reserve /mnt/data/.reserve && balena ps && mount-state check",
    );
}
