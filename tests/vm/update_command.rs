//! What the command promises besides the update itself, in one guest: a hook that fails, with and without `-x`; an update
//! from a registry behind TLS that the device trusts by its owner's authority; `-r` while an application has its update
//! lock; `rollback` by hand; and an update of a device whose partitions are full.

use minke_image::tree::Scratch;
use minke_tests::artefact::{Fault, archive};
use minke_tests::authority::Authority;
use minke_tests::device::{Device, Way};
use minke_tests::guest::{FASTEST, try_sh};
use minke_tests::project;
use minke_tests::server::Server;
use std::path::Path;

/// The files of the boot partition and the slot that runs.
const BEFORE: &str = "sync; echo 3 > /proc/sys/vm/drop_caches; sha256sum $(readlink -f /dev/disk/by-state/active); \
    cd /mnt/boot && find . -type f | sort | xargs sha256sum";

/// What tells of a trial.
const BREADCRUMBS: &str = "cd /mnt/state && ls -d rollback-* | grep -vx rollback-health.conf || true";

/// What the demo's service shares with the supervisor: in the container it is `/tmp/balena`.
const LOCKS: &str = "/tmp/balena-supervisor/services/1/demo";

/// A program for aarch64 that takes the lock (flock) of the file that it is given, and sleeps: neither the container nor
/// the host has one. By its instructions: open, flock, ppoll.
const HOLD: [u32; 16] = [
    0xf940_0be1, // ldr x1, [sp, #16]: the first operand
    0x9280_0c60, // mov x0, #-100: AT_FDCWD
    0xd280_0002, // mov x2, #0: O_RDONLY
    0xd280_0003, // mov x3, #0
    0xd280_0708, // mov x8, #56: openat
    0xd400_0001, // svc #0
    0xd280_0041, // mov x1, #2: LOCK_EX
    0xd280_0408, // mov x8, #32: flock
    0xd400_0001, // svc #0
    0xd280_0000, // mov x0, #0
    0xd280_0001, // mov x1, #0
    0xd280_0002, // mov x2, #0
    0xd280_0003, // mov x3, #0
    0xd280_0004, // mov x4, #0
    0xd280_0928, // mov x8, #73: ppoll, for ever
    0xd400_0001, // svc #0
];

/// TLS in front of a registry.
fn tls_front(folder: &Path, registry: u16) -> Server {
    let arguments = ["server.pem", "server.key", &registry.to_string()];
    Server::start(&project().join("tests/vm/tls_front.py"), &arguments, folder)
}

#[test]
fn hooks_that_fail_tls_update_locks_rollback_by_hand_and_full_partitions() {
    let mut device = Device::start(FASTEST);
    let old = device.sh(". /etc/os-release; echo $VERSION");
    hooks_that_fail(&mut device);
    let release = archive(FASTEST, "8.1.0", Fault::None);
    by_tls_with_a_lock(&mut device, &release);
    device.starts(3, "upgrade_available=1 bootcount=1");
    device.up();
    device.is("8.1.0", "3", &[]);
    by_hand(&mut device, &old);
    full(&mut device, &release);
}

/// The running system's hooks put everything back; with `-x` all stays as it is then, the selection too, and the trial
/// that was prepared never comes.
fn hooks_that_fail(device: &mut Device) {
    let release = archive(FASTEST, "8.9.0", Fault::Hook);
    // The image's own list of the boot files, and its count, say the same in other bytes.
    device.sh("DURING_UPDATE=0 hostapp-update-hooks");
    let before = device.sh(BEFORE);
    let command = device.command(&release, Way::Registry);
    let (said, status) = try_sh(&mut device.guest, &command);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("this hook always fails"), "{said}");
    assert!(said.contains("the running system's boot files and selection are put back"), "{said}");
    let last = said.trim().lines().last().unwrap_or_default();
    assert!(last.contains("hook forward: "), "{said}");
    assert_eq!(device.sh(BEFORE), before);
    assert_eq!(device.sh(BREADCRUMBS), "");
    let (said, status) = try_sh(&mut device.guest, &format!("{command} -x"));
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("this hook always fails") && !said.contains("are put back"), "{said}");
    device
        .sh("grep -q 8.9.0 /mnt/boot/os-release && grep -qx upgrade_available=0 /mnt/boot/resinOS_uEnv.txt");
    let left = device.sh(BREADCRUMBS);
    assert!(
        left.contains("rollback-health-breadcrumb") && left.contains("rollback-altboot-breadcrumb"),
        "{left}"
    );
    device.sh("systemctl restart rollback-health");
    device.until("! ls /mnt/state/rollback-*breadcrumb");
    // What it left of the boot files the running system's hooks put back.
    device.sh("DURING_UPDATE=0 hostapp-update-hooks");
    assert_eq!(device.sh(BEFORE), before);
}

/// The program of [`HOLD`] as a file (System V ABI, "ELF Header": one segment, all of it loaded).
fn hold() -> Vec<u8> {
    let (base, size) = (0x40_0000u64, 120 + 4 * HOLD.len() as u64);
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0\x01\0\0\0".to_vec();
    for number in [base + 120, 64, 0] {
        file.extend(number.to_le_bytes());
    }
    file.extend(b"\0\0\0\0\x40\0\x38\0\x01\0\0\0\0\0\0\0\x01\0\0\0\x05\0\0\0");
    for number in [0, base, base, size, size, 4096] {
        file.extend(number.to_le_bytes());
    }
    file.extend(HOLD.into_iter().flat_map(u32::to_le_bytes));
    file
}

/// A process in the container's root holds the lock; the update comes by TLS, waits for it with the reference's words, and
/// reboots once it is free. Its memory and what is free on the data partition meanwhile are looked at once a second.
fn by_tls_with_a_lock(device: &mut Device, release: &Path) {
    let scratch = Scratch::new("front").unwrap();
    let authority = Authority::new(scratch.path(), 0..3650);
    authority.issue("server", "IP:10.0.2.2", 0..3650);
    let plain = device.registry.offer("os", release);
    let front = tls_front(scratch.path(), device.registry.port());
    let reference = plain.replace(&device.registry.port().to_string(), &front.port.to_string());
    let octal: String = hold().iter().map(|byte| format!("\\{byte:03o}")).collect();
    // In the root of the container's first process: others there, like its sleep of a second, are soon gone.
    device.sh(&format!(
        "cd /var/lib/docker/volumes/*keep*/_data && printf '{octal}' > hold && chmod 755 hold && touch {LOCKS}/updates.lock; \
         main=$(balena inspect $(balena ps -q | head -n 1) | sed -n 's/.*\"Pid\": *\\([0-9]*\\).*/\\1/p' | head -n 1); \
         chroot /proc/$main/root /www/keep/hold /tmp/balena/updates.lock </dev/null >/dev/null 2>&1 & echo $! >/run/holder"
    ));
    let (said, status) = try_sh(&mut device.guest, &format!("hostapp-update -i {reference}"));
    assert!(status == 1 && said.contains("the certificate's issuer is unknown; see balenaRootCA"), "{said}");
    device.sh(&format!("config-json set balenaRootCA {}", authority.base64()));
    let looked = device.sh(&format!(
        ": > /run/said; least=$(stat -f -c %f /mnt/data); first=$least; \
         hostapp-update -i {reference} -r </dev/null >>/run/said 2>&1 & pid=$!; \
         while [ -e /proc/$pid/exe ] && ! grep -q 'Reboot waiting' /run/said; do \
           free=$(stat -f -c %f /mnt/data); [ $free -ge $least ] || least=$free; sleep 1; done; \
         peak=$(awk '/^VmHWM:/ {{ print $2 }}' /proc/$pid/status); \
         echo $peak $(((first - least) * $(stat -f -c %S /mnt/data) / 1024)); cat /run/said"
    ));
    let (numbers, said) = looked.split_once('\n').unwrap();
    let waits = format!("{LOCKS}/updates.lock exists, busy waiting on unlocking for reboot.");
    assert!(said.contains(&waits) && said.contains("Reboot waiting on application lock"), "{looked}");
    let (peak, staged) = numbers.split_once(' ').unwrap();
    println!("an update over TLS: a peak of {peak} kB, {staged} kB less on the data partition");
    assert!(peak.parse::<u32>().unwrap() < 16 << 10, "{peak} kB");
    // What the container prints, and no copy of the release.
    assert!(staged.parse::<u32>().unwrap() < 1 << 10, "{staged} kB");
    device.sh("sleep 3; kill -0 $(cat /run/holder) && pidof hostapp-update && hostapp-update status | grep 'selected  B, on trial'");
    device.guest.send("\nkill $(cat /run/holder)\n").unwrap();
}

/// `rollback`: looked at first, then done; the system that is gone back to has its trial.
fn by_hand(device: &mut Device, old: &str) {
    let before = device.sh(BEFORE);
    let said = device.sh("hostapp-update rollback --dry-run 2>&1");
    assert!(
        said.contains(&format!("Going to {old} in slot A")) && said.contains("nothing was changed"),
        "{said}"
    );
    assert_eq!((device.sh(BEFORE), device.sh(BREADCRUMBS)), (before, String::new()));
    let said = device.sh("hostapp-update rollback 2>&1");
    assert!(said.contains("the next start is into the other slot"), "{said}");
    device.reboot();
    device.starts(2, "upgrade_available=1 bootcount=1");
    device.up();
    device.is(old, "2", &[]);
}

/// Not a block is free on state and data partition.
fn full(device: &mut Device, release: &Path) {
    // What was set aside for the large file is free once that is on the disk.
    device.sh("for part in state data; do cat /dev/zero > /mnt/$part/fill; sync; n=0; \
         while dd if=/dev/zero of=/mnt/$part/more$n bs=4096 count=1; do n=$((n+1)); sync; done; done");
    device.install(release, Way::Pipe);
    device.reboot();
    device.starts(3, "upgrade_available=1 bootcount=1");
    device.up();
    device.is("8.1.0", "3", &[]);
}
