//! PID 1 under stress.

use crate::guest::{FASTEST, direct, first_line, sh, start, until};

/// A service that dies at once is started again with growing pauses, and PID 1 has next to nothing to do.
#[test]
fn a_crashing_service_does_not_spin() {
    let mut guest = start(direct(FASTEST));
    first_line(&mut guest);
    sh(
        &mut guest,
        "mkdir -p /run/systemd/system && printf '[Service]\\nExecStart=/bin/sh -c \"echo started >> /run/starts; exit 1\"\\nRestart=always\\n' \
         > /run/systemd/system/crash.service && systemctl daemon-reload && systemctl start --no-block crash.service; true",
    );
    until(&mut guest, "test $(wc -l < /run/starts) -ge 3");
    sh(&mut guest, "sleep 20");
    let starts: u32 = sh(&mut guest, "wc -l < /run/starts").parse().unwrap();
    assert!((3..60).contains(&starts), "{starts} starts");
    let ticks: u32 = sh(&mut guest, "awk '{print $14 + $15}' /proc/1/stat").parse().unwrap();
    assert!(ticks < 1000, "PID 1 used {ticks} ticks");
    sh(&mut guest, "systemctl stop crash.service; true");
}

/// Ten thousand orphans leave no zombie.
#[test]
fn orphans_are_reaped_and_pid_1_stays() {
    let mut guest = start(direct(FASTEST));
    first_line(&mut guest);
    sh(&mut guest, "i=0; while [ $i -lt 10000 ]; do (true &) ; i=$((i+1)); done");
    until(&mut guest, "! grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | grep -q .");
    // Signals that end other processes do not end this one.
    sh(
        &mut guest,
        "for s in HUP USR1 USR2 PIPE ALRM SEGV ABRT ILL KILL; do kill -$s 1; done; sleep 3; systemctl is-active balena",
    );
    // After a fault it has executed itself anew.
    assert_eq!(sh(&mut guest, "readlink /proc/1/exe"), "/usr/bin/minke");
    sh(&mut guest, "systemctl list-units >/dev/null");
}

/// Daemons come back after they are killed, and the container goes on running under a new engine.
#[test]
fn killed_daemons_come_back_and_containers_live_on() {
    let mut guest = start(direct(FASTEST));
    first_line(&mut guest);
    let container = "ps | grep '[/]service' | awk '{print $1}' | head -1";
    let before = sh(&mut guest, container);
    assert!(!before.is_empty());
    for unit in ["balena", "balena-supervisor", "NetworkManager", "systemd-journald"] {
        let main = sh(&mut guest, &format!("systemctl show -p MainPID --value {unit}"));
        sh(&mut guest, &format!("kill -9 {main}"));
        until(
            &mut guest,
            &format!(
                "systemctl is-active -q {unit} && [ $(systemctl show -p MainPID --value {unit}) != {main} ]"
            ),
        );
    }
    assert_eq!(sh(&mut guest, container), before, "the container was restarted");
    until(&mut guest, "balena ps | grep -q demo");
    crate::guest::get_until(&guest, 48484, "/v2/state/status", "Running");
    crate::guest::get_until(&guest, minke_image::demo::PORT, "/", minke_image::demo::PAGE);
}
