//! Images: archives, layers, and the durable store that keeps them.
//!
//! [`ImageStore`] is what the engine uses. [`Archive`](archive::Archive) reads `docker save` files and OCI
//! layouts, [`layer`] turns one layer blob into a folder for overlayfs. Nothing here knows containers.

#![forbid(unsafe_code)]

pub mod archive;
mod config;
mod documents;
mod error;
mod gunzip;
mod hash;
pub mod layer;
pub mod manifest;
pub mod platform;
mod store;
pub mod unpack;

pub use config::{ImageConfig, MAX_LAYERS};
pub use error::{Error, Problem, Result};
pub use layer::Blob;
pub use minke_wire::oci::{Compression, Digest, MediaType, Reference, ReferenceError};
pub use platform::Platform;
pub use store::{Image, ImageStore, LoadedImage, NewImage, OnProgress, Progress, Removal, Session};
