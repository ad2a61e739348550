//! `engine-shim`: the small process beside each running container. It is the parent of the container's first
//! process, owns its pipes or terminal, sends its output to the journal, forwards its published ports, and
//! writes down how it ended. The engine may crash, restart and be updated meanwhile.
//!
//! It finds its orders in `RUN/spec.json` (made by `container::launch`), gets messages from the engine on
//! standard input and later on `RUN/shim.sock`, and leaves `RUN/state.json` while the container runs and
//! `RUN/exit.json` afterwards. RUN lies on a tmpfs: after a reboot nothing of it is there, and nothing runs.

mod attach;
pub mod child;
mod devices;
mod failure;
mod forward;
mod forward_udp;
pub mod init;
mod log;
mod mounts;
mod network;
mod run;
mod start;
mod user;
mod volume_copy;

use crate::fields::Fields;
use crate::fields::json;
use minke_applet::Args;
use minke_sys::channel::{Channel, Received};
use minke_sys::process::Exit;
use minke_wire::json::Value;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The longest orders that are read: an environment and its limits in `container::create` fit.
const SPEC_LIMIT: usize = 8 << 20;

/// Runs `engine-shim RUN`.
pub fn run(args: &Args) -> u8 {
    let Some(folder) = args.operand(0) else {
        minke_applet::log::error(format_args!("this program is started by the engine only"));
        return minke_applet::EXIT_USAGE;
    };
    match serve(Path::new(folder)) {
        Ok(()) => 0,
        Err(error) => {
            minke_applet::log::error(format_args!("container in {folder}: {error}"));
            1
        }
    }
}

/// A message together with the descriptor that may come with it.
pub struct Message {
    body: Value,
    fd: Option<OwnedFd>,
}

impl Message {
    fn new(bytes: &[u8], mut fds: Vec<OwnedFd>) -> Self {
        // One at most is sent.
        Self { body: minke_wire::json::parse(bytes).unwrap_or_default(), fd: fds.pop() }
    }
}

fn serve(folder: &Path) -> minke_sys::Result<()> {
    let _ = minke_sys::namespace::new_session();
    let control = take_standard_input()?;
    let bytes = minke_sys::file::read_bounded(&folder.join("spec.json"), SPEC_LIMIT)?;
    let spec: Value = minke_wire::json::parse(&bytes).unwrap_or(Value::Null);
    let mut early = Vec::new();
    while let Some(message) = next_message(&control)? {
        if message.body.text("op") == "start" {
            return run::run(folder.to_owned(), spec, control, early);
        }
        early.push(message);
    }
    // The engine went away before it said start: so this container never did.
    Ok(())
}

/// The channel to the engine, which is standard input, so that it does not reach the container.
fn take_standard_input() -> minke_sys::Result<Channel> {
    let [fd, error] = minke_sys::stdio::copies()?;
    let null = minke_sys::file::open_to_read("/dev/null")?;
    minke_sys::namespace::set_standard_streams([&null.into(), &error, &error])?;
    Ok(Channel::from_fd(fd))
}

/// The next message of the engine; `None` when there is none now or ever.
fn next_message(control: &Channel) -> minke_sys::Result<Option<Message>> {
    Ok(match control.receive()? {
        Received::Message(bytes, fds) => Some(Message::new(&bytes, fds)),
        Received::Nothing | Received::Closed => None,
    })
}

/// An exit in a shell's words: the status, or 128 and the signal.
pub fn status(exit: Exit) -> i32 {
    match exit {
        Exit::Code(code) => code,
        Exit::Signal(signal) => signal.saturating_add(128),
    }
}

/// Writes a file of the run state whole: a reader sees all of it or nothing. It need not survive a power cut.
fn write_whole(path: &Path, content: &Value) -> minke_sys::Result<()> {
    use minke_sys::Context;
    let fresh = path.with_extension("new");
    minke_sys::file::write(&fresh, content.to_string())?;
    std::fs::rename(&fresh, path).on("rename to", path)
}

/// Writes down how the container ended.
fn write_exit(folder: &Path, code: i32, error: &str, oom: bool) -> minke_sys::Result<()> {
    let now = minke_sys::clock::realtime();
    let document = json!({
        "code": code, "error": error, "oom": oom, "seconds": now.as_secs(), "nanoseconds": now.subsec_nanos()
    });
    write_whole(&folder.join("exit.json"), &document)
}
