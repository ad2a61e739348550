//! The time of an HTTPS server: the `Date` of the connectivity check's answer (spec os §5.5).
//!
//! The reference asks without limit and holds NTP up meanwhile, and believes whoever answers. Here NTP waits for the
//! first attempt at most ([`HOLD`]), and certificates are checked, with a rule for a clock that is wrong.

use crate::places::{Places, now, shown};
use crate::rule::{Bounds, Second, Verdict, judge};
use minke_applet::{log, notify};
use minke_config::{Config, Store, connectivity_uri};
use minke_control::stream;
use minke_control::time::{self, Woken};
use minke_http::client::Body;
use minke_http::{Client, Error, Trust, Url};
use minke_sys::clock;
use minke_wire::civil::Civil;
use minke_wire::json::json;
use std::os::fd::AsFd;
use std::time::Duration;

/// How long the connectivity check's server may take, and the others together.
const ATTEMPT: Duration = Duration::from_secs(10);
/// How long NTP and what else waits for the first attempt is held up for want of a network; the attempt itself, with a
/// second server's opinion, takes at most 20 s more.
const HOLD: Duration = Duration::from_secs(10);
/// Pauses between attempts, in seconds: the first, and the longest of those that double.
const PAUSES: (u64, u64) = (2, 64);
/// How long the network daemon's word is waited for. Without it, as on a network of IPv6 alone, an attempt is made anyway.
const OFFLINE: Duration = Duration::from_secs(600);
/// The most handshakes of an attempt: a chain has two or three certificates whose dates may each ask for another clock.
const HANDSHAKES: u32 = 5;
/// A certificate must be valid at the date that its server gives. Where it holds by our clock, a date not farther from
/// that than this, in seconds, is not tried.
const CLOSE: u64 = 86_400;
/// Attempts after which a second server that does not answer counts as none.
const PATIENCE: u32 = 3;
/// RFC 9110 §5.6.7, the one form that servers may send.
const DATE: &[u8] = b"???, dd nnn yyyy hh:ii:ss GMT";

/// What came of an attempt.
enum Outcome {
    /// It is over; the text says how it ended.
    Done(String),
    /// Not this time.
    Failed(String),
}

/// What is known about the network.
#[derive(PartialEq, Eq)]
enum Network {
    /// A link has an address, or nobody is there to ask.
    There,
    /// It came while this waited.
    Came,
    /// There is none.
    Away,
}

struct Sync<'a> {
    places: &'a Places,
    bounds: Bounds,
    /// The URL of the connectivity check.
    check: String,
    /// URLs of servers that may be asked for a second opinion.
    others: Vec<String>,
    attempts: u32,
}

/// Runs until the clock is right, by this or in another way; with `once` for one attempt, whether the clock is right or
/// not.
pub fn run(places: &Places, once: bool) -> u8 {
    let mut sync =
        Sync { places, bounds: places.bounds(), check: String::new(), others: Vec::new(), attempts: 0 };
    if let Err(why) = sync.configure() {
        return end(places, why);
    }
    if once {
        return match sync.attempt() {
            Outcome::Done(text) => end(places, &text),
            Outcome::Failed(why) => {
                log::error(format_args!("{why}"));
                1
            }
        };
    }
    let (mut held, mut pause, mut told) = (true, PAUSES.0, String::new());
    loop {
        let network = wait_online(places, if held { HOLD } else { OFFLINE });
        if network == Network::Came {
            pause = PAUSES.0;
        }
        let mut failure = "waits for the network".to_owned();
        if time::is_synchronized() {
            return end(places, "not needed: the clock is synchronised");
        } else if network != Network::Away || !held {
            match sync.attempt() {
                Outcome::Done(text) => return end(places, &text),
                Outcome::Failed(why) => failure = format!("attempt {}: {why}", sync.attempts),
            }
            let why = minke_wire::text::split_once(&failure, ": ").map_or("", |(_, why)| why);
            if why != told {
                log::warn(format_args!("{why}; trying again"));
                why.clone_into(&mut told);
            }
        }
        places.note("https", &failure);
        if held {
            held = false;
            notify::ready();
        }
        if network != Network::Away {
            time::wait(time::is_synchronized, Duration::from_secs(pause), None);
            pause = longer(pause);
        }
    }
}

/// The pause after this one, in seconds.
fn longer(pause: u64) -> u64 {
    pause.saturating_mul(2).min(PAUSES.1)
}

fn end(places: &Places, text: &str) -> u8 {
    places.note("https", text);
    notify::ready();
    0
}

/// Waits until a link has an address, the clock is synchronised otherwise, or the time is over.
fn wait_online(places: &Places, limit: Duration) -> Network {
    let before = clock::boottime();
    let socket = places.root.join("run/minke/network.sock");
    let Ok(answers) = stream(&socket, &json!({ "command": "wait-online" }), None) else {
        return Network::There;
    };
    match time::wait(time::is_synchronized, limit, Some(answers.socket().as_fd())) {
        Woken::Other if clock::boottime().saturating_sub(before) < Duration::from_secs(1) => Network::There,
        Woken::Other => Network::Came,
        Woken::Holds | Woken::Time => Network::Away,
    }
}

/// Servers of the owner's cloud, other than that of the connectivity check, whose certificates tell who they are.
fn others(config: &Config, check: &str) -> Vec<String> {
    let mut found = Vec::new();
    for key in ["apiEndpoint", "deltaEndpoint", "registryEndpoint"] {
        let Some(text) = config.string(key) else { continue };
        let text =
            if minke_wire::text::contains(text, "://") { text.to_owned() } else { format!("https://{text}") };
        let host = |text: &str| Url::parse(text).ok().map(|url| (url.host.to_owned(), url.port));
        let known = |other: &String| host(other) == host(&text);
        if Url::parse(&text).is_ok_and(|url| url.tls) && !known(&check.to_owned()) && !found.iter().any(known)
        {
            found.push(text);
        }
    }
    found
}

impl Sync<'_> {
    /// Learns whom to ask; the error says why nobody is asked.
    fn configure(&mut self) -> Result<(), &'static str> {
        let config = Store::new(minke_config::Paths::below(&self.places.root)).load().config;
        let Some(check) = connectivity_uri(&config) else {
            log::warn(format_args!("Connectivity URL not defined - skipping HTTPS synchronisation."));
            return Err("skipped, as no connectivity URL is defined");
        };
        if let Err(error) = Url::parse(&check) {
            log::error(format_args!("{error} - skipping HTTPS synchronisation."));
            return Err("skipped, as the connectivity URL is none");
        }
        self.others = others(&config, &check);
        self.check = check;
        Ok(())
    }

    fn attempt(&mut self) -> Outcome {
        self.attempts = self.attempts.saturating_add(1);
        // A person may have corrected it since the last attempt.
        if let Err(why) = self.configure() {
            return Outcome::Done(why.to_owned());
        }
        let date = match self.ask(&self.check, true, ATTEMPT) {
            Ok(Some(date)) => date,
            Ok(None) => {
                log::warn(format_args!(
                    "{} gives no date; HTTPS synchronisation is not possible",
                    self.check
                ));
                return Outcome::Done("not possible: the connectivity check's answer has no date".to_owned());
            }
            Err(why) => return Outcome::Failed(why),
        };
        let asked = now();
        let mut verdict = judge(date, asked, self.bounds, Second::Unasked);
        if verdict == Verdict::Ask {
            let second = self.second();
            if second == Second::Silent && !self.others.is_empty() && self.attempts < PATIENCE {
                return Outcome::Failed(format!("no second server confirms the date {}", shown(date)));
            }
            verdict = judge(date, asked, self.bounds, second);
        }
        // Meanwhile the clock went on, and perhaps NTP has set it.
        let (old, new) = (now(), date.saturating_add(now().saturating_sub(asked)));
        match verdict {
            _ if time::is_synchronized() => {
                return Outcome::Done("not needed: the clock is synchronised".to_owned());
            }
            Verdict::Refuse(why) => {
                return Outcome::Failed(format!("the date {} of {} {why}", shown(date), self.check));
            }
            Verdict::Same => log::info(format_args!("System time is already synchronised.")),
            Verdict::Ask | Verdict::Set => {
                if let Err(error) = self.places.set_clock(new) {
                    return Outcome::Failed(error.to_string());
                }
                log::info(format_args!("Time synchronised via HTTPS."));
                log::info(format_args!("Old time: {}, new time: {}", shown(old), shown(new)));
                if new < old {
                    log::warn(format_args!("System time has gone back."));
                }
            }
        }
        self.places.set_rtc();
        if !self.places.no_clock
            && let Err(error) = time::mark_synchronized("HTTPS")
        {
            log::warn(format_args!("{error}"));
        }
        let host = &self.check;
        Outcome::Done(if verdict == Verdict::Same {
            format!("the clock agreed with {host}")
        } else {
            format!("set from {} to {} by {host}", shown(old), shown(new))
        })
    }

    /// The first of the other servers that answers.
    fn second(&self) -> Second {
        let each = u32::try_from(self.others.len()).map_or(ATTEMPT, |count| ATTEMPT / count.max(1));
        for url in &self.others {
            match self.ask(url, false, each) {
                Ok(Some(date)) => return Second::Says(date),
                Ok(None) => {}
                Err(why) => log::warn(format_args!("{why}")),
            }
        }
        Second::Silent
    }

    /// Asks one server for its date, for at most `limit`. `strict`: its status must be 204, as everything else comes from somebody in between
    /// or from a server in trouble; else the certificate alone tells who speaks.
    ///
    /// The certificate is checked. Where the clock is all that is wrong with it, a clock at which it holds is tried, and
    /// then it must hold at the date that the server gives.
    fn ask(&self, text: &str, strict: bool, limit: Duration) -> Result<Option<i64>, String> {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        let until = minke_sys::clock::ahead(limit);
        let number = |time: i64| u64::try_from(time).unwrap_or(0);
        let (mut clock_of_check, mut moved, mut candidate) = (clock::realtime(), false, false);
        for _ in 0..HANDSHAKES {
            let left = until.saturating_sub(clock::boottime());
            let client = Client::web(&url)
                .with_names_of(self.places.root.join("etc"))
                .with_trust(Trust {
                    bundle: self.places.root.join(minke_http::BUNDLE.trim_start_matches('/')),
                    extra: Vec::new(),
                })
                .with_clock(clock_of_check)
                .with_timeout(Some(left))
                .with_deadline(left);
            let answer = match client.request("HEAD", url.target, &[], Body::None) {
                Ok(answer) => answer,
                Err(Error::Certificate(distrusted)) if !candidate => {
                    let Bounds { earliest, latest } = self.bounds;
                    match distrusted.clock_to_try(number(earliest), number(latest)) {
                        Some(time) => clock_of_check = Duration::from_secs(time),
                        None => return Err(distrusted.to_string()),
                    }
                    moved = true;
                    continue;
                }
                Err(error) => return Err(error.to_string()),
            };
            if strict && answer.status != 204 {
                return Err(format!("{text} answered with status {} instead of 204", answer.status));
            }
            let date =
                answer.headers.get("Date").and_then(|date| Civil::parse(date.as_bytes(), DATE)?.to_unix());
            let Some(date) = date else { return Ok(None) };
            let far = number(date).abs_diff(clock_of_check.as_secs()) > CLOSE;
            let is_held = if candidate { !far } else { !far && !moved };
            // A date before the build is not believed anyhow.
            if !url.tls || is_held || date < self.bounds.earliest {
                return Ok(Some(date));
            }
            if candidate {
                break;
            }
            candidate = true;
            clock_of_check = Duration::from_secs(number(date));
        }
        Err(format!("{text}: the certificate does not hold at the date that its server gives"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let mut pauses = vec![PAUSES.0];
        while pauses.len() < 8 {
            pauses.push(longer(pauses[pauses.len() - 1]));
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 64, 64]);
    }
}
