//! The key exchange (RFC 8915 §4). It blocks: a command calls it, a daemon gives it a thread.

use super::aead::Key;
use super::session::Session;
use minke_http::{Dial, Error, Trust, resolve};
use minke_sys::{Errno, clock};
use minke_wire::nts::{self, ALPN, EXPORTER, Established, KEY};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The longest answer that is read: four times what eight long cookies take.
const LONGEST_ANSWER: usize = 64 * 1024;
/// Most addresses of a server that are kept.
const ADDRESSES: usize = 4;
/// How many moments are tried where the clock stands between a certificate and belief: the server's certificate and
/// each of its issuers can be the one that is not valid at the first.
const MOMENTS: usize = 4;

/// Whom to ask, and how.
#[derive(Debug, Clone)]
pub(crate) struct Asking {
    /// The server of the exchange, by name or address. Its certificate must be for this.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    /// Which authorities are believed.
    pub(crate) trust: Trust,
    /// The folder of `hosts` and `resolv.conf`.
    pub(crate) etc: PathBuf,
    /// The address family that addresses must have, if one: IPv4 or not.
    pub(crate) only_v4: Option<bool>,
    /// What certificates' dates are compared with.
    pub(crate) clock: Clock,
    /// How long the whole may take.
    pub(crate) patience: Duration,
}

/// What certificates' dates are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// This device's clock, which is right.
    System,
    /// This device's clock, or, where it alone stands between a certificate and belief, a moment from `earliest` (the
    /// build time) to `latest`, both in seconds since 1970. What the server's time is worth, a second exchange tells:
    /// see [`Clock::At`].
    Doubtful { earliest: u64, latest: u64 },
    /// The time since 1970 that the server itself has told.
    At(Duration),
}

/// What a server has granted.
#[derive(Debug)]
pub(crate) struct Granted {
    /// Keys and cookies.
    pub(crate) session: Session,
    /// Where the NTP server is, at least one.
    pub(crate) addresses: Vec<IpAddr>,
    /// The NTP server's port.
    pub(crate) port: u16,
    /// Whether the certificate was checked against a moment of its own choice: the server may tell the time, but whether
    /// it is believed, the certificate's dates at that time decide.
    pub(crate) provisional: bool,
}

/// Why there was no exchange: a text for people, which names the server.
#[derive(Debug)]
pub(crate) struct Unmade {
    /// The text.
    pub(crate) text: Box<str>,
    /// There was no way to the server, or to its name: it has not been asked.
    pub(crate) unreached: bool,
}

/// Asks for keys and cookies.
pub(crate) fn exchange(asking: &Asking) -> Result<Box<Granted>, Unmade> {
    let until = clock::ahead(asking.patience);
    attempts(asking, until).map_err(|failure| Unmade {
        text: format!("NTS key exchange with {}: {}", asking.host, failure.text(&asking.host)).into(),
        unreached: failure.is_of_the_way(),
    })
}

fn attempts(asking: &Asking, until: Duration) -> Result<Box<Granted>, Failure> {
    let addresses = find(asking, &asking.host, until)?;
    let (mut moment, limits) = match asking.clock {
        Clock::System => (None, None),
        Clock::At(time) => (Some(time), None),
        Clock::Doubtful { earliest, latest } => (None, Some((earliest, latest))),
    };
    for _ in 0..MOMENTS {
        let error = match attempt(asking, &addresses, moment, until) {
            Ok(mut granted) => {
                granted.provisional = limits.is_some() && moment.is_some();
                return Ok(granted);
            }
            Err(error) => error,
        };
        let other = match (&error, limits) {
            (Failure::Session(Error::Certificate(distrusted)), Some((earliest, latest))) => {
                distrusted.clock_to_try(earliest, latest).map(Duration::from_secs)
            }
            _ => None,
        };
        if other.is_none() || other == moment {
            return Err(error);
        }
        moment = other;
    }
    Err(Failure::Text("the certificates are valid at no common time"))
}

enum Failure {
    Session(Error),
    Refused(nts::Refusal),
    Text(&'static str),
}

impl Failure {
    /// Whether it says nothing of the server.
    fn is_of_the_way(&self) -> bool {
        const NO_WAY: [Errno; 4] =
            [Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::NETDOWN, Errno::ADDRNOTAVAIL];
        match self {
            Self::Session(Error::Name(_)) => true,
            Self::Session(Error::System(error)) => NO_WAY.contains(&error.errno),
            _ => false,
        }
    }

    /// The error without the host's name before it: the caller says that once.
    fn text(&self, host: &str) -> Box<str> {
        let text = match self {
            Self::Session(error) if error.is_timeout() => return "no answer in time".into(),
            Self::Session(error) => error.to_string(),
            Self::Refused(refusal) => refusal.to_string(),
            Self::Text(text) => return (*text).into(),
        };
        let rest = text.strip_prefix(host).and_then(|rest| rest.strip_prefix(": "));
        rest.unwrap_or(&text).into()
    }
}

fn attempt(
    asking: &Asking,
    addresses: &[IpAddr],
    moment: Option<Duration>,
    until: Duration,
) -> Result<Box<Granted>, Failure> {
    let mut dialled = minke_http::Session::open(&Dial {
        host: &asking.host,
        addresses,
        port: asking.port,
        protocol: ALPN,
        trust: asking.trust.clone(),
        clock: moment,
        until,
    })
    .map_err(Failure::Session)?;
    dialled.write_all(&nts::request()).map_err(Failure::Session)?;
    let mut answer = Vec::new();
    let established = loop {
        let more = dialled.read_into(&mut answer).map_err(Failure::Session)?;
        if let Some(established) = Established::parse(&answer).map_err(Failure::Refused)? {
            break established;
        }
        if !more {
            return Err(Failure::Session(Error::Truncated));
        }
        if answer.len() > LONGEST_ANSWER {
            return Err(Failure::Session(Error::TooLarge(LONGEST_ANSWER)));
        }
    };
    let mut keys = [[0; KEY]; 2];
    for (key, to_client) in keys.iter_mut().zip([false, true]) {
        dialled.export(EXPORTER, &nts::context(to_client), key).map_err(Failure::Session)?;
    }
    // Without a name the NTP server is where the exchange was (RFC 8915 §4.1.7).
    let addresses = match &established.server {
        Some(server) => find(asking, server, until)?,
        None => vec![dialled.address()],
    };
    let [to_server, to_client] = keys.map(Key);
    let session = Session::new(to_server, to_client, established.cookies);
    let port = established.port.unwrap_or(minke_wire::ntp::PORT);
    Ok(Box::new(Granted { session, addresses, port, provisional: false }))
}

/// A host's addresses.
fn find(asking: &Asking, host: &str, until: Duration) -> Result<Vec<IpAddr>, Failure> {
    let mut addresses = resolve(&asking.etc, host, until).map_err(Failure::Session)?;
    addresses.retain(|address| asking.only_v4.is_none_or(|only| only == address.is_ipv4()));
    addresses.truncate(ADDRESSES);
    if addresses.is_empty() {
        return Err(Failure::Text("no address of the wanted family"));
    }
    Ok(addresses)
}
