//! A test executable that is also the programs that it tests, and a folder that they work on as a device's root.

// A test's helper fails the test that calls it.
#![allow(clippy::unwrap_used, clippy::panic)]

use minke_applet::{Build, Program};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const ARGUMENTS: &str = "MINKE_TEST_ARGUMENTS";

/// The whole of a test `entry` at the root of the test crate: where [`command`] has started this executable, it is the
/// program.
pub fn entry(programs: &'static [Program]) {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    let mut arguments: Vec<OsString> = arguments.split('\u{1}').map(OsString::from).collect();
    let name = arguments.remove(0);
    let program = programs.iter().find(|program| name == program.name).unwrap();
    // The harness has begun a line.
    println!();
    std::process::exit(minke_applet::run(program, arguments, Build { version: "0", time: 0 }).into());
}

/// A program's command line.
pub fn command(name: &str, words: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "entry", "--nocapture", "--test-threads=1"])
        .env(ARGUMENTS, [&[name], words].concat().join("\u{1}"))
        .env_remove("CONFIG_PATH");
    command
}

/// Exit status, output and log of a program that has ended.
pub fn outcome(output: Output) -> (i32, String, String) {
    let text = String::from_utf8(output.stdout).unwrap();
    // Before the first line of ours stand those of the harness.
    let ours = text.split_once("test entry ... \n").map_or("", |(_, ours)| ours).to_owned();
    (output.status.code().unwrap(), ours, String::from_utf8(output.stderr).unwrap())
}

/// A root folder with a boot and a state partition; it goes with the test.
#[derive(Debug)]
pub struct Root(pub PathBuf);

impl Root {
    /// Makes it, with these folders besides. The names keep tests apart.
    pub fn new(program: &str, test: &str, folders: &[&str]) -> Self {
        let root = std::env::temp_dir().join(format!("minke-{program}-{}-{test}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        for folder in ["mnt/boot", "mnt/state", "var/volatile"].iter().chain(folders) {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        Self(root)
    }

    /// Writes `config.json`.
    pub fn config(&self, content: impl AsRef<[u8]>) {
        std::fs::write(self.0.join("mnt/boot/config.json"), content).unwrap();
    }

    /// A file's text, if there is one.
    pub fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        std::fs::read_to_string(self.0.join(path)).ok()
    }

    /// Runs a program on it: exit status, output, log.
    pub fn run(&self, program: &str, words: &[&str]) -> (i32, String, String) {
        let root = self.0.to_str().unwrap();
        outcome(command(program, &[&["--root", root], words].concat()).output().unwrap())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
