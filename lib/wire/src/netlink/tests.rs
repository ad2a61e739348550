use super::*;
use std::net::IpAddr;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A request read back as the message that the kernel would report.
fn reported(request: Builder) -> Option<Change> {
    let bytes = request.finish(7);
    let message = Messages::new(&bytes).next().unwrap();
    assert_eq!(message.sequence, 7);
    change(message)
}

/// A datagram as a monitor gets it: a link, an address, a route.
fn datagram() -> Vec<u8> {
    let head = [0, 0, 1, 0, 5, 0, 0, 0, 0x43, 0, 1, 0, 0, 0, 0, 0];
    let link = Builder::new(RTM_NEWLINK, 0)
        .head(&head)
        .text(3, "eth0")
        .u32(4, 1500)
        .bytes(1, &[2, 0, 0, 0, 0, 1])
        .bytes(16, &[6])
        .nest(18, |info| info.text(1, "veth"));
    let route = RouteSpec {
        destination: ip("0.0.0.0"),
        prefix: 0,
        gateway: Some(ip("192.0.2.1")),
        interface: 5,
        metric: 100,
        source: Some(ip("192.0.2.7")),
        protocol: RTPROT_DHCP,
    };
    let mut bytes = link.finish(0);
    bytes.extend(add_address(5, ip("192.0.2.7"), 24, Some(3600)).finish(0));
    bytes.extend(replace_route(&route).finish(0));
    bytes
}

#[test]
fn a_datagram_of_changes_is_read() {
    let bytes = datagram();
    let changes: Vec<_> = Messages::new(&bytes).filter_map(change).collect();
    let [Change::Link(link), Change::Address(address), Change::Route(route)] = changes.as_slice() else {
        panic!("{changes:?}")
    };
    assert_eq!((link.index, link.name.as_str(), link.kind.as_deref()), (5, "eth0", Some("veth")));
    assert_eq!((link.hardware, link.mtu, link.oper_state), (ARPHRD_ETHER, 1500, 6));
    assert_eq!(link.mac, Some([2, 0, 0, 0, 0, 1]));
    assert!(link.is_up() && link.has_carrier());
    assert_eq!((address.address, address.prefix, address.interface), (ip("192.0.2.7"), 24, 5));
    assert_eq!((route.gateway, route.metric, route.table), (Some(ip("192.0.2.1")), 100, RT_TABLE_MAIN));
    assert_eq!((route.interface, route.source), (Some(5), Some(ip("192.0.2.7"))));
}

#[test]
fn an_address_request_has_the_bytes_of_the_header_file() {
    let bytes = add_address(2, ip("10.0.0.9"), 8, None).finish(1);
    assert_eq!(usize::from(bytes[0]), bytes.len());
    assert_eq!(&bytes[4..8], [20, 0, 5, 5], "RTM_NEWADDR; REQUEST, ACK, CREATE, REPLACE");
    assert_eq!(&bytes[16..24], [2, 8, 0, 0, 2, 0, 0, 0], "AF_INET, /8, index 2");
    assert_eq!(&bytes[24..32], [8, 0, 2, 0, 10, 0, 0, 9], "IFA_LOCAL");
    assert_eq!(&bytes[40..48], [8, 0, 4, 0, 10, 255, 255, 255], "IFA_BROADCAST");
}

#[test]
fn a_veth_request_nests_its_peer() {
    let bytes = create_veth("a", "b", PeerNamespace::Process(42)).finish(1);
    let message = Messages::new(&bytes).next().unwrap();
    let attributes = Attributes::new(&message.payload[16..]);
    assert_eq!(attributes.find(3).unwrap().text(), Some("a"));
    let info = attributes.find(18).unwrap().nested();
    assert_eq!(info.find(1).unwrap().text(), Some("veth"));
    let peer = info.find(2).unwrap().nested().find(1).unwrap();
    let peer = Attributes::new(&peer.value[16..]);
    assert_eq!(peer.find(3).unwrap().text(), Some("b"));
    assert_eq!(peer.find(19).unwrap().u32(), Some(42));
}

#[test]
fn the_bridges_own_view_of_its_ports_is_no_link() {
    let head = [7, 0, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(reported(Builder::new(RTM_DELLINK, 0).head(&head).text(3, "eth0")), None);
}

#[test]
fn answers_are_sorted_into_success_and_failure() {
    let error = |flags, payload: &[u8]| Builder::new(NLMSG_ERROR, flags).head(payload).finish(3);
    let done = error(0, &[0; 20]);
    assert_eq!(answer(Messages::new(&done).next().unwrap()), Answer::Done);
    let mut payload = (-17i32).to_ne_bytes().to_vec();
    payload.extend_from_slice(&[0; 16]);
    let words = [&[9u8, 0, 1, 0][..], b"why?\0\0\0\0"].concat();
    let failed = error(0x300, &[payload.clone(), words.clone()].concat());
    let expected = Answer::Failed { errno: 17, text: "why?" };
    assert_eq!(answer(Messages::new(&failed).next().unwrap()), expected);
    // Not capped: the whole request of 24 bytes comes first.
    payload[4] = 24;
    payload.extend_from_slice(&[0; 8]);
    let failed = error(0x200, &[payload, words].concat());
    assert_eq!(answer(Messages::new(&failed).next().unwrap()), expected);
    let strange = error(0x200, &i32::MIN.to_ne_bytes());
    assert!(matches!(answer(Messages::new(&strange).next().unwrap()), Answer::Failed { .. }));
    let interrupted = Builder::new(NLMSG_DONE, 0x10).head(&[0; 4]).finish(3);
    assert_eq!(answer(Messages::new(&interrupted).next().unwrap()), Answer::Interrupted);
}

#[test]
fn decoders_never_panic_on_mutated_input() {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap()
    };
    let event = b"add@/devices/a\0ACTION=add\0SUBSYSTEM=net\0SEQNUM=4\0";
    let mut read = 0;
    for _ in 0..100_000 {
        let mut bytes = datagram();
        let mut text = event.to_vec();
        for _ in 0..random() % 6 {
            let at = random() % bytes.len();
            bytes[at] = u8::try_from(random() & 0xff).unwrap();
            let at = random() % text.len();
            text[at] = u8::try_from(random() & 0xff).unwrap();
        }
        bytes.truncate(random() % (bytes.len() * 2));
        for message in Messages::new(&bytes) {
            read += usize::from(change(message).is_some());
            let _ = (answer(message), family(message));
            let forged = Message { kind: NLMSG_ERROR, flags: message.flags ^ 0x200, ..message };
            let _ = answer(forged);
        }
        if let Some(event) = Uevent::parse(&text) {
            read += event.fields().count();
        }
    }
    assert!(read > 10_000, "{read}");
}

#[test]
fn commands_of_generic_netlink() {
    let request = get_family("nl80211").finish(7);
    assert_eq!(request[16..20], [3, 1, 0, 0]);
    assert_eq!(
        request[20..].to_vec(),
        [&12u16.to_ne_bytes()[..], &2u16.to_ne_bytes(), b"nl80211\0"].concat()
    );
    let request = set_country(30, "DE").finish(8);
    assert_eq!(request[4..6], 30u16.to_ne_bytes());
    assert_eq!((request[16], &request[24..27]), (27, &b"DE\0"[..]));
    // What the kernel answers: the id among other attributes.
    let bytes =
        Builder::new(16, 0).head(&[1, 2, 0, 0]).text(2, "nl80211").bytes(1, &30u16.to_ne_bytes()).finish(7);
    assert_eq!(Messages::new(&bytes).map(family).collect::<Vec<_>>(), [Some(30)]);
    let bytes = Builder::new(16, 0).head(&[1, 2, 0, 0]).bytes(1, &[30]).finish(7);
    assert_eq!(Messages::new(&bytes).map(family).collect::<Vec<_>>(), [None]);
}
