//! The real daemon with real clients.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod daemon;
mod peers;
mod promises;
