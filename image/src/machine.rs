//! QEMU's command line for each architecture's test machine.

use crate::arch::Arch;
use crate::boot_files::{PI_EMULATION_ARGUMENT, kernel_arguments};
use crate::error::{Context, Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Names of files in an image's `.boot` folder.
pub const KERNEL: &str = "vmlinuz";
/// The initramfs beside it.
pub const INITRAMFS: &str = "initramfs";
/// The version's own kernel arguments.
pub const SLOT_ENVIRONMENT: &str = "slot.env";
/// U-Boot, in the form that the machine takes.
pub const U_BOOT: &str = "u-boot.bin";
/// The flash with U-Boot's stored environment.
pub const U_BOOT_ENVIRONMENT: &str = "u-boot-environment.bin";
/// What U-Boot does first on the machine `virt`: takes the seed for a random place of the kernel out of the device tree. A
/// kernel that is anywhere hides itself from programs, and its switch of page tables at each system call costs the emulator
/// its memory of translations: a sixth of a boot's processor time. What boards give no seed, start like this.
pub const U_BOOT_FIRST: &str = "fdt addr ${fdt_addr}; fdt rm /chosen kaslr-seed";
/// The same for a start without U-Boot.
const NO_SEED: &str = " nokaslr";

/// Where Debian's package ovmf puts the UEFI firmware.
const OVMF: &str = "/usr/share/OVMF";

/// How the machine comes to its kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// QEMU loads kernel and initramfs of the build: quicker, but no boot loader and always slot A.
    Direct,
    /// Firmware, boot loader and slot selection, as a device does.
    Firmware,
    /// QEMU loads kernel and initramfs of the build as the boot loader of the chain [`crate::balena`].
    Stage2,
}

/// What a command line is made from.
#[derive(Debug)]
pub struct Machine<'a> {
    /// Architecture.
    pub arch: Arch,
    /// Way to the kernel.
    pub start: Start,
    /// Run under KVM. Only after [`crate::kvm::works`] said so.
    pub kvm: bool,
    /// The image's `.boot` folder.
    pub boot: &'a Path,
    /// The disk, a qcow2 overlay.
    pub disk: &'a Path,
    /// Where every write and flush of the disk is logged, if it shall be.
    pub write_log: Option<&'a Path>,
    /// Sectors of the disk that cannot be written.
    pub bad_sectors: &'a [u64],
    /// A folder of this guest for its variable store.
    pub folder: &'a Path,
    /// The `-netdev user` forwarding options, each beginning with a comma.
    pub forwards: &'a str,
    /// More kernel arguments, for a direct start.
    pub arguments: &'a str,
}

impl Machine<'_> {
    /// Program and arguments, without console and power options.
    pub fn command(&self) -> Result<Vec<String>> {
        let mut line = match self.arch {
            Arch::X86_64 if self.kvm => words("qemu-system-x86_64 -M q35 -accel kvm -cpu host -m 512"),
            Arch::X86_64 => words("qemu-system-x86_64 -M q35 -accel tcg -cpu qemu64 -m 512"),
            Arch::Aarch64 if self.kvm => words("qemu-system-aarch64 -M virt -accel kvm -cpu host -m 512"),
            Arch::Aarch64 => words("qemu-system-aarch64 -M virt -accel tcg -cpu cortex-a53 -m 512"),
            Arch::Armv7 => words("qemu-system-arm -M virt -accel tcg -cpu cortex-a7 -m 512"),
            // Its one timer compares for equality, and the kernel arms it some microseconds ahead: when the build
            // machine interrupts the emulator right there, the moment is missed and the guest sleeps for over an hour
            // (seen in one boot of four). When instructions count as time, no moment can be missed.
            Arch::Armv6 => words("qemu-system-arm -M raspi0 -accel tcg -icount shift=auto"),
        };
        line.extend(words("-nodefaults -no-user-config -display none"));
        let network = format!("user,id=net0{}", self.forwards);
        match self.arch {
            Arch::X86_64 => {
                line.extend(self.disk());
                line.extend(words(
                    "-device virtio-blk-pci,drive=disk0,bootindex=1 -device virtio-rng-pci -netdev",
                ));
                line.push(network);
                line.extend(words("-device virtio-net-pci,netdev=net0,romfile="));
            }
            Arch::Aarch64 | Arch::Armv7 => {
                line.extend(self.disk());
                line.extend(words("-device virtio-blk-device,drive=disk0 -device virtio-rng-device -netdev"));
                line.push(network);
                line.extend(words("-device virtio-net-device,netdev=net0"));
            }
            Arch::Armv6 => {
                let disk = format!("if=sd,format=qcow2,file={}", self.disk.display());
                line.extend(["-drive".into(), disk, "-netdev".into(), network]);
                line.extend(words("-device usb-net,netdev=net0"));
            }
        }
        match self.start {
            Start::Direct => self.direct(&mut line, "root=LABEL=resin-rootA ro")?,
            // On x86 `maxcpus=0` takes the interrupt controller away, too. Its timer is tried with a deadline, which a
            // busy machine's emulation misses now and then; here two kernels in a row would try.
            Start::Stage2 if self.arch == Arch::X86_64 => {
                self.direct(&mut line, "balena_stage2 no_timer_check ro")?;
            }
            Start::Stage2 => self.direct(&mut line, "balena_stage2 maxcpus=0 ro")?,
            Start::Firmware => self.firmware(&mut line)?,
        }
        Ok(line)
    }

    /// The disk as node `disk0`, with bad sectors or a log of its writes in between where they are wanted (blklogwrites:
    /// the format of the kernel's dm-log-writes).
    fn disk(&self) -> Vec<String> {
        let disk = self.disk.display();
        let mut nodes = vec![format!("driver=qcow2,node-name=image0,file.driver=file,file.filename={disk}")];
        if let Some(log) = self.write_log {
            nodes.push(format!("driver=file,node-name=log0,filename={}", log.display()));
            nodes.push(
                "driver=blklogwrites,node-name=disk0,file=image0,log=log0,log-sector-size=512".to_owned(),
            );
        } else if !self.bad_sectors.is_empty() {
            let bad = self.bad_sectors.iter().enumerate().map(|(number, sector)| {
                let rule = format!("inject-error.{number}");
                format!(",{rule}.event=none,{rule}.iotype=write,{rule}.errno=5,{rule}.sector={sector}")
            });
            nodes.push(format!("driver=blkdebug,node-name=disk0,image=image0{}", bad.collect::<String>()));
        } else {
            return vec!["-drive".into(), format!("if=none,id=disk0,format=qcow2,file={disk}")];
        }
        nodes.into_iter().flat_map(|node| ["-blockdev".to_owned(), node]).collect()
    }

    fn direct(&self, line: &mut Vec<String>, first: &str) -> Result<()> {
        // The shell on the console must be there whatever config.json says.
        let arguments = kernel_arguments(self.arch, true);
        let mut arguments = format!("{first} {arguments} systemd.debug_shell");
        if self.arch == Arch::Armv6 {
            arguments.push_str(&format!(" {PI_EMULATION_ARGUMENT}"));
        }
        if self.arch == Arch::Aarch64 {
            arguments.push_str(NO_SEED);
        }
        if self.start == Start::Direct {
            // As a boot loader does. An image made before there was such a file has none.
            let environment = fs::read_to_string(self.boot.join(SLOT_ENVIRONMENT)).unwrap_or_default();
            for line in environment.lines().filter_map(|line| line.strip_prefix("slot_arguments=")) {
                arguments.push_str(&format!(" {line}"));
            }
        }
        if !self.arguments.is_empty() {
            arguments.push_str(&format!(" {}", self.arguments));
        }
        line.extend([
            "-kernel".into(),
            self.boot_file(KERNEL)?,
            "-initrd".into(),
            self.boot_file(INITRAMFS)?,
        ]);
        line.extend(["-append".into(), arguments]);
        self.device_tree(line)
    }

    fn firmware(&self, line: &mut Vec<String>) -> Result<()> {
        match self.arch {
            Arch::X86_64 => {
                let variables =
                    self.own_copy(&Path::new(OVMF).join("OVMF_VARS_4M.fd"), "ovmf-variables.fd")?;
                let code = format!("if=pflash,format=raw,unit=0,readonly=on,file={OVMF}/OVMF_CODE_4M.fd");
                let variables = format!("if=pflash,format=raw,unit=1,file={}", variables.display());
                line.extend(["-drive".into(), code, "-drive".into(), variables]);
                Ok(())
            }
            Arch::Aarch64 | Arch::Armv7 => {
                let environment = self.boot_file(U_BOOT_ENVIRONMENT)?;
                line.extend(["-bios".into(), self.boot_file(U_BOOT)?, "-drive".into()]);
                line.push(format!("if=pflash,unit=1,format=raw,snapshot=on,file={environment}"));
                Ok(())
            }
            Arch::Armv6 => {
                line.extend(["-kernel".into(), self.boot_file(U_BOOT)?]);
                self.device_tree(line)
            }
        }
    }

    fn device_tree(&self, line: &mut Vec<String>) -> Result<()> {
        if let Some(name) = self.arch.device_tree() {
            line.extend(["-dtb".into(), self.boot_file(name)?]);
        }
        Ok(())
    }

    fn boot_file(&self, name: &str) -> Result<String> {
        let path = self.boot.join(name);
        if path.exists() {
            return Ok(path.display().to_string());
        }
        Err(Error::Invalid(format!("{} is missing; image/build makes it beside the image", path.display())))
    }

    /// The firmware's variables survive a restart of the same guest.
    fn own_copy(&self, from: &Path, name: &str) -> Result<PathBuf> {
        let to = self.folder.join(name);
        if !to.exists() {
            fs::copy(from, &to).on("copying (Debian package ovmf)", from)?;
        }
        Ok(to)
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
