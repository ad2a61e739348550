//! The boot partition's files: boot loader, slot selection, configuration, samples (spec os §1.8, §15.7).

use crate::arch::Arch;
use crate::error::{Context, Error, Result};
use crate::kernel::Parts;
use crate::release::Release;
use crate::rootfs::fingerprint;
use crate::tool::Tool;
use crate::tree::{Root, Scratch};
use minke_boot::RECORDS;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;

/// Modules in the GRUB image: tables, FAT and ext4, the environment block, and what our script uses.
const GRUB_MODULES: &[&str] = &[
    "part_gpt",
    "part_msdos",
    "fat",
    "ext2",
    "gzio",
    "normal",
    "configfile",
    "linux",
    "loadenv",
    "test",
    "echo",
    "regexp",
    "probe",
    "reboot",
    "sleep",
    "halt",
    "efi_gop",
];

/// The size of the environment that the Pi's U-Boot reads from its boot partition.
const PI_ENVIRONMENT_BYTES: &str = "0x4000";

/// Everything except `config.json`, whose content belongs to the device: the same set lies in the root image's
/// `/resin-boot`.
pub fn make(root: &Root, release: &Release, parts: &Parts) -> Result<()> {
    let Release { arch, development, stamp, .. } = *release;
    match arch {
        Arch::X86_64 => grub(root, development)?,
        Arch::Armv6 | Arch::Armv7 | Arch::Aarch64 => u_boot(root, arch, parts, development, stamp)?,
    }
    root.file("device-type.json", format!("{:#}\n", device_type(arch)))?;
    root.file("os-release", release.os_release())?;
    root.file("image-version-info", format!("{}version {}\n", release.build_information(), release.version))?;
    root.file("balena-image", "DO NOT REMOVE THIS FILE\n")?;
    root.file("system-connections/balena-sample.ignore", include_str!("../files/balena-sample.ignore"))?;
    root.file("system-connections/README.ignore", include_str!("../files/system-connections-README.ignore"))?;
    root.file("system-proxy/redsocks.conf.ignore", include_str!("../files/redsocks.conf.ignore"))?;
    root.file("system-proxy/README.ignore", include_str!("../files/system-proxy-README.ignore"))?;
    list(root)
}

const FINGERPRINT: &str = "balenaos.fingerprint";

/// Writes the list of the boot partition's files (spec os §1.8): without itself, the owner's configuration, and what boot
/// loaders write, as on the device (`hostapp-update`).
pub fn list(root: &Root) -> Result<()> {
    let is_left_out = |name: &str| [FINGERPRINT, "config.json"].contains(&name) || RECORDS.contains(&name);
    let listed = fingerprint(root.top(), "", &is_left_out)?;
    root.file(FINGERPRINT, listed)
}

/// `config.json` of a new image. A development image's configuration must say so; a given file is otherwise taken as it
/// is, also when it is broken, because tests need that.
pub fn config_json(arch: Arch, development: bool, given: Option<&Path>) -> Result<Vec<u8>> {
    let text = match given {
        Some(path) => fs::read(path).on("reading", path)?,
        None => json!({ "persistentLogging": false }).to_string().into_bytes(),
    };
    let Ok(mut config) = serde_json::from_slice::<Map<String, Value>>(&text) else { return Ok(text) };
    config.entry("deviceType").or_insert_with(|| arch.device_type().into());
    if development {
        config.entry("developmentMode").or_insert(Value::Bool(true));
    }
    Ok(format!("{:#}\n", Value::Object(config)).into_bytes())
}

/// Kernel arguments besides `root=` (spec os §2.2, §17.5).
pub fn kernel_arguments(arch: Arch, development: bool) -> String {
    let mut arguments = if development {
        let speed = if arch == Arch::X86_64 { "" } else { ",115200" };
        format!("console={}{speed} systemd.journald.forward_to_console=1 panic=1 oops=panic", arch.console())
    } else {
        "console=null quiet splash vt.global_cursor_default=0 consoleblank=0 panic=1 oops=panic".into()
    };
    if arch == Arch::Armv6 {
        // Not the reference's `rootwait`: stage 1 waits for the root by itself, and a kernel that does not find its
        // initramfs shall panic, which is a failed start, and not wait for ever.
        arguments.push_str(" dwc_otg.lpm_enable=0 cgroup_enable=memory");
    }
    arguments
}

/// What QEMU's Raspberry Pi needs besides: it has no ASB registers, and their driver would take an external abort; and its
/// watchdog resets the machine as soon as it is started.
pub const PI_EMULATION_ARGUMENT: &str = "initcall_blacklist=bcm2835_power_driver_init systemd.watchdog_sec=0";

fn grub(root: &Root, development: bool) -> Result<()> {
    root.folder("EFI/BOOT")?;
    Tool::new("grub-mkimage")
        .args(["-O", "x86_64-efi", "-p", "/EFI/BOOT", "-o"])
        .arg(root.at("EFI/BOOT/BOOTX64.EFI"))
        .args(GRUB_MODULES)
        .run()?;
    let script = include_str!("../files/grub.cfg");
    let script = script.replace("@ARGUMENTS@", &kernel_arguments(Arch::X86_64, development));
    root.file("EFI/BOOT/grub.cfg", script)?;
    root.file("grub_extraenv", include_str!("../files/grub_extraenv"))?;
    root.file("grubenv", grub_environment("2", "0", "0"))
}

/// A GRUB environment block with the slot selection, all of it in the first sector.
pub fn grub_environment(root_part: &str, upgrade_available: &str, bootcount: &str) -> String {
    let variables =
        [("resin_root_part", root_part), ("upgrade_available", upgrade_available), ("bootcount", bootcount)];
    environment_block(&variables)
}

/// A GRUB environment block of 1024 bytes; values without line ends, `\\` and `#`, which need no escape.
fn environment_block(variables: &[(&str, &str)]) -> String {
    let mut block = "# GRUB Environment Block\n".to_owned();
    for (name, value) in variables {
        block.push_str(&format!("{name}={value}\n"));
    }
    block.push_str(&"#".repeat(1024usize.saturating_sub(block.len())));
    block
}

/// Longest text of a slot's own kernel arguments: the kernel of 32-bit ARM takes 1024 bytes in all.
const MAX_SLOT_ARGUMENTS: usize = 400;

/// The files in a slot's `boot/` that carry its own kernel arguments: `slot.env` for U-Boot and the kexec stage, and the
/// same as an environment block for GRUB. The boot scripts on the FAT partition serve both slots and read them.
pub fn slot_arguments(arch: Arch, arguments: &str) -> Result<Vec<(&'static str, String)>> {
    let good = |byte: u8| matches!(byte, b' '..=b'~') && !b"\\#$\"';".contains(&byte);
    if arguments.len() > MAX_SLOT_ARGUMENTS || !arguments.bytes().all(good) {
        return Err(Error::Invalid(format!(
            "kernel arguments that a boot loader cannot pass on: {arguments}"
        )));
    }
    let mut files = vec![("slot.env", format!("slot_arguments={arguments}\n"))];
    if arch == Arch::X86_64 {
        files.push(("slot.grubenv", environment_block(&[("slot_arguments", arguments)])));
    }
    Ok(files)
}

/// The count as U-Boot's `env export` writes it, with the zero byte behind: `fatwrite` overwrites the file's cluster in
/// place, then the folder's with the new length (seen in a log of its writes; the allocation table stays). With the same
/// length from the first day on, nothing but the first sector of the file ever changes, so that a cut leaves one count or
/// the other.
const BOOT_COUNT: &str = "bootcount=0\n\0";

fn u_boot(root: &Root, arch: Arch, parts: &Parts, development: bool, stamp: u64) -> Result<()> {
    let scratch = Scratch::new("u-boot")?;
    // QEMU's firmware reports no serial number; a real board's is never zero.
    let board = if arch == Arch::Armv6 {
        format!(
            "setenv board_arguments\nif test \"${{serial#}}\" = \"0000000000000000\"; then setenv board_arguments \"{PI_EMULATION_ARGUMENT}\"; fi"
        )
    } else {
        "setenv board_arguments".to_owned()
    };
    let script = include_str!("../files/boot.cmd")
        .replace("@ARGUMENTS@", &kernel_arguments(arch, development))
        .replace("@BOARD@", &board)
        .replace("@BOOT@", if arch == Arch::Aarch64 { "booti" } else { "bootz" });
    let source = scratch.join("boot.cmd");
    fs::write(&source, script).on("writing", &source)?;
    Tool::new("mkimage")
        .env("SOURCE_DATE_EPOCH", stamp.to_string())
        .args(["-A", "arm", "-T", "script", "-C", "none", "-d"])
        .arg(&source)
        .arg(root.at("boot.scr"))
        .run()?;
    root.file("resinOS_uEnv.txt", "resin_root_part=2\nupgrade_available=0\n")?;
    root.file("bootcount.env", BOOT_COUNT)?;
    root.file("extra_uEnv.txt", include_str!("../files/extra_uEnv.txt"))?;
    if arch == Arch::Armv6 {
        let binary = parts.path("u-boot.bin");
        root.copy(&binary, "kernel.img", false)?;
        root.file("config.txt", pi_config(development))?;
        make_environment(&binary, "mmc0", "", PI_ENVIRONMENT_BYTES, &root.at("uboot.env"))?;
    }
    Ok(())
}

fn pi_config(development: bool) -> String {
    let more = if development { "enable_uart=1\n" } else { "avoid_warnings=1\nenable_uart=0\n" };
    format!("{}{more}", include_str!("../files/config.txt"))
}

/// Writes a stored environment for this U-Boot: its own defaults, but no boot delay, only these boot targets, and this to do
/// first.
pub fn make_environment(binary: &Path, targets: &str, first: &str, size: &str, to: &Path) -> Result<()> {
    let bytes = fs::read(binary).on("reading", binary)?;
    let defaults = default_environment(&bytes)
        .ok_or_else(|| Error::Invalid(format!("{} holds no default environment", binary.display())))?;
    let kept = |line: &&str| {
        line.contains('=')
            && !["bootdelay=", "boot_targets=", "preboot="].iter().any(|key| line.starts_with(key))
    };
    let mut text: String = defaults.lines().filter(kept).fold(String::new(), |text, line| text + line + "\n");
    text.push_str(&format!("bootdelay=0\nboot_targets={targets} \n"));
    if !first.is_empty() {
        text.push_str(&format!("preboot={first}\n"));
    }
    Tool::new("mkenvimage").args(["-s", size, "-o"]).arg(to).arg("-").input(text).run()
}

/// The default environment in a U-Boot binary, one variable a line: `NAME=VALUE` strings, each ended by a zero byte, the
/// block bounded by two of them; `bootcmd` is always among them.
fn default_environment(binary: &[u8]) -> Option<String> {
    let mark = b"bootcmd=run distro_bootcmd\0";
    let at = binary.windows(mark.len()).position(|window| window == mark)?;
    let before = binary.get(..at)?;
    let start = before.windows(2).rposition(|pair| pair == [0, 0]).map_or(0, |found| found + 2);
    let after = binary.get(start..)?;
    let end = after.windows(2).position(|pair| pair == [0, 0])?;
    Some(String::from_utf8_lossy(after.get(..end)?).replace('\0', "\n"))
}

fn device_type(arch: Arch) -> Value {
    json!({
        "slug": arch.device_type(),
        "name": arch.device_name(),
        "arch": arch.balena_arch(),
        "state": "released",
        "yocto": { "machine": arch.device_type(), "image": "balena-image", "fstype": "balenaos-img", "version": "minke", "deployArtifact": "", "compressed": true },
        "instructions": [],
        "options": [],
        "configuration": { "config": { "partition": { "primary": 1 }, "path": "/config.json" } },
        "initialization": { "options": [], "operations": [] },
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn environment_block_is_what_grub_editenv_reads() {
        let scratch = Scratch::new("grubenv").unwrap();
        let path = scratch.join("grubenv");
        fs::write(&path, grub_environment("3", "1", "2")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 1024);
        let listed = Tool::new("grub-editenv").arg(&path).arg("list").text().unwrap();
        assert_eq!(listed, "resin_root_part=3\nupgrade_available=1\nbootcount=2\n");
    }

    #[test]
    fn default_environment_is_found_in_a_binary() {
        let binary = b"code\0\0arch=arm\0bootcmd=run distro_bootcmd\0bootdelay=2\0\0more";
        assert_eq!(default_environment(binary).unwrap(), "arch=arm\nbootcmd=run distro_bootcmd\nbootdelay=2");
        assert_eq!(default_environment(b"nothing"), None);
    }

    #[test]
    fn configuration_of_an_image() {
        let text =
            |development| String::from_utf8(config_json(Arch::Armv6, development, None).unwrap()).unwrap();
        assert!(text(true).contains("\"developmentMode\": true"));
        assert!(!text(false).contains("developmentMode"));
        assert!(text(false).contains("\"deviceType\": \"raspberry-pi\""));
        let scratch = Scratch::new("config").unwrap();
        let path = scratch.join("config.json");
        fs::write(&path, "{\"hostname\": \"x").unwrap();
        assert_eq!(config_json(Arch::Armv6, true, Some(&path)).unwrap(), b"{\"hostname\": \"x");
    }
}
