//! Netlink and rtnetlink messages (netlink(7), rtnetlink(7)), kernel uevents.
