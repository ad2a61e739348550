//! `os-extra-firmware.service` (spec os §4.8): an engine volume in which the kernel looks for firmware too, now and,
//! by the boot loader's files, from the start of the next boot on.

use crate::consumers::refused;
use minke_applet::log;
use minke_config::Config;
use minke_config::fatrw::{self, WhenFull};
use minke_sys::{Result, file, status};
use std::path::Path;

/// The boot loaders' files that take an argument of ours; those that exist get it.
const FILES: [&str; 5] =
    ["extra_uEnv.txt", "grub_extraenv", "grub/grub_extraenv", "EFI/BOOT/grub_extraenv", "bootenv"];
/// The first line of a file that GRUB writes as well, in place; it has this many bytes, the rest is filled with `#`.
const BLOCK: (&str, usize) = ("# GRUB Environment Block", 1024);
/// The variable in them.
const VARIABLE: &str = "extra_os_firmware_class_path";
/// The longest such file that is touched, in bytes.
const LIMIT: usize = 64 << 10;

/// Carries the setting out.
pub fn apply(config: &Config, root: &Path) -> Result<u8> {
    let mut argument = None;
    if let Some(volume) = config.string("os.kernel.extraFirmwareVol") {
        if !is_volume(volume) {
            log::error(format_args!(
                "os.kernel.extraFirmwareVol '{}' is no volume name",
                minke_wire::text::shown(volume)
            ));
            return Ok(1);
        }
        let content = format!("/var/lib/docker/volumes/{volume}/_data");
        let place = root.join(content.trim_start_matches('/'));
        if !status::is_dir(&place) {
            return Err(refused("find the volume for firmware", &place));
        }
        let wanted = format!("firmware_class.path={content}");
        let command_line = file::text(root.join("proc/cmdline"));
        if !command_line.split_whitespace().any(|word| word == wanted) {
            file::write(root.join("sys/module/firmware_class/parameters/path"), &content)?;
        }
        argument = Some(wanted);
    }
    for name in FILES {
        let path = root.join("mnt/boot").join(name);
        // Before anybody asks whether it is there: a power cut can have left its copy alone.
        let Some(old) = fatrw::read(&path)?.filter(|old| old.len() <= LIMIT) else { continue };
        let new = edited(&String::from_utf8_lossy(&old), argument.as_deref());
        if new.len() > LIMIT || (new.starts_with(BLOCK.0) && new.len() != BLOCK.1) {
            log::error(format_args!("{}: {VARIABLE} does not fit", path.display()));
        } else if new.as_bytes() != old {
            fatrw::write(&path, new.as_bytes(), None, WhenFull::Fail)?;
            log::info(format_args!(
                "{}: {VARIABLE} is {}",
                path.display(),
                argument.as_deref().unwrap_or("removed")
            ));
        }
    }
    Ok(0)
}

fn is_volume(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    name.len() <= 255 && name.bytes().all(word) && !name.starts_with(['.', '-', '_'])
}

/// The text with our variable at its end, or without it. The other lines stay as they are; of a block of GRUB's,
/// those that are assignments.
fn edited(text: &str, argument: Option<&str>) -> String {
    let block = text.starts_with(BLOCK.0);
    let mut out = String::new();
    for line in text.lines() {
        let name = line.trim_start().trim_start_matches("set ").split('=').next();
        let junk =
            block && line != BLOCK.0 && (line.starts_with('#') || !minke_wire::text::contains(line, "="));
        if name.map(str::trim) != Some(VARIABLE) && !junk {
            out.push_str(line);
            out.push('\n');
        }
    }
    if let Some(argument) = argument {
        out.push_str(&format!("{VARIABLE}={argument}\n"));
    }
    while block && out.len() < BLOCK.1 {
        out.push('#');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_variable_changes() {
        let text = "# comment\nextra_os_cmdline=a=b\nset extra_os_firmware_class_path=\"x\"\nlast";
        let with =
            "# comment\nextra_os_cmdline=a=b\nlast\nextra_os_firmware_class_path=firmware_class.path=/v\n";
        assert_eq!(edited(text, Some("firmware_class.path=/v")), with);
        assert_eq!(edited(with, Some("firmware_class.path=/v")), with);
        assert_eq!(edited(with, None), "# comment\nextra_os_cmdline=a=b\nlast\n");
        let block = format!("{}\na=b\njunk\n{}", BLOCK.0, "#".repeat(900));
        let with = edited(&block, Some("x"));
        assert_eq!(with.len(), BLOCK.1);
        assert!(
            with.starts_with("# GRUB Environment Block\na=b\nextra_os_firmware_class_path=x\n##"),
            "{with}"
        );
        assert_eq!(edited(&with, None).trim_end_matches('#'), "# GRUB Environment Block\na=b\n");
        for bad in ["", "..", "a/b", ".x", "a b", "a\nb"] {
            assert!(!is_volume(bad) || bad.is_empty(), "{bad}");
        }
        assert!(is_volume("extra-firmware"));
    }

    #[test]
    fn the_volume_must_be_there_and_the_kernel_hears_of_it() {
        let root = std::env::temp_dir().join(format!("minke-firmware-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        for folder in ["mnt/boot", "proc", "sys/module/firmware_class/parameters"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        let file = root.join("mnt/boot/extra_uEnv.txt");
        std::fs::write(&file, "# mine\n").unwrap();
        std::fs::write(root.join("proc/cmdline"), "quiet\n").unwrap();
        let config = |text: &str| Config::parse(text.as_bytes()).unwrap();
        let set = config(r#"{"os":{"kernel":{"extraFirmwareVol":"fw"}}}"#);
        assert!(apply(&set, &root).unwrap_err().to_string().contains("volumes/fw/_data"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "# mine\n");
        std::fs::create_dir_all(root.join("var/lib/docker/volumes/fw/_data")).unwrap();
        assert_eq!(apply(&set, &root).unwrap(), 0);
        let told = std::fs::read_to_string(root.join("sys/module/firmware_class/parameters/path")).unwrap();
        assert_eq!(told, "/var/lib/docker/volumes/fw/_data");
        assert!(std::fs::read_to_string(&file).unwrap().ends_with(&format!("firmware_class.path={told}\n")));
        assert_eq!(apply(&config("{}"), &root).unwrap(), 0);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "# mine\n");
        assert_eq!(apply(&config(r#"{"os":{"kernel":{"extraFirmwareVol":"../x"}}}"#), &root).unwrap(), 1);
        std::fs::remove_dir_all(root).unwrap();
    }
}
