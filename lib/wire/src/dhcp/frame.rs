//! The IPv4 and UDP headers around a message, for a client that has no address yet (RFC 791, RFC 768).

use super::{CLIENT_PORT, SERVER_PORT};
use std::net::Ipv4Addr;

const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const UDP: u8 = 17;

/// Puts a client's message into a broadcast packet from `source`. A message of more than 64 KiB gives
/// nothing.
pub fn encapsulate(source: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let udp_length = message.len().saturating_add(UDP_HEADER);
    let (Ok(total), Ok(udp_length)) =
        (u16::try_from(udp_length.saturating_add(IP_HEADER)), u16::try_from(udp_length))
    else {
        return Vec::new();
    };
    let mut packet = Vec::with_capacity(total.into());
    // Version 4, five words; low delay; total length; no id; no fragments; 64 hops; UDP; checksum later.
    packet.extend_from_slice(&[0x45, 0x10]);
    packet.extend_from_slice(&total.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 0, 64, UDP, 0, 0]);
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&Ipv4Addr::BROADCAST.octets());
    let header_sum = checksum(0, &packet);
    put(&mut packet, 10, header_sum);
    packet.extend_from_slice(&CLIENT_PORT.to_be_bytes());
    packet.extend_from_slice(&SERVER_PORT.to_be_bytes());
    packet.extend_from_slice(&udp_length.to_be_bytes());
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(message);
    // The pseudo header: both addresses, the protocol, the length.
    let pseudo = u32::from(UDP).saturating_add(udp_length.into());
    let sum = checksum(pseudo, packet.get(12..).unwrap_or_default());
    put(&mut packet, 26, if sum == 0 { 0xffff } else { sum });
    packet
}

/// Takes a server's message out of an IPv4 packet. `None`: not from the server port to the client port, cut,
/// a fragment, or a header with a wrong checksum.
///
/// The UDP checksum is not looked at: between virtual links it is not computed yet when a packet socket sees
/// the packet (`TP_STATUS_CSUMNOTREADY`), and real links check their frames themselves.
pub fn decapsulate(packet: &[u8]) -> Option<&[u8]> {
    let header_length = usize::from(packet.first()? & 0x0f).checked_mul(4)?;
    let header = packet.get(..header_length)?;
    let [version, _, t0, t1, _, _, f0, f1, _, protocol, ..] = *header.first_chunk::<IP_HEADER>()?;
    let fragment = u16::from_be_bytes([f0, f1]) & 0x3fff != 0;
    if version >> 4 != 4 || protocol != UDP || fragment || checksum(0, header) != 0 {
        return None;
    }
    let total = usize::from(u16::from_be_bytes([t0, t1]));
    // A short packet is padded to the smallest Ethernet frame, so there may be more than `total`.
    let (udp, message) = packet.get(header_length..total)?.split_first_chunk::<UDP_HEADER>()?;
    let [s0, s1, d0, d1, l0, l1, _, _] = *udp;
    let ports = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
    let length = usize::from(u16::from_be_bytes([l0, l1])).checked_sub(UDP_HEADER)?;
    (ports == (SERVER_PORT, CLIENT_PORT)).then(|| message.get(..length)).flatten()
}

/// The Internet checksum (RFC 1071) of `bytes`, begun with `sum`.
fn checksum(sum: u32, bytes: &[u8]) -> u16 {
    let (words, odd) = bytes.as_chunks::<2>();
    let last = odd.first().map_or(0, |byte| u32::from(*byte) << 8);
    let mut sum = words
        .iter()
        .fold(sum.wrapping_add(last), |sum, word| sum.wrapping_add(u16::from_be_bytes(*word).into()));
    while sum > 0xffff {
        sum = (sum & 0xffff).wrapping_add(sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

fn put(packet: &mut [u8], at: usize, value: u16) {
    if let Some(place) = packet.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = value.to_be_bytes();
    }
}
