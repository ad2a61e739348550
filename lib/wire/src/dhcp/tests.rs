use super::*;
use std::net::Ipv4Addr;

/// A server's message with these options after the cookie.
fn reply(options: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef];
    bytes.resize(16, 0);
    bytes.extend_from_slice(&[192, 0, 2, 7]);
    bytes.resize(28, 0);
    bytes.extend_from_slice(&[2, 0, 0, 0, 0, 1]);
    bytes.resize(FIXED, 0);
    bytes.extend_from_slice(&COOKIE);
    bytes.extend_from_slice(options);
    bytes
}

/// An ack as a common server sends it, with every option that we read.
fn full() -> Vec<u8> {
    let mut options = vec![53, 1, 5, 54, 4, 192, 0, 2, 1, 51, 4, 0, 0, 14, 16, 58, 4, 0, 0, 7, 8];
    options.extend_from_slice(&[59, 4, 0, 0, 12, 78, 1, 4, 255, 255, 255, 0, 28, 4, 192, 0, 2, 255]);
    options.extend_from_slice(&[3, 4, 192, 0, 2, 1, 6, 8, 192, 0, 2, 1, 9, 9, 9, 9, 26, 2, 5, 120]);
    options.extend_from_slice(&[42, 4, 192, 0, 2, 2, 15, 3, b'l', b'a', b'n']);
    options.extend_from_slice(&[121, 14, 0, 192, 0, 2, 1, 24, 10, 1, 2, 192, 0, 2, 9, 0]);
    // Search: "eng.example.org", "mkt" + pointer to "example.org" (offset 4); in two parts.
    options.extend_from_slice(b"\x77\x05\x03eng\x07\x77\x12example\x03org\x00\x03mkt\xc0\x04");
    options.push(255);
    reply(&options)
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

#[test]
fn a_full_answer_is_read() {
    let mut bytes = full();
    // The classless list above ends with one byte too many: repair it for this test.
    let at = bytes.windows(2).position(|pair| pair == [121, 14]).unwrap();
    bytes[at + 1] = 13;
    bytes.remove(at + 2 + 13);
    let answer = Reply::decode(&bytes).unwrap();
    assert_eq!((answer.kind, answer.xid, answer.yiaddr), (Kind::Ack, 0xdead_beef, ip("192.0.2.7")));
    assert_eq!((answer.chaddr, answer.prefix), ([2, 0, 0, 0, 0, 1], Some(24)));
    assert_eq!((answer.server, answer.mtu), (Some(ip("192.0.2.1")), Some(1400)));
    assert_eq!(answer.dns_servers, [ip("192.0.2.1"), ip("9.9.9.9")]);
    assert_eq!((answer.ntp_servers, answer.routers), (vec![ip("192.0.2.2")], vec![ip("192.0.2.1")]));
    assert_eq!((answer.lease_time, answer.renewal_time), (Some(3600), Some(1800)));
    assert_eq!(answer.rebinding_time, Some(3150));
    assert_eq!(
        (answer.domain.as_str(), answer.search),
        ("lan", vec!["eng.example.org".into(), "mkt.example.org".into()])
    );
    let routes = [(ip("0.0.0.0"), 0, ip("192.0.2.1")), (ip("10.1.2.0"), 24, ip("192.0.2.9"))];
    assert_eq!(answer.classless_routes, routes);
}

#[test]
fn a_damaged_route_list_counts_as_none() {
    assert!(Reply::decode(&full()).unwrap().classless_routes.is_empty());
    for list in [&[33, 1, 2, 3, 4, 5, 192, 0, 2, 1][..], &[24, 10, 1], &[0, 1, 2, 3]] {
        let mut options = vec![53, 1, 5, 121, u8::try_from(list.len()).unwrap()];
        options.extend_from_slice(list);
        assert!(Reply::decode(&reply(&options)).unwrap().classless_routes.is_empty(), "{list:?}");
    }
}

#[test]
fn overloaded_fields_hold_options_too() {
    let mut bytes = reply(&[53, 1, 2, 52, 1, 3, 255]);
    bytes[108..115].copy_from_slice(&[3, 4, 10, 0, 0, 1, 255]);
    bytes[44..50].copy_from_slice(&[54, 4, 10, 0, 0, 2]);
    let answer = Reply::decode(&bytes).unwrap();
    assert_eq!((answer.routers, answer.server), (vec![ip("10.0.0.1")], Some(ip("10.0.0.2"))));
}

#[test]
fn what_is_no_answer_is_refused() {
    assert_eq!(Reply::decode(&[]), Err(DecodeError::Short));
    assert_eq!(Reply::decode(&reply(&[])[..FIXED + 3]), Err(DecodeError::Short));
    assert_eq!(Reply::decode(&reply(&[])), Err(DecodeError::Kind));
    assert_eq!(Reply::decode(&reply(&[53, 1, 1, 255])), Err(DecodeError::Kind));
    assert_eq!(Reply::decode(&reply(&[53, 2, 2, 2, 255])), Err(DecodeError::Kind));
    assert_eq!(Reply::decode(&reply(&[53, 1])), Err(DecodeError::Truncated));
    assert_eq!(Reply::decode(&reply(&[53, 1, 2, 6])), Err(DecodeError::Truncated));
    let mut request = full();
    request[0] = 1;
    assert_eq!(Reply::decode(&request), Err(DecodeError::Foreign));
}

#[test]
fn unusable_values_are_left_out() {
    let options = [
        &[53, 1, 5, 1, 4, 255, 0, 255, 0, 6, 12, 0, 0, 0, 0, 127, 0, 0, 1, 8, 8, 8, 8, 3, 3, 1, 2, 3][..],
        b"\x0f\x05a b\nc\x1a\x02\x00\x10",
        // A search list whose name points at itself.
        &[119, 2, 0xc0, 0],
    ]
    .concat();
    let answer = Reply::decode(&reply(&options)).unwrap();
    assert_eq!((answer.prefix, answer.mtu), (None, None));
    assert_eq!(answer.dns_servers, [ip("8.8.8.8")]);
    assert!(answer.routers.is_empty() && answer.domain.is_empty() && answer.search.is_empty());
}

#[test]
fn a_request_has_the_bytes_of_the_standard() {
    let request = Request {
        kind: Kind::Request,
        xid: 0x0102_0304,
        secs: 9,
        ciaddr: Ipv4Addr::UNSPECIFIED,
        chaddr: [2, 0, 0, 0, 0, 1],
        requested: Some(ip("192.0.2.7")),
        server: Some(ip("192.0.2.1")),
        host_name: "minke",
    };
    let bytes = request.encode();
    assert_eq!(bytes.len(), 300);
    assert_eq!(&bytes[..12], [1, 1, 6, 0, 1, 2, 3, 4, 0, 9, 0, 0]);
    assert_eq!(&bytes[28..34], [2, 0, 0, 0, 0, 1]);
    let options = [
        &[53, 1, 3, 61, 7, 1, 2, 0, 0, 0, 0, 1, 50, 4, 192, 0, 2, 7, 54, 4, 192, 0, 2, 1][..],
        &[57, 2, 5, 192, 55, 8, 1, 121, 3, 6, 15, 119, 26, 42, 12, 5],
        b"minke\xff",
    ]
    .concat();
    assert_eq!(&bytes[240..240 + options.len()], options);
}

#[test]
fn packets_carry_messages_and_damaged_ones_do_not() {
    let mut packet = encapsulate(Ipv4Addr::UNSPECIFIED, b"odd");
    assert_eq!(packet.len(), 31);
    assert_eq!(&packet[20..26], [0, 68, 0, 67, 0, 11]);
    // Our own packets go the other way; turn the ports and it is a server's.
    assert_eq!(decapsulate(&packet), None);
    packet.swap(21, 23);
    assert_eq!(decapsulate(&packet), Some(&b"odd"[..]));
    packet.extend_from_slice(&[0; 20]);
    assert_eq!(decapsulate(&packet), Some(&b"odd"[..]));
    assert_eq!(decapsulate(&packet[..30]), None);
    packet[8] = 63;
    assert_eq!(decapsulate(&packet), None, "the header's checksum no longer fits");
}

#[test]
fn decoders_never_panic_on_mutated_input() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap()
    };
    let mut decoded = 0;
    for _ in 0..100_000 {
        let mut bytes = full();
        for _ in 0..random() % 6 {
            let at = random() % bytes.len();
            bytes[at] = u8::try_from(random() & 0xff).unwrap();
        }
        if random() % 3 == 0 {
            bytes.truncate(random() % (bytes.len() + 1));
        }
        decoded += usize::from(Reply::decode(&bytes).is_ok());
        let mut packet = encapsulate(Ipv4Addr::UNSPECIFIED, &bytes);
        let at = random() % packet.len();
        packet[at] ^= u8::try_from(random() & 0xff).unwrap();
        packet.truncate(random() % (packet.len() + 1));
        let _ = decapsulate(&packet);
    }
    assert!(decoded > 10_000, "{decoded}");
}
