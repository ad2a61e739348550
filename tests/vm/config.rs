//! A `config.json` that is broken from the start, or says anything: the device boots and has its name. (One that breaks
//! later: `settings`.)

use crate::guest::{FASTEST, direct, first_line, sh, start};
use minke_config::{Config, keys};
use minke_image::guest::Guest;
use minke_tests::Random;

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
