//! A device below a temporary folder: a root tree, three ext4 partitions on loop devices, their links. Each test
//! runs in a mount namespace of its own, and the program in a process of its own. Needs root.

use minke_applet::Build;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const INSIDE: &str = "MINKE_TEST_INSIDE";
const ARGUMENTS: &str = "MINKE_TEST_ARGUMENTS";

/// Runs `body` in a mount namespace of its own: the test starts itself again there. `program` is the test that
/// calls [`entry`].
pub fn isolated(name: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// When this process was started as the program, runs it and ends.
pub fn entry() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    let arguments = arguments.split('\n').map(OsString::from).collect();
    let status =
        minke_applet::run(&minke_mount_state::APPLET.programs[0], arguments, Build { version: "0", time: 0 });
    std::process::exit(status.into());
}

/// What is on a device.
pub struct Device {
    base: PathBuf,
    loops: Vec<String>,
}

impl Device {
    /// A device whose state and data partitions have never been used.
    pub fn new(name: &str) -> Self {
        let base = std::env::temp_dir().join(format!("minke-mounts-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&base);
        let mut device = Self { base, loops: Vec::new() };
        for folder in [
            "mnt/boot",
            "mnt/state",
            "mnt/data",
            "resin-data",
            "var/lib/docker",
            "var/lib/bluetooth",
            "var/lib/NetworkManager",
            "var/lib/systemd",
            "var/lib/chrony",
            "etc/ssh/hostkeys",
            "etc/openvpn",
            "etc/udev/rules.d",
            "etc/ssl/certs",
            "etc/NetworkManager/conf.d",
            "etc/NetworkManager/system-connections",
            "etc/NetworkManager/dispatcher.d",
            "etc/fake-hwclock",
            "etc/docker",
            "etc/balena-supervisor",
            "home/root/.ssh",
            "home/root/.docker",
            "usr/share/ca-certificates/balena",
            "run",
        ] {
            std::fs::create_dir_all(device.path(folder)).unwrap();
        }
        for file in ["etc/hostname", "etc/machine-id", "home/root/.rnd"] {
            std::fs::write(device.path(file), "").unwrap();
        }
        std::fs::write(device.path("etc/balena-supervisor/supervisor.conf"), "SUPERVISOR_VERSION=1\n")
            .unwrap();
        std::fs::write(device.path("etc/ssl/certs/bundle.crt"), "stock").unwrap();
        run("chmod", &["700", &device.text("home/root/.ssh")]);
        std::fs::create_dir_all(device.base.join("disk/by-state")).unwrap();
        for (label, megabytes) in [("resin-boot", 4), ("resin-state", 16), ("resin-data", 16)] {
            device.add_partition(label, megabytes);
        }
        device
    }

    fn add_partition(&mut self, label: &str, megabytes: u64) {
        let image = self.base.join(format!("{label}.img"));
        std::fs::File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        run("mke2fs", &["-q", "-t", "ext4", "-L", label, image.to_str().unwrap()]);
        let node = run("losetup", &["--find", "--show", image.to_str().unwrap()]);
        std::os::unix::fs::symlink(&node, self.link(label)).unwrap();
        self.loops.push(node);
    }

    /// The link of a partition.
    pub fn link(&self, label: &str) -> PathBuf {
        self.base.join("disk/by-state").join(label)
    }

    /// A path below the root.
    pub fn path(&self, below: &str) -> PathBuf {
        self.base.join("root").join(below)
    }

    /// The same as text.
    pub fn text(&self, below: &str) -> String {
        self.path(below).to_str().unwrap().to_owned()
    }

    /// The content of a file below the root.
    pub fn read(&self, below: &str) -> String {
        let path = self.path(below);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The program with a command, ready to start.
    pub fn program(&self, command: &str) -> Command {
        let arguments = ["--root", &self.text(""), "--devices", self.base.join("disk").to_str().unwrap()]
            .into_iter()
            .chain(["--wait", "0"])
            .chain(command.split(' '))
            .collect::<Vec<_>>()
            .join("\n");
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args(["--exact", "entry", "--nocapture", "--test-threads=1"]).env(ARGUMENTS, arguments);
        program
    }

    /// Runs the program and returns what it logged.
    pub fn run(&self, command: &str) -> (Output, String) {
        let output = self.program(command).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        (output, log)
    }

    /// Starts the program; the caller kills it.
    pub fn spawn(&self, command: &str) -> Child {
        self.program(command).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Starts everything and expects no complaint but those that contain one of `expected`.
    pub fn start(&self, expected: &[&str]) -> String {
        let (output, log) = self.run("start");
        assert_eq!(output.status.code(), Some(0), "{log}");
        let surprising: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("[ERROR]") || line.contains("[WARN]"))
            .filter(|line| !expected.iter().any(|part| line.contains(part)))
            .collect();
        assert!(surprising.is_empty(), "{surprising:#?}");
        for part in expected {
            let count = log.lines().filter(|line| line.contains(part)).count();
            assert_eq!(count, 1, "'{part}' in\n{log}");
        }
        log
    }

    /// Unmounts everything, as a shutdown does.
    pub fn stop(&self) {
        let (output, log) = self.run("stop");
        assert_eq!(output.status.code(), Some(0), "{log}");
        assert_eq!(self.mounts(), 0);
    }

    /// A reboot, with what another system would have changed meanwhile.
    pub fn edit(&self, label: &str, change: impl FnOnce(&Path)) {
        let place = self.base.join("edit");
        std::fs::create_dir_all(&place).unwrap();
        run("mount", &[self.link(label).to_str().unwrap(), place.to_str().unwrap()]);
        change(&place);
        run("umount", &[place.to_str().unwrap()]);
    }

    /// How many mounts there are below the root.
    pub fn mounts(&self) -> usize {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let root = self.text("").trim_end_matches('/').to_owned();
        table
            .lines()
            .filter(|line| line.split(' ').nth(4).is_some_and(|target| target.starts_with(&root)))
            .count()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .args(["--recursive", "--lazy", &self.text("")])
            .stderr(Stdio::null())
            .status();
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let root = self.text("").trim_end_matches('/').to_owned();
        for line in table.lines().rev() {
            if let Some(target) = line.split(' ').nth(4).filter(|target| target.starts_with(&root)) {
                let _ = Command::new("umount").args(["--lazy", target]).stderr(Stdio::null()).status();
            }
        }
        for node in &self.loops {
            // The kernel keeps a read-only mark for the loop device's next user.
            let _ = Command::new("blockdev").args(["--setrw", node]).stderr(Stdio::null()).status();
            let _ = Command::new("losetup").args(["--detach", node]).status();
        }
        let _ = std::fs::remove_dir_all(&self.base);
    }
}

/// Runs a tool and returns what it printed.
pub fn run(tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool).args(arguments).output().unwrap();
    assert!(output.status.success(), "{tool} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}
