//! Builds an image: root file system, initramfs, slot, boot files, state, data, and the disk that holds them.

use crate::arch::Arch;
use crate::balena::{self, BootChain};
use crate::boot_files;
use crate::cache::{Cache, Key, file_digest};
use crate::demo;
use crate::error::{Context, Error, Result};
use crate::filesystem::{Ext4, Role, make_fat};
use crate::hostapp::{self, HostApp, Signing};
use crate::kernel::Parts;
use crate::machine;
use crate::progress;
use crate::release::Release;
use crate::table::{Layout, SECTOR, Sizes};
use crate::tool::Tool;
use crate::tree::{Root, Scratch, walk};
use crate::units;
use minke_boot::ROOT_IMAGE;
use minke_wire::minisign;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Compiling everything for one architecture on a slow machine.
const COMPILE_LIMIT: Duration = Duration::from_secs(3600);

/// Where the root image has the public keys of releases.
const RELEASE_KEYS: &str = "usr/share/minke/release-keys";

/// Partition sizes by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayoutChoice {
    /// Small: quick to build and to boot.
    Small,
    /// The reference's sizes.
    Reference,
}

/// What goes onto the data partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preload {
    /// Nothing: the device waits for a target.
    Nothing,
    /// The demonstration application.
    Demo,
    /// A person's own image archive and `apps.json`.
    Files {
        /// Image archive (`docker save` or OCI layout in a tar).
        image: PathBuf,
        /// Target in the supervisor's format.
        apps: PathBuf,
    },
}

/// What to build.
#[derive(Debug, Clone)]
pub struct Options {
    /// Architecture.
    pub arch: Arch,
    /// Development image: console, root shell, developmentMode.
    pub development: bool,
    /// The operating system's version.
    pub version: String,
    /// `config.json` to be used instead of the default one.
    pub config: Option<PathBuf>,
    /// Data partition content.
    pub preload: Preload,
    /// Partition sizes.
    pub layout: LayoutChoice,
    /// Who selects the slot.
    pub boot_chain: BootChain,
    /// minisign public keys, named `*.pub`: a device with any takes only releases that one of them has signed.
    pub release_keys: Vec<PathBuf>,
    /// The image file; kernel and initramfs go into a folder of the same name with `.boot`.
    pub output: PathBuf,
    /// A binary to use instead of building one.
    pub minke: Option<PathBuf>,
    /// Fetch the newest packages.
    pub refresh: bool,
}

/// A built image.
#[derive(Debug, Clone)]
pub struct Built {
    /// The disk image.
    pub image: PathBuf,
    /// Kernel, initramfs, device tree for a direct start.
    pub boot: PathBuf,
}

/// The project's top folder, found from where the tool was compiled.
pub fn project() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The folder that belongs to the image file `image`.
pub fn boot_folder(image: &Path) -> PathBuf {
    let mut name = image.as_os_str().to_owned();
    name.push(".boot");
    PathBuf::from(name)
}

/// Where an image goes when nobody says: `out/minke-ARCH[-dev].img`.
pub fn default_output(arch: Arch, development: bool) -> PathBuf {
    let suffix = if development { "-dev" } else { "" };
    project().join("out").join(format!("minke-{}{suffix}.img", arch.name()))
}

/// Where a release artefact goes when nobody says: `out/minke-ARCH[-dev]-VERSION.hostapp.tar`.
pub fn default_artefact(arch: Arch, development: bool, version: &str) -> PathBuf {
    let suffix = if development { "-dev" } else { "" };
    project().join("out").join(format!("minke-{}{suffix}-{version}.hostapp.tar", arch.name()))
}

/// Builds a release artefact and returns the host application's id.
pub fn artefact(cache: &Cache, options: &Options, signing: &Signing) -> Result<String> {
    let release = options.release();
    let minke = release_binary(options)?;
    let parts = Parts::get(cache, options.arch, options.refresh)?;
    let scratch = Scratch::new("hostapp")?;
    let change = |tree: &hostapp::Tree<'_>| options.change(tree);
    let from = hostapp::Ingredients { release: &release, parts: &parts, minke: &minke, change: &change };
    let app = hostapp::build(&from, &scratch)?;
    let step = progress::step("archive");
    let archive = app.archive(&release, signing)?;
    write_whole(&options.output, &archive)?;
    let (name, size) = (options.output.display(), app.size);
    step.done(&format!("{name} ({} bytes, for {size} bytes of a slot)", archive.len()));
    Ok(app.image.id)
}

/// Writes a file beside its place and renames it, so that a build that is cut off leaves none.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).on("making", folder)?;
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    fs::write(&new, content).on("writing", &new)?;
    fs::rename(&new, path).on("renaming", &new)
}

/// Builds the image, or finds that it is there already, made from the same inputs.
pub fn build(cache: &Cache, options: &Options) -> Result<Built> {
    let release = options.release();
    let minke = release_binary(options)?;
    let parts = Parts::get(cache, options.arch, options.refresh)?;
    let built = Built { image: options.output.clone(), boot: boot_folder(&options.output) };
    let _lock = cache.lock(&format!(
        "image-{}",
        Key::new().with(options.output.as_os_str().as_encoded_bytes()).finish()
    ))?;
    let inputs = inputs_key(options, &release, &minke, &parts)?;
    let note = built.boot.join("build.json");
    if up_to_date(&note, &inputs, &built) {
        progress::step(format!("{} is up to date", built.image.display())).done("");
        return Ok(built);
    }
    if let Some(folder) = options.output.parent() {
        fs::create_dir_all(folder).on("making", folder)?;
    }
    let scratch = Scratch::new("image")?;
    let root = Root::new(&built.boot)?;
    if note.exists() {
        fs::remove_file(&note).on("removing", &note)?;
    }
    let work =
        Work { options, release: &release, minke: &minke, parts: &parts, scratch: &scratch, boot: &root };
    let id = work.run(&built.image)?;
    let digest = file_digest(&built.image)?;
    let record = json!({
        "inputs": inputs,
        "arch": options.arch.name(),
        "development": options.development,
        "hostapp": id,
        "kernel": parts.version()?,
        "sha256": digest,
    });
    root.file("build.json", format!("{record:#}\n"))?;
    Ok(built)
}

/// `SOURCE_DATE_EPOCH`, else the commit's time, else 0 (decision 9).
fn build_stamp() -> u64 {
    if let Some(stamp) = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.trim().parse().ok()) {
        return stamp;
    }
    let time = Tool::new("git").arg("-C").arg(project()).args(["log", "-1", "--format=%ct"]).text();
    time.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

impl Options {
    /// What the options say of the system.
    pub fn release(&self) -> Release {
        Release {
            arch: self.arch,
            development: self.development,
            version: self.version.clone(),
            stamp: build_stamp(),
        }
    }

    /// What the options change in what is about to be packed.
    fn change(&self, tree: &hostapp::Tree<'_>) -> Result<()> {
        if let hostapp::Tree::Root(root) = tree {
            for path in &self.release_keys {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let text = fs::read_to_string(path).on("reading", path)?;
                if !name.ends_with(".pub") || minisign::PublicKey::parse(&text).is_none() {
                    return Err(Error::Invalid(format!(
                        "{}: a minisign public key named *.pub is expected",
                        path.display()
                    )));
                }
                root.file(&format!("{RELEASE_KEYS}/{name}"), text)?;
            }
        }
        self.boot_chain.change(tree)
    }
}

/// The release binary of minke: the given one, or what `release/build` makes.
fn release_binary(options: &Options) -> Result<PathBuf> {
    if let Some(path) = &options.minke {
        return Ok(path.clone());
    }
    let step = progress::announce(format!("compile minke for {}", options.arch.name()));
    let script = project().join("release/build");
    let printed =
        Tool::new(&script.to_string_lossy()).arg(options.arch.name()).limit(COMPILE_LIMIT).text()?;
    let path = printed.lines().last().map(PathBuf::from);
    let path = path.ok_or_else(|| Error::Invalid("release/build printed no path".into()))?;
    let size = fs::metadata(&path).on("looking at", &path)?.len();
    step.done(&format!("{size} bytes"));
    Ok(path)
}

/// Everything that decides the image's bytes.
fn inputs_key(options: &Options, release: &Release, minke: &Path, parts: &Parts) -> Result<String> {
    let tool = std::env::current_exe().on("finding", Path::new("this program"))?;
    let mut key = Key::new()
        .with(file_digest(&tool)?)
        .with(file_digest(minke)?)
        .with(parts.key())
        .with(release.stamp.to_le_bytes())
        .with(&release.version);
    key = key
        .with(options.arch.name())
        .with([u8::from(options.development)])
        .with(format!("{:?} {:?}", options.layout, options.boot_chain));
    for path in &options.release_keys {
        key = key.with(path.as_os_str().as_encoded_bytes()).with(file_digest(path)?);
    }
    for (name, path) in walk(&units::folder())? {
        if path.is_file() {
            key = key.with(name).with(file_digest(&path)?);
        }
    }
    key = match &options.config {
        Some(path) => key.with(file_digest(path)?),
        None => key.with("default"),
    };
    key = match &options.preload {
        Preload::Nothing => key.with("nothing"),
        Preload::Demo => key.with("demo"),
        Preload::Files { image, apps } => key.with(file_digest(image)?).with(file_digest(apps)?),
    };
    Ok(key.finish())
}

/// An image counts when its note has the same inputs and its bytes are as they were built.
fn up_to_date(note: &Path, inputs: &str, built: &Built) -> bool {
    let text = fs::read_to_string(note).unwrap_or_default();
    let Ok(record) = serde_json::from_str::<Value>(&text) else { return false };
    let has = |key: &str, value: &str| record.get(key).and_then(Value::as_str) == Some(value);
    has("inputs", inputs) && file_digest(&built.image).is_ok_and(|digest| has("sha256", &digest))
}

/// One build under way.
struct Work<'a> {
    options: &'a Options,
    release: &'a Release,
    minke: &'a Path,
    parts: &'a Parts,
    scratch: &'a Scratch,
    boot: &'a Root,
}

impl Work<'_> {
    /// Makes everything and returns the host application's id.
    fn run(&self, image: &Path) -> Result<String> {
        let change = |tree: &hostapp::Tree<'_>| self.options.change(tree);
        let app = hostapp::build(&self.ingredients(&change), self.scratch)?;
        for name in ["vmlinuz", "initramfs", machine::SLOT_ENVIRONMENT]
            .into_iter()
            .chain(self.options.arch.device_tree())
        {
            self.boot.copy(&app.content.at(&format!("boot/{name}")), name, false)?;
        }
        self.boot.copy(&app.content.at(ROOT_IMAGE), ROOT_IMAGE, false)?;
        match self.options.boot_chain {
            BootChain::Balena => {
                self.boot.copy(&app.boot_files.at(balena::BOOTENV), balena::BOOTENV, false)?;
            }
            // The folder may be that of an image of the other kind.
            BootChain::Usual => drop(fs::remove_file(self.boot.at(balena::BOOTENV))),
        }
        self.firmware()?;

        let step = progress::step("file systems and disk");
        let id = app.image.id.clone();
        self.slot(&app)?;
        let layout = Layout::new(self.options.arch.table(), &self.sizes());
        // The identifiers differ from image to image, and are the same whenever the same image is built.
        let seed = format!("{id} {}", self.options.development);
        let new = image.with_extension("new");
        let disk = Disk::create(&new, &layout, &seed)?;
        self.slots(&disk, &seed)?;
        self.boot_partition(&disk, &seed, &app.boot_files)?;
        self.storage(&disk, &seed)?;
        fs::rename(&new, image).on("renaming", &new)?;
        let slot = layout.find("resin-rootA")?.sectors.saturating_mul(SECTOR) >> 20;
        let taken = app.size.div_ceil(1 << 20);
        step.done(&format!(
            "{} ({} MiB; {taken} of a slot's {slot} MiB are taken)",
            image.display(),
            layout.size >> 20
        ));
        Ok(id)
    }

    fn ingredients<'b>(&'b self, change: hostapp::Change<'b>) -> hostapp::Ingredients<'b> {
        hostapp::Ingredients { release: self.release, parts: self.parts, minke: self.minke, change }
    }

    /// What QEMU needs for the whole boot chain: U-Boot in the form that the machine takes. (UEFI comes with QEMU.)
    fn firmware(&self) -> Result<()> {
        let to = self.boot.at(machine::U_BOOT);
        let flavour = match self.options.arch {
            Arch::X86_64 => return Ok(()),
            Arch::Armv6 => {
                // In this form QEMU hands U-Boot the device tree, as the Pi's firmware does.
                return Tool::new("mkimage")
                    .env("SOURCE_DATE_EPOCH", self.release.stamp.to_string())
                    .args([
                        "-A", "arm", "-O", "linux", "-T", "kernel", "-C", "none", "-a", "0x8000", "-e",
                        "0x8000", "-d",
                    ])
                    .arg(self.parts.path("u-boot.bin"))
                    .arg(to)
                    .run();
            }
            Arch::Armv7 => "qemu_arm",
            Arch::Aarch64 => "qemu_arm64",
        };
        let binary = PathBuf::from(format!("/usr/lib/u-boot/{flavour}/u-boot.bin"));
        self.boot.copy(&binary, machine::U_BOOT, false)?;
        let environment = self.boot.at(machine::U_BOOT_ENVIRONMENT);
        boot_files::make_environment(&binary, "virtio0", machine::U_BOOT_FIRST, "0x40000", &environment)?;
        // A flash bank of the virt machine.
        File::options()
            .write(true)
            .open(&environment)
            .and_then(|file| file.set_len(64 << 20))
            .on("sizing", &environment)
    }

    fn sizes(&self) -> Sizes {
        let pi = self.options.arch == Arch::Armv6;
        match self.options.layout {
            LayoutChoice::Small => Sizes::small(pi),
            LayoutChoice::Reference if pi => Sizes::reference_pi(),
            LayoutChoice::Reference => Sizes::reference(false),
        }
    }

    /// Fills the slot's content (contract: `hostapps/<id>` with `boot/` and the root image, `/current`, `/boot`).
    fn slot(&self, app: &HostApp) -> Result<()> {
        let slot = Root::new(&self.scratch.join("slot"))?;
        for name in ["dev", "proc", "sys", "run", "tmp", "sbin", "mnt/state", "etc", "hostapps"] {
            slot.folder(name)?;
        }
        slot.file("etc/machine-id", "")?;
        slot.file("counter", "1\n")?;
        let id = &app.image.id;
        slot.link(&format!("hostapps/{id}"), "current")?;
        slot.link("current/boot", "boot")?;
        let place = slot.at(&format!("hostapps/{id}"));
        fs::rename(app.content.top(), &place).on("moving to", &place)
    }

    fn slots(&self, disk: &Disk<'_>, seed: &str) -> Result<()> {
        let empty = Root::new(&self.scratch.join("empty"))?;
        let slot = self.scratch.join("slot");
        for (label, content) in [("resin-rootA", slot.as_path()), ("resin-rootB", empty.top())] {
            self.ext4(disk, label, Role::Slot, content, seed)?;
        }
        Ok(())
    }

    fn boot_partition(&self, disk: &Disk<'_>, seed: &str, files: &Root) -> Result<()> {
        let config = boot_files::config_json(
            self.options.arch,
            self.options.development,
            self.options.config.as_deref(),
        )?;
        files.file("config.json", config)?;
        let file = self.scratch.join("fat");
        let fat32 = self.options.arch == Arch::Armv6;
        let partition = disk.layout.find("resin-boot")?;
        make_fat(&file, partition, files.top(), seed, fat32, self.release.stamp)?;
        disk.put("resin-boot", &file)
    }

    /// The state partition is empty (the first boot fills it); the data partition has the flag that keeps its content
    /// (spec os §3.6), and what is preloaded.
    fn storage(&self, disk: &Disk<'_>, seed: &str) -> Result<()> {
        let empty = self.scratch.join("empty");
        self.ext4(disk, "resin-state", Role::Storage, &empty, seed)?;
        let data = Root::new(&self.scratch.join("data"))?;
        data.file("remove_me_to_reset", "DO NOT REMOVE THIS FILE\n")?;
        match &self.options.preload {
            Preload::Nothing => {}
            Preload::Demo => {
                let image = demo::image(self.options.arch, self.parts, self.release.stamp)?;
                data.file("preload/demo.tar", &image)?;
                data.file("apps.json", format!("{:#}\n", demo::apps()))?;
            }
            Preload::Files { image, apps } => {
                data.copy(image, "preload/image.tar", false)?;
                data.copy(apps, "apps.json", false)?;
            }
        }
        self.ext4(disk, "resin-data", Role::Storage, data.top(), seed)
    }

    fn ext4(&self, disk: &Disk<'_>, label: &str, role: Role, content: &Path, seed: &str) -> Result<()> {
        let file = self.scratch.join("ext4");
        let partition = disk.layout.find(label)?;
        Ext4 { role, partition, seed, content, stamp: self.release.stamp }.make(&file)?;
        disk.put(label, &file)
    }
}

/// The image file that is being written.
struct Disk<'a> {
    file: File,
    path: &'a Path,
    layout: &'a Layout,
}

impl<'a> Disk<'a> {
    fn create(path: &'a Path, layout: &'a Layout, seed: &str) -> Result<Disk<'a>> {
        let file = File::create(path).on("making", path)?;
        file.set_len(layout.size).on("sizing", path)?;
        for (at, bytes) in layout.table_bytes(seed) {
            file.write_all_at(&bytes, at).on("writing", path)?;
        }
        Ok(Disk { file, path, layout })
    }

    /// Copies a file system into its partition; blocks of zeros stay holes.
    fn put(&self, label: &str, from: &Path) -> Result<()> {
        let partition = self.layout.find(label)?;
        let source = File::open(from).on("opening", from)?;
        let size = source.metadata().on("looking at", from)?.len();
        let mut buffer = vec![0; 1 << 16];
        let mut at = 0;
        while at < size {
            let length = source.read_at(&mut buffer, at).on("reading", from)?;
            let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
            if bytes.iter().any(|byte| *byte != 0) {
                let place = partition.start.saturating_mul(SECTOR).saturating_add(at);
                self.file.write_all_at(bytes, place).on("writing", self.path)?;
            }
            at = at.saturating_add(length as u64);
        }
        Ok(())
    }
}
