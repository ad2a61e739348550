//! The initramfs: minke as `/init`, the modules that the root device needs, a static e2fsck. Two cpio archives in the "newc"
//! form, one after the other (Linux Documentation/driver-api/early-userspace/buffer-format.rst): one compressed with zstd,
//! of what changes seldom, and one of minke alone as it is, so that a delta finds in it the program of the root image.

use crate::error::{Context, Error, Result};
use crate::hostapp::{Change, Tree};
use crate::kernel::Parts;
use crate::tool::Tool;
use crate::tree::{Root, Scratch, walk};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// File type bits of `st_mode`.
const S_IFCHR: u32 = 0o020_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

/// The program.
const INIT: &str = "init";

/// Folders that stage 1 finds.
const FOLDERS: &[&str] = &["dev", "proc", "sys", "run", "tmp", "root", "sysroot", "etc/minke", "sbin", "lib"];

/// Builds the archives for this release binary.
pub fn build(minke: &Path, parts: &Parts, stamp: u64, change: Change<'_>) -> Result<Vec<u8>> {
    let scratch = Scratch::new("initramfs")?;
    let root = Root::new(scratch.path())?;
    for folder in FOLDERS {
        root.folder(folder)?;
    }
    root.copy(minke, INIT, true)?;
    root.link("/init", "sbin/modprobe")?;
    root.copy(&parts.path("e2fsck"), "sbin/e2fsck", true)?;
    root.file("etc/minke/modules", format!("{}\n", parts.text("boot-modules")?))?;
    crate::rootfs::copy_tree(&parts.path("initramfs-modules/lib"), &root, "lib")?;
    change(&Tree::Initramfs(&root))?;
    let rest = pack(root.top(), stamp, &|name| name != INIT)?;
    let mut bytes = Tool::new("zstd").args(["-q", "-19", "-T1", "--no-check", "-c"]).input(rest).bytes()?;
    // The kernel looks for an archive that is not compressed at multiples of four bytes, past zeros.
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(pack(root.top(), stamp, &|name| name == INIT)?);
    Ok(bytes)
}

/// A cpio archive of what `wanted` takes below `folder`; with folders also the console and null devices that a kernel
/// wants before devtmpfs is mounted.
fn pack(folder: &Path, stamp: u64, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<u8>> {
    let mut archive = Archive { bytes: Vec::new(), inode: 0, stamp };
    for (name, path) in walk(folder)? {
        if !wanted(&name) {
            continue;
        }
        let data = fs::symlink_metadata(&path).on("looking at", &path)?;
        let executable = data.permissions().mode() & 0o100 != 0;
        if data.is_dir() {
            archive.add(&name, S_IFDIR | 0o755, (0, 0), &[])?;
        } else if data.is_symlink() {
            let target = fs::read_link(&path).on("reading the link", &path)?;
            archive.add(&name, S_IFLNK | 0o777, (0, 0), target.to_string_lossy().as_bytes())?;
        } else {
            let content = fs::read(&path).on("reading", &path)?;
            archive.add(&name, S_IFREG | if executable { 0o755 } else { 0o644 }, (0, 0), &content)?;
        }
    }
    if wanted("dev") {
        archive.add("dev/console", S_IFCHR | 0o600, (5, 1), &[])?;
        archive.add("dev/null", S_IFCHR | 0o666, (1, 3), &[])?;
    }
    archive.add("TRAILER!!!", 0, (0, 0), &[])?;
    Ok(archive.bytes)
}

struct Archive {
    bytes: Vec<u8>,
    inode: u32,
    stamp: u64,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) -> Result<()> {
        let too_large = |_| Error::Invalid(format!("{name} is too large for an initramfs"));
        let length = u32::try_from(content.len()).map_err(too_large)?;
        let name_length = u32::try_from(name.len()).map_err(too_large)?.saturating_add(1);
        self.inode = self.inode.saturating_add(1);
        let links = if mode & S_IFDIR == S_IFDIR { 2 } else { 1 };
        let stamp = u32::try_from(self.stamp).unwrap_or(u32::MAX);
        let fields = [self.inode, mode, 0, 0, links, stamp, length, 0, 0, device.0, device.1, name_length, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
        Ok(())
    }

    /// Name and content each end on a multiple of four bytes.
    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn cpio_unpacks_what_we_pack() {
        let scratch = Scratch::new("cpio").unwrap();
        let root = Root::new(&scratch.join("from")).unwrap();
        root.file("a/text", "odd").unwrap();
        root.file("program", "12345").unwrap();
        root.mode("program", 0o755).unwrap();
        root.link("a/text", "link").unwrap();
        let archive = pack(root.top(), 1_700_000_000, &|_| true).unwrap();
        assert_eq!(archive.len() % 4, 0);
        let listed = Tool::new("cpio").args(["-itv", "--quiet"]).input(archive.clone()).text().unwrap();
        assert!(listed.contains("crw-------"), "{listed}");
        assert!(listed.contains("5,   1"), "{listed}");
        let to = Root::new(&scratch.join("to")).unwrap();
        // Device nodes need root, so they are left out.
        Tool::new("cpio")
            .args(["-id", "--quiet", "a*", "program", "link"])
            .folder(to.top())
            .input(archive)
            .run()
            .unwrap();
        assert_eq!(fs::read_to_string(to.at("a/text")).unwrap(), "odd");
        assert_eq!(fs::read_link(to.at("link")).unwrap().to_string_lossy(), "a/text");
        assert_eq!(fs::metadata(to.at("program")).unwrap().permissions().mode() & 0o777, 0o755);
    }
}
