//! `engine-init`, the small PID 1 of containers that are created with `Init`: it starts the program, passes
//! signals on to it, and reaps orphans. It ends with the program's status.

use minke_applet::Args;
use minke_sys::event::{Interest, Poller};
use minke_sys::namespace::{self, Side};
use minke_sys::signal::{
    SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, Signals,
};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

const FORWARDED: [i32; 9] = [SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH];

/// Runs `PROGRAM ARGV0 ARGUMENT...`.
pub fn run(args: &Args) -> u8 {
    match start(args) {
        Ok(status) => u8::try_from(status).unwrap_or(255),
        Err(error) => {
            minke_applet::log::error(format_args!("{error}"));
            127
        }
    }
}

fn start(args: &Args) -> minke_sys::Result<i32> {
    let (mut words, nothing) = (Vec::new(), CString::default());
    for word in args.operands() {
        words.push(CString::new(word.as_bytes()).unwrap_or_default());
    }
    let (program, arguments) = words.split_first().unwrap_or((&nothing, &[]));
    let signals = Signals::new(&FORWARDED)?;
    let child = match namespace::fork()? {
        Side::Parent(pid) => pid,
        Side::Child => {
            let _ = minke_sys::signal::unblock_all();
            let failure = super::child::exec(
                &program.to_string_lossy(),
                program,
                arguments,
                &minke_sys::process::environment(),
            );
            minke_applet::log::error(format_args!("{}", failure.text));
            namespace::exit_now(127)
        }
    };
    let poller = Poller::new()?;
    poller.add(&signals, 0, Interest::Read)?;
    let mut ready = Vec::new();
    loop {
        poller.wait(&mut ready, None)?;
        while let Some(signal) = signals.take() {
            if signal != SIGCHLD {
                let _ = minke_sys::process::kill(child, signal);
            }
        }
        while let Some((pid, exit)) = minke_sys::process::reap() {
            if pid == child {
                return Ok(super::status(exit));
            }
        }
    }
}
