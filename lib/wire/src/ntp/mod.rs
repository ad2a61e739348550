//! NTP packets (RFC 5905 §7, RFC 7822): the header of 48 bytes, its times, and the extension fields behind it.

mod extension;
mod packet;
#[cfg(test)]
mod tests;
mod time;

pub use extension::{Extension, Extensions, put};
pub use packet::{Kiss, Leap, Packet, mode};
pub use time::{Short, Timestamp};

/// The UDP port of servers.
pub const PORT: u16 = 123;
/// The version that we speak (RFC 5905).
pub const VERSION: u8 = 4;
/// Bytes of the header.
pub const HEADER: usize = 48;
/// The stratum of a server that is not synchronised, MAXSTRAT in RFC 5905.
pub const MAXSTRAT: u8 = 16;
