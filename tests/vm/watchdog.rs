//! What hangs is reset: the kernel's software watchdog stands in for a board's.

use minke_image::arch::Arch;
use minke_image::guest::{Guest, Settings};
use minke_image::shell::SHELL_SIGN;
use minke_tests::artefact::{Fault, archive};
use minke_tests::device::{Device, Way};
use minke_tests::guest::{FASTEST, booted, direct, sh, start, until, wait};

/// PID 1 stands still for good: no signal does that to it, its control group's freezer does.
const FREEZE: &str = "echo 1 > /sys/fs/cgroup/init.scope/cgroup.freeze";

fn armed(guest: &mut Guest) {
    sh(guest, "modprobe softdog");
    // PID 1 looks for it whenever it has done something.
    until(guest, "systemctl restart fake-hwclock-update; ls -l /proc/1/fd | grep /dev/watchdog0");
}

#[test]
fn a_first_process_that_hangs_is_reset_and_one_that_works_is_not() {
    // On a busy machine a guest may stand still for as long as the usual limit.
    let settings = Settings { arguments: "systemd.watchdog_sec=30".into(), ..direct(FASTEST) };
    let mut guest = start(settings);
    booted(&mut guest);
    armed(&mut guest);
    // Twice the limit and more, with nothing else to do.
    sh(&mut guest, "sleep 70; systemctl is-system-running; journalctl | grep 'hardware watchdog waits 30 s'");
    guest.send(&format!("\n{FREEZE}\n")).unwrap();
    wait(&mut guest, "stage 1 of minke");
    guest.forget_shell();
    wait(&mut guest, SHELL_SIGN);
    // In order, it ends without its help.
    armed(&mut guest);
    minke_tests::guest::power_off(&mut guest);
}

/// A new version that hangs once it is up is given up as one that does not come up.
#[test]
#[ignore = "MINKE_UPDATE=all"]
fn an_update_whose_first_process_hangs_is_taken_back() {
    let arch = Arch::Aarch64;
    let mut device = Device::start(arch);
    let old = device.sh(". /etc/os-release; echo $VERSION");
    device.install(&archive(arch, "8.9.0", Fault::Hang), Way::Pipe);
    device.reboot();
    for number in 1..=3 {
        device.starts(3, &format!("upgrade_available=1 bootcount={number}"));
    }
    device.starts(2, "upgrade_available=1 bootcount=4");
    device.starts(2, "upgrade_available=0");
    device.up();
    device.is(&old, "2", &["rollback-altboot-triggered"]);
}
