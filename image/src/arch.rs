//! The four architectures: Debian's names for them, kernels, boot chains, machines.

use crate::error::{Error, Result};

/// A target architecture, named as in `release/build`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit PC with UEFI and GRUB.
    X86_64,
    /// ARM1176, the Raspberry Pi Zero and 1.
    Armv6,
    /// Cortex-A7 and up, 32 bit, U-Boot.
    Armv7,
    /// Cortex-A53 and up, 64 bit, U-Boot.
    Aarch64,
}

/// Partition table type (spec os §1.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableType {
    /// Master boot record with an extended partition: boot 1, A 2, B 3, state 5, data 6.
    Msdos,
    /// GUID partition table: boot 1, A 2, B 3, state 4, data 5.
    Gpt,
}

impl Arch {
    /// All of them, in the order of work.
    pub const ALL: [Arch; 4] = [Arch::X86_64, Arch::Aarch64, Arch::Armv7, Arch::Armv6];

    /// Reads a name as the command line has it.
    pub fn parse(name: &str) -> Result<Arch> {
        Arch::ALL.into_iter().find(|arch| arch.name() == name).ok_or_else(|| {
            Error::Usage(format!("no architecture '{name}'; there are x86_64, aarch64, armv7, armv6"))
        })
    }

    /// The name on command lines and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Armv6 => "armv6",
            Arch::Armv7 => "armv7",
            Arch::Aarch64 => "aarch64",
        }
    }

    /// Debian's name. armel runs on ARMv5 and up, so its static programs run on the ARM1176; armhf needs ARMv7.
    pub fn debian(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::Armv6 => "armel",
            Arch::Armv7 => "armhf",
            Arch::Aarch64 => "arm64",
        }
    }

    /// The meta package of the kernel.
    pub fn kernel_package(self) -> &'static str {
        match self {
            Arch::X86_64 => "linux-image-cloud-amd64",
            Arch::Armv6 => "linux-image-rpi",
            Arch::Armv7 => "linux-image-armmp",
            Arch::Aarch64 => "linux-image-cloud-arm64",
        }
    }

    /// What else comes from Debian's archive for this architecture.
    pub fn packages(self) -> Vec<&'static str> {
        let mut packages = vec!["busybox-static", "ca-certificates", "e2fsck-static"];
        if self == Arch::Armv6 {
            packages.push("u-boot-rpi");
        }
        packages
    }

    /// The partition table's type (decision 3).
    pub fn table(self) -> TableType {
        if self == Arch::X86_64 { TableType::Gpt } else { TableType::Msdos }
    }

    /// The device type slug in config.json and device-type.json.
    pub fn device_type(self) -> &'static str {
        match self {
            Arch::X86_64 => "generic-amd64",
            Arch::Armv6 => "raspberry-pi",
            Arch::Armv7 => "generic-armv7ahf",
            Arch::Aarch64 => "generic-aarch64",
        }
    }

    /// The device type's name for people.
    pub fn device_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "Generic x86_64 (UEFI)",
            Arch::Armv6 => "Raspberry Pi (v1 / Zero / Zero W)",
            Arch::Armv7 => "Generic ARMv7-A HF",
            Arch::Aarch64 => "Generic AARCH64 (ARMv8)",
        }
    }

    /// The `arch` of device-type.json (spec os §18.5).
    pub fn balena_arch(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::Armv6 => "rpi",
            Arch::Armv7 => "armv7hf",
            Arch::Aarch64 => "aarch64",
        }
    }

    /// The `architecture` and `variant` of an OCI image configuration.
    pub fn oci_platform(self) -> (&'static str, Option<&'static str>) {
        match self {
            Arch::X86_64 => ("amd64", None),
            Arch::Armv6 => ("arm", Some("v6")),
            Arch::Armv7 => ("arm", Some("v7")),
            Arch::Aarch64 => ("arm64", Some("v8")),
        }
    }

    /// The serial console device.
    pub fn console(self) -> &'static str {
        if self == Arch::X86_64 { "ttyS0" } else { "ttyAMA0" }
    }

    /// Modules that stage 1 loads before it looks for the root device, in this order. What the kernel has built in is
    /// left out when the list is written.
    pub fn boot_modules(self) -> &'static [&'static str] {
        match self {
            // Its source of random numbers is wanted at the first boot, which makes UUIDs; the others' firmware passes
            // a seed.
            Arch::Armv6 => &["crc32c_generic", "bcm2835-rng", "ext4", "loop", "squashfs", "overlay"],
            _ => &[
                "crc32c_generic",
                "virtio_pci",
                "virtio_mmio",
                "virtio_blk",
                "ext4",
                "loop",
                "squashfs",
                "overlay",
            ],
        }
    }

    /// Modules in the initramfs that stage 1 loads when it needs them: what checks the root image when the boot arguments
    /// have its root hash, and what reads the boot partition where this kernel is the boot loader or a slot is broken.
    pub fn optional_boot_modules(self) -> &'static [&'static str] {
        match self {
            Arch::Armv6 | Arch::Armv7 => &["dm_verity", "sha256_arm", "vfat", "nls_cp437", "nls_ascii"],
            Arch::Aarch64 => &["dm_verity", "sha256_arm64", "sha2_ce", "vfat", "nls_cp437", "nls_ascii"],
            Arch::X86_64 => &["dm_verity", "sha256_ssse3", "vfat", "nls_cp437", "nls_ascii"],
        }
    }

    /// Whether its machines may have secure boot, which demands signed modules. Elsewhere nobody looks at a signature,
    /// and the kernel verifies it all the same: a tenth of an ARM1176's work in a boot.
    pub fn has_secure_boot(self) -> bool {
        matches!(self, Arch::X86_64 | Arch::Aarch64)
    }

    /// Modules that user space loads at boot (`/etc/modules-load.d`), for as long as no device manager loads them by
    /// what it finds.
    pub fn load_modules(self) -> &'static [&'static str] {
        match self {
            Arch::Armv6 => &["overlay", "cdc_ether", "br_netfilter"],
            _ => &["overlay", "virtio_net", "virtio_rng", "br_netfilter"],
        }
    }

    /// All modules in the root image, besides those of stage 1 and what they depend on: file systems, networks and
    /// devices of the machines that we run on, and what the container engine needs (spec os §20.6).
    pub fn root_modules(self) -> Vec<&'static str> {
        let mut modules = vec![
            "vfat",
            "nls_cp437",
            "nls_iso8859-1",
            "nls_ascii",
            "nls_utf8",
            "virtio_net",
            "virtio_rng",
            "af_packet",
            "autofs4",
            "veth",
            "bridge",
            "br_netfilter",
            "macvlan",
            "dummy",
            "nf_tables",
            "nft_chain_nat",
            "nft_masq",
            "nft_nat",
            "nft_compat",
            "nft_ct",
            "nft_reject",
            "nft_reject_inet",
            "nft_fib_inet",
            "nft_limit",
            "nft_log",
            "xt_addrtype",
            "xt_conntrack",
            "xt_MASQUERADE",
            "xt_nat",
            "xt_comment",
            "xt_mark",
            "xt_owner",
            "xt_tcpudp",
            "loop",
            "tun",
            "wireguard",
            "softdog",
            "i6300esb",
            "efivarfs",
            "fuse",
            "zram",
            "lz4",
            "lz4_compress",
            "dm_mod",
            "sch_netem",
            "ip_tables",
            "iptable_filter",
            "iptable_nat",
        ];
        if self == Arch::Armv6 {
            modules.extend(["cdc_ether", "rndis_host", "smsc95xx", "bcm2835-rng", "bcm2835_wdt"]);
        }
        modules
    }

    /// The device tree that the slot carries, when the boot loader has none of its own to pass on.
    pub fn device_tree(self) -> Option<&'static str> {
        (self == Arch::Armv6).then_some("bcm2835-rpi-zero.dtb")
    }
}
