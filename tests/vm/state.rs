//! What is read-only, what is writable, what lasts.

use crate::guest::{FASTEST, direct, first_line, power_off, sh, start, try_sh, wait};

const BINDS: [&str; 6] = [
    "/etc/ssh/hostkeys",
    "/etc/NetworkManager/system-connections",
    "/home/root/.ssh",
    "/var/lib/bluetooth",
    "/var/lib/systemd",
    "/etc/docker",
];

#[test]
fn the_root_is_read_only_and_the_state_lasts() {
    let mut guest = start(direct(FASTEST));
    first_line(&mut guest);
    for path in ["/file", "/etc/file", "/usr/bin/file", "/mnt/sysroot/active/file"] {
        let (text, status) = try_sh(&mut guest, &format!("touch {path}"));
        assert_ne!(status, 0, "{path} could be written");
        assert!(text.contains("Read-only file system"), "{path}: {text}");
    }
    assert!(sh(&mut guest, "grep ' / ' /proc/mounts").contains("squashfs ro"));
    for path in BINDS {
        sh(&mut guest, &format!("echo kept > {path}/probe"));
    }
    let name = sh(&mut guest, "hostname");
    let machine = sh(&mut guest, "cat /etc/machine-id");
    assert_eq!(sh(&mut guest, "cat /etc/hostname"), name);
    assert_eq!(machine.len(), 32);
    assert!(sh(&mut guest, "config-json get uuid").trim_matches('"').starts_with(&name));
    power_off(&mut guest);
    guest.restart().unwrap();
    first_line(&mut guest);
    for path in BINDS {
        assert_eq!(sh(&mut guest, &format!("cat {path}/probe")), "kept", "{path}");
    }
    assert_eq!(sh(&mut guest, "hostname"), name);
    assert_eq!(sh(&mut guest, "cat /etc/machine-id"), machine);

    // A state reset forgets them, and keeps the device's identity (spec os §3.5).
    sh(&mut guest, "rm /mnt/state/remove_me_to_reset");
    power_off(&mut guest);
    guest.restart().unwrap();
    first_line(&mut guest);
    for path in BINDS {
        assert_ne!(try_sh(&mut guest, &format!("cat {path}/probe")).1, 0, "{path} was not reset");
    }
    sh(&mut guest, "test -e /mnt/state/remove_me_to_reset");
    assert_eq!(sh(&mut guest, "hostname"), name);
    assert_eq!(sh(&mut guest, "cat /etc/machine-id"), machine);
    sh(
        &mut guest,
        "for l in active inactive resin-boot resin-rootA resin-rootB resin-state resin-data; do test -b /dev/disk/by-state/$l || exit 1; done",
    );
    let (text, status) = try_sh(
        &mut guest,
        "systemctl --failed; systemctl verify /usr/lib/systemd/system/*.service /usr/lib/systemd/system/*.target",
    );
    assert_eq!(status, 0, "{text}");
    wait(&mut guest, "minke demo: line");
}
