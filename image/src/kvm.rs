//! Is KVM of use here? On some hosts `/dev/kvm` opens, QEMU starts, and the guest hangs; so a kernel must have booted under it
//! within seconds before it is used.

use crate::arch::Arch;
use crate::cache::{Cache, Key, file_digest};
use crate::process::Process;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the probe may take. A working KVM needs less than one second.
const LIMIT: Duration = Duration::from_secs(5);

/// What a kernel without any root says when it has come through its whole start.
const SIGN: &str = "Kernel panic - not syncing";

/// Boots `kernel` under KVM, once for each kernel of host and guest; the answer is kept in the cache.
pub fn works(cache: &Cache, arch: Arch, kernel: &Path) -> bool {
    let same = arch.name() == std::env::consts::ARCH && matches!(arch, Arch::X86_64 | Arch::Aarch64);
    let opens = || fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    if !same || !opens() {
        return false;
    }
    let host = fs::read_to_string("/proc/sys/kernel/version").unwrap_or_default();
    let Ok(digest) = file_digest(kernel) else { return false };
    let key = Key::new().with(host).with(digest).finish();
    let Ok(note) = cache.folder("kvm").map(|folder| folder.join(key)) else { return false };
    if let Ok(answer) = fs::read_to_string(&note) {
        return answer == "works";
    }
    let answer = boots(arch, kernel);
    let _ = fs::write(&note, if answer { "works" } else { "hangs" });
    answer
}

fn boots(arch: Arch, kernel: &Path) -> bool {
    let (program, machine) = match arch {
        Arch::Aarch64 => ("qemu-system-aarch64", "virt"),
        _ => ("qemu-system-x86_64", "q35"),
    };
    let arguments = format!("console={} panic=-1", arch.console());
    let mut line: Vec<String> = [program, "-M", machine].map(str::to_owned).to_vec();
    line.extend("-accel kvm -cpu host -m 256 -nodefaults -no-user-config -display none -serial stdio -no-reboot -kernel".split(' ').map(str::to_owned));
    line.extend([kernel.display().to_string(), "-append".into(), arguments]);
    let Ok(scratch) = crate::tree::Scratch::new("kvm") else { return false };
    let log = scratch.join("log");
    let Ok(mut guest) = Process::start(line, &log) else { return false };
    let end = Instant::now() + LIMIT;
    let seen = || fs::read(&log).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(SIGN));
    while Instant::now() < end && !seen() && guest.ended().is_none() {
        std::thread::sleep(Duration::from_millis(50));
    }
    guest.kill();
    seen()
}
