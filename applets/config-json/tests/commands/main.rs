//! The programs on files below a temporary folder; the host name in namespaces of its own. Needs root for that.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod boot_copies;
mod clock;
mod dispatch;
mod os_config;
mod root_ca;

use minke_tests::inside;
use minke_tests::program::{self, Root, command as program, outcome};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Not a test of its own: the program, when this executable is started as it.
#[test]
fn entry() {
    program::entry(minke_config_json::APPLET.programs);
}

/// A device's root folder.
struct Device(Root);

impl std::ops::Deref for Device {
    type Target = Root;
    fn deref(&self) -> &Root {
        &self.0
    }
}

impl Device {
    fn new(name: &str) -> Self {
        let root = Root::new("config-json", name, &["etc"]);
        std::fs::write(root.0.join("etc/hostname"), "").unwrap();
        Self(root)
    }

    fn put(&self, content: impl AsRef<[u8]>) {
        self.config(content);
    }

    /// Runs `config-json`: exit status, output, log.
    fn run(&self, words: &[&str]) -> (i32, String, String) {
        self.0.run("config-json", words)
    }
}

const UUID: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn get_set_unset_keep_the_rest_of_the_file() {
    let device = Device::new("keys");
    device.put(format!(r#"{{"uuid":"{UUID}","mine":{{"n":1.50}},"os":{{"sshKeys":["a b"]}}}}"#));
    assert_eq!(device.run(&["get", "uuid"]), (0, format!("{UUID}\n"), String::new()));
    assert_eq!(device.run(&["get", "mine"]).1, "{\"n\":1.50}\n");
    assert_eq!(device.run(&["get", "os.sshKeys.0"]).1, "a b\n");
    assert_eq!(device.run(&["get", "none"]), (1, String::new(), String::new()));
    for words in [["set", "developmentMode", "true"], ["set", "hostname", "007"], ["set", "my", "true"]] {
        assert_eq!(device.run(&words).0, 0);
    }
    assert_eq!(device.run(&["set", "--json", "my2", "[1]"]).0, 0);
    assert_eq!(device.run(&["unset", "os.sshKeys"]).0, 0);
    let text = device.read("mnt/boot/config.json").unwrap();
    let flat: String = text.split_whitespace().collect();
    assert_eq!(
        flat,
        format!(
            r#"{{"uuid":"{UUID}","mine":{{"n":1.50}},"os":{{}},"developmentMode":true,"hostname":"007","my":"true","my2":[1]}}"#
        )
    );
    let (status, _, log) = device.run(&["set", "developmentMode", "maybe"]);
    assert_eq!((status, log.trim()), (2, "config-json: developmentMode should be true or false"));
    assert_eq!(device.run(&["set", "only"]).0, 2);
    assert_eq!(device.run(&["nonsense"]).0, 2);
}

#[test]
fn a_broken_file_is_one_error_line_in_the_whole_boot() {
    for (content, found) in [
        (&b"{\"uuid\": \"x\", "[..], "line 1 column 15"),
        (b"\0\0\0\0", "holds only NUL bytes"),
        (b"", "is empty"),
        (b"[]", "is an array"),
    ] {
        let device = Device::new("broken");
        device.put(format!(r#"{{"uuid":"{UUID}","hostname":"kitchen","developmentMode":true}}"#));
        device.run(&["uuid"]);
        device.put(content);
        let mut log = String::new();
        for command in ["generate-api-key", "uuid", "hostname", "development-features"] {
            let (status, _, lines) = device.run(&[command]);
            assert_eq!(status, 0, "{command}: {lines}");
            log += &lines;
        }
        let errors: Vec<&str> =
            log.lines().filter(|line| line.contains("ERROR") || line.contains("WARN")).collect();
        assert_eq!(errors.len(), 1, "{log}");
        assert!(errors[0].contains(found) && errors[0].contains("using the last good copy"), "{log}");
        assert_eq!(device.read("etc/hostname").unwrap(), "kitchen\n");
        assert!(device.read("var/volatile/development-features").is_some());
    }
}

#[test]
fn one_process_does_what_the_boot_asks_of_all_units() {
    let device = Device::new("boot");
    std::fs::create_dir_all(device.0.0.join("etc/NetworkManager/conf.d")).unwrap();
    let text = format!(
        r#"{{"uuid":"{UUID}","hostname":"kitchen","developmentMode":true,"ntpServers":"t.example"}}"#
    );
    device.put(&text);
    let (status, output, log) = device.run(&["boot"]);
    assert_eq!((status, output.as_str()), (0, ""), "{log}");
    assert_eq!(device.read("etc/hostname").unwrap(), "kitchen\n");
    assert!(device.read("var/volatile/development-features").is_some());
    assert!(device.read("run/dnsmasq.servers").unwrap().contains("8.8.8.8"));
    assert!(device.read("etc/NetworkManager/conf.d/os-networkmanager.conf").is_some());
    assert!(device.read("mnt/state/config.json.good").unwrap().contains("kitchen"));
    // What the dispatcher finds then is no change.
    assert_eq!(device.run(&["dispatch"]), (0, String::new(), String::new()));
    // One part that fails leaves the others alone.
    device.put(
        text.replace("kitchen", "attic").replace('}', r#","os":{"kernel":{"extraFirmwareVol":"none"}}}"#),
    );
    let (status, _, log) = device.run(&["boot"]);
    assert!(status == 1 && log.contains("volumes/none/_data"), "{log}");
    assert_eq!(device.read("etc/hostname").unwrap(), "attic\n");
}

#[test]
fn wrong_types_are_one_line_too() {
    let device = Device::new("types");
    device.put(format!(r#"{{"uuid":"{UUID}","hostname":5,"developmentMode":"yes"}}"#));
    let (status, text, log) = device.run(&["uuid"]);
    assert_eq!((status, text.as_str()), (0, format!("{UUID}\n").as_str()));
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.contains("hostname is a number") && log.contains("developmentMode is a string"), "{log}");
    device.run(&["hostname"]);
    assert_eq!(device.read("etc/hostname").unwrap(), "0123456\n");
    let (status, text, _) = device.run(&["check"]);
    assert_eq!((status, text.lines().count()), (1, 3), "{text}");
    device.put("{");
    let (status, text, _) = device.run(&["check"]);
    assert!(status == 1 && text.contains("line 1 column 2"), "{text}");
    device.put(r#"{"hostname":"kitchen"}"#);
    assert_eq!(device.run(&["check"]), (0, String::new(), String::new()));
}

#[test]
fn the_host_name_file_is_written_in_place_and_only_when_it_differs() {
    use std::os::unix::fs::MetadataExt;
    let device = Device::new("hostname");
    let path = device.0.0.join("etc/hostname");
    let inode = std::fs::metadata(&path).unwrap().ino();
    device.put(r#"{"hostname":"a-long-name-for-a-device"}"#);
    device.run(&["hostname"]);
    assert_eq!(device.read("etc/hostname").unwrap(), "a-long-name-for-a-device\n");
    device.put(format!(r#"{{"uuid":"{UUID}"}}"#));
    device.run(&["hostname"]);
    assert_eq!(device.read("etc/hostname").unwrap(), "0123456\n");
    let changed = std::fs::metadata(&path).unwrap();
    assert_eq!(changed.ino(), inode, "a rename would leave the bind mount on the old file");
    assert_eq!(device.run(&["hostname"]), (0, String::new(), String::new()));
    assert_eq!(std::fs::metadata(&path).unwrap().mtime_nsec(), changed.mtime_nsec());
}

#[test]
fn development_features_come_and_go() {
    let device = Device::new("features");
    let flag = "var/volatile/development-features";
    device.put(r#"{"developmentMode":"true"}"#);
    assert_eq!(device.run(&["development-features"]).0, 0);
    assert_eq!(
        device.read(flag).unwrap(),
        "SSHD_OPTS='-f /etc/ssh/sshd_config_development'\nBALENA_DEVELOPMENT_ARGS=\"-H tcp://0.0.0.0:2375\"\n"
    );
    device.put(r#"{"developmentMode":true,"os":{"sshKeys":["k"]}}"#);
    device.run(&["development-features"]);
    assert!(device.read(flag).unwrap().contains("_development -o PasswordAuthentication=no'\n"));
    device.put(r#"{"developmentMode":1}"#);
    for _ in 0..2 {
        assert_eq!(device.run(&["development-features"]).0, 0);
        assert_eq!(device.read(flag), None);
    }
}

#[test]
fn the_api_key_is_made_remembered_and_taken_from_memory() {
    let device = Device::new("apikey");
    let key = |name: &str| device.run(&["get", name]).1.trim().to_owned();
    device.put("{}");
    let (status, _, log) = device.run(&["generate-api-key"]);
    assert!(status == 0 && log.contains("Unconfigured device"), "{log}");
    assert_eq!(key("deviceApiKey"), "");
    device.put(r#"{"apiEndpoint":"https://api.example.com","deviceApiKeys":{"other":"o"}}"#);
    device.run(&["generate-api-key"]);
    let first = key("deviceApiKey");
    assert_eq!(first.len(), 32);
    let keys: minke_wire::json::Value = minke_wire::json::parse_str(&key("deviceApiKeys")).unwrap();
    assert_eq!(keys, minke_wire::json::json!({"other": "o", "api.example.com": first}));
    device.run(&["generate-api-key"]);
    assert_eq!(key("deviceApiKey"), first);
    device.run(&["unset", "deviceApiKey"]);
    device.run(&["generate-api-key"]);
    assert_eq!(key("deviceApiKey"), first);
}

#[test]
fn fatrw_writes_reads_and_copies() {
    let device = Device::new("fatrw");
    let at = |name: &str| device.0.0.join("mnt/boot").join(name).to_str().unwrap().to_owned();
    let mut child = program("fatrw", &["write", "-m", "600", &at("a")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"one\0two").unwrap();
    assert!(child.wait().unwrap().success());
    let (status, text, _) = outcome(program("fatrw", &["read", &at("a")]).output().unwrap());
    assert_eq!((status, text.as_str()), (0, "one\0two"));
    assert_eq!(outcome(program("fatrw", &["copy", &at("a"), &at("b")]).output().unwrap()).0, 0);
    assert_eq!(std::fs::read(at("b")).unwrap(), b"one\0two");
    assert_eq!(outcome(program("fatrw", &["read", &at("none")]).output().unwrap()).0, 1);
    assert_eq!(outcome(program("fatrw", &["write", "-m", "9", &at("a")]).output().unwrap()).0, 2);
    assert_eq!(std::fs::read_dir(device.0.0.join("mnt/boot")).unwrap().count(), 2);
}

#[test]
fn the_kernel_gets_the_name_and_the_file_behind_the_bind_mount_too() {
    if !inside(
        &["--mount", "--uts", "--propagation", "private"],
        "the_kernel_gets_the_name_and_the_file_behind_the_bind_mount_too",
    ) {
        return;
    }
    let run =
        |line: &str| assert!(Command::new("sh").args(["-ec", line]).status().unwrap().success(), "{line}");
    run("mount -t tmpfs tmpfs /mnt; mkdir -p /mnt/boot /mnt/state/root-overlay/etc; \
         : > /mnt/state/root-overlay/etc/hostname; mount --bind /mnt/state/root-overlay/etc/hostname /etc/hostname");
    std::fs::write("/mnt/boot/config.json", r#"{"hostname":"kitchen-7"}"#).unwrap();
    let (status, _, log) = outcome(program("config-json", &["hostname"]).output().unwrap());
    assert_eq!((status, log.trim()), (0, "[config-json][INFO] host name is kitchen-7"));
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), "kitchen-7\n");
    for path in ["/etc/hostname", "/mnt/state/root-overlay/etc/hostname"] {
        assert_eq!(std::fs::read_to_string(Path::new(path)).unwrap(), "kitchen-7\n");
    }
}
