//! A slot that was found well and whose root image is damaged later: the other slot, as long as it holds a system.

use minke_image::arch::Arch;
use minke_tests::artefact::{Fault, archive};
use minke_tests::device::{Device, Way};

/// The beginning of the root image, in place, as bad sectors may leave it.
const DAMAGE: &str = "cd /mnt/sysroot/active && mount -o remount,rw . && \
    dd if=/dev/zero of=$(echo hostapps/*/rootfs.squashfs) bs=4096 count=1 conv=notrunc 2>/dev/null && sync";

#[test]
fn a_system_whose_image_is_damaged_gives_way_and_without_another_it_is_tried_for_ever() {
    let arch = Arch::Aarch64;
    let mut device = Device::start(arch);
    let old = device.sh(". /etc/os-release; echo $VERSION");
    device.install(&archive(arch, "8.1.0", Fault::None), Way::Pipe);
    device.reboot();
    device.starts(3, "upgrade_available=1 bootcount=1");
    device.up();
    device.is("8.1.0", "3", &[]);
    device.sh(DAMAGE);
    device.guest.kill();
    device.guest.restart().unwrap();
    device.starts(3, "upgrade_available=0");
    for number in 2..=3 {
        device.starts(3, &format!("upgrade_available=1 bootcount={number}"));
    }
    device.starts(2, "upgrade_available=1 bootcount=4");
    device.starts(2, "upgrade_available=0");
    device.up();
    device.is(&old, "2", &["rollback-altboot-triggered"]);
    let record = device.sh("cat /mnt/state/rollback.json");
    assert!(record.contains("slot B was started") && record.contains("\"from\": \"8.1.0\""), "{record}");
    // Now neither can be mounted.
    device.sh(DAMAGE);
    device.guest.kill();
    device.guest.restart().unwrap();
    for _ in 0..2 {
        device.starts(2, "upgrade_available=0");
        device.guest.wait_for("cannot take over", minke_tests::guest::BOOT).unwrap();
    }
}
