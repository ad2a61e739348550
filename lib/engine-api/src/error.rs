//! What can go wrong between a program and the engine.

use std::fmt;

/// A failed call.
#[derive(Debug)]
pub enum Error {
    /// The engine could not be asked, or did not answer to the end.
    Http {
        /// Method and path.
        call: String,
        /// The reason.
        reason: Box<minke_http::Error>,
    },
    /// The engine refused.
    Api {
        /// Method and path.
        call: String,
        /// The status code.
        status: u16,
        /// The engine's words.
        message: String,
    },
    /// The answer is not what the API promises.
    Answer {
        /// Method and path.
        call: String,
    },
}

impl Error {
    /// Whether the engine is not there (yet, or any more).
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Http { reason, .. } if reason.is_unreachable())
    }

    /// The status code of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api { status, .. } => Some(*status),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { call, reason } => write!(f, "ask the engine ({call}): {reason}"),
            Self::Api { call, status, message } => write!(f, "{message} ({call}: {status})"),
            Self::Answer { call } => write!(f, "the engine's answer cannot be understood ({call})"),
        }
    }
}

impl std::error::Error for Error {}
