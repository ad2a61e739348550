//! A real engine for a test: Debian's dockerd, unpacked into the cache and not installed, in namespaces of its own. What a
//! test shows on it holds with any engine that keeps to the same interfaces.

// A test's helper fails the test that calls it.
#![allow(clippy::panic, clippy::unwrap_used)]

use crate::{run, text};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// dockerd with what it needs.
const PACKAGES: [&str; 12] = [
    "docker.io",
    "containerd",
    "runc",
    "tini",
    "iptables",
    "libip6tc2",
    "libip4tc2",
    "libxtables12",
    "libnfnetlink0",
    "libnetfilter-conntrack3",
    "libnftnl11",
    "busybox-static",
];

/// How long it may take to come up, or to end its containers.
const PATIENCE: Duration = Duration::from_secs(60);

/// An engine. Whatever runs in it ends with the value, or with the process of the test: it is alone in a namespace of
/// processes whose first one waits for the end of its input.
#[derive(Debug)]
pub struct Dockerd {
    folder: PathBuf,
    data: PathBuf,
    tools: PathBuf,
    process: Option<Child>,
}

impl Dockerd {
    /// One whose socket and log are in `folder`, which has to be there, and its images and containers in `data`. It is not
    /// started.
    pub fn new(folder: &Path, data: &Path) -> Self {
        let tools = unpacked();
        let programs = folder.join("bin");
        std::fs::create_dir_all(&programs).unwrap();
        for name in ["iptables", "ip6tables"] {
            let program = tools.join("usr/sbin/xtables-nft-multi");
            std::os::unix::fs::symlink(program, programs.join(name)).unwrap();
        }
        let engine = Self { folder: folder.to_owned(), data: data.to_owned(), tools, process: None };
        engine.spare_capabilities(&programs.join("runc"));
        engine
    }

    /// A privileged container gets every capability of the kernel, and does not start on a machine whose root has some of
    /// them not, as in a container: there they are taken out of what runc is told.
    fn spare_capabilities(&self, wrapper: &Path) {
        let list = |option: &str| text(&run(Command::new("setpriv").arg(option)));
        let own = list("--dump");
        let own =
            own.lines().find_map(|line| line.strip_prefix("Capability bounding set: ")).unwrap_or_default();
        let own: Vec<&str> = own.split(',').collect();
        let all = list("--list-caps");
        let mut edit = String::new();
        for name in all.lines().filter(|name| !own.contains(name)) {
            let name = name.to_ascii_uppercase();
            edit.push_str(&format!("s/\"CAP_{name}\",//g; s/,\"CAP_{name}\"//g; "));
        }
        if edit.is_empty() {
            return;
        }
        let script = format!(
            "#!/bin/sh
            for word; do
                [ \"$before\" != --bundle ] || sed -i '{edit}' \"$word/config.json\"
                before=$word
            done
            exec {}/usr/sbin/runc \"$@\"\n",
            self.tools.display()
        );
        std::fs::write(wrapper, script).unwrap();
        std::fs::set_permissions(wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Where its API is.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("engine.sock")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("engine.log")).unwrap_or_default()
    }

    /// A program of Debian's BusyBox, linked statically.
    pub fn busybox(&self) -> PathBuf {
        self.tools.join("bin/busybox")
    }

    /// Starts it and waits until it answers. It sees what is mounted here, also later, and nobody sees what it mounts.
    pub fn start(&mut self) {
        let (folder, data, tools) = (self.folder.display(), self.data.display(), self.tools.display());
        let group = self.folder.display().to_string().trim_start_matches('/').replace('/', "-");
        let libraries = format!("{tools}/usr/lib/x86_64-linux-gnu");
        // The id in a file of an engine that was killed may be somebody else's now. Where this machine has systemd, runc would
        // ask it for control groups, which stay below one of that name then.
        let script = format!(
            "ip link set lo up; rm -f {folder}/pid
             dockerd --data-root {data} --exec-root {folder}/exec --pidfile {folder}/pid -H unix://{folder}/engine.sock \
                 --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent /{group} --add-runtime bare=runc \
                 </dev/null >>{folder}/engine.log 2>&1 &
             engine=$!; read -r end; kill $engine; wait $engine
             rmdir /sys/fs/cgroup/{group} /sys/fs/cgroup/*/{group} 2>/dev/null"
        );
        let path = std::env::var("PATH").unwrap();
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "slave", "--net", "--pid", "--fork", "--kill-child"])
            .args(["--mount-proc", "sh", "-c", &script])
            .env("PATH", format!("{folder}/bin:{tools}/usr/sbin:{tools}/usr/bin:{path}"))
            .env("LD_LIBRARY_PATH", &libraries)
            .env("XTABLES_LIBDIR", format!("{libraries}/xtables"))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        self.process = Some(child);
        let start = Instant::now();
        while !self.command(&["version"]).output().unwrap().status.success() {
            assert!(start.elapsed() < PATIENCE, "dockerd does not answer:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Ends it and its containers.
    pub fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        drop(process.stdin.take());
        let start = Instant::now();
        while process.try_wait().unwrap().is_none() {
            if start.elapsed() > PATIENCE {
                // With it goes the first process of the namespace, and with that the others.
                process.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A command of `docker`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.tools.join("usr/bin/docker"));
        command.arg("-H").arg(format!("unix://{}", self.socket().display())).args(arguments);
        command
    }

    /// Runs a command of `docker`, which must succeed, and returns what it prints.
    pub fn docker(&self, arguments: &[&str]) -> String {
        text(&run(&mut self.command(arguments)))
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The packages in the cache, unpacked once.
fn unpacked() -> PathBuf {
    let cache = minke_image::cache::Cache::open().unwrap();
    let _lock = cache.lock("dockerd").unwrap();
    let root = cache.folder("dockerd").unwrap();
    if root.join("usr/sbin/dockerd").exists() {
        return root;
    }
    let fresh = cache.folder("dockerd.new").unwrap();
    std::fs::remove_dir_all(&fresh).unwrap();
    std::fs::create_dir(&fresh).unwrap();
    run(Command::new("apt-get").arg("download").args(PACKAGES).current_dir(&fresh));
    for entry in std::fs::read_dir(&fresh).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "deb") {
            run(Command::new("dpkg-deb").arg("-x").arg(&path).arg(&fresh));
            std::fs::remove_file(path).unwrap();
        }
    }
    std::fs::remove_dir_all(&root).unwrap();
    std::fs::rename(&fresh, &root).unwrap();
    root
}
