//! Why an update does not go on, in words.

use minke_sys::Errno;
use std::fmt;

/// The words.
#[derive(Debug)]
pub struct Why(pub Box<str>);

/// The result of a step.
pub type Result<T> = std::result::Result<T, Why>;

impl Why {
    /// The words, formatted. Out of line, as it happens in many places.
    #[cold]
    #[inline(never)]
    pub fn new(words: fmt::Arguments<'_>) -> Self {
        Self(words.to_string().into())
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<minke_sys::Error> for Why {
    #[cold]
    #[inline(never)]
    fn from(error: minke_sys::Error) -> Self {
        Self::new(format_args!("{error}{}", advice(&error)))
    }
}

impl From<minke_oci::Error> for Why {
    #[cold]
    #[inline(never)]
    fn from(error: minke_oci::Error) -> Self {
        match error {
            minke_oci::Error::System(error) => error.into(),
            error => Self::new(format_args!("{error}")),
        }
    }
}

/// What a person can do when a system call has failed.
fn advice(error: &minke_sys::Error) -> &'static str {
    match error.errno {
        // What a card answers that wears out, and what ext4 makes of that.
        Errno::IO | Errno::ROFS | Errno::UCLEAN | Errno::BADMSG => {
            "; the storage medium fails: what runs is untouched; try again, and replace the medium if that fails as well"
        }
        Errno::NOSPC => "; what runs is untouched",
        _ => "",
    }
}

/// Ends a step with words.
macro_rules! refuse {
    ($($text:tt)*) => { return Err($crate::update::why::Why::new(format_args!($($text)*))) };
}
pub(crate) use refuse;
