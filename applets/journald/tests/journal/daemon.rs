//! A daemon with sockets of its own, for one test.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Daemon {
    pub folder: PathBuf,
    pub child: Child,
    options: Vec<String>,
}

/// One of the applet's programs.
pub fn program(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples/journal-programs");
    let mut command = Command::new(path);
    command.arg(name);
    command
}

impl Daemon {
    /// Starts a daemon without the kernel log, and waits until it says that it is ready.
    pub fn start(name: &str) -> Self {
        Self::start_with(name, &["--kmsg", "none"])
    }

    pub fn start_with(name: &str, options: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("minke-journald-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let child = spawn(&folder, &options);
        Self { folder, child, options }
    }

    /// Kills it without warning and starts it again.
    pub fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(&self.folder, &self.options);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn query_socket(&self) -> PathBuf {
        self.path("run/minke/journald.sock")
    }

    pub fn journalctl(&self, arguments: &[&str]) -> Command {
        let mut command = program("journalctl");
        command.arg("--socket").arg(self.query_socket()).args(arguments);
        command
    }

    /// What journalctl prints.
    pub fn show(&self, arguments: &[&str]) -> String {
        let output = self.journalctl(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until journalctl prints something that holds `text`.
    pub fn show_until(&self, arguments: &[&str], text: &str) -> String {
        let begin = Instant::now();
        loop {
            let shown = self.show(arguments);
            if shown.contains(text) {
                return shown;
            }
            assert!(begin.elapsed() < PATIENCE, "no '{text}' in:\n{shown}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A running `journalctl -f`, which `Drop` of the guard ends.
    pub fn follow(&self, arguments: &[&str]) -> Follower {
        let mut child = self.journalctl(arguments).arg("-f").stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Follower { child, lines }
    }

    /// KiB of memory that are its own alone.
    pub fn private_memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub struct Follower {
    pub child: Child,
    lines: BufReader<ChildStdout>,
}

impl Follower {
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &Path, options: &[String]) -> Child {
    let path = folder.join("notify");
    let _ = std::fs::remove_file(&path);
    let notify = UnixDatagram::bind(&path).unwrap();
    notify.set_read_timeout(Some(PATIENCE)).unwrap();
    let child = program("journald")
        .arg("--runtime-dir")
        .arg(folder.join("run"))
        .arg("--dev-log")
        .arg(folder.join("log"))
        .args(options)
        .env("NOTIFY_SOCKET", &path)
        .spawn()
        .unwrap();
    let mut message = [0u8; 64];
    let length = notify.recv(&mut message).unwrap();
    assert_eq!(&message[..length], b"READY=1");
    child
}
