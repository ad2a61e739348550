//! The one error type of this crate.

use std::fmt;
use std::io;
use std::path::Path;

/// What went wrong while building or running an image. The text says what was attempted, and on what.
#[derive(Debug)]
pub enum Error {
    /// An operating system call failed.
    Io {
        /// What was attempted, with the path.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A host program ended badly, or could not be started, or ran into its time limit.
    Tool {
        /// The command line.
        command: String,
        /// Its exit status in words, and the end of what it printed.
        detail: String,
    },
    /// Input that cannot be used: a package without a kernel, a file that is not what it should be.
    Invalid(String),
    /// The command line cannot be understood.
    Usage(String),
    /// A guest did not do something in time; carries the end of its console log.
    Timeout {
        /// What was waited for.
        what: String,
        /// The last lines of the console.
        tail: String,
    },
    /// QEMU ended while something was expected of the guest; carries the end of its console log.
    GuestGone {
        /// What was waited for.
        what: String,
        /// The last lines of the console and of QEMU's own messages.
        tail: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { what, source } => write!(f, "{what}: {source}"),
            Error::Tool { command, detail } => write!(f, "{command}: {detail}"),
            Error::Invalid(text) | Error::Usage(text) => f.write_str(text),
            Error::Timeout { what, tail } => write!(f, "no {what} in time; the console ended with:\n{tail}"),
            Error::GuestGone { what, tail } => {
                write!(f, "the guest ended before {what}; the console ended with:\n{tail}")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Adds what was attempted to an I/O error.
pub trait Context<T> {
    /// `what` names the attempt, for instance `writing /x/y`.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
    /// The same for a verb and a path.
    fn on(self, verb: &str, path: &Path) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source })
    }

    fn on(self, verb: &str, path: &Path) -> Result<T> {
        self.context(|| format!("{verb} {}", path.display()))
    }
}
