//! A broken `config.json`: the device boots, has its name, and says what is wrong in one line.

use crate::guest::{FASTEST, direct, first_line, power_off, sh, start};
use minke_config::{Config, keys};
use minke_image::guest::Guest;
use minke_tests::Random;

/// Lines of the log that complain about config.json, from the unit that reads it first.
fn complaints(guest: &mut Guest) -> Vec<String> {
    let log = sh(guest, "journalctl -b -p warning -u config-json-boot -o cat --no-pager; true");
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

/// Values that no key wants, and some that it may.
const NONSENSE: [&str; 20] = [
    "null",
    "true",
    "-1",
    "0",
    "70000",
    "48484",
    "1e300",
    "9223372036854775808",
    r#""""#,
    r#""null""#,
    r#""true""#,
    r#""\u0000\n\u001b""#,
    r#""../../etc""#,
    r#""-rf %n ä""#,
    r#""8.8.8.8 ::1""#,
    r#""https://[::1/x y""#,
    "[]",
    r#"[1,["x"],null,"ssh-rsa"]"#,
    "{}",
    r#"{"":1,"../x":"y","a/b":[],".":"z"}"#,
];

/// A document in which each known key may have any value.
fn nonsense(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut config = Config::default();
    for key in keys() {
        let value = NONSENSE[random.below(NONSENSE.len())];
        config.set(key.path, minke_wire::json::parse_str(value).unwrap());
    }
    // The container's first line must be seen.
    config.set("developmentMode", true.into());
    config.to_text().into_bytes()
}

/// Whatever the file says, and when it then breaks, the device boots and runs its container.
#[test]
fn nonsense_never_stops_the_boot() {
    let seed = std::env::var("MINKE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("MINKE_SEED={seed}");
    let mut settings = direct(FASTEST);
    settings.config = Some(nonsense(seed));
    let mut guest = start(settings);
    first_line(&mut guest);
    let uuid = sh(&mut guest, "config-json get uuid 2>/dev/null");
    assert!(!uuid.is_empty());
    sh(&mut guest, "echo '{\"broken' > /mnt/boot/config.json && sync");
    guest.restart().unwrap();
    first_line(&mut guest);
    assert_eq!(sh(&mut guest, "config-json get uuid 2>/dev/null"), uuid);
}
