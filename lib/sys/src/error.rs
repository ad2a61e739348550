//! The error of every system call: what was attempted, on what, and why it failed.

use rustix::io::Errno;
use std::fmt;
use std::path::Path;

/// A failed system call. One word, so that a result that carries it is returned in registers.
#[derive(Debug)]
pub struct Error(Box<Details>);

/// What is known of a failed system call.
#[derive(Debug)]
pub struct Details {
    /// What was attempted, for instance `mount`.
    pub operation: &'static str,
    /// The path, peer or object it was attempted on.
    pub object: Box<str>,
    /// The kernel's answer.
    pub errno: Errno,
}

/// The result of a system call.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with its context.
    pub fn new(operation: &'static str, object: impl fmt::Display, errno: Errno) -> Self {
        Self::of(operation, &object, errno)
    }

    // Made in hundreds of places: by `dyn` and out of line, each costs a call only.
    #[cold]
    #[inline(never)]
    fn of(operation: &'static str, object: &dyn fmt::Display, errno: Errno) -> Self {
        Self(Box::new(Details { operation, object: object.to_string().into_boxed_str(), errno }))
    }

    #[cold]
    #[inline(never)]
    fn on(operation: &'static str, path: &Path, errno: Errno) -> Self {
        Self::of(operation, &path.display(), errno)
    }
}

impl std::ops::Deref for Error {
    type Target = Details;
    fn deref(&self) -> &Details {
        &self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = std::io::Error::from_raw_os_error(self.errno.raw_os_error());
        write!(f, "{} {}: {reason}", self.operation, self.object)
    }
}

impl std::error::Error for Error {}

/// The number alone, for callers that say themselves what they attempted.
impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        error.errno.into()
    }
}

/// Adds to a result what was attempted and on what.
pub trait Context<T> {
    /// `operation` was attempted on `object`.
    fn context(self, operation: &'static str, object: impl fmt::Display) -> Result<T>;
    /// `operation` was attempted on `path`.
    fn on(self, operation: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> Context<T> for std::result::Result<T, Errno> {
    fn context(self, operation: &'static str, object: impl fmt::Display) -> Result<T> {
        self.map_err(|errno| Error::new(operation, &object, errno))
    }
    fn on(self, operation: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|errno| Error::on(operation, path.as_ref(), errno))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, operation: &'static str, object: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::new(operation, &object, errno_of(&error)))
    }
    fn on(self, operation: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|error| Error::on(operation, path.as_ref(), errno_of(&error)))
    }
}

/// The error number of a std error. Errors that std itself makes up (an unexpected end, bad UTF-8) count as
/// input/output errors.
pub(crate) fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
