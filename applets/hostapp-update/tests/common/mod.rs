//! A device below a temporary folder: two slots on loop devices, a boot partition that is a folder (the build machine has
//! no FAT), and the system that runs. Each test has a mount namespace of its own; the program runs as a process of its own
//! with the device's root as its root. Needs root.

use minke_applet::Build;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const ARGUMENTS: &str = "MINKE_TEST_ARGUMENTS";

/// The device type of every release, and the version that runs.
pub const SLUG: &str = "generic-test";
pub const RUNNING: &str = "8.0.2";
/// The host app that runs.
pub const OLD: &str = "01d0000000000000000000000000000000000000000000000000000000000000";

/// Runs `body` in a mount namespace of its own: the test starts itself again there.
pub fn isolated(name: &str, body: impl FnOnce()) {
    if minke_tests::inside(minke_tests::OWN_MOUNTS, name) {
        body();
    }
}

/// When this process was started as the program, runs it and ends.
pub fn entry() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    let arguments = arguments.split('\n').map(OsString::from).collect();
    let program = &minke_hostapp_update::APPLET.programs[0];
    let status = minke_applet::run(program, arguments, Build { version: "0", time: 0 });
    std::process::exit(status.into());
}

/// A device that runs [`RUNNING`] from slot A; slot B holds what `leftovers` puts there.
pub struct Device {
    base: PathBuf,
    loops: Vec<String>,
}

impl Device {
    pub fn new(name: &str) -> Self {
        let base = std::env::temp_dir().join(format!("minke-update-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        fs::create_dir_all(base.join("root")).unwrap();
        let mut device = Self { base, loops: Vec::new() };
        let root = device.path("");
        run("mount", &["--bind", text(&root), text(&root)]);
        for folder in [
            "proc",
            "sys",
            "dev",
            "run",
            "tmp",
            "etc",
            "mnt/boot",
            "mnt/state",
            "mnt/data",
            "mnt/sysroot/active",
            "mnt/sysroot/inactive",
            "run/systemd/timesync",
            "usr/share/minke",
            "disk",
        ] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        // The host's programs and libraries, and this one.
        let exe = std::env::current_exe().unwrap();
        for folder in ["/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib64", text(exe.parent().unwrap())] {
            if Path::new(folder).exists() {
                let place = device.path(&folder[1..]);
                fs::create_dir_all(&place).unwrap();
                run("mount", &["-o", "bind,ro", folder, text(&place)]);
            }
        }
        for folder in ["/dev", "/proc", "/sys"] {
            run("mount", &["--rbind", folder, text(&device.path(&folder[1..]))]);
        }
        for (link, target) in
            [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")]
        {
            symlink(target, root.join(link)).unwrap();
        }
        fs::write(root.join("etc/os-release"), os_release(RUNNING, SLUG)).unwrap();
        device.boot_file("resinOS_uEnv.txt", "resin_root_part=2\nupgrade_available=0\n");
        device.boot_file("config.json", "{}\n");
        fs::write(root.join("run/systemd/timesync/synchronized"), "NTP").unwrap();
        for (label, link) in [("resin-rootA", "active"), ("resin-rootB", "inactive")] {
            let image = device.base.join(format!("{label}.img"));
            make_slot(&image, label, 24);
            let node = run("losetup", &["--find", "--show", text(&image)]);
            symlink(&node, root.join("disk").join(link)).unwrap();
            device.loops.push(node);
        }
        let template = device.base.join("template");
        make_slot(&template, "", 16);
        run("gzip", &["-9n", text(&template)]);
        fs::copy(device.base.join("template.gz"), root.join("usr/share/minke/slot.ext4.gz")).unwrap();
        run("mount", &[&device.loops[0], text(&root.join("mnt/sysroot/active"))]);
        let app = device.path("mnt/sysroot/active/hostapps").join(OLD);
        device.host_app(&app, RUNNING);
        symlink(format!("hostapps/{OLD}"), root.join("mnt/sysroot/active/current")).unwrap();
        fs::write(root.join("mnt/sysroot/active/counter"), "4\n").unwrap();
        run("mount", &["-o", "remount,ro", text(&root.join("mnt/sysroot/active"))]);
        device
    }

    /// A path below the root.
    pub fn path(&self, below: &str) -> PathBuf {
        self.base.join("root").join(below)
    }

    pub fn read(&self, below: &str) -> String {
        let path = self.path(below);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub fn boot_file(&self, name: &str, content: &str) {
        fs::write(self.path("mnt/boot").join(name), content).unwrap();
    }

    /// The device of slot A or B.
    pub fn node(&self, letter: char) -> &str {
        &self.loops[usize::from(letter == 'B')]
    }

    /// What is on the medium of slot A or B: not what the kernel remembers of the device.
    pub fn medium(&self, letter: char) -> PathBuf {
        self.base.join(format!("resin-root{letter}.img"))
    }

    /// Changes what is in slot B, as if another system had run there.
    pub fn edit_b(&self, change: impl FnOnce(&Path)) {
        let place = self.base.join("edit");
        fs::create_dir_all(&place).unwrap();
        run("mount", &[self.node('B'), text(&place)]);
        change(&place);
        run("umount", &[text(&place)]);
    }

    /// The program with a command, ready to start.
    pub fn program(&self, command: &str) -> Command {
        let arguments: Vec<&str> = ["--devices", "/disk"].into_iter().chain(command.split(' ')).collect();
        let mut program = Command::new("chroot");
        program
            .arg(self.path(""))
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "entry", "--nocapture", "--test-threads=1"])
            .env(ARGUMENTS, arguments.join("\n"));
        program
    }

    /// Runs the program and returns what it logged.
    pub fn run(&self, command: &str) -> (Output, String) {
        let output = self.program(command).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        (output, log)
    }

    /// Runs the program, which has to succeed.
    pub fn good(&self, command: &str) -> String {
        let (output, log) = self.run(command);
        assert_eq!(output.status.code(), Some(0), "{command}: {log}");
        // The test harness says something of its own before.
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_once("test entry ... ").map_or(text.clone(), |(_, own)| own.to_owned())
    }

    /// Runs the program, which has to fail with a text that holds `part`, and to change neither selection nor slot A.
    pub fn bad(&self, command: &str, part: &str) {
        let before = (self.read("mnt/boot/resinOS_uEnv.txt"), self.digests()[0].clone());
        let (output, log) = self.run(command);
        assert_eq!(output.status.code(), Some(1), "{command}: {log}");
        assert!(log.contains(part), "'{part}' in\n{log}");
        assert_eq!(
            before,
            (self.read("mnt/boot/resinOS_uEnv.txt"), self.digests()[0].clone()),
            "{command}: {log}"
        );
    }

    /// The digests of both slots' devices.
    pub fn digests(&self) -> [String; 2] {
        ['A', 'B'].map(|letter| run("sha256sum", &[text(&self.medium(letter))]))
    }

    /// A host app in a folder, whose hooks select its slot as the last of them does in a real one.
    fn host_app(&self, app: &Path, version: &str) {
        let root = self.base.join("host-app");
        let _ = fs::remove_dir_all(&root);
        for folder in ["etc", "dev", "proc", "sys", "run", "tmp", "mnt", "usr/bin"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("etc/os-release"), os_release(version, SLUG)).unwrap();
        fs::create_dir_all(app.join("boot")).unwrap();
        fs::write(app.join("boot/vmlinuz"), format!("kernel of {version}")).unwrap();
        fs::write(app.join("boot/initramfs"), initramfs(version)).unwrap();
        let image = app.join("rootfs.squashfs");
        run("mksquashfs", &[text(&root), text(&image), "-noappend", "-quiet", "-no-progress", "-all-root"]);
    }

    /// A release of this version as an archive at `tmp/NAME` below the root; its id.
    pub fn release(&self, name: &str, version: &str, slug: &str) -> String {
        self.make(name, version, slug, None)
    }

    /// As [`Device::release`]; it says that it takes so many bytes.
    pub fn sized(&self, name: &str, version: &str, size: u64) -> String {
        self.make(name, version, SLUG, Some(size))
    }

    fn make(&self, name: &str, version: &str, slug: &str, size: Option<u64>) -> String {
        let content = self.base.join("content");
        let _ = fs::remove_dir_all(&content);
        self.host_app(&content, version);
        let layout = self.base.join("layout");
        let _ = fs::remove_dir_all(&layout);
        fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
        let layer = self.base.join("layer.tar");
        let sorted =
            ["--sort=name", "--owner=0", "--group=0", "-cf", text(&layer), "-C", text(&content), "."];
        run("tar", &sorted);
        let plain = hex(&Sha256::digest(fs::read(&layer).unwrap()));
        run("gzip", &["-nf", text(&layer)]);
        let layer = fs::read(self.base.join("layer.tar.gz")).unwrap();
        let blob = |bytes: &[u8]| {
            let digest = hex(&Sha256::digest(bytes));
            fs::write(layout.join("blobs/sha256").join(&digest), bytes).unwrap();
            (format!("sha256:{digest}"), bytes.len())
        };
        let (layer, layer_size) = blob(&layer);
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let size = size.map_or_else(String::new, |size| format!(r#","io.minke.size":"{size}""#));
        let config = format!(
            r#"{{"architecture":"{architecture}","os":"linux","config":{{"Labels":{{
            "io.balena.image.class":"hostapp","io.balena.os-release.SLUG":"{slug}",
            "io.balena.os-release.VERSION":"{version}","org.opencontainers.image.version":"{version}"{size}}}}},
            "rootfs":{{"type":"layers","diff_ids":["sha256:{plain}"]}}}}"#
        );
        let (config, config_size) = blob(config.as_bytes());
        let oci = "application/vnd.oci.image";
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{oci}.manifest.v1+json",
            "config":{{"mediaType":"{oci}.config.v1+json","digest":"{config}","size":{config_size}}},
            "layers":[{{"mediaType":"{oci}.layer.v1.tar+gzip","digest":"{layer}","size":{layer_size}}}]}}"#
        );
        let (manifest, manifest_size) = blob(manifest.as_bytes());
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{oci}.manifest.v1+json",
            "digest":"{manifest}","size":{manifest_size}}}]}}"#
        );
        fs::write(layout.join("index.json"), index).unwrap();
        let place = |digest: &str| digest.replace("sha256:", "blobs/sha256/");
        let archive = self.path("tmp").join(name);
        let members = [place(&manifest), place(&config), place(&layer)];
        run(
            "tar",
            &[
                "--owner=0",
                "--group=0",
                "-cf",
                text(&archive),
                "-C",
                text(&layout),
                "oci-layout",
                "index.json",
                &members[0],
                &members[1],
                &members[2],
            ],
        );
        config.replace("sha256:", "")
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let mounts = || {
            let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
            let targets = table.lines().rev().filter_map(|line| line.split(' ').nth(4).map(str::to_owned));
            targets.filter(|target| target.starts_with(text(&self.base))).collect::<Vec<_>>()
        };
        for target in mounts() {
            let _ = Command::new("umount").args(["--lazy", &target]).status();
        }
        for node in &self.loops {
            let _ = Command::new("losetup").args(["--detach", node]).status();
        }
        // What is mounted there still is not ours to remove.
        if mounts().is_empty() {
            let _ = fs::remove_dir_all(&self.base);
        }
    }
}

/// An empty slot, with the features of real ones.
fn make_slot(image: &Path, label: &str, megabytes: u64) {
    fs::File::create(image).unwrap().set_len(megabytes << 20).unwrap();
    let features = "none,filetype,ext_attr,dir_index,extent,flex_bg,sparse_super,large_file,huge_file,dir_nlink,\
                    extra_isize,resize_inode,^metadata_csum,^64bit,has_journal";
    run(
        "mke2fs",
        &[
            "-q",
            "-F",
            "-t",
            "ext4",
            "-b",
            "4096",
            "-I",
            "256",
            "-m",
            "0",
            "-O",
            features,
            "-L",
            label,
            text(image),
        ],
    );
}

/// Content that hardly compresses.
pub fn initramfs(version: &str) -> Vec<u8> {
    let mut seed = version.bytes().fold(1u64, |seed, byte| seed.wrapping_mul(131).wrapping_add(byte.into()));
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed.to_be_bytes()
    };
    (0..250_000).flat_map(|_| next()).collect()
}

pub fn os_release(version: &str, slug: &str) -> String {
    format!("ID=\"balena-os\"\nVERSION=\"{version}\"\nSLUG=\"{slug}\"\nMETA_BALENA_VERSION=\"{version}\"\n")
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs a tool and returns what it printed.
pub fn run(tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool).args(arguments).output().unwrap();
    assert!(output.status.success(), "{tool} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}
