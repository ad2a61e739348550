//! Log lines in the host's format, `[program][LEVEL] message` on standard error (spec os §0.7). When the
//! journal reads standard error, the line starts with its syslog priority, `<4>` and so on, which the journal
//! takes off (sd-daemon(3)).

use std::fmt::{Arguments, Write as _};
use std::sync::OnceLock;

static PROGRAM: OnceLock<&'static str> = OnceLock::new();

pub(crate) fn set_program(name: &'static str) {
    let _ = PROGRAM.set(name);
}

/// Normal events: one line for what an owner of the device wants to know afterwards.
pub fn info(message: Arguments<'_>) {
    line(6, "INFO", message);
}

/// Something is wrong, and the program goes on in a stated way.
pub fn warn(message: Arguments<'_>) {
    line(4, "WARN", message);
}

/// Something failed.
pub fn error(message: Arguments<'_>) {
    line(3, "ERROR", message);
}

/// What cannot happen happened: an error in the log of a release build, where a daemon does not die of it; a
/// panic in a debug build, where a test does.
#[allow(clippy::panic)]
pub fn trap(message: Arguments<'_>) {
    if cfg!(debug_assertions) {
        panic!("{message}");
    }
    line(2, "BUG", message);
}

fn line(priority: u8, level: &str, message: Arguments<'_>) {
    let program = PROGRAM.get().copied().unwrap_or("minke");
    let mut text = String::new();
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        let _ = write!(text, "<{priority}>");
    }
    let _ = writeln!(text, "[{program}][{level}] {message}");
    let _ = minke_sys::stdio::error(text.as_bytes());
}
