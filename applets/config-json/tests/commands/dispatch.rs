//! `dispatch`, `status`, `explain` and `apply`.

use crate::Device;
use std::os::unix::fs::MetadataExt;

impl Device {
    fn settings(&self, unit: &str) -> String {
        let text = self.read(format!("var/volatile/{unit}.json")).unwrap_or_default();
        text.split_whitespace().collect()
    }

    /// Runs the dispatcher and returns its log without the program's name.
    fn dispatch(&self) -> (i32, Vec<String>) {
        let (status, _, log) = self.run(&["dispatch"]);
        (status, log.lines().map(|line| line.trim_start_matches("[config-json][INFO] ").to_owned()).collect())
    }
}

/// All units, as the specification lists them (os §4.4.6).
const UNITS: [&str; 15] = [
    "balena",
    "balena-supervisor",
    "development-features",
    "balena-info",
    "balena-hostname",
    "dnsmasq",
    "balena-net-config",
    "balena-ntp-config",
    "os-networkmanager",
    "os-sshkeys",
    "os-udevrules",
    "prepare-openvpn",
    "os-config",
    "os-fan-profile",
    "os-extra-firmware",
];

#[test]
fn only_what_changed_is_handed_over() {
    let device = Device::new("dispatch");
    device.put(r#"{"hostname":"kitchen","os":{"udevRules":{"10":"a","20":"b"}}}"#);
    assert_eq!(device.run(&["dispatch", "--seed"]), (0, String::new(), String::new()));
    for unit in UNITS {
        assert!(device.settings(unit).starts_with('{'), "{unit}");
    }
    assert_eq!(device.settings("balena"), "{}");
    assert_eq!(device.settings("dnsmasq"), r#"{"hostname":"kitchen"}"#);
    let inode =
        |unit: &str| std::fs::metadata(device.0.0.join(format!("var/volatile/{unit}.json"))).unwrap().ino();
    let before = UNITS.map(inode);
    // The same content in another order and layout, with a key that nobody knows.
    device.put("\u{FEFF}{\"mine\":1,\r\n\"os\":{\"udevRules\":{\"20\":\"b\",\"10\":\"a\"}},\r\n\"hostname\" : \"kitchen\"}");
    assert_eq!(device.dispatch(), (0, vec![]));
    assert_eq!(UNITS.map(inode), before);
    // One key.
    device.put(r#"{"os":{"udevRules":{"20":"c","30":"d"}},"hostname":"kitchen"}"#);
    let (status, log) = device.dispatch();
    assert_eq!(status, 0);
    assert_eq!(
        log,
        [
            "os-udevrules configuration changed:",
            "-udevRules.10: \"a\"",
            "-udevRules.20: \"b\"",
            "+udevRules.20: \"c\"",
            "+udevRules.30: \"d\""
        ]
    );
    let changed: Vec<&str> = UNITS
        .into_iter()
        .zip(before)
        .filter(|(unit, old)| inode(unit) != *old)
        .map(|(unit, _)| unit)
        .collect();
    assert_eq!(changed, ["os-udevrules"]);
    // Nothing is left for a unit.
    device.put(r#"{"os":{"udevRules":{"20":"c","30":"d"}}}"#);
    let (_, log) = device.dispatch();
    assert_eq!(
        log,
        [
            "balena-hostname configuration removed",
            "-hostname: \"kitchen\"",
            "dnsmasq configuration removed",
            "-hostname: \"kitchen\""
        ]
    );
    assert_eq!(device.settings("balena-hostname"), "{}");
    assert_eq!(device.dispatch(), (0, vec![]));
    // A file that somebody has damaged or removed is made anew.
    std::fs::write(device.0.0.join("var/volatile/balena.json"), "{\"x\":").unwrap();
    std::fs::remove_file(device.0.0.join("var/volatile/os-config.json")).unwrap();
    let (status, log) = device.dispatch();
    assert_eq!((status, log.len()), (0, 2), "{log:?}");
    assert_eq!((device.settings("balena"), device.settings("os-config")), ("{}".into(), "{}".into()));
}

/// DEFECT 2464 of the reference: a host name reaches the engine.
#[test]
fn a_host_name_is_no_change_for_the_engine() {
    let device = Device::new("hostchange");
    device.put(r#"{"developmentMode":true,"hostname":"a"}"#);
    device.dispatch();
    device.put(r#"{"developmentMode":true,"hostname":"b"}"#);
    let (_, log) = device.dispatch();
    assert!(log.iter().all(|line| !line.starts_with("balena configuration")), "{log:?}");
    assert_eq!(device.settings("balena"), r#"{"developmentMode":true}"#);
}

#[test]
fn a_broken_file_changes_nothing_and_the_line_says_where() {
    let device = Device::new("brokendispatch");
    device.put(r#"{"hostname":"kitchen","developmentMode":true}"#);
    device.dispatch();
    let good = || device.read("mnt/state/config.json.good");
    assert_eq!(device.run(&["uuid"]).0, 0);
    let kept = good().unwrap();
    for (content, found) in [
        ("{\n\"hostname\": \"cellar\",\n}", "line 3 column 1"),
        ("", "is empty"),
        ("\0\0\0\0", "only NUL bytes"),
        ("[]", "is an array"),
        ("{\"hostname\":\"cellar\"}\0", "line 1 column 22"),
    ] {
        device.put(content);
        let (status, log) = device.dispatch();
        assert!(status == 1 && log.len() == 1 && log[0].contains(found), "{log:?}");
        assert_eq!(device.settings("balena-hostname"), r#"{"hostname":"kitchen"}"#);
        assert_eq!(good().as_deref(), Some(kept.as_str()));
    }
    std::fs::remove_file(device.0.0.join("mnt/boot/config.json")).unwrap();
    let (status, log) = device.dispatch();
    assert!(status == 1 && log[0].contains("is missing"), "{log:?}");
    // The units' boot goes on with the last good copy.
    assert_eq!(device.run(&["dispatch", "--seed"]).0, 0);
    assert_eq!(device.settings("balena-hostname"), r#"{"hostname":"kitchen"}"#);
    device.put(r#"{"hostname":"cellar"}"#);
    assert_eq!(device.dispatch().0, 0);
    assert_eq!(device.settings("balena-hostname"), r#"{"hostname":"cellar"}"#);
}

#[test]
fn one_unit_s_failure_does_not_stop_the_others() {
    let device = Device::new("onefails");
    device.put(r#"{"hostname":"kitchen","developmentMode":true}"#);
    std::fs::create_dir_all(device.0.0.join("var/volatile/balena-hostname.json/x")).unwrap();
    let (status, log) = device.dispatch();
    assert_eq!(status, 1);
    assert_eq!(
        log.iter().filter(|line| line.contains("balena-hostname keeps its settings")).count(),
        1,
        "{log:?}"
    );
    assert_eq!(device.settings("balena"), r#"{"developmentMode":true}"#);
    assert_eq!(device.settings("dnsmasq"), r#"{"hostname":"kitchen"}"#);
}

#[test]
fn secrets_and_long_values_do_not_fill_the_log() {
    let device = Device::new("longlog");
    device.put(r#"{"os":{"udevRules":{"x":""}}}"#);
    device.run(&["dispatch", "--seed"]);
    let rules: Vec<String> = (0..300).map(|number| format!("\"{number}\":\"{}\"", "ü".repeat(500))).collect();
    device.put(format!(r#"{{"apiKey":"verysecret","os":{{"udevRules":{{{}}}}}}}"#, rules.join(",")));
    let (_, log) = device.dispatch();
    assert!(log.len() < 30 && log.iter().all(|line| line.len() < 300), "{log:?}");
    assert!(
        !log.join("").contains("verysecret") && device.settings("prepare-openvpn").contains("verysecret")
    );
    assert!(log.contains(&"… and 281 more".to_owned()), "{log:?}");
    let mode = std::fs::metadata(device.0.0.join("var/volatile/prepare-openvpn.json")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn status_names_the_file_the_problem_and_the_units() {
    let device = Device::new("status");
    device.put(r#"{"uuid":"0123456789abcdef0123456789abcdef","hostname":"kitchen","listenPort":[1]}"#);
    device.run(&["uuid"]);
    device.dispatch();
    let (status, text, _) = device.run(&["status"]);
    assert_eq!(status, 0);
    assert!(text.contains("In effect: ") && text.contains("/mnt/boot/config.json, of 20"), "{text}");
    assert!(text.contains("Ignored:   listenPort is an array"), "{text}");
    assert!(text.contains("\nbalena-hostname       hostname: \"kitchen\"\n"), "{text}");
    device.put(r#"{"hostname":"cellar"}"#);
    let (_, text, _) = device.run(&["status"]);
    assert!(text.contains("hostname: \"kitchen\" (config.json has others)\n"), "{text}");
    device.put("{");
    let (status, text, _) = device.run(&["status"]);
    assert!(status == 1 && text.contains("config.json.good, of 20"), "{text}");
    assert!(text.contains("line 1 column 2") && text.contains("hostname: \"kitchen\"\n"), "{text}");
}

#[test]
fn explain_knows_every_key() {
    let device = Device::new("explain");
    let (status, list, _) = device.run(&["explain"]);
    assert_eq!((status, list.lines().count()), (0, 48));
    let (_, text, _) = device.run(&["explain", "dnsServers"]);
    assert!(text.starts_with("dnsServers: a string\n"), "{text}");
    assert!(text.ends_with("  Default: 8.8.8.8\n  A change restarts: balena-net-config dnsmasq\n"), "{text}");
    assert_eq!(device.run(&["explain", "os.network"]).1, "os.network: an object\n  A group of keys.\n");
    let (status, _, log) = device.run(&["explain", "nonsense"]);
    assert!(status == 1 && log.contains("nonsense"), "{log}");
}

#[test]
fn units_put_their_settings_where_their_programs_look() {
    let device = Device::new("apply");
    device.put(r#"{"dnsServers":"null","ntpServers":"a b","uuid":"u","apiKey":"k"}"#);
    for unit in ["balena-net-config", "balena-ntp-config.service", "os-networkmanager", "prepare-openvpn"] {
        let (status, _, log) = device.run(&["apply", unit]);
        assert_eq!((status, log.lines().count()), (0, 1), "{log}");
        assert_eq!(device.run(&["apply", unit]), (0, String::new(), String::new()), "{unit} again");
    }
    assert_eq!(device.read("run/dnsmasq.servers").unwrap(), "\n");
    let mode = |path: &str| std::fs::metadata(device.0.0.join(path)).unwrap().mode() & 0o777;
    assert_eq!(device.read("run/chrony/added_config.sources").unwrap().lines().count(), 2);
    assert_eq!((mode("run/chrony"), mode("var/volatile/vpn-auth")), (0o770, 0o600));
    assert_eq!(device.read("var/volatile/vpn-auth").unwrap(), "u\nk\n");
    device.put("{}");
    for unit in ["balena-ntp-config", "prepare-openvpn"] {
        assert_eq!(device.run(&["apply", unit]).0, 0);
    }
    assert_eq!(device.read("run/chrony/added_config.sources"), None);
    assert_eq!(device.read("var/volatile/vpn-auth"), None);
    assert_eq!(device.run(&["apply", "nonsense"]).0, 2);
    device.put(r#"{"os":{"fan":{"profile":"quiet"}}}"#);
    assert!(device.run(&["apply", "os-fan-profile"]).2.contains("os.fan.profile \"quiet\" is not supported"));
    device.put(r#"{"country":"D; reboot"}"#);
    assert!(device.run(&["apply", "balena-net-config"]).2.contains("two letters"));
}

/// What a hostile or careless megabyte may cost: memory is bounded, and the answer is clear.
#[test]
fn any_megabyte_is_a_clear_result_in_bounded_memory() {
    const MIB: usize = 1 << 20;
    let device = Device::new("megabyte");
    let many = |unit: &str| unit.repeat(MIB / unit.len());
    let rules: Vec<String> = (0..10_000).map(|n| format!("\"r{n}\":\"{}\"", "x".repeat(90))).collect();
    let names: Vec<String> = (0..20_000).map(|n| format!("\"{n}\":1")).collect();
    for (content, expected) in [
        (format!(r#"{{"hostname":"big","pad":"{}"}}"#, "y".repeat(MIB)), ""),
        (format!(r#"{{"hostname":"big","os":{{"udevRules":{{{}}}}}}}"#, rules.join(",")), ""),
        (format!(r#"{{"hostname":"big","list":[{}1]}}"#, many("1,")), ""),
        (format!(r#"{{"hostname":"big","list":[{}1]}}"#, many("{\"\":1},")), ""),
        (format!(r#"{{{}"hostname":"big"}}"#, many("\"hostname\":\"other\",")), ""),
        (format!("{{{}}}", names.join(",")), "too many members in an object"),
        (many("["), "recursion limit exceeded"),
        (many("{\"a\":"), "recursion limit exceeded"),
        ("\0".repeat(MIB), "only NUL bytes"),
        (many("\r\n"), "is empty"),
        (format!("{{\"hostname\":\"{}", "z".repeat(MIB)), "line 1 column 10485"),
    ] {
        device.put(r#"{"hostname":"before"}"#);
        device.dispatch();
        device.put(&content);
        let root = device.0.0.to_str().unwrap();
        let program = crate::program("config-json", &["--root", root, "dispatch"]);
        let limited = std::process::Command::new("prlimit")
            .arg("--as=150000000")
            .arg(program.get_program())
            .args(program.get_args())
            .envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .output()
            .unwrap();
        let (status, _, log) = crate::outcome(limited);
        let shown = &content[..content.len().min(40)];
        assert_eq!(status, i32::from(!expected.is_empty()), "{shown}: {log}");
        assert!(log.contains(expected) && log.len() < 10_000, "{shown}: {log}");
        let name = if expected.is_empty() { "big" } else { "before" };
        assert_eq!(device.settings("balena-hostname"), format!(r#"{{"hostname":"{name}"}}"#), "{shown}");
    }
}
