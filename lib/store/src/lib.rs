//! Durable state: one JSON document per file, with a checksum and the previous good copy.

#![forbid(unsafe_code)]

mod record;

pub use record::{Condition, Error, MAX_RECORD, Record, Result};
