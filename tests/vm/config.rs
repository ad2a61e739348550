//! A broken `config.json`: the device boots, has its name, and says what is wrong in one line.

use crate::guest::{FASTEST, direct, first_line, power_off, sh, start};
use minke_image::guest::Guest;

/// Lines of the log that complain about config.json, from the unit that reads it first.
fn complaints(guest: &mut Guest) -> Vec<String> {
    let log = sh(guest, "journalctl -b -p warning -u balena-device-uuid -o cat --no-pager; true");
    log.lines().filter(|line| line.contains("config.json")).map(str::to_owned).collect()
}

#[test]
fn broken_after_a_good_boot_the_last_good_copy_serves() {
    let mut settings = direct(FASTEST);
    settings.config =
        Some(br#"{"hostname":"pumphouse","developmentMode":true,"custom":{"z":1,"a":2}}"#.to_vec());
    let mut guest = start(settings);
    first_line(&mut guest);
    assert_eq!(sh(&mut guest, "hostname"), "pumphouse");
    let uuid = sh(&mut guest, "config-json get uuid 2>/dev/null");
    let good = sh(&mut guest, "cat /mnt/boot/config.json");
    for broken in
        [&good.as_bytes()[..good.len() / 2], b"this is not JSON", b"", b"\0\0\0\0\0\0\0\0", b"[1,2]"]
    {
        power_off(&mut guest);
        guest.overlay().write_config(broken).unwrap();
        guest.restart().unwrap();
        first_line(&mut guest);
        let shown = String::from_utf8_lossy(broken).into_owned();
        assert_eq!(sh(&mut guest, "hostname"), "pumphouse", "with {shown:?}");
        assert_eq!(sh(&mut guest, "config-json get uuid 2>/dev/null"), uuid, "with {shown:?}");
        let complaints = complaints(&mut guest);
        assert_eq!(complaints.len(), 1, "with {shown:?}: {complaints:?}");
        sh(&mut guest, &format!("cat > /mnt/boot/config.json <<'END'\n{good}\nEND\nsync"));
    }
    // Missing altogether.
    sh(&mut guest, "rm /mnt/boot/config.json; sync");
    power_off(&mut guest);
    guest.restart().unwrap();
    first_line(&mut guest);
    assert_eq!(sh(&mut guest, "hostname"), "pumphouse");
    assert_eq!(complaints(&mut guest).len(), 1);
}

#[test]
fn broken_from_the_start_the_defaults_serve() {
    for broken in [&b"{\"hostname\":"[..], br#"{"hostname":7,"uuid":["x"],"developmentMode":true}"#] {
        let mut settings = direct(FASTEST);
        settings.config = Some(broken.to_vec());
        let mut guest = start(settings);
        guest
            .wait_for(minke_image::demo::FIRST_LINE, crate::guest::BOOT)
            .unwrap_or_else(|error| panic!("{error}"));
        power_off_production(&mut guest);
        guest.overlay().write_config(br#"{"developmentMode":true}"#).unwrap();
        guest.restart().unwrap();
        first_line(&mut guest);
        let name = sh(&mut guest, "hostname");
        assert_eq!(name.len(), 7, "{name}");
        assert!(sh(&mut guest, "config-json get uuid 2>/dev/null").trim_matches('"').starts_with(&name));
    }
}

/// Without a readable development flag there is no shell to type into: the power is cut.
fn power_off_production(guest: &mut Guest) {
    guest.kill();
}
