//! The other slot, mounted when somebody looks into it (spec os §1.5).

use crate::disk::check_clean;
use crate::guest::{FASTEST, direct, first_line, power_off, sh, start, try_sh, until};

const PLACE: &str = "/mnt/sysroot/inactive";
const MOUNTED: &str = "grep -q '^/dev/.* /mnt/sysroot/inactive ext4' /proc/mounts";
/// PID 1 has a fault, starts again and answers.
const FAULT: &str = "kill -SEGV 1; sleep 1; until systemctl list-units > /dev/null 2>&1; do sleep 1; done";
const STOP: &str = "systemctl stop mnt-sysroot-inactive.mount";

/// A drop-in with another command for the mount; an empty one takes it away.
fn mount_by(command: &str) -> String {
    let folder = "/run/systemd/system/mnt-sysroot-inactive.service.d";
    let lines = format!("printf '[Service]\\nExecStart=\\nExecStart={command}\\n' > {folder}/test.conf");
    let write = if command.is_empty() { format!("rm {folder}/test.conf") } else { lines };
    format!("mkdir -p {folder} && {write} && systemctl daemon-reload")
}

#[test]
fn the_other_slot_is_there_when_somebody_looks_and_nobody_hangs() {
    let mut guest = start(direct(FASTEST));
    first_line(&mut guest);
    sh(&mut guest, &format!("! {MOUNTED}"));
    // Twenty at once.
    sh(
        &mut guest,
        &format!(
            "for i in $(seq 20); do (ls {PLACE} > /tmp/seen.$i 2>&1; echo $? >> /tmp/seen.$i) & done; wait; {MOUNTED}"
        ),
    );
    assert_eq!(
        sh(&mut guest, "cat /tmp/seen.* | sort | uniq -c | tr -s ' ' | tr '\\n' +"),
        "20 0+ 20 lost+found+"
    );
    sh(&mut guest, &format!("systemctl is-active -q mnt-sysroot-inactive.mount && {STOP} && ! {MOUNTED}"));
    sh(
        &mut guest,
        &format!("ls {PLACE} && {MOUNTED} && umount {PLACE} && ls {PLACE} && {MOUNTED} && {STOP}"),
    );

    // A partition that is not there, and a mount that fails: an error for who looks, and the next one tries again.
    for command in ["/usr/bin/mount-state --wait=1 --devices=/nowhere mount inactive", "/bin/false"] {
        sh(&mut guest, &mount_by(command));
        for _ in 0..2 {
            let (text, status) = try_sh(&mut guest, &format!("ls {PLACE} 2>&1"));
            assert!(status != 0 && text.contains("No such device"), "{command}: {text}");
        }
        // What stands beside it is not concerned.
        sh(&mut guest, "ls /mnt/sysroot/active > /dev/null");
    }
    sh(&mut guest, &mount_by(""));
    sh(&mut guest, &format!("ls {PLACE} && {MOUNTED}"));

    // PID 1 starts again after a fault: with the slot mounted, without, and while somebody waits.
    sh(
        &mut guest,
        &format!("{FAULT}; {MOUNTED} && ls {PLACE} && {STOP} && ! {MOUNTED} && ls {PLACE} && {MOUNTED}"),
    );
    sh(&mut guest, &format!("{STOP} && {FAULT}; ls {PLACE} && {MOUNTED} && {STOP}"));
    sh(&mut guest, &mount_by("/bin/sleep 120\\nTimeoutStartSec=10"));
    sh(
        &mut guest,
        &format!(
            "(ls {PLACE} > /tmp/waited 2>&1; echo status $? >> /tmp/waited) > /dev/null 2>&1 & sleep 2; {FAULT}"
        ),
    );
    until(&mut guest, "grep 'status [^0]' /tmp/waited");
    sh(&mut guest, &mount_by(""));
    sh(&mut guest, &format!("{STOP}; ls {PLACE} && {MOUNTED}"));
    sh(&mut guest, "systemctl is-active mnt-sysroot-inactive.automount");
    until(&mut guest, "balena ps | grep -q demo");

    // It goes down clean, mounted.
    power_off(&mut guest);
    check_clean(&guest);
}
