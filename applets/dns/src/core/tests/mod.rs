//! The rules, each by queries and responses as they go over the wire.

use super::*;
use crate::config::Server;
use minke_wire::dns::{Message, Opt, Soa};
use std::net::Ipv4Addr;

mod cached;
mod forged;
mod known;
mod limits;
mod link;
mod options;

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const CONTAINER: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 17, 0, 5));

fn name(text: &str) -> Name {
    Name::parse(text).unwrap_or_else(|| panic!("{text}"))
}

fn at(seconds: u64) -> Micros {
    Micros::from_secs(seconds)
}

fn resolver(settings: Settings) -> Resolver {
    Resolver::new(settings, [0x1234_5678_9ABC_DEF1, 0x0FED_CBA9_8765_4321])
}

fn plain_settings() -> Settings {
    Settings {
        groups: vec![vec![Server::plain(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)))]],
        ..Settings::default()
    }
}

fn standard() -> Resolver {
    resolver(plain_settings())
}

/// A query with RD, an id that tells it apart, and OPT where asked for.
fn query(text: &str, kind: Kind, opt: Option<Opt<'_>>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, 512, 0xABCD, Flags::RD);
    assert!(writer.question(name(text).as_ref(), kind, Class::IN));
    if let Some(opt) = opt {
        assert!(writer.opt(&opt));
    }
    out
}

fn edns() -> Option<Opt<'static>> {
    Some(Opt { size: 1232, ..Opt::default() })
}

/// A response to `sent`: records by section as (section, owner, ttl, data).
type Lines<'a> = &'a [(Section, &'a str, u32, Data<'a>)];

fn respond(sent: &[u8], flags: Flags, code: Rcode, lines: Lines<'_>) -> Vec<u8> {
    let message = Message::parse(sent).unwrap();
    let question = message.question().unwrap();
    let mut out = Vec::new();
    let flags = flags.with(Flags::QR).with(Flags::RA).with(Flags::RD).with_rcode(code);
    let mut writer = Writer::new(&mut out, usize::MAX, message.header.id, flags);
    assert!(writer.question(question.name, question.kind, question.class));
    for (section, owner, ttl, data) in lines {
        let owner = name(owner);
        assert!(writer.record(*section, (owner.as_ref(), Kind(65280), Class::IN), *ttl, data));
    }
    out
}

fn a(last: u8) -> Data<'static> {
    Data::A(Ipv4Addr::new(192, 0, 2, last))
}

/// One line per record: owner, time to live, type, data.
fn shown(response: &[u8]) -> Vec<String> {
    let message = Message::parse(response).expect("a response");
    let all = message.answers().chain(message.authorities()).chain(message.additionals());
    all.filter(|record| record.kind != Kind::OPT)
        .map(|record| format!("{} {} {} {}", record.name, record.ttl, record.kind, record.data().unwrap()))
        .collect()
}

fn code(response: &[u8]) -> Rcode {
    let message = Message::parse(response).expect("a response");
    message.rcode(message.opt().as_ref())
}

fn reason_of(response: &[u8]) -> Option<u16> {
    let opt = Message::parse(response).unwrap().opt()?;
    opt.options().find(|(code, _)| *code == 15).map(|(_, data)| u16::from_be_bytes([data[0], data[1]]))
}

/// A resolver with a client and servers that it plays.
struct Play {
    resolver: Resolver,
    from: IpAddr,
    now: u64,
}

impl Play {
    fn new(resolver: Resolver) -> Self {
        Self { resolver, from: HOST, now: 100 }
    }

    fn step(&mut self, query: &[u8]) -> (Step, Vec<u8>) {
        let asked = Asked { from: self.from, query, udp: true, search: 0 };
        let mut out = Vec::new();
        // To be warmed for changes nothing.
        let asking = self.resolver.parse(asked, &mut Vec::new());
        self.resolver.warm([&asking, &asking].into_iter().flatten());
        let step = self.resolver.ask(at(self.now), &asked, &mut out);
        (step, out)
    }

    /// The response to a query that needs no server.
    fn ask(&mut self, text: &str, kind: Kind) -> Vec<u8> {
        let (step, out) = self.step(&query(text, kind, edns()));
        assert!(matches!(step, Step::Answered | Step::Refresh(_)), "{text} {kind}: {step:?}");
        out
    }

    fn lines(&mut self, text: &str, kind: Kind) -> Vec<String> {
        shown(&self.ask(text, kind))
    }

    /// The route of a query that needs a server.
    fn route(&mut self, text: &str, kind: Kind) -> Route {
        match self.step(&query(text, kind, edns())).0 {
            Step::Forward(route) | Step::Refresh(route) => route,
            step => panic!("{text} {kind}: {step:?}"),
        }
    }

    fn is_asked(&mut self, text: &str, kind: Kind) -> bool {
        matches!(self.step(&query(text, kind, None)).0, Step::Forward(_))
    }

    /// Has servers answer a query, and gives what the client gets.
    fn serve(&mut self, text: &str, kind: Kind, code: Rcode, lines: Lines<'_>) -> Vec<u8> {
        let asked = query(text, kind, edns());
        let Step::Forward(route) = self.step(&asked).0 else { panic!("{text}") };
        assert_eq!(self.answer(&route.key, Flags::default(), code, lines), Ok(Taken::Good));
        self.reply(&asked, route.search)
    }

    fn answer(&mut self, key: &Key, flags: Flags, code: Rcode, lines: Lines<'_>) -> Result<Taken, Refusal> {
        let mut sent = Vec::new();
        key.query(7, u64::MAX, true, &mut sent);
        let response = respond(&sent, flags, code, lines);
        self.resolver.answered(at(self.now), key, &sent, &response, true)
    }

    fn reply(&mut self, query: &[u8], search: u8) -> Vec<u8> {
        let asked = Asked { from: self.from, query, udp: true, search };
        let mut out = Vec::new();
        assert_eq!(self.resolver.reply(at(self.now), &asked, &mut out), Step::Answered);
        out
    }
}

fn soa<'a>(zone: &'a Name, ttl: u32, minimum: u32) -> (u32, Data<'a>) {
    let data = Soa {
        mname: zone.as_ref(),
        rname: zone.as_ref(),
        serial: 1,
        refresh: 2,
        retry: 3,
        expire: 4,
        minimum,
    };
    (ttl, Data::Soa(data))
}
