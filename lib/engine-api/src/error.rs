//! What can go wrong between a program and the engine.

use std::fmt;

/// A failed call. One word, so that a result that carries it is returned in registers.
#[derive(Debug)]
pub struct Error(Box<Failed>);

#[derive(Debug)]
struct Failed {
    /// Method and path.
    call: String,
    reason: Reason,
}

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum Reason {
    /// The engine could not be asked, or did not answer to the end.
    Http(minke_http::Error),
    /// The engine refused: the status code and its words.
    Api(u16, String),
    /// The answer is not what the API promises.
    Answer,
}

impl Error {
    /// The error of a call. A query is left out: it may be long and says little.
    #[cold]
    #[inline(never)]
    pub(crate) fn of(method: &str, target: &str, reason: Reason) -> Self {
        let path = target.split('?').next().unwrap_or(target);
        Self(Box::new(Failed { call: format!("{method} {path}"), reason }))
    }

    /// Whether the engine is not there (yet, or any more).
    pub fn is_unreachable(&self) -> bool {
        matches!(&self.0.reason, Reason::Http(reason) if reason.is_unreachable())
    }

    /// The status code of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self.0.reason {
            Reason::Api(status, _) => Some(status),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let call = &self.0.call;
        match &self.0.reason {
            Reason::Http(reason) => write!(f, "ask the engine ({call}): {reason}"),
            Reason::Api(status, message) => write!(f, "{message} ({call}: {status})"),
            Reason::Answer => write!(f, "the engine's answer cannot be understood ({call})"),
        }
    }
}

impl std::error::Error for Error {}
