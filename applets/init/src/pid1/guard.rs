//! PID 1 must never end: the kernel panics when it does. A panic or a fault executes the same program again,
//! which takes over the units that run (decision 20).

use crate::log;
use crate::manager::{Manager, Saved};
use minke_sys::{clock, process};
use std::ffi::CString;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// What the next PID 1 must know. In a tmpfs: it is of this boot alone.
const STATE: &str = "/run/minke/init.state";
/// Bytes of that.
const STATE_LIMIT: usize = 1 << 20;
/// The argument that says that units run already.
const AGAIN: &str = "--again";
/// The moments of the latest faults: seconds since boot, one a line.
const FAULTS: &str = "/run/minke/init.faults";
/// After so many within [`ROW`] the machine starts again.
const LIMIT: usize = 8;
/// Faults further apart are not of one kind.
const ROW: Duration = Duration::from_secs(300);

/// Whether an earlier PID 1 of this boot executed this one.
pub fn is_again(arguments: &[std::ffi::OsString]) -> bool {
    arguments.iter().any(|word| word == AGAIN)
}

/// From now on a panic or fault starts this program again. In a release build a panic is a fault: it traps.
pub fn install() {
    let again = CString::new(AGAIN).unwrap_or_default();
    log::failure(log::ERROR, process::restart_on_fault(vec![c"init".into(), again]));
    if cfg!(debug_assertions) {
        std::panic::set_hook(Box::new(|info| {
            log::alarm(format_args!("{info}"));
            process::restart();
        }));
    }
}

/// Counts a fault. After too many in a short time the machine starts again, in order as far as that goes.
pub fn limit_lives() {
    let now = clock::boottime();
    let text = crate::read_text(Path::new(FAULTS), STATE_LIMIT);
    let mut faults = Vec::new();
    for line in text.lines() {
        if minke_wire::text::number(line)
            .is_some_and(|second| now.saturating_sub(Duration::from_secs(second)) < ROW)
        {
            faults.push(line);
        }
    }
    if faults.len() >= LIMIT {
        log::console(format_args!("PID 1 fails again and again; the machine restarts"));
        super::ending::finish(process::Ending::Restart);
    }
    let second = now.as_secs().to_string();
    faults.push(&second);
    let _ = minke_sys::file::write(FAULTS, faults.join("\n"));
    // Not more often than once a second, so that the log stays readable and the processor free.
    minke_sys::clock::sleep(Duration::from_secs(1));
}

/// Writes what the next PID 1 must know, a line for each unit. The file is replaced whole, so that a fault on the
/// way leaves the earlier one.
pub fn save(manager: &Manager) {
    let mut text = String::new();
    for Saved { name, up, exited, main, control, restarts } in manager.save() {
        let (main, control) = (main.unwrap_or(0), control.unwrap_or(0));
        let _ = writeln!(text, "{name} {up} {exited} {main} {control} {restarts}");
    }
    let fresh = format!("{STATE}.new");
    if minke_sys::file::write(&fresh, text).is_ok() {
        let _ = std::fs::rename(&fresh, STATE);
    }
}

/// Reads what an earlier PID 1 wrote. A unit of which nothing is known is started anew.
pub fn load() -> Vec<Saved> {
    let mut saved = Vec::new();
    for line in crate::read_text(Path::new(STATE), STATE_LIMIT).lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if let [name, up, exited, main, control, restarts] = *words {
            saved.push(Saved {
                name: name.to_owned(),
                up: up == "true",
                exited: exited == "true",
                main: process_id(main),
                control: process_id(control),
                restarts: minke_wire::text::number(restarts).unwrap_or(0),
            });
        }
    }
    saved
}

fn process_id(word: &str) -> Option<i32> {
    minke_wire::text::number(word).filter(|pid| *pid > 0)
}
