//! Capabilities, user switching and no_new_privs: capabilities(7).

use crate::{Context, Result};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// A set of capabilities; bit N is the capability with number N in `linux/capability.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(pub u64);

/// The names without `CAP_`, by number: `linux/capability.h`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl Capabilities {
    /// No capability.
    pub const NONE: Self = Self(0);
    /// Every capability that this kernel interface knows.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);

    /// The capability with this name, with or without `CAP_`, in any case; `ALL` is all of them.
    pub fn by_name(name: &str) -> Option<Self> {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if short == "ALL" {
            return Some(Self::ALL);
        }
        NAMES.iter().position(|known| *known == short).map(|number| Self(1 << number))
    }

    /// Those in either set.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those in this set and not in the other.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those in both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// The capabilities that this thread may use.
pub fn permitted() -> Result<Capabilities> {
    let sets = rustix::thread::capabilities(None).context("read", "capabilities")?;
    Ok(Capabilities(sets.permitted.bits()))
}

/// Removes everything but `keep` from the bounding set: no program that this process executes can gain more.
pub fn limit_bounding_set(keep: Capabilities) -> Result<()> {
    for number in 0..64u32 {
        let one = 1u64 << number;
        let capability = CapabilitySet::from_bits_retain(one);
        if keep.0 & one != 0 {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // EINVAL: the kernel does not know this number, nor those above it.
            Err(rustix::io::Errno::INVAL) => break,
            other => other.context("drop capability", number)?,
        }
    }
    Ok(())
}

/// Sets the permitted and effective set, with nothing inheritable.
pub fn set(permitted: Capabilities, effective: Capabilities) -> Result<()> {
    let sets = CapabilitySets {
        permitted: CapabilitySet::from_bits_retain(permitted.0),
        effective: CapabilitySet::from_bits_retain(effective.0),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets).context("set", "capabilities")
}

/// While it lives, this thread gets no block that a file system keeps in reserve, as a process of anybody else.
#[derive(Debug)]
#[must_use]
pub struct OutOfReserve(Option<CapabilitySets>);

/// Leaves the reserves of file systems to others: CAP_SYS_RESOURCE, by which ext4 gives them, is set aside. The kernel then
/// answers `ENOSPC` at the right moment, also beside other writers. Where it cannot be set aside, nothing changes.
pub fn out_of_reserve() -> OutOfReserve {
    let before = rustix::thread::capabilities(None).ok();
    let before = before.filter(|sets| sets.effective.contains(CapabilitySet::SYS_RESOURCE));
    if let Some(sets) = &before {
        let effective = sets.effective.difference(CapabilitySet::SYS_RESOURCE);
        let _ = rustix::thread::set_capabilities(None, CapabilitySets { effective, ..*sets });
    }
    OutOfReserve(before)
}

impl Drop for OutOfReserve {
    fn drop(&mut self) {
        if let Some(sets) = self.0.take() {
            let _ = rustix::thread::set_capabilities(None, sets);
        }
    }
}

/// Keeps the permitted set when the user id changes from root to another one, until the next exec.
pub fn keep_over_user_change(keep: bool) -> Result<()> {
    rustix::thread::set_keep_capabilities(keep).context("set", "PR_SET_KEEPCAPS")
}

/// Forbids that an exec gives privileges: PR_SET_NO_NEW_PRIVS.
pub fn no_new_privileges() -> Result<()> {
    rustix::thread::set_no_new_privs(true).context("set", "no_new_privs")
}

/// Sets this thread's supplementary groups.
pub fn set_groups(groups: &[u32]) -> Result<()> {
    let groups: Vec<_> = groups.iter().map(|group| rustix::thread::Gid::from_raw(*group)).collect();
    rustix::thread::set_thread_groups(&groups).context("set", "supplementary groups")
}

/// Changes this thread's user, group and supplementary groups, real, effective and saved. A process that has
/// one thread, that is, as the kernel knows these per thread.
pub fn set_user(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    use rustix::thread::{Gid, Uid};
    let (uid_raw, gid_raw) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_groups(groups)?;
    rustix::thread::set_thread_res_gid(gid_raw, gid_raw, gid_raw).context("change to group", gid)?;
    rustix::thread::set_thread_res_uid(uid_raw, uid_raw, uid_raw).context("change to user", uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_kernels_numbers() {
        assert_eq!(Capabilities::by_name("CAP_CHOWN"), Some(Capabilities(1)));
        assert_eq!(Capabilities::by_name("sys_time"), Some(Capabilities(1 << 25)));
        assert_eq!(Capabilities::by_name("CHECKPOINT_RESTORE"), Some(Capabilities(1 << 40)));
        assert_eq!(Capabilities::by_name("all"), Some(Capabilities::ALL));
        assert_eq!(Capabilities::by_name("CAP_NOPE"), None);
    }

    #[test]
    fn set_arithmetic() {
        let (a, b) = (Capabilities(0b110), Capabilities(0b011));
        assert_eq!((a.with(b).0, a.without(b).0, a.and(b).0), (0b111, 0b100, 0b010));
    }
}
