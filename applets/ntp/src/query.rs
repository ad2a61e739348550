//! `ntp query`: asks a server for its time, without touching the clock.

use crate::figures::{amount, signed};
use crate::nanos::Nanos;
use crate::nts::exchange::{Asking, Clock, exchange};
use crate::nts::session::{RANDOM, Session, Verdict};
use minke_applet::{Args, EXIT_USAGE, Flag, errln, outln};
use minke_http::{Trust, resolve};
use minke_sys::event::{Interest, Poller};
use minke_sys::stamp::Stamped;
use minke_sys::{Errno, clock, file, random};
use minke_wire::json::{Value, json};
use minke_wire::ntp::{Leap, MAXSTRAT, PORT, Packet, Timestamp, mode};
use minke_wire::{nts, text};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// `--nts`
pub(crate) const NTS_FLAG: Flag =
    Flag { short: None, long: "nts", value: None, help: "query: authenticate the answers by NTS (RFC 8915)" };
/// `-4`
pub(crate) const IPV4_FLAG: Flag =
    Flag { short: Some('4'), long: "ipv4", value: None, help: "query: use IPv4 alone" };
/// `-6`
pub(crate) const IPV6_FLAG: Flag =
    Flag { short: Some('6'), long: "ipv6", value: None, help: "query: use IPv6 alone" };
/// `--timeout S`
pub(crate) const TIMEOUT_FLAG: Flag = Flag {
    short: None,
    long: "timeout",
    value: Some("S"),
    help: "query: give up after S seconds without an answer (5)",
};
/// `--count N`
pub(crate) const COUNT_FLAG: Flag = Flag {
    short: None,
    long: "count",
    value: Some("N"),
    help: "query: ask for N answers, a second apart (1)",
};
/// `--trust FILE`
pub(crate) const TRUST_FLAG: Flag = Flag {
    short: None,
    long: "trust",
    value: Some("FILE"),
    help: "Believe the certificate authorities in FILE (PEM) as well",
};

/// A question that was not answered is asked again after this time.
const AGAIN: Duration = Duration::from_secs(1);
/// Most answers that are asked for.
const MOST_ANSWERS: u64 = 100;
/// Bytes of an answer; a longer one is no answer to us.
const LONGEST: usize = 4096;
/// Bytes of the file of certificate authorities.
const LONGEST_TRUST: usize = 4 << 20;

/// What is asked.
struct Query {
    host: String,
    port: Option<u16>,
    nts: bool,
    only_v4: Option<bool>,
    timeout: Duration,
    count: u64,
    trust: Trust,
}

/// What a server has said.
struct Sample {
    from: SocketAddr,
    packet: Packet,
    /// What must be added to this machine's clock, in nanoseconds.
    offset: i64,
    /// How long the way there and back took, in nanoseconds.
    delay: i64,
}

/// Runs `ntp query HOST[:PORT]`.
pub(crate) fn run(args: &Args) -> u8 {
    let query = match parse(args) {
        Ok(query) => query,
        Err(text) => {
            errln!("ntp: {text}; see 'ntp --help'");
            return EXIT_USAGE;
        }
    };
    let answered = samples(&query);
    // Half the way there and back is how far the offset may be wrong: the shortest tells most.
    let best = answered.as_ref().ok().and_then(|samples| samples.iter().min_by_key(|sample| sample.delay));
    let problem = match (&answered, best) {
        (Err(text), _) => text.to_string(),
        (Ok(_), Some(best)) if !is_synchronised(&best.packet) => {
            format!("{}: the server is not synchronised itself; its time is worth nothing", query.host)
        }
        _ => String::new(),
    };
    if args.has("json") {
        outln!("{}", document(&query, answered.as_deref().unwrap_or_default(), best, &problem).to_text());
    } else if let (Ok(samples), Some(best)) = (&answered, best) {
        print(&query, samples, best);
    }
    if problem.is_empty() {
        return 0;
    }
    errln!("ntp: {problem}");
    1
}

fn parse(args: &Args) -> Result<Query, String> {
    let name = args.operand(1).ok_or("query: expected one server, HOST or HOST:PORT")?;
    let wrong = || format!("query: '{}' is no HOST or HOST:PORT", text::shown(name));
    let (host, port) = split(name).ok_or_else(wrong)?;
    let number = |option: &str, usual: u64, most: u64| match args.value(option) {
        None => Ok(usual),
        Some(value) => text::number::<u64>(value)
            .filter(|number| (1..=most).contains(number))
            .ok_or_else(|| format!("--{option} is a number from 1 to {most}")),
    };
    let only_v4 = match (args.has("ipv4"), args.has("ipv6")) {
        (true, true) => return Err("only one of --ipv4 and --ipv6 makes sense".into()),
        (false, false) => None,
        (only_v4, _) => Some(only_v4),
    };
    Ok(Query {
        host: host.into(),
        port,
        nts: args.has("nts"),
        only_v4,
        timeout: Duration::from_secs(number("timeout", 5, 3600)?),
        count: number("count", 1, MOST_ANSWERS)?,
        trust: trust(args)?,
    })
}

/// The authorities of the system, and those of `--trust`.
pub(crate) fn trust(args: &Args) -> Result<Trust, String> {
    let mut trust = Trust::default();
    if let Some(path) = args.value("trust") {
        trust.extra =
            file::read_bounded(Path::new(path), LONGEST_TRUST).map_err(|error| error.to_string())?;
        if minke_http::count_authorities(&trust.extra) == 0 {
            return Err(format!("{path} holds no certificate authority in PEM"));
        }
    }
    Ok(trust)
}

/// `HOST`, `HOST:PORT`, `ADDRESS`, `[ADDRESS]:PORT`.
fn split(name: &str) -> Option<(&str, Option<u16>)> {
    if name.parse::<IpAddr>().is_ok() {
        return Some((name, None));
    }
    let (host, port) = match name.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = text::split_once(rest, "]")?;
            if host.parse::<IpAddr>().is_err() {
                return None;
            }
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => text::split_once(name, ":").map_or((name, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        Some(port) => Some(text::number::<u16>(port).filter(|port| *port != 0)?),
        None => None,
    };
    (!host.is_empty()).then_some((host, port))
}

/// Asks until there are as many answers as wanted; at least one, or the reason why there is none.
fn samples(query: &Query) -> Result<Vec<Sample>, Box<str>> {
    let until = clock::ahead(query.timeout);
    let (addresses, port, mut session) = if query.nts {
        let granted = exchange(&Asking {
            host: query.host.clone(),
            port: query.port.unwrap_or(nts::PORT),
            trust: query.trust.clone(),
            etc: "/etc".into(),
            only_v4: query.only_v4,
            clock: Clock::System,
            patience: query.timeout,
        })
        .map_err(|unmade| unmade.text)?;
        (granted.addresses, granted.port, Some(granted.session))
    } else {
        let mut addresses =
            resolve(Path::new("/etc"), &query.host, until).map_err(|error| error.to_string())?;
        addresses.retain(|address| query.only_v4.is_none_or(|only| only == address.is_ipv4()));
        (addresses, query.port.unwrap_or(PORT), None)
    };
    if addresses.is_empty() {
        return Err(format!("{}: no address of the wanted family", query.host).into());
    }
    let mut samples = Vec::new();
    let mut failed = None;
    while (samples.len() as u64) < query.count {
        if !samples.is_empty() {
            clock::sleep(AGAIN);
        }
        let until = clock::ahead(query.timeout);
        match one(&addresses, port, &mut session, until) {
            Ok(sample) => samples.push(sample),
            Err(text) => {
                failed = Some(text);
                break;
            }
        }
    }
    match failed {
        Some(text) if samples.is_empty() => Err(format!("{}: {text}", query.host).into()),
        _ => Ok(samples),
    }
}

/// One answer: the addresses are asked in turn, until a time since boot.
fn one(
    addresses: &[IpAddr],
    port: u16,
    session: &mut Option<Session>,
    until: Duration,
) -> Result<Sample, Box<str>> {
    // An address that says that nobody is there is asked no more.
    let mut silent: Vec<SocketAddr> =
        addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
    let mut reason: Box<str> = "no answer in time; is UDP blocked on the way?".into();
    let mut turn = 0usize;
    while !silent.is_empty() && clock::boottime() < until {
        turn = if turn < silent.len() { turn } else { 0 };
        let Some(address) = silent.get(turn).copied() else { break };
        match attempt(address, session, until.min(clock::ahead(AGAIN))) {
            Outcome::Answer(sample) => return Ok(*sample),
            Outcome::Silence => turn = turn.saturating_add(1),
            Outcome::Nothing(text) => {
                silent.remove(turn);
                reason = text;
            }
            Outcome::Final(text) => return Err(text),
        }
    }
    Err(reason)
}

enum Outcome {
    Answer(Box<Sample>),
    /// Nothing came.
    Silence,
    /// This address does not lead to a server.
    Nothing(Box<str>),
    /// The server itself says no.
    Final(Box<str>),
}

fn attempt(address: SocketAddr, session: &mut Option<Session>, until: Duration) -> Outcome {
    match try_attempt(address, session, until) {
        Ok(outcome) => outcome,
        Err(error) if error.errno == Errno::CONNREFUSED => {
            Outcome::Nothing(format!("nobody listens on UDP {address} (ICMP port unreachable)").into())
        }
        Err(error) => Outcome::Nothing(error.to_string().into()),
    }
}

fn try_attempt(
    address: SocketAddr,
    session: &mut Option<Session>,
    until: Duration,
) -> minke_sys::Result<Outcome> {
    let mut random = [0; 8 + RANDOM];
    random::fill(&mut random)?;
    let Some((xmt, random)) = random.split_first_chunk() else { return Ok(Outcome::Silence) };
    let request = Packet::request(Timestamp(u64::from_be_bytes(*xmt)));
    let mut bytes = request.encode().to_vec();
    if let (Some(session), Some(random)) = (session.as_mut(), random.first_chunk())
        && !session.seal(&mut bytes, random)
    {
        return Ok(Outcome::Final("no answer is authentic, and no cookie is left".into()));
    }
    let stamped = Stamped::connect(address)?;
    let poller = Poller::new()?;
    poller.add(&stamped, 0, Interest::Read)?;
    let (mut sent, by_us) = (None, now());
    stamped.send(&bytes)?;
    let (mut ready, mut buffer) = (Vec::new(), vec![0; LONGEST]);
    loop {
        let left = until.saturating_sub(clock::boottime());
        if left.is_zero() {
            return Ok(Outcome::Silence);
        }
        poller.wait(&mut ready, Some(left))?;
        sent = sent.or_else(|| stamped.sent());
        let Some(arrival) = stamped.receive(&mut buffer)? else { continue };
        let received = arrival.time.unwrap_or_else(now);
        let bytes = buffer.get(..arrival.length).unwrap_or_default();
        let Some((packet, _)) = Packet::decode(bytes) else { continue };
        // Whoever has not seen the request does not know its number.
        if packet.mode != mode::SERVER || packet.org != request.xmt {
            continue;
        }
        match session.as_mut().map(|session| session.open(bytes)) {
            None | Some(Verdict::Authentic) => {}
            Some(Verdict::Nak) => {
                return Ok(Outcome::Final("the server refuses its own cookie (NTS NAK)".into()));
            }
            Some(Verdict::Foreign) => continue,
        }
        if packet.kiss().is_some() {
            let code = String::from_utf8_lossy(&packet.refid);
            let code = text::shown(code.trim_end_matches('\0'));
            return Ok(Outcome::Final(
                format!("the server sends a kiss of death, code {code}: {}", meaning(&code)).into(),
            ));
        }
        return Ok(Outcome::Answer(Box::new(sample(address, packet, sent.unwrap_or(by_us), received))));
    }
}

fn now() -> i64 {
    let time = clock::realtime();
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    seconds.saturating_mul(1_000_000_000).after(time.subsec_nanos().into())
}

/// RFC 5905 §8, with the four times in nanoseconds since 1970.
fn sample(from: SocketAddr, packet: Packet, sent: i64, received: i64) -> Sample {
    // Of a clock that is far behind, the build time is nearer to the server's time.
    let pivot =
        received.max(i64::try_from(minke_applet::build().time).unwrap_or(0).saturating_mul(1_000_000_000));
    let (there, back) = (packet.rec.to_nanos(pivot), packet.xmt.to_nanos(pivot));
    let (forth, home) = (there.since(sent), back.since(received));
    let offset = (forth / 2).after(home / 2);
    let delay = received.since(sent).since(packet.xmt.since(packet.rec)).max(0);
    Sample { from, packet, offset, delay }
}

fn meaning(code: &str) -> &'static str {
    match code {
        "DENY" | "RSTR" => "it does not serve this machine",
        "RATE" => "it was asked too often",
        "INIT" | "STEP" => "it is not synchronised yet",
        _ => "it does not serve",
    }
}

fn is_synchronised(packet: &Packet) -> bool {
    packet.leap != Leap::Unknown && (1..MAXSTRAT).contains(&packet.stratum) && packet.xmt != Timestamp::ZERO
}

/// What the server follows: a kind of clock, or an address (of IPv6 a part of its hash).
fn reference(packet: &Packet) -> String {
    let [a, b, c, d] = packet.refid;
    if packet.stratum > 1 {
        return format!("{a}.{b}.{c}.{d}");
    }
    let code = String::from_utf8_lossy(&packet.refid);
    text::shown(code.trim_end_matches('\0'))
}

const LEAPS: [&str; 4] = [
    "none announced",
    "a second will be inserted",
    "a second will be left out",
    "the server's clock is not synchronised",
];

fn print(query: &Query, samples: &[Sample], best: &Sample) {
    let packet = &best.packet;
    let lines = [
        ("server", format!("{} ({})", query.host, best.from)),
        ("stratum", packet.stratum.to_string()),
        ("leap second", LEAPS.get(packet.leap as usize).copied().unwrap_or_default().into()),
        ("reference", reference(packet)),
        ("root delay", amount(nanoseconds(packet.rootdelay.to_nanos()))),
        ("root dispersion", amount(nanoseconds(packet.rootdisp.to_nanos()))),
        ("offset", offset(best.offset)),
        ("delay", amount(best.delay)),
        ("answers", format!("{} of {}", samples.len(), query.count)),
        ("authenticated", if query.nts { format!("by NTS, {AEAD}") } else { "no".into() }),
    ];
    for (name, value) in lines {
        outln!("{name:16}{value}");
    }
}

const AEAD: &str = "AEAD_AES_SIV_CMAC_256";

fn offset(nanoseconds: i64) -> String {
    let side = if nanoseconds < 0 { "ahead" } else { "behind" };
    format!("{} s: this clock is {} {side}", signed(nanoseconds, 9), amount(nanoseconds.saturating_abs()))
}

fn nanoseconds(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The same for programs.
fn document(query: &Query, samples: &[Sample], best: Option<&Sample>, problem: &str) -> Value {
    let Some(best) = best else {
        return json!({ "host": query.host, "nts": query.nts, "synchronized": false, "error": problem });
    };
    let packet = &best.packet;
    let mut all = Vec::new();
    for sample in samples {
        all.push(json!({ "offset_ns": sample.offset, "delay_ns": sample.delay }));
    }
    let text = |present: bool, text: &str| if present { Value::String(text.into()) } else { Value::Null };
    json!({
        "host": query.host,
        "nts": query.nts,
        "synchronized": is_synchronised(packet),
        "error": text(!problem.is_empty(), problem),
        "address": best.from.ip().to_string(),
        "port": best.from.port(),
        "aead": text(query.nts, AEAD),
        "version": packet.version,
        "leap": packet.leap as u8,
        "stratum": packet.stratum,
        "refid": reference(packet),
        "precision": i64::from(packet.precision),
        "root_delay_ns": packet.rootdelay.to_nanos(),
        "root_dispersion_ns": packet.rootdisp.to_nanos(),
        "offset_ns": best.offset,
        "delay_ns": best.delay,
        "samples": Value::Array(all),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_their_ports() {
        for (name, parts) in [
            ("a.example", Some(("a.example", None))),
            ("a.example:1123", Some(("a.example", Some(1123)))),
            ("192.0.2.1:1", Some(("192.0.2.1", Some(1)))),
            ("2001:db8::1", Some(("2001:db8::1", None))),
            ("[2001:db8::1]", Some(("2001:db8::1", None))),
            ("[2001:db8::1]:123", Some(("2001:db8::1", Some(123)))),
            ("[a.example]:123", None),
            ("[2001:db8::1]x", None),
            ("a.example:", None),
            ("a.example:0", None),
            ("a.example:65536", None),
            (":123", None),
            ("", None),
        ] {
            assert_eq!(split(name), parts, "{name}");
        }
    }

    #[test]
    fn offset_and_delay_by_the_four_times() {
        let second = 1_000_000_000;
        let sent = 1_800_000_000 * second;
        let time = Timestamp::from_nanos;
        // The server is 2 s ahead; 30 ms there, 10 ms back, 5 ms in the server.
        let packet = Packet {
            rec: time(sent + 2 * second + 30_000_000),
            xmt: time(sent + 2 * second + 35_000_000),
            ..Packet::default()
        };
        let found = sample(([192, 0, 2, 1], 123).into(), packet, sent, sent + 45_000_000);
        assert!((found.offset - 2 * second - 10_000_000).abs() < 10, "{}", found.offset);
        assert!((found.delay - 40_000_000).abs() < 10, "{}", found.delay);
        assert_eq!(offset(-1_500_000), "-0.001500000 s: this clock is 1.500 ms ahead");
    }

    #[test]
    fn what_servers_follow() {
        let of =
            |stratum, refid: &[u8; 4]| reference(&Packet { stratum, refid: *refid, ..Packet::default() });
        assert_eq!((of(1, b"GPS\0"), of(2, &[192, 0, 2, 9])), ("GPS".into(), "192.0.2.9".into()));
        assert_eq!(of(1, b"\x01\n\xffA"), "???A");
    }
}
