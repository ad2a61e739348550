//! Which slot the boot loader starts: the selection records of the three boot chains (spec os §15.7, §15.8), the rule
//! by which tries are counted, and the replacement of files on the boot partition.
//!
//! Whoever updates calls [`Chain::select`] with `trial`, as its very last step; the boot loader counts each start; a
//! system that found itself well calls [`Chain::commit`].

#![forbid(unsafe_code)]

mod chain;
pub mod kernel;
pub mod place;
pub mod rule;

pub use chain::Chain;

/// On the state partition while a slot is on trial: by it `rollback-altboot` looks whether the other slot was started
/// (spec os §15.10). It holds the version that is tried.
pub const ALTBOOT_BREADCRUMB: &str = "rollback-altboot-breadcrumb";

/// A host app's root file system, a SquashFS image.
pub const ROOT_IMAGE: &str = "rootfs.squashfs";
/// The hash tree of dm-verity for it.
pub const HASH_TREE: &str = "rootfs.verity";

/// The files of the boot partition that hold the selection, of all chains: boot loaders write them at each start of a trial.
pub const RECORDS: [&str; 4] = ["grubenv", "bootenv", "resinOS_uEnv.txt", "bootcount.env"];

/// One of the two root partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// `resin-rootA`, partition 2.
    A,
    /// `resin-rootB`, partition 3.
    B,
}

impl Slot {
    /// The one that this is not.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The partition's number, as U-Boot and GRUB have it in `resin_root_part`.
    pub fn number(self) -> &'static str {
        match self {
            Self::A => "2",
            Self::B => "3",
        }
    }

    /// The letter, as `bootenv` has it.
    pub fn letter(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
        }
    }

    /// The file system's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::A => "resin-rootA",
            Self::B => "resin-rootB",
        }
    }

    /// The slot of a file system's label, also of the newer names (spec os §1.2).
    pub fn of_label(label: &str) -> Option<Self> {
        match label.strip_prefix("resin-root").or_else(|| label.strip_prefix("balena-root"))? {
            "A" => Some(Self::A),
            "B" => Some(Self::B),
            _ => None,
        }
    }
}

/// What a selection record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    /// The slot that is to be started.
    pub root: Slot,
    /// It is on trial: starts are counted, and too many lead to the other slot.
    pub upgrade_available: bool,
    /// The starts of the trial; without meaning when there is none.
    pub bootcount: u32,
}

impl Default for Selection {
    /// What the boot scripts do without a record, or with one they cannot read.
    fn default() -> Self {
        Self { root: Slot::A, upgrade_available: false, bootcount: 0 }
    }
}
