//! The server for the local network, off unless an `allow` line or option names who is served: it tells the time of this
//! machine's clock, and how much it is worth.
//!
//! - Only requests of clients (mode 3, versions 2 to 4) from an allowed subnet are answered, each with 48 bytes, which is
//!   never more than was asked with. There is nothing else to ask: no modes 6 and 7.
//! - A client may send eight requests at once, and one in two seconds in the long run. Beyond that every fourth gets the
//!   kiss RATE and the others silence. Clients of one IPv6 network (/64) count as one.
//! - The table of clients has a fixed size; under a flood of addresses the oldest entries give way.
//! - Without a time that is worth something the answer says so (leap 3, stratum 16).

use minke_applet::{Args, Flag, log};
use minke_sys::datagram::Datagrams;
use minke_sys::{Result, clock, file};
use minke_wire::ntp::{HEADER, Leap, MAXSTRAT, PORT, Packet, Short, Timestamp, mode};
use minke_wire::text;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// `--allow SUBNET`, which may stand several times.
pub(crate) const ALLOW_FLAG: Flag = Flag {
    short: None,
    long: "allow",
    value: Some("SUBNET"),
    help: "run: serve time to clients of this subnet, such as 192.168.1.0/24 (repeatable)",
};

/// Requests that a client may send at once.
const BURST: u32 = 8;
/// How long it takes until a client may send one more, in milliseconds.
const REFILL: u64 = 2000;
/// Of how many requests that are too many one is answered by a kiss.
const KISS_OF: u32 = 4;
/// Clients that are remembered: [`WAYS`] places for each of the sets that their addresses fall into.
const SETS: usize = 64;
const WAYS: usize = 4;
/// The most subnets.
const MOST_SUBNETS: usize = 32;
/// Requests that are answered before the loop looks at something else.
const BATCH: usize = 64;
/// The clock is read to about a microsecond: 2^-20 s.
const PRECISION: i8 = -20;

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subnet {
    address: u128,
    /// Bits, of IPv4 counted behind the 96 of its mapping.
    prefix: u32,
}

impl Subnet {
    /// Reads `ADDRESS` or `ADDRESS/BITS`.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        let (address, bits) =
            text::split_once(word, "/").map_or((word, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let (width, before) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
        let bits = match bits {
            Some(bits) => text::number::<u32>(bits).filter(|bits| *bits <= width)?,
            None => width,
        };
        Some(Self { address: mapped(address), prefix: bits.saturating_add(before) })
    }

    fn holds(self, address: u128) -> bool {
        let differs = self.address ^ address;
        differs.leading_zeros() >= self.prefix
    }

    fn is_v4(self) -> bool {
        self.prefix >= 96 && self.address >> 32 == 0xffff
    }
}

/// An address as a number; IPv4 as mapped into IPv6 (RFC 4291 §2.5.5.2).
fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Who is served, and at which port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    /// Nobody, unless told.
    pub(crate) allowed: Vec<Subnet>,
    /// 123, unless told.
    pub(crate) port: u16,
}

impl Service {
    /// What the command line and the lines `allow SUBNET` and `port PORT` of these files say (chrony.conf(5); an `allow`
    /// without a subnet means everybody there, and here nobody).
    pub(crate) fn read(options: &[Subnet], files: [&Path; 2]) -> Self {
        let mut service = Self { allowed: options.to_vec(), port: PORT };
        for path in files {
            service.add(&file::text(path), path);
        }
        service
    }

    fn add(&mut self, content: &str, path: &Path) {
        let mut number = 0u32;
        for line in content.lines() {
            number = number.wrapping_add(1);
            let mut words = line.split_ascii_whitespace();
            let (directive, word) = (words.next(), words.next().unwrap_or_default());
            let understood = match directive {
                Some("allow") => Subnet::parse(word).map(|subnet| self.allowed.push(subnet)),
                Some("port") => {
                    text::number::<u16>(word).filter(|port| *port != 0).map(|port| self.port = port)
                }
                _ => continue,
            };
            if understood.is_none() {
                log::warn(format_args!(
                    "{}:{number}: no subnet or port: {}",
                    path.display(),
                    text::shown(word)
                ));
            }
        }
    }
}

/// The subnets of `--allow`, or the first that is none.
pub(crate) fn options(args: &Args) -> std::result::Result<Vec<Subnet>, String> {
    let mut allowed = Vec::new();
    for word in args.values(ALLOW_FLAG.long) {
        let subnet = Subnet::parse(word);
        allowed.push(subnet.ok_or_else(|| format!("--allow: '{}' is no subnet", text::shown(word)))?);
    }
    Ok(allowed)
}

/// What an answer tells of this machine's clock; the names are those of RFC 5905.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Facts {
    /// Unknown when the clock is not synchronised.
    pub(crate) leap: Leap,
    /// One more than that of the selected server.
    pub(crate) stratum: u8,
    /// Who that server is.
    pub(crate) refid: [u8; 4],
    /// When the clock was last compared, in nanoseconds since 1970.
    pub(crate) reftime: i64,
    /// Round trip to the reference clock, in nanoseconds.
    pub(crate) rootdelay: u64,
    /// The largest error beside half of that, now, in nanoseconds.
    pub(crate) rootdisp: u64,
}

/// What is done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ruling {
    Answer,
    Kiss,
    Silence,
}

/// A client that is remembered.
#[derive(Debug, Clone, Copy, Default)]
struct Client {
    /// Zero: none.
    address: u128,
    /// When the last request came, in milliseconds since boot.
    last: u64,
    /// Milliseconds that the client has to its credit.
    credit: u64,
    /// Requests that were too many.
    excess: u32,
}

/// Who asks how often.
#[derive(Debug)]
struct Limiter {
    clients: Vec<[Client; WAYS]>,
    /// So that nobody can choose addresses that fall into one set.
    salt: u64,
}

impl Limiter {
    fn new(salt: u64) -> Self {
        Self { clients: vec![[Client::default(); WAYS]; SETS], salt }
    }

    fn rule(&mut self, address: u128, now: u64) -> Ruling {
        // A household has a whole /64.
        let address = if address >> 32 == 0xffff { address } else { address >> 64 << 64 };
        let mixed = (address as u64 ^ (address >> 64) as u64 ^ self.salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let set = usize::try_from(mixed >> 58).unwrap_or(0);
        let Some(set) = self.clients.get_mut(set) else { return Ruling::Silence };
        let full = u64::from(BURST).saturating_mul(REFILL);
        let known = set.iter().position(|client| client.address == address);
        let oldest =
            || (0..WAYS).min_by_key(|way| set.get(*way).map_or(0, |client| client.last)).unwrap_or(0);
        let way = known.unwrap_or_else(oldest);
        let Some(client) = set.get_mut(way) else { return Ruling::Silence };
        if known.is_none() {
            *client = Client { address, last: now, credit: full, excess: 0 };
        }
        client.credit = client.credit.saturating_add(now.saturating_sub(client.last)).min(full);
        client.last = now;
        if let Some(left) = client.credit.checked_sub(REFILL) {
            client.credit = left;
            client.excess = 0;
            return Ruling::Answer;
        }
        client.excess = client.excess.wrapping_add(1);
        if client.excess % KISS_OF == 1 { Ruling::Kiss } else { Ruling::Silence }
    }
}

/// The answer to `request`, which arrived at `received`, at `sent` (both in nanoseconds since 1970), or the kiss RATE.
fn respond(request: &Packet, facts: &Facts, kiss: bool, received: i64, sent: i64) -> [u8; HEADER] {
    let synchronised = facts.leap != Leap::Unknown && (1..MAXSTRAT).contains(&facts.stratum);
    let mut answer = Packet {
        leap: Leap::Unknown,
        version: request.version,
        mode: mode::SERVER,
        stratum: MAXSTRAT,
        poll: request.poll,
        precision: PRECISION,
        org: request.xmt,
        rec: Timestamp::from_nanos(received),
        xmt: Timestamp::from_nanos(sent),
        ..Packet::default()
    };
    if kiss {
        answer.stratum = 0;
        answer.refid = *b"RATE";
    } else if synchronised {
        answer.leap = facts.leap;
        answer.stratum = facts.stratum;
        answer.refid = facts.refid;
        answer.rootdelay = Short::from_nanos(facts.rootdelay);
        answer.rootdisp = Short::from_nanos(facts.rootdisp);
        answer.reftime = Timestamp::from_nanos(facts.reftime);
    }
    answer.encode()
}

/// The server.
#[derive(Debug)]
pub(crate) struct Server {
    sockets: Vec<Datagrams>,
    allowed: Vec<Subnet>,
    limiter: Limiter,
}

impl Server {
    /// Listens for the families of the subnets, of which the first 32 count.
    pub(crate) fn open(service: &Service) -> Result<Self> {
        let mut allowed = service.allowed.clone();
        allowed.truncate(MOST_SUBNETS);
        let mut sockets = Vec::new();
        for v4 in [true, false] {
            if allowed.iter().any(|subnet| subnet.is_v4() == v4) {
                sockets.push(Datagrams::bind(v4, service.port)?);
            }
        }
        Ok(Self { sockets, allowed, limiter: Limiter::new(minke_sys::random::quick()) })
    }

    /// What the loop waits for to be readable.
    pub(crate) fn sockets(&self) -> &[Datagrams] {
        &self.sockets
    }

    /// Answers what has come at one of the sockets. `facts` tells what the clock is worth at a time of its own.
    pub(crate) fn serve(&mut self, socket: usize, facts: &Facts) {
        // One byte more than the longest request that is looked at; the header alone matters.
        let mut buffer = [0; 512];
        for _ in 0..BATCH {
            let Some(socket) = self.sockets.get(socket) else { return };
            let arrival = match socket.receive(&mut buffer) {
                Ok(Some(arrival)) => arrival,
                Ok(None) => return,
                // What a client's host reported of an earlier answer.
                Err(_) => continue,
            };
            let received = arrival.time.unwrap_or_else(now);
            let bytes = buffer.get(..arrival.length).unwrap_or_default();
            let Some((request, kiss)) =
                judge(&self.allowed, &mut self.limiter, bytes, arrival.from, boottime())
            else {
                continue;
            };
            let answer = respond(&request, facts, kiss, received, now());
            // Where it cannot be sent, the client asks again.
            let _ = socket.send(&answer, arrival.from, arrival.to);
        }
    }
}

/// The request that is to be answered, by its time or by a kiss.
fn judge(
    allowed: &[Subnet],
    limiter: &mut Limiter,
    bytes: &[u8],
    from: SocketAddr,
    now: u64,
) -> Option<(Packet, bool)> {
    let address = mapped(from.ip());
    // From port 0 nobody can have sent; what is not allowed does not even count.
    if from.port() == 0 || !allowed.iter().any(|subnet| subnet.holds(address)) {
        return None;
    }
    let (request, _) = Packet::decode(bytes)?;
    if request.mode != mode::CLIENT || request.version < 2 {
        return None;
    }
    match limiter.rule(address, now) {
        Ruling::Answer => Some((request, false)),
        Ruling::Kiss => Some((request, true)),
        Ruling::Silence => None,
    }
}

fn now() -> i64 {
    let time: Duration = clock::realtime();
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    seconds.saturating_mul(1_000_000_000).saturating_add(time.subsec_nanos().into())
}

fn boottime() -> u64 {
    clock::milliseconds(clock::boottime())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnets(words: &[&str]) -> Vec<Subnet> {
        words.iter().map(|word| Subnet::parse(word).unwrap()).collect()
    }

    fn request(version: u8, mode: u8) -> [u8; HEADER] {
        Packet { version, mode, poll: 6, xmt: Timestamp(7), ..Packet::default() }.encode()
    }

    #[test]
    fn subnets_and_who_is_in_them() {
        let holds = |subnet: &str, address: &str| {
            Subnet::parse(subnet).unwrap().holds(mapped(address.parse().unwrap()))
        };
        assert!(holds("192.168.1.0/24", "192.168.1.255") && !holds("192.168.1.0/24", "192.168.2.0"));
        assert!(holds("10.0.0.1", "10.0.0.1") && !holds("10.0.0.1", "10.0.0.2"));
        assert!(holds("0.0.0.0/0", "203.0.113.9") && !holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("fd00::/8", "fd12::1") && !holds("fd00::/8", "fe80::1"));
        assert!(holds("::/0", "2001:db8::1"));
        assert!(Subnet::parse("10.0.0.0/8").unwrap().is_v4() && !Subnet::parse("fd00::/8").unwrap().is_v4());
        assert!(!Subnet::parse("::/0").unwrap().is_v4());
        for wrong in ["", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0/8", "fd00::/129", "lan", "10.0.0.0/", "/8"] {
            assert_eq!(Subnet::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn nobody_is_served_unless_a_line_says_so() {
        let mut service = Service { allowed: Vec::new(), port: 123 };
        let lines = "# allow 10.0.0.0/8\nserver a\nallow 192.168.0.0/16\nallow\nallow all\nport 1123\nport x\nallow fd00::/8\n";
        service.add(lines, Path::new("test.conf"));
        assert_eq!(service, Service { allowed: subnets(&["192.168.0.0/16", "fd00::/8"]), port: 1123 });
        let none = Path::new("/nonexistent");
        assert!(Service::read(&[], [none, none]).allowed.is_empty());
    }

    #[test]
    fn answers_tell_what_the_clock_is_worth() {
        let second = 1_000_000_000;
        let (received, sent) = (1_800_000_000 * second, 1_800_000_000 * second + 5000);
        let request = Packet { version: 3, mode: 3, poll: 6, xmt: Timestamp(77), ..Packet::default() };
        let facts = Facts {
            leap: Leap::Insert,
            stratum: 3,
            refid: [192, 0, 2, 1],
            reftime: received - second,
            rootdelay: 20_000_000,
            rootdisp: 1_000_000,
        };
        let answer =
            |facts: &Facts, kiss| Packet::decode(&respond(&request, facts, kiss, received, sent)).unwrap().0;
        let good = answer(&facts, false);
        assert_eq!((good.leap, good.version, good.mode, good.stratum), (Leap::Insert, 3, 4, 3));
        assert_eq!((good.org, good.poll, good.refid), (Timestamp(77), 6, [192, 0, 2, 1]));
        assert_eq!(good.xmt.since(good.rec), 5000);
        assert_eq!(good.rec.to_nanos(received), received);
        assert!(good.rootdelay.to_nanos() >= 19_999_000 && good.rootdisp.to_nanos() >= 999_000);
        for unsynchronised in [
            Facts { leap: Leap::Unknown, ..facts },
            Facts { stratum: 16, ..facts },
            Facts { stratum: 0, ..facts },
        ] {
            let poor = answer(&unsynchronised, false);
            assert_eq!(
                (poor.leap, poor.stratum, poor.refid, poor.reftime),
                (Leap::Unknown, 16, [0; 4], Timestamp::ZERO)
            );
        }
        let kiss = answer(&facts, true);
        assert_eq!(kiss.kiss(), Some(minke_wire::ntp::Kiss::Rate));
        assert_eq!(kiss.org, Timestamp(77));
    }

    #[test]
    fn only_clients_of_allowed_subnets_are_answered() {
        let allowed = subnets(&["192.168.0.0/16", "fd00::/8"]);
        let mut limiter = Limiter::new(1);
        let mut judged =
            |bytes: &[u8], from: &str| judge(&allowed, &mut limiter, bytes, from.parse().unwrap(), 0);
        assert!(judged(&request(4, 3), "192.168.7.1:123").is_some());
        assert!(judged(&request(2, 3), "192.168.7.2:40000").is_some());
        assert!(judged(&request(4, 3), "[fd00::1]:123").is_some());
        // With what follows the header: extension fields and codes are nothing to us.
        assert!(judged(&[&request(4, 3)[..], &[0; 100]].concat(), "192.168.7.3:123").is_some());
        for (bytes, from) in [
            (&request(4, 3)[..], "10.0.0.1:123"),
            (&request(4, 3), "[2001:db8::1]:123"),
            (&request(4, 3), "192.168.7.1:0"),
            (&request(4, 3)[..47], "192.168.7.1:123"),
            (&[], "192.168.7.1:123"),
            (&request(1, 3), "192.168.7.1:123"),
            (&request(5, 3), "192.168.7.1:123"),
        ] {
            assert!(judged(bytes, from).is_none(), "{from} {}", bytes.len());
        }
        for mode in [0, 1, 2, 4, 5, 6, 7] {
            assert!(judged(&request(4, mode), "192.168.7.1:123").is_none(), "{mode}");
        }
    }

    #[test]
    fn a_client_that_asks_too_often_hears_little() {
        let mut limiter = Limiter::new(1);
        let address = mapped("192.168.7.1".parse().unwrap());
        let mut count = [0u32; 3];
        // 100 a second for a minute.
        for step in 0..6000u64 {
            count[limiter.rule(address, step * 10) as usize] += 1;
        }
        let [answers, kisses, silences] = count;
        assert!((36..=39).contains(&answers), "{answers}");
        assert!(kisses <= silences / 3 + 40 && silences > 4000, "{kisses} {silences}");
        // Half a minute later all is forgiven.
        for _ in 0..BURST {
            assert_eq!(limiter.rule(address, 90_000), Ruling::Answer);
        }
        assert_ne!(limiter.rule(address, 90_000), Ruling::Answer);
        // One client's excess is not another's; a /64 is one client.
        assert_eq!(limiter.rule(mapped("192.168.7.2".parse().unwrap()), 90_000), Ruling::Answer);
        let six = |number: u32| mapped(format!("fd00::{number:x}").parse().unwrap());
        assert_eq!((0..100).filter(|number| limiter.rule(six(*number), 0) == Ruling::Answer).count(), 8);
    }

    #[test]
    fn a_flood_of_addresses_fits_into_the_table() {
        let mut limiter = Limiter::new(99);
        for number in 0..100_000u32 {
            limiter.rule(mapped(IpAddr::V4(number.into())), 5);
        }
        assert_eq!(limiter.clients.len() * WAYS, 256);
        assert!(limiter.clients.as_flattened().iter().all(|client| client.address != 0));
    }
}
