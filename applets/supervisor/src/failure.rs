//! Why an apply ended early.

use minke_engine_api::Error;

/// Why an apply ended early.
pub struct Failure {
    /// For people.
    pub reason: String,
    /// The engine is not there.
    pub unreachable: bool,
}

impl From<Error> for Failure {
    #[inline(never)]
    fn from(error: Error) -> Self {
        Self { reason: error.to_string(), unreachable: error.is_unreachable() }
    }
}

impl From<crate::state::Error> for Failure {
    #[inline(never)]
    fn from(error: crate::state::Error) -> Self {
        Self { reason: error.to_string(), unreachable: false }
    }
}
