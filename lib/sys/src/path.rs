//! Paths and names on their way to the kernel.

use rustix::io::{Errno, Result};
use rustix::path::Arg;
use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;

/// A path or name for rustix, whose own way makes a copy of itself for each type of path at each call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name<'a>(&'a [u8]);

/// A path for rustix.
pub(crate) fn name<T: AsRef<OsStr> + ?Sized>(path: &T) -> Name<'_> {
    Name(path.as_ref().as_bytes())
}

/// A name in a folder for rustix.
pub(crate) fn bytes(name: &[u8]) -> Name<'_> {
    Name(name)
}

#[inline(never)]
fn c_string(name: &[u8]) -> Result<CString> {
    CString::new(name).map_err(|_| Errno::INVAL)
}

impl Arg for Name<'_> {
    fn as_str(&self) -> Result<&str> {
        std::str::from_utf8(self.0).map_err(|_| Errno::INVAL)
    }

    fn to_string_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.0)
    }

    fn as_cow_c_str(&self) -> Result<Cow<'_, CStr>> {
        c_string(self.0).map(Cow::Owned)
    }

    fn into_c_str<'b>(self) -> Result<Cow<'b, CStr>>
    where
        Self: 'b,
    {
        c_string(self.0).map(Cow::Owned)
    }

    fn into_with_c_str<T, F: FnOnce(&CStr) -> Result<T>>(self, call: F) -> Result<T> {
        call(&c_string(self.0)?)
    }
}
