//! What applets say to each other over `/run/minke/NAME.sock`: one JSON value on one line each way, then the
//! server closes; or, for a stream, one value a line until either side closes.
//!
//! An answer that holds the member `error` (a string) is a refusal; [`call`] and [`Stream`] turn it into
//! [`Error::Refused`].

#![forbid(unsafe_code)]

mod client;
pub mod dns;
pub mod init;
pub mod journal;
pub mod mdns;
pub mod ntp;
mod server;
pub mod socket;
pub mod time;

pub use client::{Stream, call, stream, tell};
pub use server::{Event, Limits, Server};

use std::fmt;
use std::path::Path;

/// The longest line that either side reads, in bytes.
pub const LINE_LIMIT: usize = 1 << 20;

/// Why a call failed.
#[derive(Debug)]
pub enum Error {
    /// The socket could not be reached or broke.
    Transport(minke_sys::Error),
    /// The answer was no JSON line of acceptable length.
    Answer(Box<Path>),
    /// The peer understood and said no.
    Refused(Box<str>),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(error) => error.fmt(f),
            Self::Answer(socket) => write!(f, "ask {}: the answer is no JSON line", socket.display()),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {}

impl From<minke_sys::Error> for Error {
    fn from(error: minke_sys::Error) -> Self {
        Self::Transport(error)
    }
}
