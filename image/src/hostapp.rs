//! The host application: what a slot holds, and the OCI image in which it travels (decision 5).
//!
//! A slot has `boot/` with kernel, initramfs, device tree and the slot's own kernel arguments, the root image
//! `rootfs.squashfs`, and its hash tree `rootfs.verity`. The image has these in one layer. Its configuration's digest is the
//! host application's id.
//!
//! Besides, the layer has what the reference's `hostapp-update` and stage 1 look for in a host application (spec os §1.6,
//! §1.7, §15.2), where it is the root of an overlay or of a container: minke as `sbin/init` and, by a hard link, as
//! `boot/init`, which is called with `-sysroot`; the hook runner's names, and the boot files that its hooks deploy, as not
//! every kernel there reads squashfs; mount points. Our own updater leaves these out.

use crate::boot_files;
use crate::error::{Context, Error, Result};
use crate::initramfs;
use crate::kernel::Parts;
use crate::oci::{Compression, Image};
use crate::progress;
use crate::release::Release;
use crate::rootfs;
use crate::tar::Tar;
use crate::tree::{Root, Scratch, walk};
use crate::units;
use crate::verity;
use minke_boot::{HASH_TREE, ROOT_IMAGE};
use minke_oci::hostapp::{
    ANNOTATION_SIGNATURE, LABEL_BOOT_FILES, LABEL_CLASS, LABEL_OS_RELEASE, LABEL_SIZE, LABEL_VERSION,
};
use minke_wire::minisign;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Labels of all host applications, also of those that travel as a delta (spec os §15).
pub const LABELS: &[(&str, &str)] =
    &[(LABEL_CLASS, "hostapp"), ("io.balena.image.requires-reboot", "1"), ("io.balena.image.store", "root")];

/// A slot's block, in bytes.
const BLOCK: u64 = 4096;

/// Mount points of an overlay or container that the layer is.
const FOREIGN_FOLDERS: &[&str] = &[
    "dev",
    "etc",
    "etc/hostapp-update-hooks.d",
    "mnt",
    "mnt/boot",
    "mnt/data",
    "mnt/state",
    "mnt/sysroot",
    "mnt/sysroot/active",
    "mnt/sysroot/inactive",
    "proc",
    "run",
    "sys",
    "tmp",
    "usr",
    "usr/bin",
];

/// Names of minke in such a root.
const FOREIGN_LINKS: &[&str] = &["usr/bin/hostapp-update-hooks", "usr/bin/hostapp-update-hooks-v2"];

/// minke in a reference slot's `/boot`, to which that slot's `/sbin/init` is a link.
const FOREIGN_INIT: &str = "boot/init";

/// What a host application is made of.
pub struct Ingredients<'a> {
    /// Architecture, version, build stamp.
    pub release: &'a Release,
    /// Kernel, modules, BusyBox.
    pub parts: &'a Parts,
    /// The release binary of minke.
    pub minke: &'a Path,
    /// What is to be changed before something is packed; tests make faulty systems with it.
    pub change: Change<'a>,
}

/// Changes something that is about to be packed.
pub type Change<'a> = &'a dyn Fn(&Tree<'_>) -> Result<()>;

/// The usual [`Change`].
pub const UNCHANGED: Change<'static> = &|_| Ok(());

/// Folders that are filled and then packed, in the order in which they are.
#[derive(Debug)]
pub enum Tree<'a> {
    /// The initramfs.
    Initramfs(&'a Root),
    /// Files of the boot partition, and of the root image's `/resin-boot`.
    BootFiles(&'a Root),
    /// The root image.
    Root(&'a Root),
    /// What a slot holds: `boot/` and the root image with its hash tree.
    Slot(&'a Root),
}

/// A host application that was built in a scratch folder.
#[derive(Debug)]
pub struct HostApp {
    /// What a slot holds below `hostapps/<id>`.
    pub content: Root,
    /// Files of the boot partition, without `config.json`.
    pub boot_files: Root,
    /// The image in which it travels.
    pub image: Image,
    /// Bytes that it takes in a slot.
    pub size: u64,
}

/// Builds it below `scratch`.
pub fn build(from: &Ingredients<'_>, scratch: &Scratch) -> Result<HostApp> {
    let Release { arch, stamp, .. } = *from.release;
    let content = Root::new(&scratch.join("hostapp"))?;
    let step = progress::step("initramfs");
    let initramfs = initramfs::build(from.minke, from.parts, stamp, from.change)?;
    step.done(&kib(initramfs.len() as u64));
    content.file("boot/initramfs", &initramfs)?;
    content.copy(&from.parts.path("vmlinuz"), "boot/vmlinuz", false)?;
    if let Some(name) = arch.device_tree() {
        content.copy(&from.parts.path(name), &format!("boot/{name}"), false)?;
    }

    let step = progress::step("boot files");
    let boot_files = Root::new(&scratch.join("resin-boot"))?;
    boot_files::make(&boot_files, from.release, from.parts)?;
    (from.change)(&Tree::BootFiles(&boot_files))?;
    step.done("");

    let step = progress::step("root image");
    let root = Root::new(&scratch.join("root"))?;
    let ingredients = rootfs::Ingredients {
        release: from.release,
        parts: from.parts,
        minke: from.minke,
        units: &units::folder(),
        boot_files: boot_files.top(),
    };
    rootfs::fill(&root, &ingredients)?;
    (from.change)(&Tree::Root(&root))?;
    let squashfs = content.at(ROOT_IMAGE);
    rootfs::squash(root.top(), &squashfs, stamp)?;
    let tree = content.at(HASH_TREE);
    let root_hash = verity::format(&squashfs, &tree)?;
    for (name, bytes) in boot_files::slot_arguments(arch, &format!("roothash={root_hash}"))? {
        content.file(&format!("boot/{name}"), bytes)?;
    }
    for name in [ROOT_IMAGE, HASH_TREE] {
        content.mode(name, 0o644)?;
    }
    step.done(&format!("{}, hash tree {}", kib(size(&squashfs)?), kib(size(&tree)?)));

    (from.change)(&Tree::Slot(&content))?;
    let mut labels = labels(from.release);
    let size = size_in_slot(&content)?;
    labels.insert(LABEL_SIZE.into(), size.to_string().into());
    labels.insert(LABEL_BOOT_FILES.into(), listed(&boot_files)?.into());
    let image = Image::new(layer(&content, &boot_files, from)?, arch, &json!({ "Labels": labels }), stamp);
    Ok(HostApp { content, boot_files, image, size })
}

/// The image's one layer.
fn layer(content: &Root, boot_files: &Root, from: &Ingredients<'_>) -> Result<Vec<u8>> {
    let mut tar = Tar::new(from.release.stamp);
    tar.tree(content.top())?;
    for folder in FOREIGN_FOLDERS {
        tar.folder(folder)?;
    }
    tar.file("etc/os-release", 0o644, from.release.os_release().as_bytes())?;
    tar.folder("resin-boot")?;
    tar.tree_below("resin-boot", boot_files.top())?;
    tar.folder("sbin")?;
    tar.file("sbin/init", 0o755, &fs::read(from.minke).on("reading", from.minke)?)?;
    tar.hard_link(FOREIGN_INIT, "sbin/init")?;
    for link in FOREIGN_LINKS {
        tar.link(link, "../../sbin/init")?;
    }
    Ok(tar.finish())
}

/// The boot files, for a device that wants to know before the download whether it has room for them.
fn listed(boot_files: &Root) -> Result<String> {
    let mut list = String::new();
    for line in rootfs::fingerprint(boot_files.top(), "", &|name| name == "balenaos.fingerprint")?.lines() {
        let (sum, name) = line.split_once("  ").unwrap_or_default();
        list.push_str(&format!("{sum} {} {name}\n", size(&boot_files.at(name))?));
    }
    Ok(list)
}

/// The bytes of the blocks that the content takes.
fn size_in_slot(content: &Root) -> Result<u64> {
    let mut bytes = 0u64;
    for (_, path) in walk(content.top())? {
        let data = fs::symlink_metadata(&path).on("looking at", &path)?;
        let size = if data.is_dir() { BLOCK } else { data.len().next_multiple_of(BLOCK) };
        bytes = bytes.saturating_add(size);
    }
    Ok(bytes)
}

fn labels(release: &Release) -> Map<String, Value> {
    let mut labels: Map<String, Value> =
        LABELS.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    labels.insert(LABEL_VERSION.into(), release.version.as_str().into());
    for (key, value) in release.os_release_lines() {
        labels.insert(format!("{LABEL_OS_RELEASE}{key}"), value.into());
    }
    labels
}

/// Whether a member of the image's layer belongs into a slot of ours; the others are for systems that start a host
/// application as an overlay.
pub fn is_slot_content(name: &str) -> bool {
    let kept = name == "boot" || name.starts_with("boot/") || name.starts_with("rootfs.");
    kept && name != FOREIGN_INIT
}

/// An image's name for people. A tag has no plus sign.
pub fn tag(slug: &str, version: &str) -> String {
    format!("minke/hostapp-{slug}:{}", version.replace('+', "_"))
}

/// Who vouches for a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signing {
    /// Nobody.
    Unsigned,
    /// Sign with this minisign secret key, which has no password (`minisign -G -W`).
    Key(PathBuf),
    /// A signature of the configuration that was made elsewhere.
    Made(PathBuf),
}

impl Signing {
    /// The manifest's annotation with the signature of this image's configuration.
    pub fn annotations(&self, image: &Image, comment: &str) -> Result<Vec<(&'static str, String)>> {
        let (path, _scratch) = match self {
            Signing::Unsigned => return Ok(Vec::new()),
            Signing::Made(path) => (path.clone(), None),
            Signing::Key(key) => {
                let scratch = Scratch::new("sign")?;
                let (blob, signature) = (scratch.join(&image.id), scratch.join("signature"));
                fs::write(&blob, &image.config).on("writing", &blob)?;
                // The usual comment has the time in it; this one is the same each time.
                crate::tool::Tool::new("minisign")
                    .args(["-S", "-W", "-c", "minke release", "-t", comment, "-s"])
                    .arg(key)
                    .arg("-m")
                    .arg(&blob)
                    .arg("-x")
                    .arg(&signature)
                    .run()?;
                (signature, Some(scratch))
            }
        };
        let text = fs::read_to_string(&path).on("reading", &path)?;
        if minisign::Signature::parse(&text).is_none() {
            return Err(Error::Invalid(format!("{} is no minisign signature", path.display())));
        }
        Ok(vec![(ANNOTATION_SIGNATURE, text)])
    }
}

impl HostApp {
    /// The archive in which it travels.
    pub fn archive(&self, release: &Release, signing: &Signing) -> Result<Vec<u8>> {
        let slug = release.arch.device_type();
        let annotations = signing.annotations(&self.image, &format!("{slug} {}", release.version))?;
        self.image.archive(&tag(slug, &release.version), Compression::Gzip, &annotations)
    }
}

/// A file's size in bytes.
pub fn size(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).on("looking at", path)?.len())
}

/// A size for people.
pub fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}
