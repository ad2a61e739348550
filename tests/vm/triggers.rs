//! Path and timer units on a running system: what only a machine of its own can try.

use crate::guest::{FASTEST, direct, first_line, power_off, sh, start, until};

/// Writes a unit `NAME` and what it starts, which counts its runs in `/run/NAME`.
fn trigger(name: &str, kind: &str, settings: &str) -> String {
    format!(
        "printf '[Service]\\nType=oneshot\\nExecStart=/bin/sh -c \"echo run >> /run/{name}\"\\n' > /run/systemd/system/{name}.service; \
         printf '[{kind}]\\n{settings}\\n' > /run/systemd/system/{name}.{}; ",
        kind.to_lowercase()
    )
}

fn runs(name: &str, count: u32) -> String {
    format!("test \"$(grep -c run /run/{name} 2>/dev/null)\" = {count}")
}

#[test]
fn mounts_and_a_clock_that_is_set() {
    let mut guest = start(direct(FASTEST));
    first_line(&mut guest);
    // No other midnight comes than those below.
    sh(&mut guest, "date -s '2030-05-05 12:00:00'");
    let units = trigger("w", "Path", "PathChanged=/mnt/boot/config.json")
        + &trigger("daily", "Timer", "OnCalendar=daily\\nAccuracySec=1s")
        + &trigger("kept", "Timer", "OnCalendar=daily\\nPersistent=yes");
    sh(
        &mut guest,
        &format!(
            "mkdir -p /run/systemd/system; {units} systemctl daemon-reload; systemctl start w.path daily.timer kept.timer"
        ),
    );

    // Nothing happens, and PID 1 sleeps.
    let switches = "awk '/^voluntary/ {print $2}' /proc/1/status";
    // Once the boot is really over.
    sh(
        &mut guest,
        &format!(
            "for i in $(seq 6); do a=$({switches}); sleep 20; b=$({switches}); [ $((b - a)) -lt 20 ] && exit 0; done; \
             echo PID 1 woke up $((b - a)) times; exit 1"
        ),
    );

    // The boot partition goes away and comes back: that alone is at most one run, and later writes are seen.
    let device = sh(&mut guest, "awk '$2 == \"/mnt/boot\" {print $1}' /proc/mounts");
    sh(&mut guest, "umount /mnt/boot && sleep 1 && test ! -e /run/w");
    sh(
        &mut guest,
        &format!("mount -t vfat {device} /mnt/boot; sleep 10; rm -f /run/w; test -e /mnt/boot/config.json"),
    );
    sh(&mut guest, "cat /mnt/boot/config.json > /run/copy; cat /run/copy > /mnt/boot/config.json");
    until(&mut guest, &runs("w", 1));
    sh(&mut guest, "config-json set custom 1; sleep 2");
    until(&mut guest, &runs("w", 2));

    // Midnight is jumped over, there and back, and passed.
    sh(&mut guest, "test ! -e /run/daily && test ! -e /run/kept && date -s '2031-05-05 12:00:00'");
    until(&mut guest, &runs("daily", 1));
    until(&mut guest, &runs("kept", 1));
    let shown = sh(&mut guest, "systemctl list-timers --no-legend daily.timer");
    assert!(shown.contains("2031-05-06 00:00:00 UTC") && shown.contains("daily.service"), "{shown}");
    sh(&mut guest, "date -s '2031-05-05 23:59:50'");
    until(&mut guest, &runs("daily", 2));
    sh(&mut guest, "date -s '2031-05-01 12:00:00'");
    until(&mut guest, "systemctl status daily.timer -n 0 | grep -q 'Trigger: Fri 2031-05-02 00:00:00 UTC'");

    // The stamp is on the state partition.
    sh(
        &mut guest,
        "test -e /var/lib/systemd/timers/stamp-kept.timer; grep -q ' /var/lib/systemd ' /proc/self/mountinfo",
    );
    power_off(&mut guest);
}
