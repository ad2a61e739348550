//! Release artefacts and deltas beside the tools that others read them with: tar, skopeo, minisign, veritysetup.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use minke_image::arch::Arch;
use minke_image::balena::BootChain;
use minke_image::build::{self, LayoutChoice, Options, Preload};
use minke_image::cache::{Cache, digests};
use minke_image::delta;
use minke_image::hostapp::Signing;
use minke_image::oci::Archive;
use minke_image::tar;
use minke_image::tool::Tool;
use minke_image::tree::{Root, Scratch};
use minke_oci::Platform;
use minke_oci::hostapp::{self, Source, Step, Task, Watch};
use serde_json::Value;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A program of some size that answers what the builder asks minke; `change` is what a new version has else.
fn program(scratch: &Scratch, change: &str) -> PathBuf {
    let path = scratch.join(&format!("minke-{change}"));
    let mut text = "#!/bin/sh\n[ \"$1\" = --list ] && echo minke && echo init\nexit 0\n".to_owned();
    for number in 0..20_000u64 {
        let noise = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        text.push_str(&format!("# {number} {noise:x}\n"));
        if number == 9_000 {
            text.push_str(&format!("# {change}\n"));
        }
    }
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The builder runs the program, so it is one for this machine.
fn here() -> Arch {
    Arch::ALL.into_iter().find(|arch| arch.name() == std::env::consts::ARCH).unwrap()
}

fn artefact(minke: &Path, version: &str, signing: &Signing, keys: &[PathBuf], output: &Path) -> String {
    let options = Options {
        arch: here(),
        development: false,
        version: version.to_owned(),
        config: None,
        preload: Preload::Nothing,
        layout: LayoutChoice::Small,
        boot_chain: BootChain::Usual,
        release_keys: keys.to_vec(),
        output: output.to_path_buf(),
        minke: Some(minke.to_path_buf()),
        refresh: false,
    };
    build::artefact(&Cache::open().unwrap(), &options, signing).unwrap()
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn artefacts_and_their_delta() {
    let scratch = Scratch::new("artefact").unwrap();
    let (old, new) = (program(&scratch, "one"), program(&scratch, "another, longer"));
    let path = |name: &str| scratch.join(name);
    let (key, public) = (path("key"), path("key.pub"));
    Tool::new("minisign").args(["-G", "-W", "-p"]).arg(&public).arg("-s").arg(&key).run().unwrap();
    let (signing, keys) = (Signing::Key(key), [public.clone()]);

    let base = artefact(&old, "8.0.2", &Signing::Unsigned, &[], &path("base"));
    let target = artefact(&new, "8.0.3+rev1", &signing, &keys, &path("target"));
    assert_eq!(artefact(&new, "8.0.3+rev1", &signing, &keys, &path("again")), target);
    assert!(
        fs::read(path("target")).unwrap() == fs::read(path("again")).unwrap(),
        "not the same bytes again"
    );
    whole(&scratch, &path("target"), &target, &public);

    let (from, to) = (Archive::read(&path("base")).unwrap(), Archive::read(&path("target")).unwrap());
    assert_eq!((&from.id, &to.id), (&base, &target));
    let made = delta::make(&from, &to).unwrap();
    let archive = made.archive(&signing).unwrap();
    assert!(
        archive == delta::make(&from, &to).unwrap().archive(&signing).unwrap(),
        "not the same delta again"
    );
    // Kernel and modules stay, so a delta is a small part of the whole.
    assert!(archive.len() * 50 < to.bytes.0, "{} of {}", archive.len(), to.bytes.0);
    fs::write(path("delta"), &archive).unwrap();
    leads_there(&from, &to, &path("delta"));
    devices_install_it(&path("base"), &path("target"), &path("delta"), &public);
    assert!(delta::make(&to, &to).is_err());
}

/// What other tools see of a full image.
fn whole(scratch: &Scratch, file: &Path, id: &str, public: &Path) {
    let listed = Tool::new("tar").arg("-tf").arg(file).text().unwrap();
    let names: Vec<&str> = listed.lines().filter(|name| !name.ends_with('/')).collect();
    assert_eq!(&names[..3], ["oci-layout", "index.json", "manifest.json"]);
    assert_eq!((names.len(), names[4]), (6, format!("blobs/sha256/{id}").as_str()));

    let place = format!("oci-archive:{}", file.display());
    let seen = json(&Tool::new("skopeo").args(["inspect", &place]).bytes().unwrap());
    assert_eq!(seen["Labels"]["io.balena.image.class"], "hostapp");
    assert_eq!(seen["Labels"]["io.balena.os-release.VERSION"], "8.0.3+rev1");
    assert_eq!(seen["Labels"]["io.balena.os-release.SLUG"], here().device_type());
    let boot_files = seen["Labels"]["io.minke.boot.files"].as_str().unwrap();
    assert!(boot_files.lines().any(|line| line.ends_with(" os-release")), "{boot_files}");
    // Through a folder and back, with every digest checked on the way; and as docker reads it.
    let folder = Root::new(&scratch.join("folder")).unwrap();
    let copied = format!("dir:{}", folder.top().display());
    Tool::new("skopeo").args(["copy", "-q", "--insecure-policy", &place, &copied]).run().unwrap();
    let manifest = json(&fs::read(folder.at("manifest.json")).unwrap());
    assert_eq!(manifest["config"]["digest"], format!("sha256:{id}"));
    let signature = manifest["annotations"]["io.minke.signature"].as_str().unwrap();
    let other = Root::new(&scratch.join("docker")).unwrap();
    let from = format!("docker-archive:{}", file.display());
    let to = format!("dir:{}", other.top().display());
    Tool::new("skopeo").args(["copy", "-q", "--insecure-policy", &from, &to]).run().unwrap();
    assert!(fs::read(other.at(id)).unwrap() == fs::read(folder.at(id)).unwrap(), "another configuration");

    let written = scratch.join("signature");
    fs::write(&written, signature).unwrap();
    let verify = |blob: &Path| {
        Tool::new("minisign")
            .args(["-V", "-q", "-p"])
            .arg(public)
            .arg("-x")
            .arg(&written)
            .arg("-m")
            .arg(blob)
            .run()
    };
    verify(&folder.at(id)).unwrap();
    assert!(verify(&folder.at("manifest.json")).is_err());

    let out = Root::new(&scratch.join("out")).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().replace("sha256:", "");
    Tool::new("tar").arg("-xzf").arg(folder.at(&layer)).folder(out.top()).run().unwrap();
    let arguments = fs::read_to_string(out.at("boot/slot.env")).unwrap();
    let hash = arguments.trim().strip_prefix("slot_arguments=roothash=").unwrap();
    let parts = [out.at("rootfs.squashfs"), out.at("rootfs.verity")];
    Tool::new("veritysetup").arg("verify").args(&parts).arg(hash).run().unwrap();
    let packed = ["-cat"].into_iter().map(Into::into).chain([out.at("rootfs.squashfs").into_os_string()]);
    let key = "usr/share/minke/release-keys/key.pub";
    let found = Tool::new("unsquashfs").args(packed).arg(key).bytes().unwrap();
    assert!(found == fs::read(public).unwrap());
    // What the reference's updater and stage 1 start.
    for name in ["boot/init", "sbin/init", "usr/bin/hostapp-update-hooks-v2"] {
        let text = fs::read(out.at(name)).unwrap();
        assert!(text.starts_with(b"#!/bin/sh"), "{name}");
    }
    let text = |name: &str| fs::read_to_string(out.at(name)).unwrap();
    assert_eq!(text("etc/os-release"), text("resin-boot/os-release"));
    if here() == Arch::X86_64 {
        let listed = Tool::new("grub-editenv").arg(out.at("boot/slot.grubenv")).arg("list").text().unwrap();
        assert_eq!(listed, arguments);
    }
}

/// Takes whatever comes.
struct Willing;

impl Watch for Willing {
    fn accept(&mut self, release: &hostapp::Release) -> Result<(), String> {
        assert_eq!(release.os_release("SLUG"), here().device_type());
        assert!(release.size().unwrap() > 1 << 20);
        Ok(())
    }

    fn progress(&mut self, _: Step) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// The device's own code makes the same slot of the full image and of the delta.
fn devices_install_it(base: &Path, target: &Path, delta: &Path, public: &Path) {
    let scratch = Scratch::new("slots").unwrap();
    let install = |archive: &Path, running: Option<&Path>, keys: &[hostapp::PublicKey]| {
        let new = scratch.join(".new");
        let task = Task { base: running, target: &new, keys, platform: &Platform::host() };
        let installed = hostapp::install(Source::Archive(archive), &task, &mut Willing);
        installed.map(|installed| {
            let size: u64 = installed.files.iter().map(|file| file.size).sum();
            assert!(size <= installed.release.size().unwrap());
            let place = scratch.join(&format!("{}-{}", installed.release.id, running.is_some()));
            fs::rename(&new, &place).unwrap();
            (installed.release.id, place)
        })
    };
    let keys = [hostapp::PublicKey::parse(&fs::read_to_string(public).unwrap()).unwrap()];
    assert!(install(base, None, &keys).is_err(), "unsigned");
    let (id, place) = install(base, None, &[]).unwrap();
    let running = scratch.join(&id);
    fs::rename(place, &running).unwrap();
    let (full, whole) = install(target, None, &keys).unwrap();
    let (same, made) = install(delta, Some(&running), &keys).unwrap();
    assert_eq!(full, same);
    let content = |folder: &Path| digests(folder).unwrap();
    assert_eq!(content(&whole), content(&made));
    let names: Vec<String> = content(&made).into_keys().collect();
    assert!(names.iter().all(|name| name.starts_with("boot/") || name.starts_with("rootfs.")), "{names:?}");
    assert!(names.contains(&"boot/slot.env".to_owned()) && !names.contains(&"boot/init".to_owned()));
}

/// Makes the target's files from the base's as `delta.json` says, independently of who wrote it.
fn leads_there(from: &Archive, to: &Archive, file: &Path) {
    let archive = Archive::read(file).unwrap();
    assert_eq!(archive.labels["io.minke.delta.base"], from.id);
    assert_eq!(archive.labels["io.minke.delta.target"], to.id);
    assert_eq!(archive.labels["io.balena.os-release.VERSION"], "8.0.3+rev1");
    assert_eq!(archive.labels["io.minke.boot.files"], to.labels["io.minke.boot.files"]);
    assert_eq!(archive.members["config.json"].content, to.config);
    let plan = json(&archive.members["delta.json"].content);
    let mut made: Vec<(String, Vec<u8>)> = Vec::new();
    let mut kinds = Vec::new();
    for file in plan["files"].as_array().unwrap() {
        let text = |key: &str| file[key].as_str().unwrap_or_default();
        let mut old = Vec::new();
        for name in file["from"].as_array().unwrap() {
            let name = name.as_str().unwrap();
            match name.strip_prefix("new/") {
                Some(name) => old.extend(&made.iter().find(|(path, _)| path == name).unwrap().1),
                None => old.extend(&from.members[name].content),
            }
        }
        let content = match text("kind") {
            "same" => old,
            "whole" => archive.members[text("member")].content.clone(),
            _ => delta::apply(&archive.members[text("member")].content, &old).unwrap(),
        };
        assert!(content == to.members[text("path")].content, "{}", text("path"));
        kinds.push(format!("{} {}", text("path"), text("kind")));
        made.push((text("path").to_owned(), content));
    }
    assert_eq!(kinds[0], "rootfs.squashfs delta");
    assert!(kinds.contains(&"boot/vmlinuz same".to_owned()), "{kinds:?}");
    assert!(kinds.contains(&"boot/initramfs delta".to_owned()), "{kinds:?}");
    let slot = to.members.iter().filter(|(name, member)| {
        member.kind == tar::Kind::File && (name.starts_with("boot/") || name.starts_with("rootfs."))
    });
    assert_eq!(made.len(), slot.count());
    assert_eq!(plan["folders"], serde_json::json!(["boot"]));
}
