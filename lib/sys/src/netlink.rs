//! Netlink sockets: netlink(7), rtnetlink(7), uevents.
