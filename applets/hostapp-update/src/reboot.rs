//! A reboot that waits for applications' update locks (spec os §15.9).
//!
//! Nothing is asked in turns: a thread sleeps in the lock that somebody has, and the kernel tells of folders that change.

use minke_applet::log;
use minke_control::init;
use minke_sys::event::{Interest, Poller, Waker};
use minke_sys::inotify::{Inotify, Scope};
use minke_sys::process::{Ending, end_system};
use minke_sys::{Result, clock, file, status, thread};
use minke_wire::json::{self, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the supervisor shares with applications.
const SHARED: &str = "tmp/balena-supervisor";
/// The lock's name.
const LOCK: &str = "updates.lock";
/// How deep a service's folder lies below `services`.
const DEPTH: usize = 3;
/// The longest list of settings that is read, in bytes.
const LIMIT: usize = 1 << 20;
/// When the next stronger means is used, after the one before it: what PID 1 does at once, the kernel, SysRq.
const ESCALATION: [Duration; 3] =
    [Duration::from_secs(120), Duration::from_secs(180), Duration::from_secs(300)];

/// Reboots in order, once no application holds `updates.lock`. `progress` is told what is waited for: percent, text. It
/// returns only when it failed.
pub fn safe(progress: &mut dyn FnMut(u8, &str)) -> Result<()> {
    wait(Path::new("/"), progress)?;
    progress(100, "Reboot in progress");
    now()
}

/// Reboots in order, with stronger means when that hangs. It returns only when none helps.
pub fn now() -> Result<()> {
    file::sync_all();
    if let Err(error) = init::end(init::Ending::Reboot) {
        log::error(format_args!("{error}"));
    }
    let [first, second, third] = ESCALATION;
    clock::sleep(first);
    log::error(format_args!("the system still runs: PID 1 is to end it at once"));
    let _ = init::request(&json!({ "command": "reboot", "force": true }), Some(Duration::from_secs(10)));
    clock::sleep(second);
    file::sync_all();
    let ended = end_system(Ending::Restart);
    clock::sleep(third);
    let _ = file::write("/proc/sys/kernel/sysrq", "1");
    let _ = file::write("/proc/sysrq-trigger", "s");
    let _ = file::write("/proc/sysrq-trigger", "b");
    ended
}

/// Returns when no application of the system below `root` has a lock, or the owner overrides them.
fn wait(root: &Path, progress: &mut dyn FnMut(u8, &str)) -> Result<()> {
    let shared = root.join(SHARED);
    let (poller, notices, waker) = (Poller::new()?, Inotify::new()?, Waker::new()?);
    poller.add(&notices, 0, Interest::Read)?;
    poller.add(&waker, 1, Interest::Read)?;
    let (mut told, mut sleeping) = (None, None);
    loop {
        // Watched before the look, so that nothing is missed between the two.
        let _ = notices.add(&shared, Scope::Writes);
        if is_overridden(&shared) {
            return Ok(());
        }
        let Some((path, lock)) = held(&shared.join("services"), DEPTH) else { return Ok(()) };
        if let Some(folder) = path.parent() {
            let _ = notices.add(folder, Scope::Names);
        }
        if told.as_ref() != Some(&path) {
            log::info(format_args!("{} exists, busy waiting on unlocking for reboot.", path.display()));
            progress(100, "Reboot waiting on application lock");
            told = Some(path);
        }
        // One thread sleeps in each lock, be it looked at as often as it may.
        let inode = status::of_open(&lock)?.inode;
        if sleeping != Some(inode) {
            let waiting = waker.try_clone()?;
            let work = move || {
                let _ = lock.lock();
                waiting.wake();
            };
            thread::spawn("lock", Box::new(work))?;
            sleeping = Some(inode);
        }
        let mut ready = Vec::new();
        poller.wait(&mut ready, None)?;
        if ready.iter().any(|ready| ready.token == 1) {
            waker.take();
            sleeping = None;
        }
        while !notices.take().is_empty() {}
    }
}

/// The first lock that somebody has, opened.
fn held(folder: &Path, depth: usize) -> Option<(PathBuf, std::fs::File)> {
    for path in file::list(folder).unwrap_or_default() {
        let Ok(status) = status::of_link(&path) else { continue };
        if status.is_dir() && depth > 0 {
            if let Some(found) = held(&path, depth.saturating_sub(1)) {
                return Some(found);
            }
        } else if status.is_file() && path.file_name().is_some_and(|name| name == LOCK) {
            // One that cannot be opened or locked at all is nobody's.
            let Ok(lock) = file::open(&path, file::Flags::RDONLY | file::Flags::NONBLOCK) else { continue };
            if file::try_lock(&lock).is_ok_and(|free| !free) {
                return Some((path, lock));
            }
        }
    }
    None
}

/// Whether the owner's settings, which the supervisor writes down, say that locks do not count.
fn is_overridden(shared: &Path) -> bool {
    let settings = file::read_bounded(&shared.join("target-state-config"), LIMIT).unwrap_or_default();
    let settings = json::parse(&settings).unwrap_or_default();
    [
        "BALENA_SUPERVISOR_OVERRIDE_LOCK",
        "RESIN_SUPERVISOR_OVERRIDE_LOCK",
        "SUPERVISOR_OVERRIDE_LOCK",
        "BALENA_OVERRIDE_LOCK",
        "RESIN_OVERRIDE_LOCK",
        "OVERRIDE_LOCK",
    ]
    .iter()
    .filter_map(|name| settings.get(name))
    .any(|value| matches!(value.to_text().as_str(), "true" | "\"true\"" | "1" | "\"1\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_reboot_waits_for_each_lock_and_for_an_override() {
        let root = std::env::temp_dir().join(format!("minke-reboot-{}", std::process::id()));
        let service = root.join(SHARED).join("services/1/main");
        std::fs::create_dir_all(&service).unwrap();
        let free = |told: &mut Vec<String>| wait(&root, &mut |_, text| told.push(text.to_owned()));
        let mut told = Vec::new();
        free(&mut told).unwrap();
        let path = service.join(LOCK);
        std::fs::write(&path, "").unwrap();
        free(&mut told).unwrap();
        assert!(told.is_empty(), "a lock that nobody has");

        for overridden in [false, true] {
            let lock = std::fs::File::open(&path).unwrap();
            lock.lock().unwrap();
            let (sender, receiver) = mpsc::channel();
            let inner = root.clone();
            std::thread::spawn(move || {
                let mut tell = |percent: u8, text: &str| sender.send(format!("{percent} {text}")).unwrap();
                wait(&inner, &mut tell).unwrap();
                sender.send("free".to_owned()).unwrap();
            });
            let next = || receiver.recv_timeout(Duration::from_secs(60)).unwrap();
            assert_eq!(next(), "100 Reboot waiting on application lock");
            // What happens beside it wakes the waiting and changes nothing.
            std::fs::write(service.join("other"), "").unwrap();
            std::fs::write(root.join(SHARED).join("target-state-config"), "{\"X\":\"1\"}").unwrap();
            assert!(receiver.recv_timeout(Duration::from_millis(200)).is_err());
            if overridden {
                let text = "{\"RESIN_SUPERVISOR_OVERRIDE_LOCK\":\"true\"}";
                std::fs::write(root.join(SHARED).join("target-state-config"), text).unwrap();
            } else {
                drop(lock);
            }
            assert_eq!(next(), "free");
        }
        std::fs::remove_dir_all(root).unwrap();
    }
}
