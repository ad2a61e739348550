//! Netlink and rtnetlink messages (netlink(7), rtnetlink(7)), kernel uevents.
//!
//! Numbers are in the machine's own byte order, as between every process and its kernel. The socket that
//! carries these bytes is `minke_sys::netlink`.

mod attribute;
mod generic;
mod message;
mod record;
mod request;
#[cfg(test)]
mod tests;
mod uevent;

pub use attribute::{Attribute, Attributes};
pub use generic::{family, get_family, set_country};
pub use message::{Answer, Builder, Message, Messages, answer};
pub use record::{Address, Change, Link, Route, change};
pub use request::{
    PeerNamespace, RouteSpec, add_address, create_bridge, create_veth, delete_address, delete_link,
    delete_route, get_link, list_addresses, list_links, list_routes, move_link, replace_route, set_mac,
    set_master, set_mtu, set_name, set_up,
};
pub use uevent::Uevent;

/// Message types of `linux/netlink.h`.
pub const NLMSG_ERROR: u16 = 2;
/// The end of a dump.
pub const NLMSG_DONE: u16 = 3;

/// Message types of `linux/rtnetlink.h`.
pub const RTM_NEWLINK: u16 = 16;
/// A link is gone or shall go.
pub const RTM_DELLINK: u16 = 17;
/// Asks for links.
pub const RTM_GETLINK: u16 = 18;
/// Changes a link.
pub const RTM_SETLINK: u16 = 19;
/// An address is there or shall be.
pub const RTM_NEWADDR: u16 = 20;
/// An address is gone or shall go.
pub const RTM_DELADDR: u16 = 21;
/// Asks for addresses.
pub const RTM_GETADDR: u16 = 22;
/// A route is there or shall be.
pub const RTM_NEWROUTE: u16 = 24;
/// A route is gone or shall go.
pub const RTM_DELROUTE: u16 = 25;
/// Asks for routes.
pub const RTM_GETROUTE: u16 = 26;

/// Link flags of netdevice(7).
pub const IFF_UP: u32 = 1;
/// A link that ends in this machine.
pub const IFF_LOOPBACK: u32 = 8;
/// Up and operational (RFC 2863): the driver has a carrier.
pub const IFF_RUNNING: u32 = 0x40;
/// The physical layer has a signal.
pub const IFF_LOWER_UP: u32 = 0x1_0000;

/// Hardware type of Ethernet (`linux/if_arp.h`).
pub const ARPHRD_ETHER: u16 = 1;

/// Route protocol "boot": added by a program while the system comes up.
pub const RTPROT_BOOT: u8 = 3;
/// Route protocol "dhcp": learned from DHCP.
pub const RTPROT_DHCP: u8 = 16;
/// The main routing table.
pub const RT_TABLE_MAIN: u32 = 254;

pub(crate) const AF_UNSPEC: u8 = 0;
pub(crate) const AF_INET: u8 = 2;
pub(crate) const AF_INET6: u8 = 10;

/// Rounds up to the boundary of four bytes at which headers and attributes stand.
pub(crate) fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}
