//! Log lines of stage 1 and PID 1: the kernel's log, and while the journal listens, the journal.

use minke_sys::file::{self, Flags};
use std::fmt::Arguments;
use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::sync::{Mutex, OnceLock};

/// syslog priorities, RFC 5424 table 2.
pub const ERROR: u8 = 3;
/// Something is wrong, and the boot goes on.
pub const WARNING: u8 = 4;
/// Normal events.
pub const INFO: u8 = 6;

/// The journal's native socket.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// `LOG_DAEMON`, RFC 5424 table 1: the kernel marks lines with its own facility as its own.
const FACILITY: u8 = 3;

static KMSG: OnceLock<Option<File>> = OnceLock::new();
static COPY: Mutex<Option<File>> = Mutex::new(None);

/// From now on every line goes to `file` as well; `None` ends that.
pub fn copy_to(file: Option<File>) {
    if let Ok(mut copy) = COPY.lock() {
        *copy = file;
    }
}

/// One line.
pub fn line(priority: u8, message: Arguments<'_>) {
    about(priority, None, message);
}

/// One line about what failed, if it did.
pub fn failure(priority: u8, result: minke_sys::Result<()>) {
    if let Err(error) = result {
        line(priority, format_args!("{error}"));
    }
}

/// One line about a unit, which `journalctl -u UNIT` shows.
pub fn about(priority: u8, unit: Option<&str>, message: Arguments<'_>) {
    let text = format!("[init][{}] {message}", level(priority));
    if let Ok(mut copy) = COPY.lock()
        && let Some(file) = copy.as_mut()
    {
        let _ = writeln!(file, "{text}");
    }
    if !to_journal(priority, unit, &text) {
        to_kernel(priority, &text);
    }
}

fn level(priority: u8) -> &'static str {
    match priority {
        0..=ERROR => "ERROR",
        WARNING => "WARN",
        _ => "INFO",
    }
}

fn to_journal(priority: u8, unit: Option<&str>, text: &str) -> bool {
    let Ok(socket) = UnixDatagram::unbound() else { return false };
    let (name, unit, end) = unit.map_or(("", "", ""), |unit| ("UNIT=", unit, "\n"));
    // A line end would begin a new field.
    let text = text.replace('\n', " ");
    let record = format!(
        "PRIORITY={priority}\nSYSLOG_FACILITY={FACILITY}\nSYSLOG_IDENTIFIER=init\n{name}{unit}{end}MESSAGE={text}\n"
    );
    // PID 1 must never wait for the journal: a full socket counts as no journal.
    let _ = minke_sys::channel::set_nonblocking(&socket, true);
    socket.send_to(record.as_bytes(), JOURNAL).is_ok()
}

fn to_kernel(priority: u8, text: &str) {
    let open = || file::open("/dev/kmsg", Flags::WRONLY).ok();
    let number = FACILITY.saturating_mul(8).saturating_add(priority);
    match KMSG.get_or_init(open) {
        Some(kmsg) => {
            let mut kmsg: &File = kmsg;
            let _ = kmsg.write_all(format!("<{number}>{text}\n").as_bytes());
        }
        None => minke_applet::errln!("{text}"),
    }
}

/// A line for a person at the console, whatever the kernel's console level is.
pub fn console(message: Arguments<'_>) {
    if let Ok(mut console) = file::open("/dev/console", Flags::WRONLY) {
        let _ = console.write_all(format!("\r\n[init] {message}\r\n").as_bytes());
    }
}

/// An error that a person at the console sees as well.
pub fn alarm(message: Arguments<'_>) {
    line(ERROR, message);
    console(message);
}
