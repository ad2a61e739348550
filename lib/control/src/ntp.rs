//! Asking the time client (`ntp run`): its state, and what a person or another program may tell it.
//!
//! The socket is [`SOCKET`]. Requests are objects with the member `command`: `status` is answered by a [`Status`],
//! each other [`Command`] by `{}` when it is accepted.
//!
//! Signs are those of RFC 5905: an offset is what must be added to this machine's clock, so it is positive when the
//! clock is behind; a frequency is what makes up for the oscillator, so it is positive when the oscillator is slow.

use crate::{Error, call};
use minke_wire::json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// Where the time client answers.
pub const SOCKET: &str = "/run/chrony/ntp.sock";

/// Where others leave lists of servers for it, `*.sources`, as for chronyd.
pub const SOURCES: &str = "/run/chrony";

/// How long it may take for an answer: it only looks at what it knows.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What the time client can be told, besides `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// The network is there: ask every source now.
    Online,
    /// The network is away: ask nobody.
    Offline,
    /// Look which sources can be reached by the routes that there are.
    OnOffline,
    /// Ask each source several times at once.
    Burst {
        /// Good answers that are enough.
        good: u64,
        /// Questions at most.
        total: u64,
    },
    /// Set the clock at once by what a slow correction has left.
    Step,
    /// Read the lists of sources again.
    Reload,
}

impl Command {
    /// The request line.
    pub fn to_value(self) -> Value {
        let name = match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::OnOffline => "onoffline",
            Self::Step => "step",
            Self::Reload => "reload",
            Self::Burst { good, total } => return json!({ "command": "burst", "good": good, "total": total }),
        };
        json!({ "command": name })
    }

    /// Reads a request; `None` for what is no command. A burst without numbers is four of four.
    pub fn from_value(request: &Value) -> Option<Self> {
        let number = |key: &str| request.get(key).and_then(Value::as_u64).unwrap_or(4);
        Some(match request.get("command")?.as_str()? {
            "online" => Self::Online,
            "offline" => Self::Offline,
            "onoffline" => Self::OnOffline,
            "step" => Self::Step,
            "reload" => Self::Reload,
            "burst" => Self::Burst { good: number("good"), total: number("total") },
            _ => return None,
        })
    }
}

/// What the time client knows. The default is that of one that has just begun.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// The clock follows the servers, and the kernel was told so; with `watch_only`, it would be.
    pub synchronized: bool,
    /// The clock is only watched (`--no-clock`): corrections are computed and not made.
    pub watch_only: bool,
    /// The network is there, as far as the client was told.
    pub online: bool,
    /// RFC 5905 leap indicator: 0 none, 1 a second is inserted at the end of the day, 2 one is left out, 3 not
    /// synchronised.
    pub leap: u8,
    /// Distance from a reference clock in servers; 0 when not synchronised.
    pub stratum: u8,
    /// RFC 5905 reference id: of the selected source, its IPv4 address or the hash of its IPv6 address.
    pub refid: u32,
    /// Name or address of the selected source; empty when there is none.
    pub reference: String,
    /// When the clock was last compared, in nanoseconds since 1970; `None` before the first time.
    pub reference_time_ns: Option<i64>,
    /// What is left to be corrected now, in nanoseconds.
    pub system_offset_ns: i64,
    /// What the last comparison found, in nanoseconds.
    pub last_offset_ns: i64,
    /// Root mean square of such findings in the long run, in nanoseconds.
    pub rms_offset_ns: i64,
    /// The oscillator's error that is made up for, in parts per billion.
    pub frequency_ppb: i64,
    /// The last comparison's finding about the frequency, beyond that, in parts per billion.
    pub residual_frequency_ppb: i64,
    /// How far the frequency may be wrong, in parts per billion.
    pub skew_ppb: i64,
    /// Round trip to the reference clock, in nanoseconds.
    pub root_delay_ns: i64,
    /// How far the clock may be wrong beside half of that, in nanoseconds.
    pub root_dispersion_ns: i64,
    /// Time between the last two comparisons, in milliseconds.
    pub update_interval_ms: i64,
    /// The last time the clock was set rather than steered.
    pub last_step: Option<Step>,
    /// Seconds until a source is asked again; `None` when none is going to be.
    pub next_poll_s: Option<u64>,
    /// The kernel's `STA_` flags, by adjtimex(2).
    pub kernel_status: u32,
    /// The kernel's bound of the error, in microseconds, by adjtimex(2).
    pub kernel_max_error_us: i64,
    /// The servers, in the order of their lists.
    pub sources: Vec<Source>,
}

/// The clock was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// When, in nanoseconds since 1970, by the clock as it was set.
    pub time_ns: i64,
    /// By how much, in nanoseconds.
    pub by_ns: i64,
}

/// What the time client thinks of a source, by the letters of chronyc(1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// `*`: the clock follows it.
    Selected,
    /// `+`: it has a part in what the clock follows.
    Combined,
    /// `-`: good, and not needed.
    Outlier,
    /// `x`: its time contradicts that of the majority.
    Falseticker,
    /// `~`: its time varies too much.
    Jittery,
    /// `?`: no answer yet, too few, or none that could be used.
    #[default]
    Unusable,
}

const STATES: [(State, &str); 6] = [
    (State::Selected, "*"),
    (State::Combined, "+"),
    (State::Outlier, "-"),
    (State::Falseticker, "x"),
    (State::Jittery, "~"),
    (State::Unusable, "?"),
];

impl State {
    /// The letter.
    pub fn letter(self) -> &'static str {
        STATES.iter().find(|(state, _)| *state == self).map_or("?", |(_, letter)| letter)
    }

    fn from_letter(text: &str) -> Self {
        STATES.iter().find(|(_, letter)| *letter == text).map_or(Self::Unusable, |(state, _)| *state)
    }
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Source {
    /// As it stands in the list of sources.
    pub name: String,
    /// Its address; empty while the name is not resolved.
    pub address: String,
    /// Its UDP port.
    pub port: u16,
    /// It is a member of a pool, and may be replaced by another.
    pub pool: bool,
    /// Its answers must be authenticated by NTS.
    pub nts: bool,
    /// Its last answer was authenticated.
    pub authenticated: bool,
    /// Its last answer was in interleaved mode.
    pub interleaved: bool,
    /// It is asked.
    pub online: bool,
    /// What is thought of it.
    pub state: State,
    /// RFC 5905 leap indicator of its last answer.
    pub leap: u8,
    /// Stratum of its last answer.
    pub stratum: u8,
    /// Reference id of its last answer.
    pub refid: u32,
    /// Seconds between questions, as a power of two.
    pub poll: i8,
    /// Which of the last eight questions were answered, the last one in the lowest bit.
    pub reach: u8,
    /// Seconds since the last good answer; `None` before the first.
    pub last_rx_s: Option<u64>,
    /// Offset of the last good answer as it was measured, in nanoseconds.
    pub offset_ns: i64,
    /// The same as of now: less what has been corrected since, in nanoseconds.
    pub current_offset_ns: i64,
    /// How far that may be wrong, in nanoseconds.
    pub error_ns: i64,
    /// Round trip of the last good answer, in nanoseconds.
    pub delay_ns: i64,
    /// Standard deviation of its offsets, in nanoseconds.
    pub jitter_ns: i64,
    /// Root delay of its last answer, in nanoseconds.
    pub root_delay_ns: i64,
    /// Root dispersion of its last answer, in nanoseconds.
    pub root_dispersion_ns: i64,
    /// Measurements that the estimate stands on.
    pub samples: u64,
    /// Runs of offsets of one sign among them.
    pub runs: u64,
    /// Seconds from the first to the last of them.
    pub span_s: u64,
    /// Its clock's frequency relative to ours, in parts per billion.
    pub frequency_ppb: i64,
    /// How far that may be wrong, in parts per billion.
    pub skew_ppb: i64,
    /// Questions sent.
    pub sent: u64,
    /// Packets that came from its address.
    pub received: u64,
    /// Those of them that answered a question and were believed.
    pub valid: u64,
    /// The last kiss code that it sent, for instance `RATE`; empty when none.
    pub kiss: String,
    /// Why it is of no use now, for instance that its name does not resolve; empty when there is nothing to say.
    pub problem: String,
}

impl Status {
    /// The answer line.
    pub fn to_value(&self) -> Value {
        let sources: Value = self.sources.iter().map(Source::to_value).collect();
        let step = self.last_step.map(|step| json!({ "time_ns": step.time_ns, "by_ns": step.by_ns }));
        json!({
            "synchronized": self.synchronized,
            "watch_only": self.watch_only,
            "online": self.online,
            "leap": self.leap,
            "stratum": self.stratum,
            "refid": self.refid,
            "reference": self.reference,
            "reference_time_ns": self.reference_time_ns,
            "system_offset_ns": self.system_offset_ns,
            "last_offset_ns": self.last_offset_ns,
            "rms_offset_ns": self.rms_offset_ns,
            "frequency_ppb": self.frequency_ppb,
            "residual_frequency_ppb": self.residual_frequency_ppb,
            "skew_ppb": self.skew_ppb,
            "root_delay_ns": self.root_delay_ns,
            "root_dispersion_ns": self.root_dispersion_ns,
            "update_interval_ms": self.update_interval_ms,
            "last_step": step,
            "next_poll_s": self.next_poll_s,
            "kernel_status": self.kernel_status,
            "kernel_max_error_us": self.kernel_max_error_us,
            "sources": sources,
        })
    }

    /// Reads an answer. What it lacks, as that of an older or newer client, is as in the default.
    pub fn from_value(value: &Value) -> Box<Self> {
        let members = Members(value);
        let mut status = Box::new(Self {
            synchronized: members.flag("synchronized"),
            watch_only: members.flag("watch_only"),
            online: members.flag("online"),
            leap: members.small("leap"),
            stratum: members.small("stratum"),
            refid: members.word("refid"),
            reference: members.text("reference"),
            reference_time_ns: members.maybe("reference_time_ns"),
            system_offset_ns: members.number("system_offset_ns"),
            last_offset_ns: members.number("last_offset_ns"),
            rms_offset_ns: members.number("rms_offset_ns"),
            frequency_ppb: members.number("frequency_ppb"),
            residual_frequency_ppb: members.number("residual_frequency_ppb"),
            skew_ppb: members.number("skew_ppb"),
            root_delay_ns: members.number("root_delay_ns"),
            root_dispersion_ns: members.number("root_dispersion_ns"),
            update_interval_ms: members.number("update_interval_ms"),
            last_step: None,
            next_poll_s: members.count("next_poll_s"),
            kernel_status: members.word("kernel_status"),
            kernel_max_error_us: members.number("kernel_max_error_us"),
            sources: Vec::new(),
        });
        if let Some(step @ Value::Object(_)) = value.get("last_step") {
            let step = Members(step);
            status.last_step = Some(Step { time_ns: step.number("time_ns"), by_ns: step.number("by_ns") });
        }
        for source in value.get("sources").and_then(Value::as_array).map_or(&[][..], Vec::as_slice) {
            status.sources.push(Source::from_value(source));
        }
        status
    }
}

impl Source {
    /// The member of `sources`.
    pub fn to_value(&self) -> Value {
        json!({
            "name": self.name,
            "address": self.address,
            "port": self.port,
            "pool": self.pool,
            "nts": self.nts,
            "authenticated": self.authenticated,
            "interleaved": self.interleaved,
            "online": self.online,
            "state": self.state.letter(),
            "leap": self.leap,
            "stratum": self.stratum,
            "refid": self.refid,
            "poll": self.poll,
            "reach": self.reach,
            "last_rx_s": self.last_rx_s,
            "offset_ns": self.offset_ns,
            "current_offset_ns": self.current_offset_ns,
            "error_ns": self.error_ns,
            "delay_ns": self.delay_ns,
            "jitter_ns": self.jitter_ns,
            "root_delay_ns": self.root_delay_ns,
            "root_dispersion_ns": self.root_dispersion_ns,
            "samples": self.samples,
            "runs": self.runs,
            "span_s": self.span_s,
            "frequency_ppb": self.frequency_ppb,
            "skew_ppb": self.skew_ppb,
            "sent": self.sent,
            "received": self.received,
            "valid": self.valid,
            "kiss": self.kiss,
            "problem": self.problem,
        })
    }

    fn from_value(value: &Value) -> Self {
        let members = Members(value);
        Self {
            name: members.text("name"),
            address: members.text("address"),
            port: u16::try_from(members.number("port")).unwrap_or_default(),
            pool: members.flag("pool"),
            nts: members.flag("nts"),
            authenticated: members.flag("authenticated"),
            interleaved: members.flag("interleaved"),
            online: members.flag("online"),
            state: State::from_letter(value.get("state").and_then(Value::as_str).unwrap_or_default()),
            leap: members.small("leap"),
            stratum: members.small("stratum"),
            refid: members.word("refid"),
            poll: i8::try_from(members.number("poll")).unwrap_or_default(),
            reach: members.small("reach"),
            last_rx_s: members.count("last_rx_s"),
            offset_ns: members.number("offset_ns"),
            current_offset_ns: members.number("current_offset_ns"),
            error_ns: members.number("error_ns"),
            delay_ns: members.number("delay_ns"),
            jitter_ns: members.number("jitter_ns"),
            root_delay_ns: members.number("root_delay_ns"),
            root_dispersion_ns: members.number("root_dispersion_ns"),
            samples: members.count("samples").unwrap_or_default(),
            runs: members.count("runs").unwrap_or_default(),
            span_s: members.count("span_s").unwrap_or_default(),
            frequency_ppb: members.number("frequency_ppb"),
            skew_ppb: members.number("skew_ppb"),
            sent: members.count("sent").unwrap_or_default(),
            received: members.count("received").unwrap_or_default(),
            valid: members.count("valid").unwrap_or_default(),
            kiss: members.text("kiss"),
            problem: members.text("problem"),
        }
    }
}

/// Members of an object by name, the default for what is not there or of another type. Functions of their own, as
/// each is called many times.
#[derive(Clone, Copy)]
struct Members<'a>(&'a Value);

impl Members<'_> {
    #[inline(never)]
    fn maybe(self, name: &str) -> Option<i64> {
        self.0.get(name)?.as_i64()
    }

    #[inline(never)]
    fn number(self, name: &str) -> i64 {
        self.maybe(name).unwrap_or_default()
    }

    #[inline(never)]
    fn count(self, name: &str) -> Option<u64> {
        self.0.get(name)?.as_u64()
    }

    #[inline(never)]
    fn word(self, name: &str) -> u32 {
        u32::try_from(self.number(name)).unwrap_or_default()
    }

    #[inline(never)]
    fn small(self, name: &str) -> u8 {
        u8::try_from(self.number(name)).unwrap_or_default()
    }

    #[inline(never)]
    fn flag(self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    #[inline(never)]
    fn text(self, name: &str) -> String {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

/// Asks the client at `socket` (usually [`SOCKET`]) what it knows.
pub fn status(socket: &Path) -> Result<Box<Status>, Error> {
    let answer = call(socket, &json!({ "command": "status" }), Some(ANSWER_LIMIT))?;
    Ok(Status::from_value(&answer))
}

/// Tells the client at `socket` (usually [`SOCKET`]) something; returns when it is accepted.
pub fn tell(socket: &Path, command: Command) -> Result<(), Error> {
    call(socket, &command.to_value(), Some(ANSWER_LIMIT)).map(|_| ())
}

#[cfg(test)]
#[path = "ntp_tests.rs"]
mod tests;
