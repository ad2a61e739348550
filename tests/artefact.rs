//! Release artefacts for the tests: versions that work, and systems that fail in one way each. All are built by the image
//! tool's library from the same binary, and kept in the cache.

// A test's helper fails the test that calls it.
#![allow(clippy::panic, clippy::unwrap_used)]

use crate::{parts, project, release, run, text};
use minke_image::arch::Arch;
use minke_image::cache::{Cache, Key, file_digest};
use minke_image::error::Result;
use minke_image::hostapp::{self, Ingredients, Signing, Tree};
use minke_image::release::Release;
use minke_image::tree::{Root, Scratch, walk};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is wrong with a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Its kernel finds no program to start, and panics.
    Kernel,
    /// Its root image has no `/sbin/init`.
    Init,
    /// The hash tree of its root image is damaged: no block is what the kernel expects.
    Corrupt,
    /// Its engine ends at once.
    Engine,
    /// Its network manager ends at once.
    Network,
    /// A health check of its own fails.
    Health,
    /// Its first process stands still, once the watchdog is up.
    Hang,
    /// A hook of its own fails, after its boot files were put in place and before its slot is selected.
    Hook,
    /// It has no initramfs.
    NoInitramfs,
    /// Its initramfs ends in the middle.
    CutInitramfs,
}

const FAULTS: [Fault; 11] = [
    Fault::None,
    Fault::Kernel,
    Fault::Init,
    Fault::Corrupt,
    Fault::Engine,
    Fault::Network,
    Fault::Health,
    Fault::Hang,
    Fault::Hook,
    Fault::NoInitramfs,
    Fault::CutInitramfs,
];

/// The archive of a development release. Those of one version and fault are the same file.
pub fn archive(arch: Arch, version: &str, fault: Fault) -> PathBuf {
    signed(arch, version, fault, &Signing::Unsigned)
}

/// As [`archive`], with a signature.
pub fn signed(arch: Arch, version: &str, fault: Fault, signing: &Signing) -> PathBuf {
    let minke = release(arch.name());
    let cache = Cache::open().unwrap();
    let parts = parts(arch);
    let number = FAULTS.iter().position(|known| *known == fault).unwrap_or_default();
    let mut key = Key::new().with(file_digest(&minke).unwrap()).with(parts.key()).with(version);
    key = key.with([number as u8]).with(include_str!("artefact.rs"));
    for (name, path) in walk(&project().join("image")).unwrap() {
        if path.is_file() {
            key = key.with(name).with(fs::read(&path).unwrap());
        }
    }
    if let Signing::Key(path) = signing {
        key = key.with(fs::read(path).unwrap());
    }
    let key = key.finish();
    let folder = cache.entry("hostapps", key.get(..32).unwrap_or(&key), |folder| {
        let release = Release { arch, development: true, version: version.to_owned(), stamp: 1_700_000_000 };
        let change = |tree: &Tree<'_>| spoil(fault, tree);
        let scratch = Scratch::new("hostapp")?;
        let from = Ingredients { release: &release, parts: &parts, minke: &minke, change: &change };
        let app = hostapp::build(&from, &scratch)?;
        Root::new(folder)?.file("hostapp.tar", app.archive(&release, signing)?)
    });
    folder.unwrap_or_else(|error| panic!("{error}")).join("hostapp.tar")
}

const UNITS: &str = "usr/lib/systemd/system";

/// Puts the fault in.
fn spoil(fault: Fault, tree: &Tree<'_>) -> Result<()> {
    let ends = |root: &Root, unit: &str| {
        root.file(
            &format!("{UNITS}/{unit}.service.d/fault.conf"),
            "[Service]\nExecStart=\nExecStart=/bin/false\n",
        )
    };
    match (fault, tree) {
        (Fault::Kernel, Tree::Slot(slot)) => arguments(slot, "rdinit=/none init=/none"),
        (Fault::Init, Tree::Root(root)) => {
            fs::remove_file(root.at("usr/sbin/init")).unwrap();
            Ok(())
        }
        (Fault::Corrupt, Tree::Slot(slot)) => {
            // The root of the tree, which stands behind its superblock: no block of the image is what it says.
            let mut tree = fs::read(slot.at("rootfs.verity")).unwrap();
            tree.get_mut(4096..8192).unwrap().fill(0x5A);
            slot.file("rootfs.verity", tree)
        }
        (Fault::Engine, Tree::Root(root)) => ends(root, "balena"),
        (Fault::Network, Tree::Root(root)) => ends(root, "NetworkManager"),
        (Fault::Hang, Tree::Root(root)) => {
            let path = "usr/lib/hang";
            let script = "#!/bin/sh\nmodprobe softdog\n\
                          until ls -l /proc/1/fd | grep -q watchdog0; do systemctl restart fake-hwclock-update; sleep 1; done\n\
                          echo 1 > /sys/fs/cgroup/init.scope/cgroup.freeze\n";
            root.file(path, script)?;
            root.mode(path, 0o755)?;
            let unit = "[Service]\nExecStart=\nExecStart=/usr/lib/hang\n";
            root.file(&format!("{UNITS}/balena.service.d/fault.conf"), unit)
        }
        (Fault::Health, Tree::Root(root)) => {
            let path = "etc/rollback-health.d/never";
            root.file(path, "#!/bin/sh\necho 'this system is never well'\nexit 1\n")?;
            root.mode(path, 0o755)
        }
        (Fault::Hook, Tree::Root(root)) => {
            let path = "etc/hostapp-update-hooks.d/85-fails";
            root.file(path, "#!/bin/sh\necho 'this hook always fails'\nexit 1\n")?;
            root.mode(path, 0o755)
        }
        (Fault::NoInitramfs, Tree::Slot(slot)) => {
            fs::remove_file(slot.at("boot/initramfs")).unwrap();
            Ok(())
        }
        (Fault::CutInitramfs, Tree::Slot(slot)) => {
            let mut initramfs = fs::read(slot.at("boot/initramfs")).unwrap();
            initramfs.truncate(initramfs.len() / 2);
            slot.file("boot/initramfs", initramfs)
        }
        _ => Ok(()),
    }
}

/// Adds kernel arguments to a slot's.
fn arguments(slot: &Root, more: &str) -> Result<()> {
    let path = slot.at("boot/slot.env");
    let before = fs::read_to_string(&path).unwrap_or_default();
    let before = before.trim_end();
    let before = if before.is_empty() { "slot_arguments=" } else { before };
    let line = format!("{before} {more}\n");
    slot.file("boot/slot.env", &line)?;
    if slot.has("boot/slot.grubenv") {
        let mut block = format!("# GRUB Environment Block\n{line}").into_bytes();
        block.resize(1024, b'#');
        slot.file("boot/slot.grubenv", block)?;
    }
    Ok(())
}

/// The id of an archive's host app: the digest of its configuration.
pub fn id(archive: &Path) -> String {
    let index = member(archive, "index.json");
    let manifest = blob(archive, index.pointer("/manifests/0/digest"));
    let config = manifest.pointer("/config/digest").and_then(serde_json::Value::as_str).unwrap();
    config.trim_start_matches("sha256:").to_owned()
}

/// Unpacks the files that a slot gets from an archive: all but what is for other systems.
pub fn unpack(archive: &Path, folder: &Path) {
    let index = member(archive, "index.json");
    let manifest = blob(archive, index.pointer("/manifests/0/digest"));
    let digest = manifest.pointer("/layers/0/digest").and_then(serde_json::Value::as_str).unwrap();
    let script = "tar -xOf \"$1\" \"blobs/$2\" | tar -xz -C \"$3\"";
    let digest = digest.replace(':', "/");
    fs::create_dir_all(folder).unwrap();
    run(Command::new("sh").args(["-ec", script, "sh"]).arg(archive).arg(digest).arg(folder));
    for (name, path) in walk(folder).unwrap() {
        if !hostapp::is_slot_content(&name) && !path.is_dir() {
            fs::remove_file(path).unwrap();
        }
    }
}

/// The digests of what a slot gets from an archive, by path.
pub fn contents(archive: &Path) -> BTreeMap<String, String> {
    let scratch = Scratch::new("contents").unwrap();
    unpack(archive, scratch.path());
    let files = walk(scratch.path()).unwrap().into_iter().filter(|(_, path)| path.is_file());
    files.map(|(name, path)| (name, file_digest(&path).unwrap())).collect()
}

fn blob(archive: &Path, digest: Option<&serde_json::Value>) -> serde_json::Value {
    let digest = digest.and_then(serde_json::Value::as_str).unwrap();
    member(archive, &format!("blobs/{}", digest.replace(':', "/")))
}

fn member(archive: &Path, name: &str) -> serde_json::Value {
    let text = text(&run(Command::new("tar").arg("-xOf").arg(archive).arg(name)));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name} of {}: {error}", archive.display()))
}
