//! How a program is found: first argument, name of a link, link with a path.

use minke_tests::{errors, release, run, text};
use std::path::{Path, PathBuf};
use std::process::Command;

fn minke() -> PathBuf {
    release("x86_64")
}

/// A folder of this test's own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("minke-dispatch-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn programs(minke: &Path) -> Vec<String> {
    let list = text(&run(Command::new(minke).arg("--list")));
    list.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn every_applet_folder_is_in_the_list() {
    let programs = programs(&minke());
    for entry in std::fs::read_dir(minke_tests::project().join("applets")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(programs.contains(&name), "{name} is not in {programs:?}");
    }
}

#[test]
fn installed_links_are_relative_and_run_their_program() {
    let scratch = Scratch::new("links");
    let (bin, sbin) = (scratch.0.join("usr/bin"), scratch.0.join("sbin"));
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir_all(&sbin).unwrap();
    let installed = bin.join("minke");
    // One that this process writes could not be executed while another test's child has the open file.
    run(Command::new("cp").arg(minke()).arg(&installed));
    run(Command::new(&installed).arg("--install").arg(&sbin));
    run(Command::new(&installed).arg("--install").arg(&sbin));
    let programs = programs(&installed);
    assert!(programs.len() > 7);
    for name in &programs {
        let link = sbin.join(name);
        assert_eq!(std::fs::read_link(&link).unwrap(), Path::new("../usr/bin/minke"));
        // These read no options: the kernel or the engine starts them.
        if ["init", "modprobe", "engine-shim", "engine-init"].contains(&name.as_str()) {
            continue;
        }
        let help = text(&run(Command::new(&link).arg("--help")));
        assert!(help.contains(&format!("Usage: {name}")), "{name}: {help}");
        let version = text(&run(Command::new(&link).arg("--version")));
        assert!(version.starts_with(&format!("{name} (minke) ")), "{version}");
        let same = run(Command::new(&installed).arg(name).arg("--help"));
        assert_eq!(text(&same), help);
    }
}

#[test]
fn install_leaves_files_alone() {
    let scratch = Scratch::new("files");
    std::fs::write(scratch.0.join("journalctl"), "mine").unwrap();
    let output = Command::new(minke()).arg("--install").arg(&scratch.0).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(errors(&output).lines().count(), 1);
    assert_eq!(std::fs::read(scratch.0.join("journalctl")).unwrap(), b"mine");
}

#[test]
fn an_unknown_applet_is_one_line_and_127() {
    let output = Command::new(minke()).arg("no-such-thing").output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    assert_eq!(errors(&output).lines().count(), 1);
    assert!(errors(&output).contains("no-such-thing"));
}

#[test]
fn an_unknown_option_is_one_line_and_2() {
    let output = Command::new(minke()).args(["journalctl", "--no-such-option"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(errors(&output).lines().count(), 1);
}
