//! The binary as it ships: dispatch, features, the four targets, reproducibility; and the layering of the
//! source. Built by `release/build`, run under emulators.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod dispatch;
mod layering;
mod licences;
mod reference_update;
mod targets;
