//! Requests to families of generic netlink.

use super::Route;
use crate::{Error, Result};
use minke_wire::netlink as wire;
use rustix::io::Errno;
use rustix::net::netlink::GENERIC;

/// Says by which country's rules the wireless links of this machine may send: two letters of ISO 3166, `00` for the
/// world's. `ENOENT`: the kernel has no wireless links and no module for them. The kernel looks the rules up in its
/// database, `regulatory.db` among its firmware, and tells drivers when it has them.
pub fn set_country(country: &str) -> Result<()> {
    const FAMILY: &str = "nl80211";
    let mut socket = Route::of(Some(GENERIC))?;
    let mut family = None;
    socket.exchange(wire::get_family(FAMILY), "find", &FAMILY, &mut |message| {
        family = family.or(wire::family(message));
    })?;
    let family = family.ok_or_else(|| Error::new("find", FAMILY, Errno::NOENT))?;
    let request = wire::set_country(family, country);
    socket.exchange(request, "set country", &country, &mut |_| {}).map(drop)
}
