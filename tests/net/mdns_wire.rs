//! What goes over the link between ours and its peers, and what need not: known answers, duplicates, denials, answers to
//! one alone (RFC 6762 §5.4, §6.1, §7).

use minke_sys::packet::{PacketSocket, udp_port_filter};
use minke_tests::mdns_lab::{Background, Families, Host, LIMIT, Lab, until_has};
use minke_wire::dns::{Class, Data, Flags, Kind, Message, Name, types};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, thread};

const OURS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const THEIRS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const HTTP: &str = "_http._tcp.local";

/// A message that came.
struct Heard {
    at: Instant,
    from: Ipv4Addr,
    to: Ipv4Addr,
    bytes: Vec<u8>,
}

impl Heard {
    fn message(&self) -> Message<'_> {
        Message::parse(&self.bytes).unwrap()
    }

    fn has(&self, flag: Flags) -> bool {
        self.message().header.flags.has(flag)
    }

    /// Whether it asks for pointers of a name; with which class.
    fn asks(&self, name: &str) -> Option<Class> {
        let mut questions = self.message().questions();
        let asked = questions.find(|asked| asked.kind == Kind::PTR && asked.name.to_string() == name);
        asked.filter(|_| !self.has(Flags::QR)).map(|asked| asked.class)
    }

    /// How many pointers from a name to one that begins so are among its answers.
    fn points(&self, name: &str, target: &str) -> usize {
        let answers = self.message().answers().filter(|answer| answer.name.to_string() == name);
        let right = |data: Option<Data<'_>>| matches!(data, Some(Data::Ptr(found)) if found.to_string().starts_with(target));
        answers.filter(|answer| right(answer.data())).count()
    }

    fn tells(&self, name: &str, target: &str) -> bool {
        self.has(Flags::QR) && self.points(name, target) > 0
    }
}

/// Hears what others send to a host, or to all of the link.
struct Ear {
    socket: PacketSocket,
    heard: Vec<Heard>,
}

impl Ear {
    fn new(host: &Host<'_>) -> Self {
        let socket = host.inside(|| {
            let index = minke_sys::netlink::Route::new().unwrap().index_of("eth0").unwrap();
            PacketSocket::open(index, &udp_port_filter(5353)).unwrap()
        });
        Self { socket, heard: Vec::new() }
    }

    fn take(&mut self) {
        let mut buffer = [0; 9100];
        while let Some(packet) = self.socket.receive(&mut buffer).unwrap() {
            let address = |at: usize| Ipv4Addr::from(*packet[at..].first_chunk::<4>().unwrap());
            // Behind the headers of IP and UDP.
            let bytes = packet[usize::from(packet[0] & 0xF) * 4 + 8..].to_vec();
            self.heard.push(Heard { at: Instant::now(), from: address(12), to: address(16), bytes });
        }
    }

    /// Listens so long.
    fn listen(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.take();
            thread::sleep(Duration::from_millis(5));
        }
        self.take();
    }

    /// Listens until `right` holds of what was heard.
    fn until(&mut self, what: &str, right: impl Fn(&[Heard]) -> bool) {
        let end = Instant::now() + LIMIT;
        while !right(&self.heard) {
            assert!(Instant::now() < end, "not heard in time: {what}");
            self.listen(Duration::from_millis(50));
        }
    }
}

fn question(name: &str, kind: Kind, class: Class) -> Vec<u8> {
    let mut message = b"\0\0\0\0\0\x01\0\0\0\0\0\0".to_vec();
    message.extend_from_slice(Name::parse(name).unwrap().as_wire());
    message.extend_from_slice(&kind.0.to_be_bytes());
    message.extend_from_slice(&class.0.to_be_bytes());
    message
}

/// A socket of a host without a responder, at the port of mDNS: its questions are answered to all.
fn socket(host: &Host<'_>, number: u8) -> UdpSocket {
    host.inside(|| UdpSocket::bind((Ipv4Addr::new(10, 77, 0, number), 5353)).unwrap())
}

/// So many services that their names take more than one packet.
const MANY: usize = 30;

fn write_services(folder: &Path, whose: &str) {
    for number in 0..MANY {
        let name = format!("{whose}-{number:02}-{}", "x".repeat(40));
        let text = format!(
            "<?xml version=\"1.0\"?><!DOCTYPE service-group SYSTEM \"avahi-service.dtd\"><service-group>\
             <name>{name}</name><service><type>_http._tcp</type><port>80</port></service></service-group>"
        );
        // As one: a file that is empty for a moment would be looked at in vain.
        let fresh = folder.join("fresh");
        fs::write(&fresh, text).unwrap();
        fs::rename(fresh, folder.join(format!("{whose}-{number}.service"))).unwrap();
    }
}

/// Who asked for pointers, and who could answer.
struct Pair {
    asker: Ipv4Addr,
    teller: Ipv4Addr,
    /// The type.
    name: &'static str,
    /// How the names of the other's services begin, and how many there are.
    whose: &'static str,
    count: usize,
    /// They take several packets.
    more: bool,
}

/// Whether one has asked with all services of the other as known answers, and that one has told none of them in the two
/// seconds after.
fn is_spared(heard: &[Heard], pair: &Pair) -> bool {
    const AFTER: Duration = Duration::from_secs(2);
    let Pair { name, whose, .. } = pair;
    heard.iter().any(|question| {
        let within = heard.iter().filter(|other| other.at >= question.at && other.at <= question.at + AFTER);
        let (mut known, mut told) = (0, false);
        for other in within {
            if other.from == pair.asker && !other.has(Flags::QR) {
                known += other.points(name, whose);
            }
            told |= other.from == pair.teller && other.tells(name, whose);
        }
        question.from == pair.asker
            && question.asks(name).is_some()
            && question.has(Flags::TC) == pair.more
            && question.at.elapsed() > AFTER
            && known >= pair.count
            && !told
    })
}

#[test]
fn what_is_known_is_not_told_again_however_many_packets_it_takes() {
    let lab = Lab::new("known");
    let hosts = [1, 2, 3].map(|number| lab.host_with(number, Families::V4));
    let theirs = lab.folder.join("2.avahi/services");
    fs::create_dir_all(&theirs).unwrap();
    write_services(&theirs, "theirs");
    let (ours, avahi) = (hosts[0].minke("ours"), hosts[1].avahi("theirs"));
    ours.until_named("ours");
    avahi.until_named("theirs");
    write_services(&ours.services(), "ours");
    let all = r#""established":true"#;
    ours.until("all are published", |status| format!("{status}").matches(all).count() == MANY + 1);
    let mut ear = Ear::new(&hosts[2]);
    let us = Background::start(&lab, "us", &mut ours.command(&["browse", "_http._tcp"]));
    let them = Background::start(&lab, "them", &mut avahi.command("avahi-browse", &["-pk", "_http._tcp"]));
    let found =
        |text: String, part: &str| (0..MANY).all(|number| text.contains(&format!("{part}-{number:02}-")));
    ear.until("all are found", |_| found(us.text(), "theirs") && found(them.text(), "ours"));
    // Both go on asking, ever more slowly, and say what they know.
    let pair = Pair { asker: THEIRS, teller: OURS, name: HTTP, whose: "ours", count: MANY, more: true };
    ear.until("we are silent", |heard| is_spared(heard, &pair));
    let pair = Pair { asker: OURS, teller: THEIRS, whose: "theirs", ..pair };
    ear.until("Avahi is silent", |heard| is_spared(heard, &pair));
    // What fits one packet: the service that each of ours has.
    let them = Background::start(&lab, "one", &mut avahi.command("avahi-browse", &["-pk", "_ssh._tcp"]));
    them.until("ours");
    let pair =
        Pair { asker: THEIRS, teller: OURS, name: "_ssh._tcp.local", whose: "ours", count: 1, more: false };
    ear.until("we are silent about one", |heard| is_spared(heard, &pair));
}

#[test]
fn of_two_who_would_say_the_same_one_does() {
    const TYPES: &str = "_services._dns-sd._udp.local";
    let lab = Lab::new("same-words");
    let hosts = [1, 2, 3].map(|number| lab.host_with(number, Families::V4));
    let (ours, avahi) = (hosts[0].minke("ours"), hosts[1].avahi("theirs"));
    ours.until_named("ours");
    avahi.until_named("theirs");
    let words = ["-s", "theirs", "_ssh._tcp", "22"];
    let published = Background::start(&lab, "publish", &mut avahi.command("avahi-publish", &words));
    published.until("Established");
    let socket = socket(&hosts[2], 3);
    let mut ear = Ear::new(&hosts[2]);
    // Announcements, on which a second must pass before it may be told again.
    ear.listen(Duration::from_secs(5));
    let ask = |name: &str| {
        let sent = socket.send_to(&question(name, Kind::PTR, Class::IN), (GROUP, 5353));
        sent.unwrap();
    };
    // Both would answer, each after a time that it draws; the second hears the first in most cases.
    let (mut we, mut they) = (0, 0);
    for _ in 0..30 {
        ear.heard.clear();
        ask(TYPES);
        ear.listen(Duration::from_millis(1500));
        let told = |who| ear.heard.iter().any(|heard| heard.from == who && heard.tells(TYPES, "_ssh._tcp"));
        match (told(OURS), told(THEIRS)) {
            (true, false) => we += 1,
            (false, true) => they += 1,
            _ => {}
        }
        if we > 0 && they > 0 {
            break;
        }
    }
    println!("it was told by us alone {we} times, by Avahi alone {they} times");
    assert!(we > 0 && they > 0, "by us alone {we} times, by Avahi alone {they} times");

    // A question that another has just asked is not asked again: ours come 1, 2, 4, 8, 16 and 32 seconds apart.
    let name = "_nothing._tcp.local";
    let _browser = Background::start(&lab, "browse", &mut ours.command(&["browse", "_nothing._tcp"]));
    let asked = |ear: &Ear| -> Vec<Instant> {
        let ours = ear.heard.iter().filter(|heard| heard.from == OURS && heard.asks(name).is_some());
        ours.map(|heard| heard.at).collect()
    };
    ear.until("three questions", |heard| {
        heard.iter().filter(|heard| heard.from == OURS && heard.asks(name).is_some()).count() >= 3
    });
    let spared = [4, 8, 16].into_iter().any(|pause| {
        let next = asked(&ear)[asked(&ear).len() - 1] + Duration::from_secs(pause);
        let before = asked(&ear).len();
        ear.listen((next - Duration::from_millis(500)).saturating_duration_since(Instant::now()));
        ask(name);
        ear.listen((next + Duration::from_millis(1500)).saturating_duration_since(Instant::now()));
        asked(&ear).len() == before
    });
    assert!(spared, "we ask what was just asked");
}

#[test]
fn who_asks_for_himself_is_answered_alone_and_what_is_not_is_denied() {
    let lab = Lab::new("alone");
    let hosts = [1, 2, 3].map(|number| lab.host_with(number, Families::V4));
    let ours = hosts[0].minke("ours");
    ours.until_named("ours");
    let (mut at_us, mut at_them) = (Ear::new(&hosts[0]), Ear::new(&hosts[1]));
    // Announcements go to all.
    at_them.listen(Duration::from_secs(5));
    at_them.heard.clear();
    let mut command = hosts[1].command("/usr/bin/python3");
    command.arg(minke_tests::project().join("tests/net/zeroconf_peer.py")).args(["browse", "10.77.0.2"]);
    let found = Background::start(&lab, "browse", &mut command);
    found.until("added ours._ssh._tcp.local. ours.local. 22222 10.77.0.1");
    at_us.until("a question that wants an answer by unicast", |heard| {
        heard.iter().any(|heard| heard.asks("_ssh._tcp.local") == Some(Class::IN.with_top()))
    });
    at_them.until("the answer", |heard| heard.iter().any(|heard| heard.tells("_ssh._tcp.local", "ours")));
    let first = at_them.heard.iter().find(|heard| heard.tells("_ssh._tcp.local", "ours")).unwrap();
    assert_eq!((first.from, first.to), (OURS, THEIRS));

    // We have no IPv6 address, and say so to who asks for one.
    let socket = socket(&hosts[2], 3);
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.send_to(&question("ours.local", Kind::AAAA, Class::IN.with_top()), (GROUP, 5353)).unwrap();
    let mut buffer = [0; 9000];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(from, (OURS, 5353).into());
    let message = Message::parse(&buffer[..length]).unwrap();
    let denial = message.answers().find(|answer| answer.kind == Kind::NSEC).unwrap();
    assert_eq!(denial.name.to_string(), "ours.local");
    let Some(Data::Nsec { next, types: bitmap }) = denial.data() else { panic!("{:?}", denial.data()) };
    assert_eq!(
        (next.to_string(), types(bitmap).collect::<Vec<_>>()),
        ("ours.local".to_owned(), vec![Kind::A])
    );
    // And hear it of others: what has no IPv6 address there either is known as soon as its IPv4 address is.
    let mut command = hosts[1].command("/usr/bin/python3");
    command.arg(minke_tests::project().join("tests/net/zeroconf_peer.py")).args(["publish", "10.77.0.2"]);
    let _published = Background::start(&lab, "publish", &mut command);
    until_has(|| ours.text(&["resolve", "zero"]), &["10.77.0.2"]);
}
