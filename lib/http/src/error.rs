//! What can go wrong, with its fate.

use minke_wire::http::{BodyError, HeadError};
use std::fmt;

/// A failed operation on a server, a connection or a peer.
#[derive(Debug)]
pub enum Error {
    /// The kernel refused; the text says what was attempted on which path or peer.
    System(minke_sys::Error),
    /// The connection is closed, or not in a state for this call: forget it.
    Gone,
    /// More than [`crate::Limits::queued`] bytes wait for a slow reader: nothing was taken. Wait for
    /// [`crate::Event::Drained`], or close the connection.
    Full,
    /// The peer did not speak proper HTTP.
    Protocol(&'static str),
    /// The peer closed the connection in the middle of a message.
    Truncated,
    /// The answer is larger than this many bytes, the limit of the call.
    TooLarge(usize),
    /// What is wrong with a URL, and the URL.
    Url(&'static str, Box<str>),
    /// A name has no address; the text says which and why.
    Name(Box<str>),
    /// The server's certificate is not believed.
    Certificate(Box<crate::Distrusted>),
    /// No TLS session could be had; the text names the host and says why.
    Tls(Box<str>),
}

impl Error {
    /// Whether nobody listens at the peer's address (yet): trying again later makes sense.
    pub fn is_unreachable(&self) -> bool {
        use minke_sys::Errno;
        matches!(self, Self::System(error) if matches!(error.errno, Errno::CONNREFUSED | Errno::NOENT))
    }

    /// Whether the peer stayed silent for the time-out.
    pub fn is_timeout(&self) -> bool {
        use minke_sys::Errno;
        matches!(self, Self::System(error) if matches!(error.errno, Errno::AGAIN | Errno::TIMEDOUT))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The kernel's word for it, "temporarily unavailable", says nothing of time.
            Self::System(error) if self.is_timeout() => {
                write!(f, "{} {}: no answer in time", error.operation, error.object)
            }
            Self::System(error) => error.fmt(f),
            Self::Gone => f.write_str("the connection is closed"),
            Self::Full => f.write_str("the peer reads too slowly"),
            Self::Protocol(what) => write!(f, "the peer sent no proper HTTP: {what}"),
            Self::Truncated => f.write_str("the peer closed the connection in the middle of a message"),
            Self::Url(what, url) => write!(f, "URL \"{}\" {what}", minke_wire::text::shown(url)),
            Self::Certificate(distrusted) => distrusted.fmt(f),
            Self::Name(text) | Self::Tls(text) => f.write_str(text),
            Self::TooLarge(limit) => write!(f, "the answer is larger than {limit} bytes"),
        }
    }
}

impl std::error::Error for Error {}

impl From<minke_sys::Error> for Error {
    fn from(error: minke_sys::Error) -> Self {
        Self::System(error)
    }
}

impl From<HeadError> for Error {
    fn from(error: HeadError) -> Self {
        Self::Protocol(match error {
            HeadError::Malformed => "malformed head",
            HeadError::TooLarge => "head too large",
            HeadError::Coding => "unsupported transfer coding",
            HeadError::Version => "unsupported version",
        })
    }
}

impl From<BodyError> for Error {
    fn from(_: BodyError) -> Self {
        Self::Protocol("malformed chunked body")
    }
}
