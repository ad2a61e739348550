//! Errors as the engine API reports them.

use std::fmt;

/// A refused or failed request. One word, so that a result that carries it is returned in registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError(Box<Answer>);

/// The HTTP status and the `message` of the JSON body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status. 304 stands for "already so".
    pub status: u16,
    /// One line for a person, in the words that clients look for.
    pub message: String,
}

/// The result of an API operation.
pub type Result<T> = std::result::Result<T, ApiError>;

// Made in a hundred places: out of line and with the text still unmade, each costs a call only.
impl ApiError {
    /// An error with a status.
    #[cold]
    #[inline(never)]
    pub fn new(status: u16, message: fmt::Arguments<'_>) -> Self {
        Self(Box::new(Answer { status, message: message.to_string() }))
    }

    /// 400: the request makes no sense.
    pub fn bad(message: fmt::Arguments<'_>) -> Self {
        Self::new(400, message)
    }

    /// 404: no such object.
    pub fn missing(message: fmt::Arguments<'_>) -> Self {
        Self::new(404, message)
    }

    /// 409: against the present state.
    pub fn conflict(message: fmt::Arguments<'_>) -> Self {
        Self::new(409, message)
    }

    /// 500: the engine could not do it.
    pub fn internal(message: fmt::Arguments<'_>) -> Self {
        Self::new(500, message)
    }

    /// 304: it is so already.
    pub fn not_modified() -> Self {
        Self::new(304, format_args!(""))
    }
}

impl std::ops::Deref for ApiError {
    type Target = Answer;
    fn deref(&self) -> &Answer {
        &self.0
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

/// 500: the engine could not do it, for this reason.
macro_rules! internal {
    ($($reason:ty),*) => {
        $(impl From<$reason> for ApiError {
            #[cold]
            #[inline(never)]
            fn from(error: $reason) -> Self {
                Self::internal(format_args!("{error}"))
            }
        })*
    };
}
internal!(minke_sys::Error, minke_http::Error, minke_store::Error, std::io::Error);

impl From<minke_oci::Error> for ApiError {
    #[cold]
    #[inline(never)]
    fn from(error: minke_oci::Error) -> Self {
        let status = match &error {
            minke_oci::Error::NotFound(_) | minke_oci::Error::Platform { .. } => 404,
            minke_oci::Error::Conflict(_) => 409,
            // As Docker answers: whether it is private or not there is not told.
            minke_oci::Error::Denied(_) => 404,
            minke_oci::Error::Reference(_) => 400,
            _ => 500,
        };
        Self::new(status, format_args!("{error}"))
    }
}
