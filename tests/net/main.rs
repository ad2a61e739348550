//! Our daemons against the real peers, on loopback or in network namespaces.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod dns;
mod liar;
mod mdns;
mod mdns_conflict;
mod mdns_events;
mod mdns_wire;
mod ntp;
mod nts;
mod tls;
mod tls_liar;
mod tls_wrong;
