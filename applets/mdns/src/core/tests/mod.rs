//! One host, its clock and its link in the hands of the test. Times are milliseconds.

mod asking;
mod flood;
mod links;
mod naming;
mod probing;
mod responding;
mod services;
mod simulator;

use super::record::Record;
use super::*;
use minke_wire::dns::{Class, Data, Flags, Header, Records, Section, Writer};

/// A packet that was sent, as texts: `box.local A 120! 10.0.0.5`, `!` for the bit that flushes caches.
#[derive(Debug, Clone, PartialEq, Default)]
struct Sent {
    at: Time,
    link: u32,
    to: String,
    header: Header,
    /// `box.local A`, with `?` behind it when a unicast response is welcome.
    questions: Vec<String>,
    answers: Vec<String>,
    authorities: Vec<String>,
    additionals: Vec<String>,
    bytes: Vec<u8>,
}

impl Sent {
    fn is_response(&self) -> bool {
        self.header.flags.has(Flags::QR)
    }

    fn says(&self, start: &str) -> bool {
        self.answers.iter().any(|answer| answer.starts_with(start))
    }
}

struct Case {
    mdns: Mdns,
    now: Time,
    sent: Vec<Sent>,
    /// What was told, without packets.
    told: Vec<Action>,
}

const EVERYBODY: &str = "224.0.0.251:5353";
const PEER: &str = "10.0.0.9:5353";

impl Case {
    /// Nothing yet.
    fn new(seed: u64) -> Self {
        let mdns = Mdns::new(seed, Limits::default());
        Self { mdns, now: 10_000, sent: Vec::new(), told: Vec::new() }
    }

    /// The host `box` with 10.0.0.5 on link 1, its name not found free yet.
    fn starting(seed: u64) -> Self {
        let mut case = Self::new(seed);
        case.mdns.set_host(case.now, "box");
        case.link(1, &["10.0.0.5/24"]);
        case
    }

    /// The same, announced long ago.
    fn settled() -> Self {
        let mut case = Self::starting(1);
        case.run(30_000);
        case.sent.clear();
        case.told.clear();
        case
    }

    /// With the service that every device has.
    fn with_ssh() -> Self {
        let mut case = Self::starting(1);
        case.mdns.set_service(case.now, 0, ssh()).unwrap();
        case.run(30_000);
        case.sent.clear();
        case.told.clear();
        case
    }

    fn link(&mut self, index: u32, addresses: &[&str]) {
        self.mdns.set_link(self.now, &link(index, addresses));
        self.perform();
    }

    fn perform(&mut self) {
        for action in self.mdns.take_actions() {
            match action {
                Action::Send { link, to, bytes } => self.sent.push(read(self.now, link, to, bytes)),
                other => self.told.push(other),
            }
        }
    }

    /// Lets time pass.
    fn run(&mut self, time: Time) {
        self.perform();
        let end = self.now + time;
        let mut rounds = 0;
        while let Some(due) = self.mdns.deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.mdns.timer(self.now);
            self.perform();
            rounds += 1;
            assert!(rounds < 10_000, "it never sleeps: {:?}", self.mdns);
        }
        self.now = end;
    }

    fn receive_at(&mut self, link: u32, from: &str, to_group: bool, bytes: &[u8]) {
        let packet = Packet { link, from: from.parse().unwrap(), to_group, bytes };
        self.mdns.received(self.now, packet);
        self.perform();
    }

    fn receive(&mut self, from: &str, bytes: &[u8]) {
        self.receive_at(1, from, true, bytes);
    }

    /// Someone else's packet; what was sent at once in return.
    fn react(&mut self, bytes: &[u8]) -> Vec<Sent> {
        self.receive(PEER, bytes);
        std::mem::take(&mut self.sent)
    }

    /// Takes what was sent within a time from now.
    fn sent_within(&mut self, time: Time) -> Vec<Sent> {
        self.run(time);
        std::mem::take(&mut self.sent)
    }

    fn responses(&self) -> impl Iterator<Item = &Sent> {
        self.sent.iter().filter(|sent| sent.is_response())
    }

    fn found(&self) -> Vec<String> {
        let mut found = Vec::new();
        for action in &self.told {
            match action {
                Action::Found { record, .. } => found.push(format!("+{}", text(record))),
                Action::Gone { record, .. } => found.push(format!("-{}", text(record))),
                Action::Done { .. } => found.push("done".into()),
                _ => {}
            }
        }
        found
    }
}

fn link(index: u32, addresses: &[&str]) -> Link {
    let mut link = Link { index, mtu: 1500, addresses: Vec::new() };
    for text in addresses {
        let (ip, prefix) = text.split_once('/').unwrap();
        let (ip, prefix) = (ip.parse().unwrap(), prefix.parse().unwrap());
        link.addresses.push(Address { ip, prefix, published: true });
    }
    link
}

pub(super) fn ssh() -> Service {
    Service {
        instance: "%h".into(),
        wildcards: true,
        kind: "_ssh._tcp".into(),
        subtypes: vec!["_resin-device._sub._ssh._tcp".into()],
        port: 22222,
        txt: Vec::new(),
        target: None,
        ipv4: true,
        ipv6: true,
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A record from a text like `box.local A 120! 10.0.0.5`; TTL and data may be missing for questions.
fn record(text: &str) -> Record {
    let parts: Vec<&str> = text.split(' ').collect();
    let kind = Kind::parse(parts[1]).unwrap();
    let unique = parts[2].ends_with('!');
    let ttl = parts[2].trim_end_matches('!').parse().unwrap();
    let data = match kind {
        Kind::A => parts[3].parse::<std::net::Ipv4Addr>().unwrap().octets().to_vec(),
        Kind::AAAA => parts[3].parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec(),
        Kind::PTR | Kind::CNAME => name(parts[3]).as_wire().to_vec(),
        Kind::SRV => {
            let mut data = vec![0, 0, 0, 0];
            data.extend_from_slice(&parts[5].parse::<u16>().unwrap().to_be_bytes());
            data.extend_from_slice(name(parts[6]).as_wire());
            data
        }
        Kind::NSEC => {
            let kinds: Vec<Kind> = parts[4..].iter().map(|kind| Kind::parse(kind).unwrap()).collect();
            Record::denial(&name(parts[3]), &kinds).data
        }
        _ => parts[3].trim_matches('"').as_bytes().to_vec(),
    };
    Record { name: name(parts[0]), kind, unique, ttl, data }
}

fn text(record: &Record) -> String {
    let flush = if record.unique { "!" } else { "" };
    let data = Data::of(record.kind, &record.data).unwrap();
    format!("{} {} {}{flush} {data}", record.name, record.kind, record.ttl)
}

fn texts(records: Records<'_>) -> Vec<String> {
    records.map(|wire| text(&Record::of(&wire).unwrap())).collect()
}

fn read(at: Time, link: u32, to: SocketAddr, bytes: Vec<u8>) -> Sent {
    let message = Message::parse(&bytes).unwrap();
    let mut questions = Vec::new();
    for question in message.questions() {
        let unicast = if question.class.unicast_response() { "?" } else { "" };
        questions.push(format!("{} {}{unicast}", question.name, question.kind));
    }
    let header = message.header;
    let [answers, authorities, additionals] =
        [message.answers(), message.authorities(), message.additionals()].map(texts);
    Sent { at, link, to: to.to_string(), header, questions, answers, authorities, additionals, bytes }
}

/// A message: questions as in [`Sent`], answers, authorities.
fn message(flags: Flags, questions: &[&str], answers: &[&str], authorities: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, 9000, 0, flags).compressing_all();
    for question in questions {
        let (owner, kind) = question.split_once(' ').unwrap();
        let class = if kind.ends_with('?') { Class::IN.with_top() } else { Class::IN };
        let kind = Kind::parse(kind.trim_end_matches('?')).unwrap();
        assert!(writer.question(name(owner).as_ref(), kind, class));
    }
    for (section, records) in [(Section::Answer, answers), (Section::Authority, authorities)] {
        for one in records {
            let one = record(one);
            assert!(send::put(&mut writer, section, (&one, true), one.ttl));
        }
    }
    bytes
}

fn query(questions: &[&str]) -> Vec<u8> {
    message(Flags::default(), questions, &[], &[])
}

fn knowing(questions: &[&str], known: &[&str]) -> Vec<u8> {
    message(Flags::default(), questions, known, &[])
}

fn probe(owner: &str, proposed: &[&str]) -> Vec<u8> {
    message(Flags::default(), &[&format!("{owner} ANY?")], &[], proposed)
}

fn response(answers: &[&str]) -> Vec<u8> {
    message(Flags(0x8400), &[], answers, &[])
}
