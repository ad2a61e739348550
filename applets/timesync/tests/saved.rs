//! The saved clock, below a folder of its own. No clock is set.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use minke_tests::program;
use std::path::PathBuf;
use std::process::Command;

/// The programs themselves: this executable is they as well.
#[test]
fn entry() {
    program::entry(minke_timesync::APPLET.programs);
}

struct Lab(program::Root);

impl Lab {
    fn new(name: &str, build: &str) -> Self {
        let root = program::Root::new("saved", name, &["etc/fake-hwclock"]);
        std::fs::write(root.0.join("etc/timestamp"), build).unwrap();
        Self(root)
    }

    fn file(&self) -> PathBuf {
        self.0.0.join("etc/fake-hwclock/fake-hwclock.data")
    }

    fn saved(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap()
    }

    /// Exit status, and all that was said.
    fn run(&self, command: &str) -> (i32, String) {
        let words: Vec<&str> = command.split(' ').filter(|word| !word.is_empty()).collect();
        let (status, output, log) = self.0.run(words[0], &[&words[1..], &["--no-clock"]].concat());
        (status, log + &output)
    }
}

fn today() -> String {
    let done = Command::new("date").args(["-u", "+%Y-%m-%d"]).output().unwrap();
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

#[test]
fn the_clock_is_saved_and_time_travel_is_not() {
    let root = Lab::new("save", "20200101000000\n");
    let before = today();
    assert_eq!(root.run("fake-hwclock save").0, 0);
    let saved = root.saved();
    assert!(saved.len() == 20 && (saved.starts_with(&before) || saved.starts_with(&today())), "{saved}");
    // This system is newer than the clock.
    let root = Lab::new("travel", "20990101000000\n");
    assert_eq!(root.run("timesync save").0, 0, "without a file any time is better than none");
    std::fs::write(root.file(), "2099-02-03 04:05:06\n").unwrap();
    for command in ["fake-hwclock save", "timesync save"] {
        let (status, text) = root.run(command);
        assert!(
            status == 1 && text.contains("Time travel detected!") && text.contains("\"force\""),
            "{text}"
        );
    }
    assert_eq!(root.saved(), "2099-02-03 04:05:06\n");
    assert_eq!(root.run("fake-hwclock save force").0, 0);
    assert!(root.saved().starts_with("20") && !root.saved().starts_with("2099"));
    // A clock that is nowhere near its system's time is not handed to the next boot.
    let root = Lab::new("future", "19800101000000\n");
    let (status, text) = root.run("timesync save");
    assert!(status == 1 && text.contains("not plausible") && !root.file().exists(), "{text}");
}

#[test]
fn the_saved_clock_is_loaded_only_forward_and_only_when_plausible() {
    let root = Lab::new("load", "20200101000000\n");
    let (status, text) = root.run("fake-hwclock load");
    assert!(status == 0 && text.contains("Unable to read saved clock information"), "{text}");
    for (saved, force, status, says) in [
        ("2020-02-02 00:00:00", "", 0, "is in the past: 2020-02-02 00:00:00"),
        ("2020-02-02 00:00:00", "force", 0, "Current system time: 2020-02-02 00:00:00"),
        ("2039-01-01 00:00:00", "", 0, "Current system time: 2039-01-01 00:00:00"),
        ("2041-01-01 00:00:00", "", 1, "not plausible"),
        ("2106-02-07 06:28:16", "", 1, "not plausible"),
        ("9999-12-31 23:59:59", "", 1, "not plausible"),
        ("9999-12-31 23:59:59", "force", 0, "Current system time: 9999-12-31 23:59:59"),
    ] {
        std::fs::write(root.file(), format!("{saved}\n")).unwrap();
        let (is, text) = root.run(&format!("fake-hwclock load {force}"));
        assert!(is == status && text.contains(says), "{saved} {force}: {text}");
    }
}

#[test]
fn what_a_power_cut_or_a_person_left_is_no_time() {
    let root = Lab::new("garbage", "20200101000000\n");
    for garbage in [
        &b""[..],
        &[0; 20],
        &[0; 512],
        b"2026-11-21",
        b"2026-11-31 00:00:00\n",
        b"2026-11-21 10:00:00 2027-11-21 10:00:00\n",
        b"1669031955\n",
        &[0xff; 20],
        &[b'2'; 100_000],
    ] {
        std::fs::write(root.file(), garbage).unwrap();
        let (status, text) = root.run("timesync load force");
        assert!(status == 1 && !text.contains("Current system time"), "{garbage:?}: {text}");
        let (status, text) = root.run("timesync init");
        assert!(status == 0 && text.contains("is not believed"), "{garbage:?}: {text}");
        assert_eq!(root.run("timesync save").0, 0);
        assert_eq!(root.saved().len(), 20, "{garbage:?}");
    }
    // A cut while the next content was written, at each of its bytes: the old one counts, and the next save goes through.
    let old = root.saved();
    let unfinished = root.file().with_file_name(".fake-hwclock.data.new");
    for length in 0..old.len() {
        std::fs::write(&unfinished, &old.as_bytes()[..length]).unwrap();
        assert_eq!(root.saved(), old);
        let (status, text) = root.run("timesync init");
        assert!(status == 0 && !text.contains("is not believed"), "{text}");
    }
    assert_eq!(root.run("timesync save").0, 0);
    assert!(!unfinished.exists());
    // The build time itself may be broken: then this binary's counts.
    std::fs::write(root.0.0.join("etc/timestamp"), "soon").unwrap();
    let (status, text) = root.run("timesync init");
    assert!(status == 0 && text.contains("is no build time"), "{text}");
}

#[test]
fn what_scripts_ask() {
    let root = Lab::new("ask", "20200101000000\n");
    let ask = |command: &str| root.run(command);
    assert_eq!(ask("timesync").0, 2);
    assert_eq!(ask("timesync save by").0, 2);
    assert_eq!(ask("timesync wait --timeout soon").0, 2);
    assert_eq!(ask("timesync wait --timeout 0").0, 1);
    assert_eq!(ask("fake-hwclock status").0, 2);
}
