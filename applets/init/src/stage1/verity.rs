//! The root image behind dm-verity: the kernel checks each block that it reads against a tree of hashes, whose root
//! stands in the boot arguments (Documentation/admin-guide/device-mapper/verity.rst).

use crate::cmdline::Cmdline;
use crate::log;
use crate::modules::Modules;
use crate::why::Why;
use minke_boot::HASH_TREE;
use minke_sys::dm::{self, Target};
use minke_sys::{file, mount};
use minke_wire::verity::Superblock;
use std::path::{Path, PathBuf};

/// The mapped device's name.
const NAME: &str = "rootfs";
/// What the boot loader passes while it counts the starts of a new system.
pub const TRIAL: &str = "minke.trial";

/// Makes the device that checks what is read from `data`, which shows the file `image`. `None`: the kernel has no
/// dm-verity, so the image is mounted as it is. An error is for the boot to fail: wrong arguments, no tree.
///
/// A wrong block reads as an error (`EIO`). In a trial it restarts the machine at once, which the boot loader counts, so
/// that the old system comes back soon; without a trial that would be a device that restarts for ever.
pub fn map(data: &Path, image: &Path, root_hash: &str, cmdline: &Cmdline) -> Result<Option<PathBuf>, Why> {
    let modules = Modules::open();
    // The processor's own way to compute it; the kernel has a plain one built in.
    let _ = modules.load("crypto-sha256", "");
    let _ = modules.load("dm_verity", "");
    if !minke_sys::status::exists("/sys/module/dm_verity") {
        log::line(log::WARNING, format_args!("the kernel has no dm-verity: the root image is not checked"));
        return Ok(None);
    }
    let path = image.with_file_name(HASH_TREE);
    let mut head = Vec::new();
    // One read brings 4096 bytes, and the file is not shorter.
    if let Ok(tree) = file::open_to_read(&path) {
        let _ = file::read_some(&tree, &mut head);
    }
    let wrong = || Why(format!("{} is no hash tree, or roothash={root_hash} no hash", path.display()).into());
    let superblock = Superblock::parse(&head).ok_or_else(wrong)?;
    let (tree, handle) = mount::attach_loop(&path)?;
    let option = if cmdline.has(TRIAL) { "restart_on_corruption" } else { "" };
    let (data, tree) = (data.to_string_lossy(), tree.to_string_lossy());
    let table = superblock.table(&data, &tree, root_hash, option).ok_or_else(wrong)?;
    let target = Target { kind: "verity", sectors: superblock.sectors(), parameters: &table };
    let mapped = dm::create(NAME, &target)?;
    drop(handle);
    log::line(log::INFO, format_args!("dm-verity checks the root image; its root hash is {root_hash}"));
    Ok(Some(mapped))
}
