//! What can go wrong with images.

use minke_wire::oci::{Digest, ReferenceError};
use std::fmt;
use std::path::{Path, PathBuf};

/// A failed operation on images. Each variant says which answer of the Engine API fits.
#[derive(Debug)]
pub enum Error {
    /// A system call failed (500).
    System(minke_sys::Error),
    /// A text is no image reference (400).
    Reference(ReferenceError),
    /// An archive or a document in it is malformed (400, or 500 for a load).
    Malformed {
        /// The archive, file or peer.
        what: Box<str>,
        /// What is wrong with it.
        reason: Box<str>,
    },
    /// Content does not have the digest that it should have: it is damaged, or forged (500).
    Digest {
        /// Which content: a blob, a layer, a config.
        what: &'static str,
        /// What it should have been.
        expected: Box<Digest>,
        /// What it is.
        found: Box<Digest>,
    },
    /// Well-formed, and nothing that this program can use (500).
    Unsupported(Box<str>),
    /// No image in the index fits this machine (404).
    Platform {
        /// This machine.
        wanted: Box<str>,
        /// What there is.
        available: Box<str>,
    },
    /// The registry cannot be reached, or does not answer as it should; trying again later makes sense (500).
    Registry(Box<str>),
    /// This device's clock contradicts the dates of the registry's certificate; where nothing has confirmed the clock,
    /// trying again when something has makes sense (500).
    Dates(Box<str>),
    /// The registry does not let us have it (401 or 403: it may be private, or not there).
    Denied(Box<str>),
    /// There is no such image (404).
    NotFound(Box<str>),
    /// The request contradicts the store's state: an image in use, an ambiguous prefix (409).
    Conflict(Box<str>),
    /// The progress callback asked to stop.
    Cancelled,
    /// A file of a host app, read back from its slot, is not what was written.
    ReadBack(Box<str>),
    /// The caller, or a rule of installing, does not want this host app, for this reason.
    Refused(Box<str>),
}

/// The result of an operation on images.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    // Errors are made in many places: by `dyn` and out of line, each costs a call only.

    /// Something at `path` is malformed.
    #[cold]
    #[inline(never)]
    pub(crate) fn malformed(path: &Path, reason: &dyn fmt::Display) -> Self {
        Self::Malformed { what: path.to_string_lossy().into(), reason: reason.to_string().into() }
    }

    /// A document or layer is malformed.
    #[cold]
    #[inline(never)]
    pub(crate) fn bad(what: &'static str, reason: &dyn fmt::Display) -> Self {
        Self::Malformed { what: what.into(), reason: reason.to_string().into() }
    }

    /// This is not supported.
    #[cold]
    #[inline(never)]
    pub(crate) fn unsupported(what: &dyn fmt::Display) -> Self {
        Self::Unsupported(what.to_string().into())
    }

    /// There is no such image.
    #[cold]
    #[inline(never)]
    pub(crate) fn not_found(what: &dyn fmt::Display) -> Self {
        Self::NotFound(what.to_string().into())
    }

    /// A host app is not wanted.
    #[cold]
    #[inline(never)]
    pub(crate) fn refused(reason: &dyn fmt::Display) -> Self {
        Self::Refused(reason.to_string().into())
    }

    /// The request contradicts the store's state.
    #[cold]
    #[inline(never)]
    pub(crate) fn conflict(what: &dyn fmt::Display) -> Self {
        Self::Conflict(what.to_string().into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(error) => error.fmt(f),
            Self::Reference(error) => error.fmt(f),
            Self::Malformed { what, reason } => write!(f, "{what}: {reason}"),
            Self::Digest { what, expected, found } => {
                write!(f, "{what} is damaged: expected {expected}, found {found}; fetch it again")
            }
            Self::Unsupported(what) => write!(f, "not supported: {what}"),
            Self::Platform { wanted, available } => {
                write!(f, "no image for {wanted}; there is {available}")
            }
            Self::Denied(reason) => write!(f, "pull access denied: {reason}"),
            Self::NotFound(name) => write!(f, "No such image: {name}"),
            Self::Conflict(reason) => write!(f, "conflict: {reason}"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::ReadBack(path) => write!(
                f,
                "{path}: what was read back is not what was written: the storage medium fails; replace it"
            ),
            Self::Refused(reason) | Self::Registry(reason) | Self::Dates(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Error {}

impl From<minke_sys::Error> for Error {
    fn from(error: minke_sys::Error) -> Self {
        Self::System(error)
    }
}

impl From<ReferenceError> for Error {
    fn from(error: ReferenceError) -> Self {
        Self::Reference(error)
    }
}

/// Something that was found wrong when a store was opened, and what was done about it. The caller logs it.
#[derive(Debug)]
pub struct Problem {
    /// The file or folder.
    pub path: PathBuf,
    /// What was wrong, and what it cost.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.text)
    }
}

impl From<minke_store::Error> for Error {
    fn from(error: minke_store::Error) -> Self {
        match error {
            minke_store::Error::System(error) => Self::System(error),
            other => Self::Malformed { what: "image store".into(), reason: other.to_string().into() },
        }
    }
}
