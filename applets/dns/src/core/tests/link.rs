//! Names of the link, by whatever way they are asked for.

use super::*;

/// An address as `mdns` has found it.
fn found<'a>(name: &'a Name, data: &'a [u8]) -> Found<'a> {
    Found { name, kind: Kind::A, ttl: 120, data }
}

impl Play {
    /// What becomes of a query that waited, and the response.
    fn waited(&mut self, query: &[u8], search: u8) -> (Step, Vec<u8>) {
        let asked = Asked { from: self.from, query, udp: true, search };
        let mut out = Vec::new();
        (self.resolver.reply(at(self.now), &asked, &mut out), out)
    }

    fn found(&mut self, key: &Key, records: Option<&[Found<'_>]>) {
        self.resolver.found(at(self.now), key, records);
    }
}

#[test]
fn reverse_names_of_the_link_are_asked_there() {
    // RFC 6762 §4.
    let inside = [
        "1.1.254.169.in-addr.arpa",
        "1.254.169.in-addr.arpa",
        "254.169.in-addr.arpa",
        "lb._dns-sd._udp.0.0.254.169.in-addr.arpa",
        "8.e.f.ip6.arpa",
        "9.e.f.ip6.arpa",
        "A.E.F.ip6.arpa",
        "b.e.f.ip6.arpa",
        &format!("1.{}0.8.e.f.ip6.arpa", "0.".repeat(27)),
    ];
    for private_reverse in [true, false] {
        let mut play = Play::new(resolver(Settings { private_reverse, ..plain_settings() }));
        for text in inside {
            for kind in [Kind::PTR, Kind::SOA] {
                let step = play.step(&query(text, kind, None)).0;
                assert!(matches!(step, Step::Mdns(..)), "{text}: {step:?}");
            }
        }
        for text in ["1.1.253.169.in-addr.arpa", "169.in-addr.arpa", "e.f.ip6.arpa", "254.169.ip6.arpa"] {
            assert!(play.is_asked(text, Kind::PTR), "{text}");
        }
    }
    // What it says is told.
    let mut play = Play::new(standard());
    let owner = name("9.1.254.169.in-addr.arpa");
    let asked = query("9.1.254.169.in-addr.arpa", Kind::PTR, None);
    let Step::Mdns(key, _) = play.step(&asked).0 else { panic!() };
    let pointer = Found { kind: Kind::PTR, ..found(&owner, b"\x03box\x05local\0") };
    play.found(&key, Some(&[pointer]));
    assert_eq!(shown(&play.reply(&asked, 0)), ["9.1.254.169.in-addr.arpa 10 PTR box.local"]);
    // The owner's own rule comes first.
    let domains = vec![(name("254.169.in-addr.arpa"), Target::Servers(0))];
    play.resolver.apply(Settings { domains, ..plain_settings() });
    assert!(play.is_asked("1.1.254.169.in-addr.arpa", Kind::PTR));
}

#[test]
fn a_search_domain_may_be_that_of_the_link() {
    let search = vec![name("local"), name("sub.local"), name("a.example")];
    let mut play = Play::new(resolver(Settings { search: search.clone(), ..plain_settings() }));
    let asked = query("nas", Kind::A, None);
    let (first, second) = (name("nas.local"), name("nas.sub.local"));
    // The first has it.
    let Step::Mdns(key, place) = play.step(&asked).0 else { panic!() };
    assert_eq!((key.name(), place), (first.clone(), 1));
    play.found(&key, Some(&[found(&first, &[10, 0, 0, 1])]));
    let (step, out) = play.waited(&asked, place);
    assert_eq!(step, Step::Answered);
    assert_eq!(shown(&out), ["nas 0 CNAME nas.local", "nas.local 10 A 10.0.0.1"]);
    assert_eq!(play.lines("nas", Kind::A).len(), 2, "from the cache");
    // None on the link has it: the next domains, each once.
    play.resolver.flush(None);
    let Step::Mdns(key, place) = play.step(&asked).0 else { panic!() };
    play.found(&key, Some(&[]));
    let Step::Mdns(key, place) = play.waited(&asked, place).0 else { panic!() };
    assert_eq!((key.name(), place), (second, 2));
    play.found(&key, Some(&[]));
    let Step::Forward(route) = play.waited(&asked, place).0 else { panic!() };
    assert_eq!((route.key.name(), route.search), (name("nas.a.example"), 3));
    play.answer(&route.key, Flags::default(), Rcode::NXDOMAIN, &[]).unwrap();
    // It may be there with the other kind of address: musl would take "no such name" for both.
    let (step, out) = play.waited(&asked, route.search);
    assert_eq!((step, code(&out), shown(&out).len()), (Step::Answered, Rcode::NOERROR, 0));
    // Without `mdns` there is no such name.
    play.resolver.apply(Settings { search: search[..1].to_vec(), ..plain_settings() });
    let Step::Mdns(key, place) = play.step(&asked).0 else { panic!() };
    play.found(&key, None);
    let (step, out) = play.waited(&asked, place);
    assert_eq!((step, code(&out)), (Step::Answered, Rcode::NXDOMAIN));
}

#[test]
fn another_name_may_stand_for_one_of_the_link() {
    let aliases = vec![(name("www.example"), name("web.local"))];
    let mut play = Play::new(resolver(Settings { aliases, ..plain_settings() }));
    let (asked, target) = (query("www.example", Kind::A, None), name("web.local"));
    let Step::Mdns(key, place) = play.step(&asked).0 else { panic!() };
    assert_eq!(key.name(), target);
    play.found(&key, Some(&[found(&target, &[10, 0, 0, 2])]));
    let (step, out) = play.waited(&asked, place);
    assert_eq!(step, Step::Answered);
    assert_eq!(shown(&out), ["www.example 0 CNAME web.local", "web.local 10 A 10.0.0.2"]);
    play.resolver.flush(None);
    let Step::Mdns(key, place) = play.step(&asked).0 else { panic!() };
    play.found(&key, Some(&[]));
    let (step, out) = play.waited(&asked, place);
    assert_eq!((step, code(&out)), (Step::Answered, Rcode::NOERROR));
}
