//! Network Time Security (RFC 8915): the client's side.

mod aead;
pub(crate) mod association;
pub(crate) mod exchange;
pub(crate) mod session;
pub(crate) mod store;
