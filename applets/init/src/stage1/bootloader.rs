//! The "balena bootloader" (spec os §2.1.4, §15.8): this kernel was started with `balena_stage2` to choose a slot by
//! `bootenv` on the boot partition, and starts that slot's kernel by kexec.

use super::root::Devices;
use super::{check, system};
use crate::cmdline::Cmdline;
use crate::log;
use crate::why::Why;
use minke_boot::{Chain, Slot, place, rule};
use minke_sys::mount::{self, Flags};
use minke_sys::process::{Ending, end_system};
use minke_sys::{Errno, Error, Result as Done, file, kexec, status};
use minke_wire::bootenv::{self, Format};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

const BOOT: &str = "/sysroot/boot";
const SLOT: &str = "/sysroot/slot";
const DATA: &str = "/sysroot/data";

/// Names of a kernel in a slot: ours, then those of reference systems.
const KERNELS: [&str; 4] = ["vmlinuz", "bzImage", "Image", "zImage"];
/// Arguments of this kernel that are not the next one's.
const OWN: [&str; 10] = [
    "balena_stage2",
    "root",
    "maxcpus",
    "nr_cpus",
    "balena_kernel_abi",
    "roothash",
    super::verity::TRIAL,
    "minke.chain",
    "initrd",
    "BOOT_IMAGE",
];
const OVERRIDE: &str = "kernel_override_abi";
/// Partitions of a disk come at the same time, though not in one event.
const PARTITIONS_WAIT: Duration = Duration::from_secs(5);
/// Bytes of a file with arguments.
const LIMIT: usize = 64 << 10;

/// What `bootenv` decides.
struct Choice {
    /// The slot to start, and the one for when it has no kernel that can be started.
    slots: [Slot; 2],
    /// The starts that were counted, while the slot is on trial.
    count: Option<u32>,
    content: Vec<u8>,
}

/// Chooses and starts. It returns only when neither slot can be started.
pub fn run(cmdline: &Cmdline) -> Result<Infallible, Why> {
    let mut devices = Devices::watch_boot(cmdline)?;
    devices.wait_for_boot()?;
    let choice = choose(&devices)?;
    let slots =
        |devices: &Devices| devices.labelled("rootA").is_some() && devices.labelled("rootB").is_some();
    devices.wait(PARTITIONS_WAIT, &slots);
    for slot in choice.slots {
        let trial = choice.count.filter(|_| choice.slots.first() == Some(&slot));
        match load(&devices, slot, &choice, cmdline, trial) {
            Ok(()) => {
                file::sync_all();
                end_system(Ending::Kexec)?;
            }
            Err(error) => log::alarm(format_args!("{} is not started: {error}", slot.label())),
        }
    }
    Err(Why("neither slot has a kernel that can be started".into()))
}

/// Reads the selection and counts. A count that cannot be kept would let a broken system start for ever, so the other
/// slot is started then.
fn choose(devices: &Devices) -> Result<Choice, Why> {
    let boot = Path::new(BOOT);
    let found = devices.root().ok_or_else(|| devices.missing())?;
    file::make_folder(boot, 0o755)?;
    let source = found.device.path.to_string_lossy();
    let mounted = mount::mount(&source, boot, "vfat", Flags::RDONLY, "");
    if let Err(error) = mounted {
        log::line(log::ERROR, format_args!("there is no {BOOT}/bootenv: {error}"));
        return Ok(Choice { slots: [Slot::A, Slot::B], count: None, content: Vec::new() });
    }
    let chain = Chain::BalenaBootloader;
    let selection = chain.read(boot).unwrap_or_default();
    let (mut slot, next) = rule::next(selection);
    let mut content = file::read_bounded(&chain.path(boot), LIMIT).unwrap_or_default();
    if next != selection {
        let stored = mount::remount(boot, Flags::empty(), "").and_then(|()| chain.write(boot, &next));
        if let Err(error) = &stored {
            log::alarm(format_args!("the start of {} is not counted: {error}", slot.label()));
            slot = selection.root.other();
        }
    }
    if slot != selection.root {
        content = file::read_bounded(&chain.path(boot), LIMIT).unwrap_or(content);
        if let Some(new) = with_committed_kernel(&content, slot) {
            let writable = mount::remount(boot, Flags::empty(), "");
            let stored = writable.and_then(|()| place::overwrite(&chain.path(boot), &content, &new));
            log::failure(log::ERROR, stored);
            content = new;
        }
    }
    log::failure(log::WARNING, mount::unmount(boot));
    let trial = next.upgrade_available && slot == selection.root;
    let (upgrade, count) = (u8::from(next.upgrade_available), next.bootcount);
    log::line(
        log::INFO,
        format_args!("bootenv starts {} (upgrade_available={upgrade} bootcount={count})", slot.label()),
    );
    Ok(Choice { slots: [slot, slot.other()], count: trial.then_some(count), content })
}

/// `bootenv` for the slot that stands in: the kernel of its own that the selected system brought goes with that system;
/// the other slot's was committed under its name (spec os §15.8.4). `None`: it says so already.
fn with_committed_kernel(content: &[u8], slot: Slot) -> Option<Vec<u8>> {
    let get = |name| bootenv::get(Format::Block, content, name).unwrap_or_default();
    let committed = get(committed(slot));
    // The selection stays in the first sector, so that one write changes it whole.
    let names = ["resin_root_part", "upgrade_available", "bootcount"];
    let [root, upgrade, count] = names.map(|name| (name, get(name)));
    let values = [root, upgrade, count, (OVERRIDE, committed)];
    (get(OVERRIDE) != committed).then(|| bootenv::set(Format::Block, content, &values))
}

fn committed(slot: Slot) -> &'static str {
    match slot {
        Slot::A => "kernel_override_abi_committed_A",
        Slot::B => "kernel_override_abi_committed_B",
    }
}

/// Loads a slot's kernel. Nothing stays mounted.
fn load(
    devices: &Devices,
    slot: Slot,
    choice: &Choice,
    cmdline: &Cmdline,
    trial: Option<u32>,
) -> Result<(), Why> {
    let name = slot.label().strip_prefix("resin-").unwrap_or_default();
    let Some(found) = devices.labelled(name) else { return Err(Why::missing("partition", slot.label())) };
    let place = Path::new(SLOT);
    file::make_folder(place, 0o755)?;
    let source = found.device.path.to_string_lossy();
    let mount = || mount::mount(&source, place, "ext4", Flags::RDONLY, "");
    if mount().is_err() {
        check::repair(found);
        mount()?;
    }
    let folder = system::current(place).join("boot");
    let get = |name| bootenv::get(Format::Block, &choice.content, name).unwrap_or_default();
    let mut arguments = match found.uuid() {
        Some(uuid) => format!("root=UUID={uuid} minke.chain=bootenv"),
        None => return Err(Why::missing("UUID on", slot.label())),
    };
    if let Some(count) = trial {
        arguments.push_str(&format!(" {}={count}", super::verity::TRIAL));
    }
    add(&mut arguments, &slot_arguments(&folder));
    firmware_path(&mut arguments, get("extra_os_firmware_class_path"));
    cmdline.append(&mut arguments, &OWN);
    add(&mut arguments, get("extra_os_cmdline"));
    // Started in place of the selected one, it gets the kernel that was committed under its name.
    let abi = if choice.slots.first() == Some(&slot) { OVERRIDE } else { committed(slot) };
    let initramfs = folder.join("initramfs");
    let initramfs = status::exists(&initramfs).then_some(initramfs.as_path());
    let mut done = Ok(());
    if !with_override(devices, get(abi), initramfs, &arguments) {
        done = start(&kernel_in(&folder), initramfs, &arguments);
    }
    log::failure(log::WARNING, mount::unmount(place));
    Ok(done?)
}

fn start(kernel: &Path, initramfs: Option<&Path>, arguments: &str) -> Done<()> {
    log::line(log::INFO, format_args!("{} with {arguments}", kernel.display()));
    kexec::load(kernel, initramfs, arguments)
}

/// Loads the kernel `/mnt/data/boot-by-abi/ABI/…`. `false`: there is none to be loaded.
fn with_override(devices: &Devices, abi: &str, initramfs: Option<&Path>, arguments: &str) -> bool {
    // It is a folder's name and an argument.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
    if abi.is_empty() {
        return false;
    }
    let mut result = Err(Error::new("load kernel", abi, Errno::INVAL));
    if abi.bytes().all(plain) && !abi.starts_with('.') {
        result = override_kernel(devices, abi, initramfs, arguments);
        let _ = mount::unmount(Path::new(DATA));
    }
    if let Err(error) = &result {
        log::line(log::WARNING, format_args!("the kernel of {OVERRIDE} is not started: {error}"));
    }
    result.is_ok()
}

fn override_kernel(devices: &Devices, abi: &str, initramfs: Option<&Path>, arguments: &str) -> Done<()> {
    let Some(data) = devices.labelled("data") else {
        return Err(Error::new("find", "the partition resin-data", Errno::NOENT));
    };
    let place = Path::new(DATA);
    file::make_folder(place, 0o755)?;
    mount::mount(&data.device.path.to_string_lossy(), place, "ext4", Flags::RDONLY | Flags::NOATIME, "")?;
    let kernel = kernel_in(&place.join("boot-by-abi").join(abi));
    start(&kernel, initramfs, &format!("{arguments} balena_kernel_abi={abi}"))
}

fn kernel_in(folder: &Path) -> PathBuf {
    let mut paths = KERNELS.iter().map(|name| folder.join(name));
    paths.find(|path| status::exists(path)).unwrap_or_else(|| folder.join("vmlinuz"))
}

/// What this version of the system wants besides: `slot_arguments=` in the slot's `slot.env`.
fn slot_arguments(folder: &Path) -> String {
    let content = file::read_bounded(&folder.join("slot.env"), LIMIT).unwrap_or_default();
    bootenv::get(Format::Text, &content, "slot_arguments").unwrap_or_default().to_owned()
}

/// `firmware_class.path=` for the kernel, from a value with or without that name. Only an absolute path is taken: other
/// characters could become arguments (spec os §2.3, module 81).
fn firmware_path(arguments: &mut String, value: &str) {
    const NAME: &str = "firmware_class.path=";
    let path = value.strip_prefix(NAME).unwrap_or(value);
    if path.is_empty() {
        return;
    }
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"'=\\".contains(&byte);
    if path.starts_with('/') && path.bytes().all(plain) {
        add(arguments, &format!("{NAME}{path}"));
    } else {
        log::line(log::WARNING, format_args!("extra_os_firmware_class_path is no absolute path"));
    }
}

fn add(arguments: &mut String, more: &str) {
    let more = more.trim();
    if !more.is_empty() {
        arguments.push(' ');
        arguments.push_str(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_path_becomes_an_argument() {
        for (value, expected) in [
            ("/lib/more", "a firmware_class.path=/lib/more"),
            ("firmware_class.path=/lib/more", "a firmware_class.path=/lib/more"),
            ("", "a"),
            ("lib/more", "a"),
            ("/lib more", "a"),
            ("/lib\" init=/bin/sh", "a"),
            ("/a=b", "a"),
            ("/a\\b", "a"),
            ("/ä", "a"),
        ] {
            let mut arguments = "a".to_owned();
            firmware_path(&mut arguments, value);
            assert_eq!(arguments, expected, "{value}");
        }
    }

    #[test]
    fn the_other_slot_gets_its_own_kernel_back_beside_the_selection() {
        let values = [
            ("kernel_override_abi_committed_A", "old"),
            ("user", "x"),
            ("resin_root_part", "B"),
            ("upgrade_available", "1"),
            ("bootcount", "4"),
            (OVERRIDE, "new"),
        ];
        let before = bootenv::set(Format::Block, b"", &values);
        let after = with_committed_kernel(&before, Slot::A).unwrap();
        let get = |content: &[u8], name| bootenv::get(Format::Block, content, name).map(str::to_owned);
        for (name, value) in values {
            let expected = if name == OVERRIDE { "old" } else { value };
            assert_eq!(get(&after, name).as_deref(), Some(expected), "{name}");
        }
        // The first sector has all that belongs together.
        assert_eq!(get(&after[..512], OVERRIDE).as_deref(), Some("old"));
        assert_eq!(before[512..], after[512..]);
        // Nothing was committed for the other: no kernel of its own.
        let none = with_committed_kernel(&after, Slot::B).unwrap();
        assert_eq!(get(&none, OVERRIDE).as_deref(), Some(""));
        assert_eq!(with_committed_kernel(&none, Slot::B), None);
    }
}
