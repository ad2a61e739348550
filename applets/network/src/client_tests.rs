use super::*;
use minke_wire::dhcp::Kind;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn client() -> Client {
    Client::new(MAC, "minke".into(), 0x1234_5678_9abc_def1, None)
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, last)
}

/// The transaction number of the message that the client sends.
fn xid(actions: &[Action]) -> u32 {
    let message = actions.iter().rev().find_map(|action| match action {
        Action::Broadcast(message) | Action::Rebind(message) | Action::Unicast(_, message) => Some(message),
        _ => None,
    });
    u32::from_be_bytes(message.expect("a message")[4..8].try_into().unwrap())
}

/// The kind of the message, option 53, which stands first.
fn kind(action: &Action) -> u8 {
    match action {
        Action::Broadcast(message) | Action::Rebind(message) | Action::Unicast(_, message) => message[242],
        other => panic!("no message: {other:?}"),
    }
}

fn reply(kind: Kind, xid: u32, server: u8) -> Reply {
    Reply {
        kind,
        xid,
        chaddr: MAC,
        yiaddr: ip(7),
        server: Some(ip(server)),
        prefix: Some(24),
        routers: vec![ip(1)],
        dns_servers: vec![ip(1)],
        ntp_servers: Vec::new(),
        domain: "lan".into(),
        search: Vec::new(),
        mtu: None,
        classless_routes: Vec::new(),
        lease_time: Some(800),
        renewal_time: None,
        rebinding_time: None,
        message: String::new(),
    }
}

/// A client that has just got a lease of 800 s from server 1 at time 0.
fn bound() -> Client {
    let mut client = client();
    let xid = xid(&client.step(seconds(0), Event::CarrierUp));
    client.step(seconds(0), Event::Reply(&reply(Kind::Offer, xid, 1)));
    let actions = client.step(seconds(0), Event::Reply(&reply(Kind::Ack, xid, 1)));
    assert!(matches!(actions.as_slice(), [Action::Configure(_)]));
    client
}

/// Runs the client's timer at its deadline; returns that time and the actions.
fn tick(client: &mut Client) -> (Duration, Vec<Action>) {
    let at = client.deadline().expect("a deadline");
    (at, client.step(at, Event::Timer))
}

#[test]
fn discover_offer_request_ack() {
    let mut client = client();
    assert_eq!((client.state(), client.deadline()), ("NO-CARRIER", None));
    let actions = client.step(seconds(0), Event::CarrierUp);
    assert_eq!((actions.len(), kind(&actions[0]), client.state()), (1, 1, "SELECTING"));
    let xid = xid(&actions);
    let actions = client.step(seconds(1), Event::Reply(&reply(Kind::Offer, xid, 1)));
    assert_eq!((kind(&actions[0]), client.state()), (3, "REQUESTING"));
    assert_eq!(client.listening(), Listening::Packets);
    let actions = client.step(seconds(2), Event::Reply(&reply(Kind::Ack, xid, 1)));
    let [Action::Configure(lease)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!((lease.address, lease.prefix, lease.expiry), (ip(7), 24, Some(seconds(801))));
    assert_eq!(lease.routes, [(Ipv4Addr::UNSPECIFIED, 0, ip(1))]);
    assert_eq!(lease.search, ["lan"]);
    assert_eq!((client.state(), client.listening()), ("BOUND", Listening::Nothing));
    assert_eq!(lease.rebinding, Some(seconds(701)));
    let t1 = client.deadline().unwrap();
    assert!(t1 <= seconds(401) && t1 >= seconds(380), "{t1:?}");
}

#[test]
fn discovery_backs_off_to_a_minute_and_never_ends() {
    let mut client = client();
    client.step(seconds(0), Event::CarrierUp);
    let mut last = seconds(0);
    for expected in [4, 8, 16, 32, 64, 64, 64, 64] {
        let (at, actions) = tick(&mut client);
        let waited = at - last;
        assert!(waited >= seconds(expected - 1) && waited <= seconds(expected + 1), "{waited:?}");
        assert_eq!(kind(&actions[0]), 1);
        last = at;
    }
}

#[test]
fn answers_of_strangers_are_ignored() {
    let mut client = client();
    let xid = xid(&client.step(seconds(0), Event::CarrierUp));
    let strangers = [
        reply(Kind::Offer, xid ^ 1, 1),
        Reply { chaddr: [9; 6], ..reply(Kind::Offer, xid, 1) },
        Reply { yiaddr: Ipv4Addr::UNSPECIFIED, ..reply(Kind::Offer, xid, 1) },
        Reply { yiaddr: Ipv4Addr::new(127, 0, 0, 1), ..reply(Kind::Offer, xid, 1) },
        Reply { yiaddr: Ipv4Addr::BROADCAST, ..reply(Kind::Offer, xid, 1) },
        Reply { server: None, ..reply(Kind::Offer, xid, 1) },
        Reply { lease_time: Some(0), ..reply(Kind::Offer, xid, 1) },
        Reply { lease_time: None, ..reply(Kind::Offer, xid, 1) },
        reply(Kind::Ack, xid, 1),
        reply(Kind::Nak, xid, 1),
    ];
    for stranger in &strangers {
        assert!(client.step(seconds(1), Event::Reply(stranger)).is_empty(), "{stranger:?}");
        assert_eq!(client.state(), "SELECTING");
    }
}

#[test]
fn of_two_servers_only_the_chosen_one_is_heard() {
    let mut client = client();
    let xid = xid(&client.step(seconds(0), Event::CarrierUp));
    client.step(seconds(0), Event::Reply(&reply(Kind::Offer, xid, 1)));
    assert!(client.step(seconds(0), Event::Reply(&reply(Kind::Offer, xid, 2))).is_empty());
    assert!(client.step(seconds(0), Event::Reply(&reply(Kind::Nak, xid, 2))).is_empty());
    assert!(client.step(seconds(0), Event::Reply(&reply(Kind::Ack, xid, 2))).is_empty());
    client.step(seconds(0), Event::Reply(&reply(Kind::Ack, xid, 1)));
    assert_eq!(client.state(), "BOUND");
}

#[test]
fn a_server_that_offers_and_goes_is_given_up() {
    let mut client = client();
    let first = xid(&client.step(seconds(0), Event::CarrierUp));
    client.step(seconds(0), Event::Reply(&reply(Kind::Offer, first, 1)));
    let kinds: Vec<u8> = (0..3).map(|_| kind(&tick(&mut client).1[0])).collect();
    assert_eq!((kinds, client.state()), (vec![3, 3, 1], "SELECTING"));
}

#[test]
fn a_lease_is_renewed_by_its_server() {
    let mut client = bound();
    let (at, actions) = tick(&mut client);
    assert_eq!((client.state(), client.listening()), ("RENEWING", Listening::Port));
    assert!(matches!(&actions[0], Action::Unicast(server, _) if *server == ip(1)));
    assert!(client.step(at, Event::Reply(&reply(Kind::Ack, xid(&actions), 2))).is_empty());
    let actions = client.step(at, Event::Reply(&reply(Kind::Ack, xid(&actions), 1)));
    let [Action::Configure(lease)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!((lease.start, client.state()), (at, "BOUND"));
}

#[test]
fn without_an_answer_a_lease_is_rebound_then_expires() {
    let mut client = bound();
    let mut states = Vec::new();
    let mut end = seconds(0);
    while client.lease().is_some() {
        let (at, actions) = tick(&mut client);
        end = at;
        states.push(client.state());
        assert!(states.len() < 20, "{states:?}");
        if client.lease().is_none() {
            assert_eq!(actions[0], Action::Unconfigure("the lease has expired"));
            assert_eq!((actions.len(), kind(&actions[1])), (2, 1));
        }
    }
    states.dedup();
    assert_eq!((states, end), (vec!["RENEWING", "REBINDING", "SELECTING"], seconds(800)));
}

#[test]
fn anybody_may_rebind() {
    let mut client = bound();
    let mut actions = Vec::new();
    while client.state() != "REBINDING" {
        actions = tick(&mut client).1;
    }
    assert!(matches!(&actions[0], Action::Rebind(_)));
    let actions = client.step(seconds(701), Event::Reply(&reply(Kind::Ack, xid(&actions), 9)));
    assert!(matches!(&actions[0], Action::Configure(lease) if lease.server == ip(9)));
}

#[test]
fn a_refusal_takes_the_address_and_repeated_ones_slow_us_down() {
    let mut client = bound();
    let (at, actions) = tick(&mut client);
    let actions = client.step(at, Event::Reply(&reply(Kind::Nak, xid(&actions), 1)));
    assert!(matches!(&actions[..2], [Action::Refused(_), Action::Unconfigure(_)]), "{actions:?}");
    assert_eq!((kind(&actions[2]), client.state()), (1, "SELECTING"));
    let mut last = xid(&actions);
    let mut pauses = Vec::new();
    for _ in 0..5 {
        client.step(at, Event::Reply(&reply(Kind::Offer, last, 1)));
        client.step(at, Event::Reply(&reply(Kind::Nak, last, 1)));
        assert_eq!((client.state(), client.listening()), ("INIT", Listening::Nothing));
        pauses.push((client.deadline().unwrap() - at).as_secs());
        let actions = client.step(client.deadline().unwrap(), Event::Timer);
        last = xid(&actions);
    }
    assert!(pauses[0] >= 15 && pauses[1] >= 31 && pauses[4] >= 63, "{pauses:?}");
}

#[test]
fn a_known_address_is_asked_for_first() {
    let mut client = Client::new(MAC, String::new(), 5, Some(ip(7)));
    let actions = client.step(seconds(0), Event::CarrierUp);
    assert_eq!((kind(&actions[0]), client.state()), (3, "REBOOTING"));
    let actions = client.step(seconds(0), Event::Reply(&reply(Kind::Ack, xid(&actions), 1)));
    assert!(matches!(&actions[0], Action::Configure(_)));
    // Nobody answers: soon a new address is sought.
    let mut client = Client::new(MAC, String::new(), 5, Some(ip(7)));
    client.step(seconds(0), Event::CarrierUp);
    assert_eq!(kind(&tick(&mut client).1[0]), 3);
    let (at, actions) = tick(&mut client);
    assert_eq!((kind(&actions[0]), client.state()), (1, "SELECTING"));
    assert!(at <= seconds(6));
}

#[test]
fn a_short_loss_of_carrier_keeps_the_address_and_a_long_one_does_not() {
    let mut client = bound();
    assert!(client.step(seconds(10), Event::CarrierDown).is_empty());
    assert!(client.lease().is_some());
    let actions = client.step(seconds(12), Event::CarrierUp);
    assert_eq!((actions.len(), kind(&actions[0]), client.state()), (1, 3, "REBOOTING"));
    client.step(seconds(20), Event::CarrierDown);
    let (at, actions) = tick(&mut client);
    assert_eq!((at, actions), (seconds(25), vec![Action::Unconfigure("the link has no carrier")]));
    assert_eq!(client.deadline(), None);
    // The carrier returns and nobody answers: the lease still runs, so it is used while we go on asking.
    client.step(seconds(30), Event::CarrierUp);
    tick(&mut client);
    let (_, actions) = tick(&mut client);
    assert!(matches!(&actions[0], Action::Configure(lease) if lease.address == ip(7)));
    assert_eq!(client.state(), "SELECTING");
    // It still ends in time.
    let actions = client.step(seconds(800), Event::Timer);
    assert_eq!(actions[0], Action::Unconfigure("the lease has expired"));
}

#[test]
fn a_move_to_another_network_is_noticed() {
    let mut client = bound();
    client.step(seconds(10), Event::CarrierDown);
    let actions = client.step(seconds(11), Event::CarrierUp);
    let actions = client.step(seconds(11), Event::Reply(&reply(Kind::Nak, xid(&actions), 5)));
    assert!(actions.contains(&Action::Unconfigure("the server refused the address")));
    assert_eq!(client.state(), "SELECTING");
}

#[test]
fn an_endless_lease_needs_no_timer() {
    let mut client = client();
    let xid = xid(&client.step(seconds(0), Event::CarrierUp));
    let endless = |kind| Reply { lease_time: Some(u32::MAX), ..reply(kind, xid, 1) };
    client.step(seconds(0), Event::Reply(&endless(Kind::Offer)));
    client.step(seconds(0), Event::Reply(&endless(Kind::Ack)));
    assert_eq!((client.state(), client.deadline()), ("BOUND", None));
}

#[test]
fn times_that_make_no_sense_are_replaced() {
    for (lease, t1, t2) in [(1, None, None), (100, Some(90), Some(80)), (100, Some(0), Some(500))] {
        let odd =
            Reply { lease_time: Some(lease), renewal_time: t1, rebinding_time: t2, ..reply(Kind::Ack, 0, 1) };
        let lease = Lease::new(&odd, seconds(0)).unwrap();
        let (t1, t2, end) = (lease.renewal.unwrap(), lease.rebinding.unwrap(), lease.expiry.unwrap());
        assert!(seconds(0) < t1 && t1 < t2 && t2 < end && end >= seconds(4), "{lease:?}");
    }
}

#[test]
fn random_events_never_make_it_spin_or_stop() {
    for seed in 1..200u64 {
        let mut client = Client::new(MAC, String::new(), seed, None);
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (mut now, mut last, mut sent) = (seconds(0), 0, 0u32);
        client.step(now, Event::CarrierUp);
        while now < seconds(4000) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let server = u8::try_from(random >> 32 & 1).unwrap() + 1;
            let actions = match random % 8 {
                0 => client.step(now, Event::CarrierDown),
                1 => client.step(now, Event::CarrierUp),
                2 => client.step(now, Event::Reply(&reply(Kind::Offer, last, server))),
                3 => client.step(now, Event::Reply(&reply(Kind::Ack, last, server))),
                4 => client.step(now, Event::Reply(&reply(Kind::Nak, last, server))),
                _ => {
                    now = client.deadline().unwrap_or(now + seconds(1)).max(now);
                    client.step(now, Event::Timer)
                }
            };
            sent += u32::try_from(actions.len()).unwrap();
            if actions.iter().any(|action| {
                matches!(action, Action::Broadcast(_) | Action::Rebind(_) | Action::Unicast(..))
            }) {
                last = xid(&actions);
            }
            let running = !matches!(client.state, State::Stopped);
            assert!(!running || client.deadline().is_some(), "{client:?}");
            assert_eq!(client.lease().is_some(), client.configured);
        }
        assert!(sent > 10);
    }
}

#[test]
fn an_address_of_a_profile_needs_no_server() {
    let mut client = client();
    let fixed = |last| Lease::fixed(ip(last), 24, Vec::new());
    let actions = client.adopt(seconds(0), Addressing::Fixed(fixed(9)));
    assert_eq!(actions, [Action::Configure(fixed(9))]);
    assert_eq!((client.state(), client.deadline(), client.listening()), ("MANUAL", None, Listening::Nothing));
    assert_eq!(client.adopt(seconds(1), Addressing::Fixed(fixed(9))), [], "the same again");
    // A moment without a carrier does no harm; a longer one takes the address, which is back at once.
    client.step(seconds(2), Event::CarrierDown);
    assert_eq!(client.lease().unwrap().address, ip(9));
    let (at, actions) = tick(&mut client);
    assert!(
        at == seconds(7) && matches!(actions.as_slice(), [Action::Unconfigure(_)]) && client.is_stopped()
    );
    assert_eq!(client.step(seconds(8), Event::CarrierUp), [Action::Configure(fixed(9))]);
    // Another address takes its place; DHCP takes it away first.
    assert_eq!(client.adopt(seconds(9), Addressing::Fixed(fixed(10))), [Action::Configure(fixed(10))]);
    let actions = client.adopt(seconds(10), Addressing::Dhcp);
    assert!(matches!(actions.as_slice(), [Action::Unconfigure(_), Action::Broadcast(_)]), "{actions:?}");
    assert_eq!(client.state(), "SELECTING");
}

#[test]
fn a_lease_goes_for_a_profile_and_is_asked_for_again() {
    let mut client = bound();
    let fixed = Lease::fixed(ip(9), 24, Vec::new());
    let actions = client.adopt(seconds(1), Addressing::Fixed(Rc::clone(&fixed)));
    assert_eq!(actions, [Action::Configure(fixed)], "in its place");
    assert_eq!(client.deadline(), None, "the lease's end is nobody's");
    assert!(matches!(client.adopt(seconds(2), Addressing::Nothing).as_slice(), [Action::Unconfigure(_)]));
    assert_eq!((client.state(), client.deadline()), ("OFF", None));
    assert_eq!(client.step(seconds(3), Event::CarrierUp), []);
    client.adopt(seconds(4), Addressing::Dhcp);
    assert_eq!(client.state(), "REBOOTING");
}
