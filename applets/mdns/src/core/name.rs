//! Names and types of records.

pub(crate) use minke_wire::dns::{Kind, Name};
