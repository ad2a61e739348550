//! Stands in for `minke_wire::dns` until that has these.

/// A name in wire form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) Vec<u8>);

/// A type of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind(pub(crate) u16);
