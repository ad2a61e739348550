//! The root file system: minke and its links, BusyBox for what minke has not, accounts, identity files, units, mount
//! points. Made from files that are the same everywhere, so that the squashfs is the same byte for byte.

use crate::arch::Arch;
use crate::error::{Context, Error, Result};
use crate::filesystem::slot_template;
use crate::kernel::Parts;
use crate::release::Release;
use crate::tool::Tool;
use crate::tree::{Root, Scratch, set_folder_modes, set_times, walk};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The supervisor version that goes with it (spec os §13.1).
const SUPERVISOR_VERSION: &str = "v18.2.2";

/// Folders that the running system needs: mount points, bind targets of spec os §3.1, homes.
const FOLDERS: &[&str] = &[
    "dev",
    "proc",
    "sys",
    "run",
    "tmp",
    "mnt/boot",
    "mnt/state",
    "mnt/data",
    "mnt/efi",
    "mnt/rpi",
    "mnt/sysroot/active",
    "mnt/sysroot/inactive",
    "resin-data",
    "var/volatile",
    "var/lib/docker",
    "var/lib/bluetooth",
    "var/lib/NetworkManager",
    "var/lib/systemd",
    "var/lib/chrony",
    "etc/ssh/hostkeys",
    "etc/openvpn",
    "etc/udev/rules.d",
    "etc/ssl/certs",
    "etc/avahi/services",
    "etc/NetworkManager/conf.d",
    "etc/NetworkManager/system-connections",
    "etc/NetworkManager/dispatcher.d",
    "etc/fake-hwclock",
    "etc/docker",
    "etc/balena-supervisor",
    "etc/modules-load.d",
    "etc/dnsmasq.d",
    "home/root/.ssh",
    "home/root/.docker",
    "usr/share/ca-certificates/balena",
    "usr/bin",
    "usr/sbin",
    "usr/lib",
    "usr/libexec",
    "usr/local/bin",
    "usr/local/sbin",
    "usr/lib/systemd/system",
];

/// Empty files that are bind targets.
const EMPTY_FILES: &[&str] = &["etc/hostname", "etc/machine-id", "home/root/.rnd"];

/// Symbolic links: target, place.
const LINKS: &[(&str, &str)] = &[
    ("usr/bin", "bin"),
    ("usr/sbin", "sbin"),
    ("usr/lib", "lib"),
    ("../bin/minke", "usr/sbin/init"),
    ("../bin/minke", "usr/sbin/modprobe"),
    ("../run", "var/run"),
    ("../run/lock", "var/lock"),
    ("volatile/log", "var/log"),
    ("volatile/cache", "var/cache"),
    ("volatile/tmp", "var/tmp"),
    ("docker", "var/lib/balena"),
    ("docker", "var/lib/balena-engine"),
    ("docker", "etc/balena"),
    ("docker", "etc/balena-engine"),
    (".docker", "home/root/.balena"),
    (".docker", "home/root/.balena-engine"),
    ("../var/run/resolvconf/interface/NetworkManager", "etc/resolv.dnsmasq"),
    ("../proc/self/mounts", "etc/mtab"),
];

/// Commands that stand in `/usr/sbin` too, because scripts call them by that path.
const SYSTEM_LINKS: &[&str] = &["reboot", "poweroff", "halt", "shutdown"];

/// Programs that BusyBox would offer but that must not be found: minke is the only init, and these would act behind its back.
const NOT_FROM_BUSYBOX: &[&str] =
    &["init", "linuxrc", "start-stop-daemon", "runsvdir", "udhcpc", "udhcpd", "syslogd", "klogd"];

/// The empty slot from which a device re-makes a slot of its own.
const SLOT_TEMPLATE: &str = "usr/share/minke/slot.ext4.gz";

/// What a root file system is made of.
#[derive(Debug)]
pub struct Ingredients<'a> {
    /// Architecture, version, build stamp.
    pub release: &'a Release,
    /// Kernel modules, BusyBox.
    pub parts: &'a Parts,
    /// The release binary of minke.
    pub minke: &'a Path,
    /// The folder with the unit sources.
    pub units: &'a Path,
    /// Files of the boot partition, kept pristine in `/resin-boot`.
    pub boot_files: &'a Path,
}

/// Fills `root`.
pub fn fill(root: &Root, from: &Ingredients<'_>) -> Result<()> {
    for folder in FOLDERS {
        root.folder(folder)?;
    }
    for file in EMPTY_FILES {
        root.file(file, "")?;
    }
    for (target, place) in LINKS {
        root.link(target, place)?;
    }
    programs(root, from)?;
    accounts(root)?;
    identity(root, from)?;
    authorities(root, from)?;
    modules(root, from)?;
    crate::units::install(from.units, root)?;
    crate::units::enable_serial_console(from.release.arch.console(), root)?;
    copy_tree(from.boot_files, root, "resin-boot")?;
    modes(root)?;
    root.file("balenaos.fingerprint", fingerprint(root.top(), "/", &unlisted)?)?;
    set_times(root.top(), from.release.stamp)
}

fn programs(root: &Root, from: &Ingredients<'_>) -> Result<()> {
    root.copy(from.minke, "usr/bin/minke", true)?;
    root.copy(&from.parts.path("busybox"), "usr/bin/busybox", true)?;
    let mut taken = BTreeSet::from(["minke".to_owned(), "busybox".to_owned()]);
    for name in first_words(&emulated(from.release.arch, from.minke, "--list")?) {
        root.link("minke", &format!("usr/bin/{name}"))?;
        taken.insert(name);
    }
    for name in SYSTEM_LINKS.iter().filter(|name| taken.contains(**name)) {
        root.link("../bin/minke", &format!("usr/sbin/{name}"))?;
    }
    taken.extend(NOT_FROM_BUSYBOX.iter().map(|name| (*name).to_owned()));
    taken.extend(["modprobe".to_owned()]);
    // Paths such as `bin/ls` and `usr/sbin/chroot`; the folders below `/` are links into `/usr`.
    for path in first_words(&emulated(from.release.arch, &from.parts.path("busybox"), "--list-full")?) {
        let name = path.rsplit('/').next().unwrap_or(&path);
        if taken.contains(name) {
            continue;
        }
        let system = path.trim_start_matches("usr/").starts_with("sbin/");
        let (folder, target) = if system { ("usr/sbin", "../bin/busybox") } else { ("usr/bin", "busybox") };
        root.link(target, &format!("{folder}/{name}"))?;
    }
    Ok(())
}

/// Runs a program of `arch` with one argument, under its emulator where the build machine cannot run it.
fn emulated(arch: Arch, program: &Path, argument: &str) -> Result<String> {
    let native = std::env::consts::ARCH == arch.name();
    let emulator: &[&str] = match arch {
        _ if native => &[],
        Arch::X86_64 => &["qemu-x86_64-static"],
        Arch::Armv6 => &["qemu-arm-static", "-cpu", "arm1176"],
        Arch::Armv7 => &["qemu-arm-static", "-cpu", "cortex-a7"],
        Arch::Aarch64 => &["qemu-aarch64-static", "-cpu", "cortex-a53"],
    };
    let tool = match emulator {
        [name, options @ ..] => Tool::new(name).args(options).arg(program),
        [] => Tool::new(&program.to_string_lossy()),
    };
    tool.arg(argument).text()
}

fn first_words(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn accounts(root: &Root) -> Result<()> {
    let passwd = include_str!("../files/passwd");
    let group = include_str!("../files/group");
    // root's password is empty (spec os §8.4): only the console of a development image and listed keys let anyone in.
    let shadow = passwd.lines().filter_map(|line| line.split(':').next());
    let shadow =
        shadow.map(|name| format!("{name}:{}:19000:0:99999:7:::\n", if name == "root" { "" } else { "*" }));
    root.file("etc/passwd", passwd)?;
    root.file("etc/group", group)?;
    root.file("etc/shadow", shadow.collect::<String>())?;
    root.file("etc/shells", "/bin/sh\n/bin/ash\n")?;
    root.file("etc/profile", include_str!("../files/profile"))?;
    root.file("etc/hosts", include_str!("../files/hosts"))?;
    // Not 127.0.0.1: that port is for containers on the host's network (spec os §7.1).
    root.file("etc/resolv.conf", "nameserver 127.0.0.2\noptions timeout:15\n")?;
    root.file("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n")
}

fn identity(root: &Root, from: &Ingredients<'_>) -> Result<()> {
    root.file("etc/os-release", from.release.os_release())?;
    for name in ["etc/issue", "etc/issue.net"] {
        root.file(name, from.release.issue())?;
    }
    root.file("usr/share/minke/banner", include_str!("../files/banner"))?;
    root.file(SLOT_TEMPLATE, slot_template(from.release.stamp)?)?;
    root.file("etc/timestamp", format!("{}\n", from.release.stamp_digits()))?;
    root.file("etc/build", from.release.build_information())?;
    let supervisor = format!(
        "SUPERVISOR_IMAGE=registry2.balena-cloud.com/v2/supervisor\nSUPERVISOR_VERSION={SUPERVISOR_VERSION}\n\
         LED_FILE=/dev/null\n"
    );
    root.file("etc/balena-supervisor/supervisor.conf", supervisor)
}

/// The certificate authorities, time servers, the service that devices are found by, what the cloud configures (spec os §4.6.1, §4.7, §5.6.1), and the VPN's scripts (spec os §14.3). The
/// bundle is there twice, once where nothing is mounted over it; squashfs stores the content once.
fn authorities(root: &Root, from: &Ingredients<'_>) -> Result<()> {
    for place in ["etc/ssl/certs", "usr/share/ca-certificates"] {
        root.copy(&from.parts.path("ca-certificates.crt"), &format!("{place}/ca-certificates.crt"), false)?;
    }
    root.file("etc/chrony.conf", include_str!("../files/chrony.conf"))?;
    root.file("etc/avahi/services/ssh.service", include_str!("../files/ssh.service"))?;
    root.file("etc/os-config.json", include_str!("../files/os-config.json"))?;
    // The VPN's configuration names these; they stand beside /etc/openvpn, over which the device's own is mounted.
    for (name, script) in [
        ("etc/openvpn-misc/upscript.sh", include_str!("../files/upscript.sh")),
        ("etc/openvpn-misc/downscript.sh", include_str!("../files/downscript.sh")),
    ] {
        root.file(name, script)?;
        root.mode(name, 0o755)?;
    }
    Ok(())
}

fn modules(root: &Root, from: &Ingredients<'_>) -> Result<()> {
    copy_tree(&from.parts.path("root-modules/lib/modules"), root, "usr/lib/modules")?;
    root.file("etc/modules-load.d/minke.conf", format!("{}\n", from.parts.text("load-modules")?))
}

/// Copies the files and links below `from` to `place`, which is made.
pub fn copy_tree(from: &Path, root: &Root, place: &str) -> Result<()> {
    root.folder(place)?;
    for (name, path) in walk(from)? {
        let to = format!("{place}/{name}");
        let kind = fs::symlink_metadata(&path).on("looking at", &path)?.file_type();
        if kind.is_dir() {
            root.folder(&to)?;
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).on("reading the link", &path)?;
            root.link(&target.to_string_lossy(), &to)?;
        } else {
            root.copy(&path, &to, false)?;
        }
    }
    Ok(())
}

/// The user's umask must not show in the image.
fn modes(root: &Root) -> Result<()> {
    set_folder_modes(root.top())?;
    for (name, mode) in
        [("tmp", 0o1777), ("home/root", 0o700), ("home/root/.ssh", 0o700), ("etc/shadow", 0o600)]
    {
        root.mode(name, mode)?;
    }
    Ok(())
}

/// Files whose content differs from device to device, or that a bind mount covers (spec os §3.4).
fn unlisted(name: &str) -> bool {
    matches!(
        name,
        "balenaos.fingerprint"
            | "etc/hostname"
            | "etc/machine-id"
            | "home/root/.rnd"
            | "etc/balena-supervisor/supervisor.conf"
    )
}

/// MD5 list of all files below `folder` in the format of md5sum, sorted by path, each path with `prefix`.
pub fn fingerprint(folder: &Path, prefix: &str, leave_out: &dyn Fn(&str) -> bool) -> Result<String> {
    let mut names = Vec::new();
    for (name, path) in walk(folder)? {
        if !leave_out(&name) && fs::symlink_metadata(&path).on("looking at", &path)?.is_file() {
            names.push(name);
        }
    }
    names.sort();
    if names.is_empty() {
        return Ok(String::new());
    }
    let sums = Tool::new("md5sum").folder(folder).arg("--").args(&names).text()?;
    let mut text = String::new();
    for line in sums.lines() {
        let (sum, name) =
            line.split_once("  ").ok_or_else(|| Error::Invalid(format!("md5sum printed '{line}'")))?;
        text.push_str(&format!("{sum}  {prefix}{name}\n"));
    }
    Ok(text)
}

/// Which content comes first in the root image, by descending number: what stays from version to version, so that what
/// changes moves nothing but itself. Other files have 0 and come last.
const ORDER: &[(&str, i32)] = &[
    ("usr/lib/modules", 4),
    ("usr/bin/busybox", 3),
    ("usr/share/ca-certificates/ca-certificates.crt", 2),
    ("usr/bin/minke", 1),
];

/// What is compressed: files that are large and change seldom. Everything else lies open, minke most of all, so that a
/// delta between two versions sees what is new in it, and the processor need not unpack what it runs at each boot.
const COMPRESSED: &str = "name(busybox)||name(*.ko)||name(ca-certificates.crt)||name(*.gz)";

/// Packs `root` as squashfs, everything owned by root, all times the build stamp.
pub fn squash(root: &Path, to: &Path, stamp: u64) -> Result<()> {
    let stamp = stamp.to_string();
    let scratch = Scratch::new("squash")?;
    let order = scratch.join("order");
    let lines: String = ORDER.iter().map(|(name, number)| format!("{name} {number}\n")).collect();
    fs::write(&order, lines).on("writing", &order)?;
    // It takes either that variable or the options below, which say the same of a build that has it.
    Tool::new("env")
        .args(["-u", "SOURCE_DATE_EPOCH", "mksquashfs"])
        .arg(root)
        .arg(to)
        .args(["-noappend", "-all-root", "-no-xattrs", "-no-progress", "-quiet"])
        .args(["-comp", "zstd", "-Xcompression-level", "19", "-b", "262144"])
        .args(["-noI", "-noId", "-noF", "-no-fragments", "-action", &format!("uncompressed@!({COMPRESSED})")])
        .arg("-sort")
        .arg(&order)
        .args(["-mkfs-time", &stamp, "-all-time", &stamp])
        .run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_daemon_has_its_user_and_group() {
        let names = |text: &'static str| {
            text.lines().filter_map(|line| line.split(':').next()).collect::<BTreeSet<_>>()
        };
        let users = names(include_str!("../files/passwd"));
        let groups = names(include_str!("../files/group"));
        for name in
            ["network", "ntp", "dns", "mdns", "sshd", "openvpn", "redsocks", "avahi", "messagebus", "nobody"]
        {
            assert!(users.contains(name) && groups.contains(name), "{name}");
        }
        assert!(groups.contains("balena-engine") && groups.contains("wheel"));
        let numbers: Vec<&str> =
            include_str!("../files/passwd").lines().filter_map(|line| line.split(':').nth(2)).collect();
        assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), numbers.len());
    }
}
