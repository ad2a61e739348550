//! `ntp status` and the other commands that ask the running time client or tell it something.

use crate::figures::{ago, amount, fixed, signed, signed_span, span};
use crate::nanos::Nanos;
use minke_applet::{Args, Flag, log, print};
use minke_control::ntp::{self, Command, SOCKET, Source, State, Status};
use minke_wire::civil::Civil;
use minke_wire::json::Value;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The option that names the socket.
pub(crate) const SOCKET_FLAG: Flag = Flag {
    short: None,
    long: "socket",
    value: Some("FILE"),
    help: "Where the time client answers (/run/chrony/ntp.sock)",
};

/// RFC 5905 leap indicators, as chronyc(1) names them.
pub(crate) const NAMED_LEAP: [&str; 4] = ["Normal", "Insert second", "Delete second", "Not synchronised"];

/// The socket of the command line.
pub(crate) fn socket(args: &Args) -> PathBuf {
    Path::new(args.value("socket").unwrap_or(SOCKET)).to_owned()
}

/// What the time client knows; `None` when it does not answer, which was said then.
pub(crate) fn ask(args: &Args) -> Option<Box<Status>> {
    match ntp::status(&socket(args)) {
        Ok(status) => Some(status),
        Err(error) => {
            unanswered(&error);
            None
        }
    }
}

/// Tells the time client something; the exit status.
pub(crate) fn tell(args: &Args, command: Command) -> u8 {
    match ntp::tell(&socket(args), command) {
        Ok(()) => 0,
        Err(error) => unanswered(&error),
    }
}

fn unanswered(error: &minke_control::Error) -> u8 {
    match error {
        minke_control::Error::Refused(why) => log::error(format_args!("{why}")),
        _ => log::error(format_args!(
            "{error}: the time client is not running; see 'systemctl status chronyd.service'"
        )),
    }
    1
}

/// `ntp status`.
pub(crate) fn run(args: &Args) -> u8 {
    let Some(status) = ask(args) else { return 1 };
    if args.has("json") {
        return print(&format!("{:#}\n", status.to_value()));
    }
    let mut text = String::new();
    head(&mut text, &status);
    if !status.sources.is_empty() {
        text.push('\n');
        table(&mut text, &status);
    }
    print(&text)
}

/// `ntp sources`.
pub(crate) fn sources(args: &Args) -> u8 {
    let Some(status) = ask(args) else { return 1 };
    let mut text = String::new();
    if args.has("json") {
        let mut value = status.to_value();
        let list = value.get_mut("sources").map(Value::take).unwrap_or_default();
        let _ = writeln!(text, "{list:#}");
    } else {
        table(&mut text, &status);
    }
    print(&text)
}

fn head(text: &mut String, status: &Status) {
    match reason(status) {
        None if status.sources.iter().any(|source| source.state == State::Selected) => {
            let _ = writeln!(text, "Synchronised to {}, stratum {}", status.reference, status.stratum);
        }
        None => {
            let _ = writeln!(
                text,
                "Synchronised, but no server is of use now; the last was {}, stratum {}",
                status.reference, status.stratum
            );
        }
        Some((why, what_to_do)) => {
            let _ = writeln!(text, "Not synchronised: {why}\n  {what_to_do}");
        }
    }
    if status.watch_only {
        text.push_str("The clock is only watched (--no-clock): nothing is corrected\n");
    }
    if matches!(status.leap, 1 | 2) {
        let what = if status.leap == 1 { "is inserted" } else { "is left out" };
        let _ = writeln!(text, "A leap second {what} at the end of this UTC day");
    }
    let distance = (status.root_delay_ns / 2).after(status.root_dispersion_ns);
    let step = status.last_step.map_or_else(
        || "none since the client began".to_owned(),
        |step| format!("{}, at {} UTC", signed_amount(step.by_ns), date(step.time_ns)),
    );
    let last =
        status.reference_time_ns.map_or_else(|| "never".to_owned(), |time| format!("{} UTC", date(time)));
    let next = status.next_poll_s.map_or_else(|| "none".to_owned(), |seconds| format!("in {seconds} s"));
    let lines: [(&str, &str); 7] = [
        (
            "Offset",
            &format!(
                "{} to correct; last {}, RMS {}",
                signed_amount(status.system_offset_ns),
                signed_amount(status.last_offset_ns),
                amount(status.rms_offset_ns)
            ),
        ),
        (
            "Frequency",
            &format!("{} ppm, known to {} ppm", signed(status.frequency_ppb, 3), fixed(status.skew_ppb, 3)),
        ),
        (
            "Root distance",
            &format!(
                "{} (delay {}, dispersion {})",
                amount(distance),
                amount(status.root_delay_ns),
                amount(status.root_dispersion_ns)
            ),
        ),
        ("Kernel", &kernel(status)),
        ("Last compared", &last),
        ("Last step", &step),
        ("Next poll", &next),
    ];
    for (label, value) in lines {
        let _ = writeln!(text, "  {label:13} : {value}");
    }
}

/// What the kernel was told, by adjtimex(2).
fn kernel(status: &Status) -> String {
    const STA_UNSYNC: u32 = 0x40;
    if status.kernel_status & STA_UNSYNC != 0 {
        return "told that the time is not synchronised".to_owned();
    }
    let error = amount(status.kernel_max_error_us.saturating_mul(1_000));
    format!("told that the time is synchronised, to {error} at most")
}

fn signed_amount(nanoseconds: i64) -> String {
    let text = amount(nanoseconds);
    if nanoseconds > 0 { format!("+{text}") } else { text }
}

fn date(nanoseconds: i64) -> Civil {
    Civil::from_unix(nanoseconds.div_euclid(1_000_000_000))
}

/// Why the clock is not synchronised, and what a person can do; `None` when it is.
fn reason(status: &Status) -> Option<(String, &'static str)> {
    if status.synchronized {
        return None;
    }
    let all = &status.sources;
    let any = |test: fn(&Source) -> bool| all.iter().any(test);
    let first = |field: fn(&Source) -> &String| {
        all.iter()
            .find(|source| !field(source).is_empty())
            .map(|source| (field(source).as_str(), source.name.as_str()))
    };
    let (why, what) = if all.is_empty() {
        ("there are no time servers", "Name some in config.json (ntpServers), or by DHCP (option 42)")
    } else if !any(|source| source.online) {
        ("the network is away", "'ntp online' asks all the same")
    } else if any(|source| source.state == State::Selected) {
        ("the clock is being set", "Look again in some seconds")
    } else if any(|source| source.state == State::Falseticker) {
        (
            "the servers contradict each other",
            "Name more servers in config.json (ntpServers): three outvote one",
        )
    } else if let Some((kiss, name)) = first(|source| &source.kiss) {
        return Some((
            format!("{name} sends us away ({kiss})"),
            "Name other servers in config.json (ntpServers)",
        ));
    } else if let Some((problem, name)) = first(|source| &source.problem) {
        return Some((
            format!("{name}: {problem}"),
            "'network status' and 'ntp query HOST' tell more; servers are named in config.json (ntpServers)",
        ));
    } else if any(|source| source.valid != 0) {
        if any(|source| source.valid != 0 && (source.leap == 3 || source.stratum == 0 || source.stratum > 15))
        {
            ("the servers are not synchronised themselves", "Name other servers in config.json (ntpServers)")
        } else {
            ("the answers are too few yet", "Look again in some seconds")
        }
    } else if any(|source| source.received != 0) {
        (
            "no server's answer can be believed",
            "Something on the way answers in the servers' place, or changes answers",
        )
    } else if any(|source| source.sent > 2) {
        ("no server answers", "Does the network let UDP port 123 through? 'ntp query HOST' tries once")
    } else {
        ("no answer yet", "Look again in some seconds")
    };
    Some((why.to_owned(), what))
}

/// Columns: state, name, stratum, poll in seconds, reach, age, offset, error, jitter, delay, remarks.
fn table(text: &mut String, status: &Status) {
    text.push_str(
        "  Server                        Stratum  Poll Reach  Last   Offset   +/-   Jitter  Delay\n",
    );
    for source in &status.sources {
        let poll = 1i64.checked_shl(source.poll.clamp(0, 17).unsigned_abs().into()).unwrap_or(0);
        let _ = writeln!(
            text,
            "{} {:29} {:7} {poll:5} {:5o} {:>5} {:>8} {:>6} {:>6} {:>6}{}",
            source.state.letter(),
            title(source),
            source.stratum,
            source.reach,
            ago(source.last_rx_s),
            signed_span(source.current_offset_ns),
            span(source.error_ns),
            span(source.jitter_ns),
            span(source.delay_ns),
            remarks(source),
        );
    }
    text.push_str(
        "  * followed  + combined  - not needed  x contradicts the majority  ~ too variable  ? no use yet\n",
    );
}

fn title(source: &Source) -> String {
    if source.address.is_empty() || source.address == source.name {
        return source.name.clone();
    }
    format!("{} {}", source.address, source.name)
}

fn remarks(source: &Source) -> String {
    let mut text = String::new();
    let flags = [
        (source.authenticated, "NTS"),
        (source.nts && !source.authenticated, "NTS pending"),
        (source.interleaved, "interleaved"),
        (!source.online, "offline"),
    ];
    for (holds, word) in flags {
        if holds {
            text.push_str("  ");
            text.push_str(word);
        }
    }
    for word in [&source.kiss, &source.problem] {
        if !word.is_empty() {
            text.push_str("  ");
            text.push_str(word);
        }
    }
    text
}

/// `ntp online`, `offline`, `burst`, `step`, `reload`; `None` for another word.
pub(crate) fn control(args: &Args, word: &str) -> Option<u8> {
    let command = match word {
        "online" => Command::Online,
        "offline" => Command::Offline,
        "burst" => Command::Burst { good: 4, total: 4 },
        "step" => Command::Step,
        "reload" => Command::Reload,
        _ => return None,
    };
    Some(tell(args, command))
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
