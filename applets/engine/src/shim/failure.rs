//! Why a container did not start, in the words that clients of the engine API know.

use minke_sys::Errno;
use std::fmt;

/// A failed start. One word, so that a result that carries it is returned in registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(Box<Reason>);

/// What is known of a failed start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The exit code that the container gets: 127 no such program, 126 not executable, 128 anything else.
    pub code: i32,
    /// What happened.
    pub text: String,
    /// A file system had no room.
    pub is_full: bool,
}

impl Failure {
    /// A failure of the set-up.
    pub fn new(text: fmt::Arguments<'_>) -> Self {
        Self::with_code(128, text)
    }

    /// A failure with an exit code.
    #[cold]
    #[inline(never)]
    pub fn with_code(code: i32, text: fmt::Arguments<'_>) -> Self {
        Self(Box::new(Reason { code, text: text.to_string(), is_full: false }))
    }

    /// A failure to execute `program`.
    pub fn exec(program: &str, errno: Errno) -> Self {
        let reason = match errno {
            Errno::NOENT => {
                let missing = format_args!("exec: \"{program}\": stat {program}: no such file or directory");
                return Self::with_code(127, missing);
            }
            Errno::NOEXEC => "exec format error",
            Errno::ACCESS | Errno::PERM => "permission denied",
            Errno::ISDIR => "is a directory",
            other => &std::io::Error::from_raw_os_error(other.raw_os_error()).to_string(),
        };
        Self::with_code(126, format_args!("exec: \"{program}\": {reason}"))
    }

    /// A program that is in no folder of the search path.
    pub fn not_in_path(program: &str) -> Self {
        Self::with_code(127, format_args!("exec: \"{program}\": executable file not found in $PATH"))
    }
}

impl std::ops::Deref for Failure {
    type Target = Reason;
    fn deref(&self) -> &Reason {
        &self.0
    }
}

/// Turns errors of system calls into failures with the step that failed.
pub trait Step<T> {
    /// `what` was attempted.
    fn step(self, what: &str) -> Result<T, Failure>;
}

impl<T> Step<T> for minke_sys::Result<T> {
    fn step(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| {
            let is_full = error.errno == Errno::NOSPC;
            let mut failure = failed(what, error);
            failure.0.is_full = is_full;
            failure
        })
    }
}

impl<T> Step<T> for std::io::Result<T> {
    fn step(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| failed(what, error))
    }
}

#[cold]
#[inline(never)]
// By value: the error is dropped here, and not by a hundred callers.
fn failed<E: fmt::Display>(what: &str, error: E) -> Failure {
    Failure::new(format_args!("{what}: {error}"))
}
