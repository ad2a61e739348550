//! The device's configuration and identity: `config.json` with its power-safe reader and writer, the last good
//! copy on the state partition, `os-release`, `device-type.json`, uuid, machine id and host name.
//!
//! A program that only reads does `Store::default().load()` and goes on with the [`Config`] that it got: there
//! always is one. What is wrong with the file ([`Loaded::message`]) is logged once in a boot, by `config-json
//! uuid`. A program that changes a key does it by [`Store::update`], which reads the file again, so that
//! nobody's edit is lost.

#![forbid(unsafe_code)]

mod config;
mod connectivity;
mod development;
mod device_type;
pub mod fatrw;
#[cfg(test)]
mod fuzz_tests;
mod host_name;
mod identity;
mod keys;
pub mod machine_id;
mod md5;
mod os_release;
mod store;

pub use config::{Config, Problem};
pub use connectivity::connectivity_uri;
pub use development::{DEVELOPMENT_FLAG, write_development_flag};
pub use device_type::DeviceType;
pub use host_name::{FALLBACK_HOST_NAME, HostName, host_name, is_host_name};
pub use identity::{Identity, generate_key};
pub use keys::{Key, Restart, key, keys, mistyped, settings, units, value_of};
pub use md5::Md5;
pub use minke_wire::json::{Map, Value};
pub use os_release::{OsRelease, os_release};
pub use store::{Error, Loaded, Origin, Paths, Store};
