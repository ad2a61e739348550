//! What every unit may rely on: the kernel's file systems, control groups, limits, host name, machine id.

use crate::{log, mounts};
use minke_config::machine_id;
use minke_sys::mount::{self, Propagation};
use minke_sys::{cgroup, clock, file, process};
use minke_wire::mountinfo;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Bytes of `/etc/hostname` that are read.
const SMALL: usize = 4096;

/// Sets up the machine. Nothing here stops the boot: what fails is logged.
pub fn run() {
    // The kernel starts PID 1 in no group; a keeper of automatic mount points needs one.
    let _ = minke_sys::namespace::new_session();
    mount_api_file_systems();
    make_links();
    if !in_container() {
        set_kernel_variables();
        set_clock();
        log::failure(log::WARNING, set_up_loopback());
    }
    set_up_cgroups();
    make_volatile_folders();
    set_host_name();
    provide_machine_id();
}

/// Whether this PID 1 runs in a container, as systemd's container interface says it: the kernel's variables and
/// the disks' file systems belong to somebody else then.
pub fn in_container() -> bool {
    std::env::var_os("container").is_some_and(|kind| !kind.is_empty())
}

fn mount_api_file_systems() {
    for api in &mounts::API {
        let path = Path::new(api.target);
        if mountinfo::find(&mounts::table(), api.target).is_some() {
            continue;
        }
        if api.target.starts_with("/dev/") {
            let _ = file::make_folder(path, 0o755);
        }
        if api.optional && !minke_sys::status::exists(path) {
            continue;
        }
        let mounted = api.mount();
        if !api.optional {
            log::failure(log::ERROR, mounted);
        }
    }
    // Mounts made later are seen in containers' copies of the tree.
    log::failure(log::WARNING, mount::set_propagation(Path::new("/"), Propagation::Shared, true));
}

fn make_links() {
    for (target, link) in &[
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
    ] {
        let _ = symlink(target, link);
    }
}

/// Nothing that runs here is older than this program; fake-hwclock.service knows better soon.
fn set_clock() {
    let build = std::time::Duration::from_secs(minke_applet::build().time);
    if clock::realtime() < build {
        log::failure(log::WARNING, clock::set_realtime(build));
    }
}

/// Values of the specification (spec os §10.7, §12.9, §17.3, §17.5, §17.8, §2.4.4), and those that the log
/// and the cgroup tree need.
const VARIABLES: [(&str, &str); 10] = [
    ("kernel/printk", "4 4 1 7"),
    ("kernel/printk_devkmsg", "on\n"),
    ("kernel/panic", "1"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/core_pattern", "|/bin/false"),
    ("user/max_user_namespaces", "0"),
    ("fs/inotify/max_user_instances", "512"),
    ("vm/overcommit_memory", "1"),
    ("kernel/pid_max", "4194304"),
    ("fs/protected_symlinks", "1"),
];

fn set_kernel_variables() {
    for (name, value) in &VARIABLES {
        let path = Path::new("/proc/sys").join(name);
        log::failure(log::WARNING, minke_sys::file::write(&path, value));
    }
}

/// A socket that is bound to an address of 127.0.0.0/8 while no link has an address keeps answering from another one: the
/// kernel takes the address for a broadcast address (`inet_bind`) as long as there is no table of local ones.
fn set_up_loopback() -> minke_sys::Result<()> {
    let mut route = minke_sys::netlink::Route::new()?;
    let loopback = route.index_of("lo")?;
    route.set_up(loopback)
}

fn set_up_cgroups() {
    let root = Path::new(cgroup::ROOT);
    let own = root.join("init.scope");
    let slice = root.join("system.slice");
    let done = cgroup::create(&own)
        // Controllers can be passed on only when the root holds no process of ours.
        .and_then(|()| cgroup::attach(&own, 1))
        .and_then(|()| cgroup::delegate_all(root))
        .and_then(|()| cgroup::create(&slice))
        .and_then(|()| cgroup::delegate_all(&slice));
    log::failure(log::ERROR, done);
}

fn make_volatile_folders() {
    for (path, mode) in &[
        ("/var/volatile/log", 0o755),
        ("/var/volatile/lib", 0o755),
        ("/var/volatile/cache", 0o755),
        ("/var/volatile/tmp", 0o1777),
        ("/run/lock", 0o1777),
        ("/run/minke", 0o755),
        ("/run/systemd/system", 0o755),
        ("/run/systemd/journal", 0o755),
    ] {
        let path = Path::new(path);
        let made = file::make_folder(path, 0o755);
        let _ = made.map(|()| minke_sys::file::set_mode(path, *mode));
    }
}

/// Sets the host name that an earlier boot left; the configuration sets a newer one later.
fn set_host_name() {
    let text = crate::read_text(Path::new("/etc/hostname"), SMALL);
    let name = text.trim();
    let usable = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    log::failure(log::WARNING, process::set_host_name(if usable { name } else { "localhost" }));
}

/// Fills an empty `/etc/machine-id`: machine-id(5). Without a place to keep it, this boot has one of its own.
fn provide_machine_id() {
    let path = Path::new("/etc/machine-id");
    if let Err(error) = machine_id::ensure(path) {
        log::line(log::WARNING, format_args!("the machine id holds for this boot only: {error}"));
        let volatile = Path::new("/run/machine-id");
        let shown = machine_id::ensure(volatile).and_then(|_| mount::bind(volatile, path, false));
        if let Err(error) = shown {
            log::line(log::ERROR, format_args!("there is no machine id: {error}"));
        }
    }
}
