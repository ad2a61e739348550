//! Kernel, modules, certificate authorities and the other files from Debian's packages: the selection that an image needs, cached as one folder.

use crate::arch::Arch;
use crate::cache::{Cache, Key};
use crate::error::{Context, Error, Result};
use crate::fetch::Archive;
use crate::progress;
use crate::tool::Tool;
use crate::tree::{Root, Scratch, walk};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Raised when the selection's form changes, so that old cache entries are not used.
const FORM: &str = "parts 4";

/// Module folder entries that are worth shipping (the binary indices serve only kmod's own tools).
const INDICES: [&str; 4] = ["modules.dep", "modules.alias", "modules.softdep", "modules.builtin"];

/// The files from Debian that an image of one architecture is made of.
#[derive(Debug)]
pub struct Parts {
    folder: PathBuf,
}

impl Parts {
    /// Takes the selection from the cache, or fetches and selects.
    pub fn get(cache: &Cache, arch: Arch, refresh: bool) -> Result<Parts> {
        let step = progress::step("kernel, modules, BusyBox, e2fsck, CA certificates");
        let mut names = vec![arch.kernel_package()];
        names.extend(arch.packages());
        let archive_lock = cache.lock(&format!("apt-{}", arch.debian()))?;
        let packages = Archive::open(cache, arch)?.packages(&names, refresh)?;
        drop(archive_lock);
        let mut key = Key::new().with(FORM).with(arch.name());
        for package in &packages {
            key = key.with(&package.sha256);
        }
        let initramfs = arch.boot_modules().iter().chain(arch.optional_boot_modules());
        for name in initramfs.chain(&arch.root_modules()).chain(arch.load_modules()) {
            key = key.with(name);
        }
        let key = key.finish();
        let folder = cache.entry("parts", key.get(..32).unwrap_or(&key), |folder| {
            let scratch = Scratch::new("unpack")?;
            let mut list = String::new();
            for package in &packages {
                package.unpack(scratch.path())?;
                list.push_str(&format!("{} {} {}\n", package.name, package.version, package.sha256));
            }
            let root = Root::new(folder)?;
            root.file("packages", list)?;
            select(arch, scratch.path(), &root)
        })?;
        let parts = Parts { folder };
        step.done(&parts.version()?);
        Ok(parts)
    }

    /// A file or folder of the selection.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The kernel's release name, as `uname -r` prints it.
    pub fn version(&self) -> Result<String> {
        self.text("version")
    }

    /// The content of a small text file of the selection, trimmed.
    pub fn text(&self, name: &str) -> Result<String> {
        let path = self.path(name);
        Ok(fs::read_to_string(&path).on("reading", &path)?.trim().to_owned())
    }

    /// The names of the selection's key, for keys of what is built from it.
    pub fn key(&self) -> String {
        self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Copies what images need out of the unpacked packages.
fn select(arch: Arch, from: &Path, to: &Root) -> Result<()> {
    let version = kernel_version(from)?;
    to.file("version", format!("{version}\n"))?;
    to.copy(&from.join(format!("boot/vmlinuz-{version}")), "vmlinuz", false)?;
    to.copy(&first_of(from, &["bin/busybox", "usr/bin/busybox"])?, "busybox", true)?;
    to.copy(&first_of(from, &["sbin/e2fsck.static", "usr/sbin/e2fsck.static"])?, "e2fsck", true)?;
    to.file("ca-certificates.crt", authorities(&from.join("usr/share/ca-certificates/mozilla"))?)?;
    if let Some(name) = arch.device_tree() {
        to.copy(&from.join(format!("usr/lib/linux-image-{version}/{name}")), name, false)?;
    }
    if arch == Arch::Armv6 {
        to.copy(&from.join("usr/lib/u-boot/rpi/u-boot.bin"), "u-boot.bin", false)?;
    }
    Tool::new("depmod").arg("-b").arg(from).arg(&version).run()?;
    let mut modules = Modules::read(&from.join("lib/modules").join(&version))?;
    modules.unsigned = !arch.has_secure_boot();
    let boot = modules.closure(&[arch.boot_modules(), arch.optional_boot_modules()].concat());
    let mut root_names = arch.root_modules();
    root_names.extend(arch.boot_modules());
    root_names.extend(arch.load_modules());
    let root = modules.closure(&root_names);
    modules.copy(&boot, to, "initramfs-modules", &version)?;
    modules.copy(&root, to, "root-modules", &version)?;
    to.file("boot-modules", modules.loadable(arch.boot_modules()))?;
    to.file("load-modules", modules.loadable(arch.load_modules()))
}

/// The bundle that `update-ca-certificates` makes of Debian's files: one after the other, by name.
fn authorities(folder: &Path) -> Result<String> {
    let mut bundle = String::new();
    let mut files = walk(folder)?;
    files.sort();
    for (name, path) in files {
        if name.ends_with(".crt") {
            bundle.push_str(fs::read_to_string(&path).on("reading", &path)?.trim_end());
            bundle.push('\n');
        }
    }
    let found = bundle.matches("-----BEGIN CERTIFICATE-----").count();
    if found < 50 {
        return Err(Error::Invalid(format!(
            "{} has {found} certificates, which are too few",
            folder.display()
        )));
    }
    Ok(bundle)
}

fn kernel_version(from: &Path) -> Result<String> {
    let names = walk(&from.join("boot"))?;
    let version = names.iter().find_map(|(name, _)| name.strip_prefix("vmlinuz-").map(str::to_owned));
    version.ok_or_else(|| Error::Invalid("the kernel package holds no kernel".into()))
}

fn first_of(from: &Path, names: &[&str]) -> Result<PathBuf> {
    let found = names.iter().map(|name| from.join(name)).find(|path| path.exists());
    found.ok_or_else(|| Error::Invalid(format!("the packages hold none of {}", names.join(", "))))
}

/// The module tree of one kernel: which module lies where and what it needs.
#[derive(Debug, Default)]
struct Modules {
    folder: PathBuf,
    /// Name to (path below the folder, paths that it needs).
    by_name: BTreeMap<String, (String, Vec<String>)>,
    /// Name to names that are loaded before or after it.
    soft: BTreeMap<String, Vec<String>>,
    /// Copies lose their signatures.
    unsigned: bool,
}

impl Modules {
    fn read(folder: &Path) -> Result<Modules> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).on("reading", &path)
        };
        let mut modules = Modules::parse(&read("modules.dep")?, &read("modules.softdep")?);
        modules.folder = folder.to_path_buf();
        Ok(modules)
    }

    /// Reads `modules.dep` (`PATH: PATH...`) and `modules.softdep` (`softdep NAME pre: NAME... post: NAME...`).
    fn parse(dep: &str, softdep: &str) -> Modules {
        let mut modules = Modules::default();
        for line in dep.lines() {
            if let Some((path, needs)) = line.split_once(':') {
                let needs = needs.split_whitespace().map(str::to_owned).collect();
                modules.by_name.insert(module_name(path), (path.to_owned(), needs));
            }
        }
        for line in softdep.lines() {
            let mut words = line.split_whitespace().skip(1);
            if let Some(name) = words.next() {
                let others = words.filter(|word| !word.ends_with(':')).map(plain_name);
                modules.soft.entry(plain_name(name)).or_default().extend(others);
            }
        }
        modules
    }

    /// Paths of the named modules and of everything that they need. A name that the kernel has built in, or has not at
    /// all, adds nothing: the lists serve four kernels.
    fn closure(&self, names: &[&str]) -> BTreeSet<String> {
        let mut paths = BTreeSet::new();
        let mut open: Vec<String> = names.iter().map(|name| plain_name(name)).collect();
        while let Some(name) = open.pop() {
            let Some((path, needs)) = self.by_name.get(&name) else { continue };
            if paths.insert(path.clone()) {
                open.extend(needs.iter().map(|path| module_name(path)));
                open.extend(self.soft.get(&name).into_iter().flatten().cloned());
            }
        }
        paths
    }

    /// Those of `names` that are modules of this kernel, one a line.
    fn loadable(&self, names: &[&str]) -> String {
        let known = names.iter().map(|name| plain_name(name)).filter(|name| self.by_name.contains_key(name));
        known.fold(String::new(), |text, name| text + &name + "\n")
    }

    fn copy(&self, paths: &BTreeSet<String>, to: &Root, folder: &str, version: &str) -> Result<()> {
        let below = format!("{folder}/lib/modules/{version}");
        for path in paths {
            let (from, target) = (self.folder.join(path), format!("{below}/{path}"));
            if self.unsigned {
                let module = fs::read(&from).on("reading", &from)?;
                to.file(&target, without_signature(&module))?;
            } else {
                to.copy(&from, &target, false)?;
            }
        }
        to.copy(&self.folder.join("modules.builtin"), &format!("{below}/modules.builtin"), false)?;
        to.file(&format!("{below}/modules.order"), "")?;
        Tool::new("depmod").arg("-b").arg(to.at(folder)).arg(version).run()?;
        for (name, path) in walk(&to.at(&below))? {
            if name.starts_with("modules.") && !INDICES.contains(&name.as_str()) {
                fs::remove_file(&path).on("removing", &path)?;
            }
        }
        Ok(())
    }
}

/// A module without the signature that the kernel's build has appended (linux/module_signature.h): its bytes, a
/// structure of 12 bytes whose last four are the signature's length, and a mark.
fn without_signature(module: &[u8]) -> &[u8] {
    const MARK: &[u8] = b"~Module signature appended~\n";
    const STRUCTURE: usize = 12;
    let stripped = module.strip_suffix(MARK).and_then(|rest| {
        let (rest, length) = rest.split_last_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        rest.get(..rest.len().checked_sub(STRUCTURE - 4)?.checked_sub(length)?)
    });
    stripped.unwrap_or(module)
}

/// The kernel treats dash and underscore alike and shows the underscore.
fn plain_name(name: &str) -> String {
    name.replace('-', "_")
}

fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    plain_name(file.split(".ko").next().unwrap_or(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_cut_off() {
        let mut module = b"\x7fELF code".to_vec();
        let plain = module.clone();
        assert_eq!(without_signature(&module), plain);
        module.extend([7; 300]);
        module.extend([0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 44]);
        module.extend(b"~Module signature appended~\n");
        assert_eq!(without_signature(&module), plain);
        // A length that cannot be leaves the file alone.
        let broken = [&[0xFF; 12][..], b"~Module signature appended~\n"].concat();
        assert_eq!(without_signature(&broken), broken);
    }

    #[test]
    fn closure_follows_hard_and_soft_needs() {
        let dep = "kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/lib/crc16.ko\nkernel/fs/jbd2/jbd2.ko:\n\
                   kernel/lib/crc16.ko:\nkernel/crypto/crc32c_generic.ko.xz:\nkernel/net/virtio-net.ko:\n";
        let modules = Modules::parse(dep, "# comment\nsoftdep ext4 pre: crc32c-generic missing\n");
        let found: Vec<String> = modules.closure(&["ext4", "nothing"]).into_iter().collect();
        assert_eq!(
            found,
            [
                "kernel/crypto/crc32c_generic.ko.xz",
                "kernel/fs/ext4/ext4.ko",
                "kernel/fs/jbd2/jbd2.ko",
                "kernel/lib/crc16.ko"
            ]
        );
        assert_eq!(modules.loadable(&["virtio-net", "vfat"]), "virtio_net\n");
    }
}
