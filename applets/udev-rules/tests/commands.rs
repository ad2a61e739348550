//! The program on files below a temporary folder.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use minke_tests::program::{self, Root};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;

/// Not a test of its own: the program, when this executable is started as it.
#[test]
fn entry() {
    program::entry(minke_udev_rules::APPLET.programs);
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
        Self(Root::new("udev-rules", name, &["etc/udev/rules.d"]))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.0.join("etc/udev/rules.d").join(name)
    }

    fn read(&self, name: &str) -> Option<String> {
        self.0.read(self.path(name))
    }

    fn run(&self, words: &[&str]) -> (i32, String, String) {
        self.0.run("udev-rules", words)
    }
}

impl Device {
    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.path(""))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn files_become_those_of_the_configuration() {
    let device = Device::new("apply");
    for (name, text) in
        [("old.rules", "x"), (".10.rules.new", "torn"), ("notes.txt", "x"), ("20.rules", "other")]
    {
        std::fs::write(device.path(name), text).unwrap();
    }
    std::fs::create_dir(device.path("folder")).unwrap();
    device.config(r#"{"os":{"udevRules":{"20":"ENV{X}==\"y\"\nSYMLINK+=\"z\"","10":"a","../evil":"x"}}}"#);
    assert_eq!(device.run(&["list"]).1.lines().filter(|line| line.ends_with("not written yet")).count(), 1);
    let (status, _, log) = device.run(&["apply"]);
    assert_eq!(status, 0);
    assert!(
        log.contains("2 written, 1 removed, 2 in effect") && log.contains("'../evil' is skipped"),
        "{log}"
    );
    assert_eq!(device.files(), ["10.rules", "20.rules", "README", "folder"]);
    assert_eq!(device.read("20.rules").unwrap(), "ENV{X}==\"y\"\nSYMLINK+=\"z\"\n");
    assert_eq!(device.path("10.rules").metadata().unwrap().permissions().mode() & 0o777, 0o644);
    let (_, list, _) = device.run(&["list"]);
    assert!(list.lines().all(|line| line.ends_with("in effect")) && list.lines().count() == 2, "{list}");
    // Again, with a rule less: the others are not touched. The README is the owner's once it is there.
    let inode = device.path("10.rules").metadata().unwrap().ino();
    std::fs::write(device.path("README"), "mine").unwrap();
    device.config(r#"{"os":{"udevRules":{"10":"a"}}}"#);
    let (_, _, log) = device.run(&["apply"]);
    assert!(log.contains("0 written, 1 removed, 1 in effect"), "{log}");
    assert_eq!(
        (device.path("10.rules").metadata().unwrap().ino(), device.read("README").unwrap()),
        (inode, "mine".into())
    );
    assert_eq!(device.run(&["apply"]), (0, String::new(), String::new()));
    // None at all.
    device.config("{}");
    assert!(device.run(&["apply"]).2.contains("0 written, 1 removed, 0 in effect"));
    assert_eq!(device.files(), ["README", "folder"]);
}

#[test]
fn what_cannot_be_understood_removes_nothing() {
    let device = Device::new("unknown");
    device.config(r#"{"os":{"udevRules":{"10":"a"}}}"#);
    device.run(&["apply"]);
    for (wrong, found) in
        [(r#"{"os":{"udevRules":["a"]}}"#, "should be an object"), ("{", "stay as they are")]
    {
        device.config(wrong);
        let (status, _, log) = device.run(&["apply"]);
        assert!(status == 1 && log.contains(found), "{log}");
        assert_eq!(device.read("10.rules").unwrap(), "a\n");
        let (status, text, _) = device.run(&["check"]);
        assert!(status == 1 && !text.is_empty());
    }
}

#[test]
fn a_link_in_place_of_a_rule_is_replaced_and_not_followed() {
    let device = Device::new("link");
    let elsewhere = device.0.0.join("elsewhere");
    std::fs::write(&elsewhere, "precious").unwrap();
    for name in ["10.rules", ".10.rules.new", "20.rules"] {
        std::os::unix::fs::symlink(&elsewhere, device.path(name)).unwrap();
    }
    device.config(r#"{"os":{"udevRules":{"10":"a"}}}"#);
    assert_eq!(device.run(&["apply"]).0, 0);
    assert!(device.path("10.rules").symlink_metadata().unwrap().is_file());
    assert_eq!(device.files(), ["10.rules", "README"]);
    assert_eq!(std::fs::read_to_string(elsewhere).unwrap(), "precious");
}

/// A rule cannot be written: the disk is full. What was there stays, and nothing half-written does.
#[test]
fn a_full_disk_leaves_the_old_rules() {
    let device = Device::new("full");
    device.config(r#"{"os":{"udevRules":{"10":"old"}}}"#);
    let folder = device.path("");
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&folder).status();
    assert!(mount.unwrap().success());
    let outcome = std::panic::catch_unwind(|| {
        device.run(&["apply"]);
        let big = "x".repeat(40_000);
        device.config(format!(r#"{{"os":{{"udevRules":{{"10":"new","20":"{big}","30":"{big}"}}}}}}"#));
        let (status, _, log) = device.run(&["apply"]);
        assert!(status == 1 && log.contains("No space left"), "{log}");
        assert_eq!(device.files(), ["10.rules", "README"]);
        assert_eq!(device.read("10.rules").unwrap(), "old\n");
        // What is removed makes room for what comes.
        for name in ["40", "50"] {
            device.config(format!(r#"{{"os":{{"udevRules":{{"{name}":"{big}"}}}}}}"#));
            let (status, _, log) = device.run(&["apply"]);
            assert!(status == 0 && log.contains("1 written, 1 removed"), "{log}");
        }
    });
    assert!(Command::new("umount").arg(&folder).status().unwrap().success());
    outcome.unwrap();
}

#[test]
fn ten_thousand_rules() {
    let device = Device::new("many");
    let rules: Vec<String> =
        (0..10_000).map(|number| format!("\"rule-{number}\":\"text {number}\"")).collect();
    device.config(format!(r#"{{"os":{{"udevRules":{{{}}}}}}}"#, rules.join(",")));
    let (status, _, log) = device.run(&["apply"]);
    assert!(status == 0 && log.contains("10000 written, 0 removed"), "{log}");
    assert_eq!(device.run(&["apply"]), (0, String::new(), String::new()));
    assert_eq!(device.files().len(), 10_001);
    device.config("{}");
    assert!(device.run(&["apply"]).2.contains("10000 removed"));
}
