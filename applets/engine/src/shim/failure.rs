//! Why a container did not start, in the words that clients of the engine API know.

use minke_sys::Errno;

/// A failed start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code that the container gets: 127 no such program, 126 not executable, 128 anything else.
    pub code: i32,
    /// What happened.
    pub text: String,
}

impl Failure {
    /// A failure of the set-up.
    pub fn new(text: impl Into<String>) -> Self {
        Self { code: 128, text: text.into() }
    }

    /// A failure to execute `program`.
    pub fn exec(program: &str, errno: Errno) -> Self {
        let (code, reason) = match errno {
            Errno::NOENT => (127, format!("stat {program}: no such file or directory")),
            Errno::NOEXEC => (126, "exec format error".to_owned()),
            Errno::ACCESS | Errno::PERM => (126, "permission denied".to_owned()),
            Errno::ISDIR => (126, "is a directory".to_owned()),
            other => (126, std::io::Error::from_raw_os_error(other.raw_os_error()).to_string()),
        };
        Self { code, text: format!("exec: \"{program}\": {reason}") }
    }

    /// A program that is in no folder of the search path.
    pub fn not_in_path(program: &str) -> Self {
        Self { code: 127, text: format!("exec: \"{program}\": executable file not found in $PATH") }
    }
}

/// Turns errors of system calls into failures with the step that failed.
pub trait Step<T> {
    /// `what` was attempted.
    fn step(self, what: &str) -> Result<T, Failure>;
}

impl<T, E: std::fmt::Display> Step<T> for Result<T, E> {
    fn step(self, what: &str) -> Result<T, Failure> {
        match self {
            Ok(value) => Ok(value),
            Err(error) => Err(failed(what, &error)),
        }
    }
}

#[inline(never)]
fn failed(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("{what}: {error}"))
}
