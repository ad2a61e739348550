//! The file systems of the kernel that stage 1 and PID 1 mount.

use minke_sys::mount::{self, Flags};
use minke_wire::mountinfo::{self, Mount};
use std::path::Path;

/// One of them.
pub struct ApiMount {
    /// Its type, which stands for its source as well.
    pub kind: &'static str,
    /// Where it is mounted.
    pub target: &'static str,
    flags: Flags,
    data: &'static str,
    /// The kernel may lack it.
    pub optional: bool,
    /// Stage 1 needs it too.
    pub early: bool,
}

const VOLATILE: Flags = Flags::NOSUID.union(Flags::NODEV);
const QUIET: Flags = VOLATILE.union(Flags::NOEXEC);

/// All of them, in the order in which they are mounted.
pub const API: [ApiMount; 14] = [
    entry("proc", "/proc", QUIET, "").early(),
    entry("sysfs", "/sys", QUIET, "").early(),
    entry("devtmpfs", "/dev", Flags::NOSUID, "mode=0755").early(),
    entry("devpts", "/dev/pts", Flags::NOSUID.union(Flags::NOEXEC), "gid=5,mode=620,ptmxmode=666"),
    entry("tmpfs", "/dev/shm", VOLATILE, "mode=1777"),
    entry("mqueue", "/dev/mqueue", QUIET, "").optional(),
    entry("tmpfs", "/run", VOLATILE.union(Flags::STRICTATIME), "mode=0755").early(),
    entry("tmpfs", "/tmp", VOLATILE, "mode=1777"),
    entry("tmpfs", "/var/volatile", VOLATILE, "mode=0755"),
    entry("cgroup2", "/sys/fs/cgroup", QUIET, "nsdelegate,memory_recursiveprot"),
    entry("securityfs", "/sys/kernel/security", QUIET, "").optional(),
    entry("efivarfs", "/sys/firmware/efi/efivars", QUIET, "").optional(),
    entry("bpf", "/sys/fs/bpf", QUIET, "mode=700").optional(),
    entry("pstore", "/sys/fs/pstore", QUIET, "").optional(),
];

const fn entry(kind: &'static str, target: &'static str, flags: Flags, data: &'static str) -> ApiMount {
    ApiMount { kind, target, flags, data, optional: false, early: false }
}

impl ApiMount {
    const fn early(self) -> Self {
        Self { early: true, ..self }
    }

    const fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    /// Mounts it.
    pub fn mount(&self) -> minke_sys::Result<()> {
        let Self { kind, flags, data, .. } = *self;
        let target = Path::new(self.target);
        mount::mount(kind, target, kind, flags, data)
            // An older kernel may not know the options.
            .or_else(|_| mount::mount(kind, target, kind, flags, ""))
    }
}

/// The mount table; nothing when it cannot be read.
pub fn table() -> Vec<Mount> {
    mountinfo::parse(&mount::mountinfo().unwrap_or_default())
}
