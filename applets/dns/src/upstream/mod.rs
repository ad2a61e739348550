//! Asking the servers: their figures, whom a question goes to and when, and the connections of those that are not asked by
//! datagrams.

pub(crate) mod course;
pub(crate) mod health;
pub(crate) mod link;
pub(crate) mod servers;
