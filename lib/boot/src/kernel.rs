//! A kernel of its own that an application brought (spec os §15.8.4, §15.10.4): `bootenv` names it and, for each slot, the
//! last one that was found well. Only the kexec chain knows such kernels.

use crate::chain::{self, Chain};
use crate::{Selection, Slot};
use minke_sys::{Context, Result, file};
use minke_wire::bootenv::{self, Format};
use std::io::Write as _;
use std::path::Path;

const OVERRIDE: &str = "kernel_override_abi";
/// The kernel's argument by which the boot loader tells which one runs.
const RUNS: &str = "balena_kernel_abi=";

/// The variable with the last kernel that was well with the system in `slot`.
fn committed(slot: Slot) -> &'static str {
    match slot {
        Slot::A => "kernel_override_abi_committed_A",
        Slot::B => "kernel_override_abi_committed_B",
    }
}

/// The system in `slot` is well: so is the kernel that runs. `false`: another one was to run.
pub fn commit(boot: &Path, slot: Slot) -> Result<bool> {
    commit_by(boot, slot, &file::text("/proc/cmdline"))
}

fn commit_by(boot: &Path, slot: Slot, cmdline: &str) -> Result<bool> {
    let Some((content, wanted)) = wanted(boot)? else { return Ok(true) };
    let runs = cmdline.split_ascii_whitespace().find_map(|word| word.strip_prefix(RUNS));
    if runs != Some(wanted.as_str()) {
        return Ok(false);
    }
    set(boot, &content, committed(slot), &wanted).map(|()| true)
}

/// The system in `slot` starts next, and so does its kernel. What is given up is written down at `audit`.
pub fn restore(boot: &Path, slot: Slot, audit: &Path) -> Result<()> {
    let Some((content, given_up)) = wanted(boot)? else { return Ok(()) };
    let value = bootenv::get(Format::Block, &content, committed(slot)).unwrap_or_default().to_owned();
    if value == given_up {
        return Ok(());
    }
    set(boot, &content, OVERRIDE, &value)?;
    let time = minke_sys::clock::realtime().as_secs();
    let line = format!("{time} {given_up} -> {}\n", if value.is_empty() { "the slot's own" } else { &value });
    let mut file = file::open(audit, file::APPEND)?;
    file.write_all(line.as_bytes()).on("write", audit)?;
    file.sync_all().on("fsync", audit)
}

/// The content of `bootenv` and the kernel it names, if this device has such things.
fn wanted(boot: &Path) -> Result<Option<(Vec<u8>, String)>> {
    let content = chain::read(&Chain::BalenaBootloader.path(boot))?;
    let wanted = bootenv::get(Format::Block, &content, OVERRIDE).unwrap_or_default().to_owned();
    Ok((!wanted.is_empty()).then_some((content, wanted)))
}

/// Sets a variable, with the selection before it, so that it stays in the first sector.
fn set(boot: &Path, content: &[u8], name: &str, value: &str) -> Result<()> {
    let chain = Chain::BalenaBootloader;
    let selection: Selection = chain.read(boot)?;
    let [root, upgrade, count] = chain.record(&selection);
    let new = bootenv::set(Format::Block, content, &[root, upgrade, count, (name, value)]);
    if new == content {
        return Ok(());
    }
    crate::place::overwrite(&chain.path(boot), content, &new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_kept_with_its_slot_and_given_up_with_it() {
        let boot = std::env::temp_dir().join(format!("minke-kernel-{}", std::process::id()));
        std::fs::create_dir_all(&boot).unwrap();
        let (path, audit) = (boot.join("bootenv"), boot.join("audit"));
        let get = |name: &str| {
            let content = std::fs::read(&path).unwrap();
            bootenv::get(Format::Block, &content, name).unwrap_or_default().to_owned()
        };
        assert!(commit_by(&boot, Slot::A, "").unwrap(), "a device without such kernels");
        restore(&boot, Slot::A, &audit).unwrap();
        assert!(!path.exists());
        Chain::BalenaBootloader.select(&boot, Slot::B, true).unwrap();
        let content = std::fs::read(&path).unwrap();
        set(&boot, &content, OVERRIDE, "new").unwrap();
        assert!(!commit_by(&boot, Slot::B, "ro balena_kernel_abi=other").unwrap());
        assert!(commit_by(&boot, Slot::B, "ro balena_kernel_abi=new").unwrap());
        assert_eq!(get("kernel_override_abi_committed_B"), "new");
        restore(&boot, Slot::B, &audit).unwrap();
        assert!(!audit.exists());
        restore(&boot, Slot::A, &audit).unwrap();
        assert_eq!(get(OVERRIDE), "");
        assert!(std::fs::read_to_string(&audit).unwrap().ends_with(" new -> the slot's own\n"));
        let selection = Chain::BalenaBootloader.read(&boot).unwrap();
        assert!(selection.root == Slot::B && selection.upgrade_available);
        std::fs::remove_dir_all(boot).unwrap();
    }
}
