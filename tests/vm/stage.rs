//! Stage 1: the kexec boot loader, the checked root image, starts that fail.

use crate::guest::{BOOT, FASTEST, build, direct, power_off, settings, sh, start, try_sh};
use minke_image::arch::Arch;
use minke_image::guest::{Guest, Settings};
use minke_image::machine::Start;

/// An image whose boot chain is the balena bootloader.
fn balena(arch: Arch) -> Settings {
    let image = build(arch, &format!("balena-{}.img", arch.name()), &["--boot-chain", "balena"]);
    // Each restart ends QEMU, so that none goes unseen.
    Settings { no_reboot: true, ..settings(arch, &image, Start::Stage2) }
}

/// Restarts without stopping anything, as a crash does, and powers on again.
fn crash(guest: &mut Guest) {
    guest.send("\nsync; reboot -f\n").unwrap();
    again(guest);
}

/// Waits until the machine restarts by itself.
fn again(guest: &mut Guest) {
    guest.wait_end(BOOT).unwrap_or_else(|error| panic!("{error}"));
    guest.restart().unwrap_or_else(|error| panic!("{error}"));
}

/// Writes `bootenv` as an update does, and more variables.
fn select(guest: &mut Guest, record: &str) {
    let lines = record.replace(' ', "\\n");
    sh(
        guest,
        &format!(
            "f=/mnt/boot/bootenv; printf '# GRUB Environment Block\\n{lines}\\n' >/tmp/e && \
             head -c 1024 /dev/zero | tr '\\0' '#' >>/tmp/e && head -c 1024 /tmp/e >$f && sync"
        ),
    );
}

fn record(guest: &mut Guest) -> String {
    sh(guest, "grep -v '^#' /mnt/boot/bootenv | sort | tr '\\n' ' '")
}

/// The slot that runs, and the kernel's arguments.
fn running(guest: &mut Guest) -> (String, String) {
    let slot = sh(guest, "readlink -f /dev/disk/by-state/active | grep -o '.$'; cat /proc/cmdline");
    let (slot, arguments) = slot.split_once('\n').unwrap();
    // Numbers of the partitions.
    (if slot == "2" { "A" } else { "B" }.into(), arguments.trim().to_owned())
}

/// Slot B becomes a copy of slot A.
fn copy_slot(guest: &mut Guest) {
    sh(
        guest,
        "cd /mnt/sysroot/active && tar cf - boot counter current dev etc hostapps mnt proc run sbin sys tmp | \
         tar xf - -C /mnt/sysroot/inactive && sync",
    );
}

#[test]
fn kexec_counts_three_tries_and_takes_the_other_slot_on_aarch64() {
    let mut settings = balena(Arch::Aarch64);
    settings.arguments = "minke.user=1 \"minke.words=a b\"".into();
    let mut guest = start(settings);
    let (slot, arguments) = running(&mut guest);
    assert_eq!(slot, "A", "{arguments}");
    for word in
        ["root=UUID=", "minke.chain=bootenv", "roothash=", "minke.user=1 \"minke.words=a b\"", "panic=1"]
    {
        assert!(arguments.contains(word), "{word}: {arguments}");
    }
    for word in ["balena_stage2", "maxcpus", "root=LABEL", "minke.trial"] {
        assert!(!arguments.contains(word), "{word}: {arguments}");
    }
    // What is read goes through the kernel's check.
    sh(&mut guest, "grep -q '^/dev/dm-0 / squashfs ro' /proc/mounts");
    copy_slot(&mut guest);
    // As bootenv is without a trial, whatever the count is.
    select(
        &mut guest,
        "resin_root_part=B upgrade_available=0 bootcount=3 extra_os_firmware_class_path=/lib/more",
    );
    crash(&mut guest);
    let (slot, arguments) = running(&mut guest);
    assert!(slot == "B" && arguments.contains(" firmware_class.path=/lib/more "), "{slot} {arguments}");
    assert!(record(&mut guest).contains("bootcount=3"));

    select(
        &mut guest,
        "resin_root_part=A upgrade_available=1 bootcount=0 kernel_override_abi=new kernel_override_abi_committed_B=old keep=1",
    );
    // An override kernel for either slot; the first is no kernel.
    sh(
        &mut guest,
        "mkdir -p /mnt/data/boot-by-abi/new /mnt/data/boot-by-abi/old && echo none >/mnt/data/boot-by-abi/new/vmlinuz && \
         cp /mnt/sysroot/active/boot/vmlinuz /mnt/data/boot-by-abi/old/Image && sync",
    );
    for count in 1..=3 {
        crash(&mut guest);
        let (slot, arguments) = running(&mut guest);
        assert!(slot == "A" && arguments.contains(&format!("minke.trial={count}")), "{slot} {arguments}");
        assert!(!arguments.contains("balena_kernel_abi"), "{arguments}");
    }
    crash(&mut guest);
    let (slot, arguments) = running(&mut guest);
    assert!(slot == "B" && !arguments.contains("minke.trial"), "{slot} {arguments}");
    assert!(arguments.contains("balena_kernel_abi=old"), "{arguments}");
    assert_eq!(
        record(&mut guest),
        "bootcount=4 keep=1 kernel_override_abi=old kernel_override_abi_committed_B=old resin_root_part=A upgrade_available=1"
    );
    // A slot whose kernel is gone; without a trial, and there is no bootenv either.
    sh(&mut guest, "rm /mnt/sysroot/inactive/boot/vmlinuz /mnt/boot/bootenv && sync");
    crash(&mut guest);
    let (slot, arguments) = running(&mut guest);
    assert_eq!(slot, "B", "{arguments}");
    power_off(&mut guest);
}

#[test]
#[ignore = "MINKE_UPDATE=all"]
fn kexec_starts_the_slot_on_x86_64() {
    let mut guest = start(balena(Arch::X86_64));
    assert_eq!(running(&mut guest).0, "A");
    copy_slot(&mut guest);
    select(&mut guest, "resin_root_part=B upgrade_available=1 bootcount=2");
    crash(&mut guest);
    let (slot, arguments) = running(&mut guest);
    assert!(
        slot == "B" && arguments.contains("minke.trial=3") && arguments.contains("roothash="),
        "{arguments}"
    );
    crash(&mut guest);
    assert_eq!(running(&mut guest).0, "A");
    assert!(record(&mut guest).contains("bootcount=4"));
    power_off(&mut guest);
}

/// One wrong bit in the root image or its tree: the trial fails three times, each time the machine restarts by itself.
#[test]
fn a_flipped_bit_fails_the_trial() {
    let mut guest = start(balena(FASTEST));
    copy_slot(&mut guest);
    let flip = |file: &str, at: u32| {
        format!(
            "f=/mnt/sysroot/inactive/current/{file}; b=$(dd if=$f bs=1 skip={at} count=1 2>/dev/null | od -An -tu1); \
             printf \"\\\\$(printf %o $((b ^ 4)))\" | dd of=$f bs=1 seek={at} conv=notrunc 2>/dev/null && sync"
        )
    };
    for (file, at, tries) in [("rootfs.squashfs", 20, 3), ("rootfs.verity", 4096 + 5, 1)] {
        sh(&mut guest, &flip(file, at));
        let count = 3 - tries;
        select(&mut guest, &format!("resin_root_part=B upgrade_available=1 bootcount={count}"));
        crash(&mut guest);
        for _ in 0..tries {
            guest.wait_for("is corrupted", BOOT).unwrap_or_else(|error| panic!("{file}: {error}"));
            again(&mut guest);
        }
        assert_eq!(running(&mut guest).0, "A", "{file}");
        sh(&mut guest, &flip(file, at));
    }
    // Whole again, it is good.
    select(&mut guest, "resin_root_part=B upgrade_available=1 bootcount=0");
    crash(&mut guest);
    assert_eq!(running(&mut guest).0, "B");
    power_off(&mut guest);
}

/// What keeps stage 1 from handing over ends in a restart, and the fourth start takes the other slot.
#[test]
#[ignore = "MINKE_UPDATE=all"]
fn what_stage_1_cannot_start_counts() {
    let mut guest = start(balena(FASTEST));
    copy_slot(&mut guest);
    let faults = [
        ("rm rootfs.verity", "is no hash tree"),
        ("echo slot_arguments=init=/nothing >boot/slot.env", "there is no /sysroot/system/nothing"),
        ("rm boot/slot.env && head -c 100000 /dev/urandom >rootfs.squashfs", "cannot boot: mount"),
    ];
    for (fault, message) in faults {
        sh(&mut guest, &format!("cd /mnt/sysroot/inactive/current && {fault}"));
        select(&mut guest, "resin_root_part=B upgrade_available=1 bootcount=2");
        crash(&mut guest);
        guest.wait_for(message, BOOT).unwrap_or_else(|error| panic!("{fault}: {error}"));
        again(&mut guest);
        assert_eq!(running(&mut guest).0, "A", "{fault}");
    }
    // The loader goes by the same link, and does not wait for the fourth start.
    sh(&mut guest, "ln -sfn hostapps/nothing /mnt/sysroot/inactive/current");
    select(&mut guest, "resin_root_part=B upgrade_available=1 bootcount=0");
    crash(&mut guest);
    assert_eq!(running(&mut guest).0, "A");
    power_off(&mut guest);
}

/// A system in a layer of an engine's store, as a reference system's update leaves it, and the two ways to it from there.
#[test]
fn a_host_app_in_layers_is_found() {
    // The namespaces below have the same command line, and their root images no hash tree.
    let settings = Settings { arguments: "roothash=".into(), ..direct(FASTEST) };
    let mut guest = start(settings);
    sh(
        &mut guest,
        "mount -t tmpfs none /tmp && mkdir /tmp/slot && cd /tmp/slot && mkdir -p hostapps/c1 balena/overlay2/l",
    );
    sh(
        &mut guest,
        "cd /tmp/slot && ln -s hostapps/c1 current && b=balena/overlay2 && mkdir -p $b/top/diff $b/top-init/diff $b/app/diff && \
         ln -s ../app/diff $b/l/APP && ln -s ../top-init/diff $b/l/INIT && printf l/INIT:l/APP >$b/top/lower && \
         mkdir -p balena/image/overlay2/layerdb/mounts/c1 && printf top >balena/image/overlay2/layerdb/mounts/c1/mount-id && \
         mkdir -p $b/app/diff/bin && echo hello >$b/app/diff/bin/hello && echo no >$b/top-init/diff/no",
    );
    let place = sh(&mut guest, "ln -sf /proc/1/exe /tmp/init; /tmp/init -sysroot /tmp/slot");
    assert_eq!(place, "/tmp/slot/balena/overlay2/top/merged");
    assert_eq!(
        sh(&mut guest, &format!("cat {place}/bin/hello; ls {place}; /tmp/init -sysroot /tmp/slot")),
        format!("hello\nbin\n{place}")
    );
    sh(&mut guest, &format!("! touch {place}/x 2>/dev/null"));
    // With a root image in the layer, that is shown; our own slots have it beside the boot files.
    sh(&mut guest, "cp /mnt/sysroot/active/current/rootfs.squashfs /tmp/slot/balena/overlay2/app/diff/");
    assert_eq!(
        sh(
            &mut guest,
            "/tmp/init -sysroot /tmp/slot; cat /run/minke/sysroot/c1/etc/os-release | grep -c ^VERSION="
        ),
        "/run/minke/sysroot/c11"
    );
    let own = sh(&mut guest, "/tmp/init -sysroot /mnt/sysroot/active");
    assert!(own.starts_with("/run/minke/sysroot/"), "{own}");
    sh(&mut guest, &format!("test -x {own}/sbin/init"));
    let (text, status) = try_sh(&mut guest, "/tmp/init -sysroot /tmp");
    assert!(status == 1 && text.contains("no root file system"), "{text}");
    foreign_start(&mut guest);
    power_off(&mut guest);
}

/// minke as PID 1 of somebody else's stage 1, in a namespace of its own: in a host app that is shown as an overlay, then
/// in a slot. A script stands where the root image has its `/sbin/init`, and tells what became of the mounts.
fn foreign_start(guest: &mut Guest) {
    sh(
        guest,
        "cd /tmp && printf '%s\\n' '#!/bin/sh' 'echo pid $$' 'cut -d\" \" -f2,3 /proc/mounts | tr \"\\n\" ,' 'ls /mnt/sysroot/active' \
         'grep ^ID= /etc/os-release; cat /mnt/state/mark' >script && chmod 755 script && cat script",
    );
    sh(
        guest,
        "cd /tmp && mkdir -p app low merged && cd app && mkdir -p x dev etc proc sys run tmp sbin mnt/state mnt/sysroot/active && \
         ln /tmp/slot/balena/overlay2/app/diff/rootfs.squashfs . && cp /usr/bin/minke x/init && : >sbin/init && : >etc/machine-id",
    );
    sh(
        guest,
        "cd /tmp && mkdir -p slot/x slot/dev slot/etc slot/proc slot/sys slot/run slot/tmp slot/sbin slot/mnt/state && cp app/x/init slot/x && \
         : >slot/sbin/init && : >slot/etc/machine-id",
    );
    // What the other's stage 1 has mounted: the state partition, a file of it, and /proc, which is one of those that
    // minke would mount itself.
    let enter = |root: &str, more: &str| {
        format!(
            "cd /tmp && mkdir -p state && echo marked >state/mark && printf '%s\\n' \
             'mount --bind /tmp/script {root}/sbin/init' '{more}' 'mount --bind /tmp/state {root}/mnt/state' \
             'mount --bind /tmp/state/mark {root}/etc/machine-id' 'mount -t proc proc {root}/proc' \
             'exec chroot {root} /x/init' >go && unshare -m -p -f sh go"
        )
    };
    sh(guest, "mount -t overlay -o lowerdir=/tmp/app:/tmp/low overlay /tmp/merged");
    let text =
        sh(guest, &enter("/tmp/merged", "mount --bind /mnt/sysroot/active /tmp/merged/mnt/sysroot/active"));
    assert!(text.starts_with("pid 1\n") && text.contains(",/ squashfs,"), "{text}");
    for mount in [
        "/mnt/state tmpfs",
        "/etc/machine-id tmpfs",
        "/proc proc",
        "/sys sysfs",
        "/dev devtmpfs",
        "/run tmpfs",
    ] {
        assert_eq!(text.matches(&format!(",{mount},")).count(), 1, "{mount}: {text}");
    }
    // The slot is where it was, and the overlay is gone.
    assert!(text.contains("/mnt/sysroot/active ext4,") && !text.contains("overlay,"), "{text}");
    assert!(text.contains("hostapps") && text.ends_with("ID=\"balena-os\"\nmarked"), "{text}");

    sh(guest, "mount --bind /tmp/slot /tmp/slot");
    let text = sh(guest, &enter("/tmp/slot", "true"));
    assert!(text.starts_with("pid 1\n") && text.contains(",/ squashfs,"), "{text}");
    assert!(text.contains("/mnt/sysroot/active tmpfs,") && text.contains("balena\ncurrent\n"), "{text}");
    assert!(text.ends_with("ID=\"balena-os\"\nmarked"), "{text}");
}
