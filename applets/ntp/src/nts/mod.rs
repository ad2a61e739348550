//! Network Time Security (RFC 8915): the client's side.

mod aead;
pub(crate) mod association;
pub(crate) mod associations;
pub(crate) mod exchange;
#[cfg(test)]
mod peers_tests;
pub(crate) mod session;
pub(crate) mod store;
