//! Images: archives, layers, and the durable store that keeps them.
//!
//! [`ImageStore`] is what the engine uses. [`Archive`](archive::Archive) reads `docker save` files and OCI
//! layouts, [`Registry`](registry::Registry) asks registries, [`layer`] turns one layer blob into a folder for
//! overlayfs. [`hostapp`] puts host apps into slots. Nothing here knows containers.

#![forbid(unsafe_code)]

pub mod archive;
mod config;
mod documents;
mod error;
mod gunzip;

mod hash;
pub mod hostapp;
mod inflated;
pub mod layer;
pub mod manifest;
mod pipe;
pub mod platform;
pub mod registry;
mod store;
pub mod unpack;

pub use config::{ImageConfig, MAX_LAYERS};
pub use error::{Error, Problem, Result};
pub use inflated::gunzip_bytes;
pub use layer::Blob;
pub use minke_wire::oci::{Compression, Digest, MediaType, Reference, ReferenceError};
pub use platform::Platform;
pub use store::{
    Image, ImageStore, LoadedImage, NewImage, OnProgress, OnPull, Progress, PullStep, Pulled, Removal,
    Session,
};
