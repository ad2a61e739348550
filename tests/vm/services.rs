//! PID 1 under stress: one guest for what leaves it as it was.

use crate::guest::{FASTEST, direct, first_line, sh, start, until};
use minke_image::guest::Guest;

#[test]
fn daemons_and_orphans_may_die_and_pid_1_stays() {
    let mut guest = start(direct(FASTEST));
    first_line(&mut guest);
    killed_daemons_come_back_and_containers_live_on(&mut guest);
    a_crashing_service_does_not_spin(&mut guest);
    orphans_are_reaped_and_pid_1_stays(&mut guest);
}

/// A service that dies at once is started again with growing pauses, and PID 1 has next to nothing to do.
fn a_crashing_service_does_not_spin(guest: &mut Guest) {
    sh(
        guest,
        "mkdir -p /run/systemd/system && printf '[Service]\\nExecStart=/bin/sh -c \"echo started >> /run/starts; exit 1\"\\nRestart=always\\n' \
         > /run/systemd/system/crash.service && systemctl daemon-reload && systemctl start --no-block crash.service; true",
    );
    until(guest, "test $(wc -l < /run/starts) -ge 3");
    // Its start and what happened before are not counted.
    let ticks = "awk '{print $14 + $15}' /proc/1/stat";
    let before: u32 = sh(guest, ticks).parse().unwrap();
    sh(guest, "sleep 20");
    let ticks = sh(guest, ticks).parse::<u32>().unwrap() - before;
    let starts: u32 = sh(guest, "wc -l < /run/starts").parse().unwrap();
    assert!((3..60).contains(&starts), "{starts} starts");
    assert!(ticks < 500, "PID 1 used {ticks} ticks");
    sh(guest, "systemctl stop crash.service; true");
}

/// A thousand orphans leave no zombie. (Ten thousand: `applets/init/tests/pid1.rs`; here they would be a minute of forks.)
fn orphans_are_reaped_and_pid_1_stays(guest: &mut Guest) {
    sh(guest, "i=0; while [ $i -lt 1000 ]; do (true &) ; i=$((i+1)); done");
    until(guest, "! grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | grep -q .");
    // Signals that end other processes do not end this one.
    sh(guest, "for s in HUP USR1 USR2 PIPE ALRM SEGV ABRT ILL KILL; do kill -$s 1; done; sleep 1");
    until(guest, "systemctl is-active balena");
    // After a fault it has executed itself anew.
    assert_eq!(sh(guest, "readlink /proc/1/exe"), "/usr/bin/minke");
    until(guest, "systemctl list-units >/dev/null");
}

/// Daemons come back after they are killed, and the container goes on running under a new engine.
fn killed_daemons_come_back_and_containers_live_on(guest: &mut Guest) {
    let container = "ps | grep '[/]service' | awk '{print $1}' | head -1";
    let before = sh(guest, container);
    assert!(!before.is_empty());
    for unit in ["balena", "balena-supervisor", "NetworkManager", "systemd-journald"] {
        let main = sh(guest, &format!("systemctl show -p MainPID --value {unit}"));
        sh(guest, &format!("kill -9 {main}"));
        until(
            guest,
            &format!(
                "systemctl is-active -q {unit} && [ $(systemctl show -p MainPID --value {unit}) != {main} ]"
            ),
        );
    }
    assert_eq!(sh(guest, container), before, "the container was restarted");
    until(guest, "balena ps | grep -q demo");
    crate::guest::get_until(guest, 48484, "/v2/state/status", "Running");
    crate::guest::get_until(guest, minke_image::demo::PORT, "/", minke_image::demo::PAGE);
}
