//! Why something cannot be done, in words.

use std::fmt;

/// The words.
#[derive(Debug)]
pub struct Why(pub Box<str>);

impl Why {
    /// Something of this kind and name does not exist.
    pub fn missing(kind: &str, name: &str) -> Self {
        Self(format!("there is no {kind} {name}").into())
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<minke_sys::Error> for Why {
    #[inline(never)]
    fn from(error: minke_sys::Error) -> Self {
        Self(error.to_string().into())
    }
}
