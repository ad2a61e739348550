//! `chronyc` for the scripts that call it: the commands that they use, with the lines and columns of chrony's own
//! (chronyc(1), version 4.3), answered by the time client.
//!
//! Signs differ: chrony's offsets of sources are positive when this machine's clock is ahead, and its frequencies
//! when the oscillator is fast. [`minke_control::ntp`] has both the other way round.

use crate::figures::{ago, fixed, signed, signed_span, span};
use crate::status::{NAMED_LEAP, ask, tell};
use minke_applet::{Args, EXIT_USAGE, Flag, Parsing, Program, errln, print};
use minke_control::ntp::{Command, Source, State, Status};
use minke_sys::clock;
use minke_wire::civil::Civil;
use minke_wire::text::{contains, number, split_once};
use std::fmt::Write;
use std::time::Duration;

pub(crate) const PROGRAM: Program = Program {
    name: "chronyc",
    about: "Network time, asked and told as with chrony",
    usage: "[OPTIONS] COMMAND",
    commands: &[
        ("tracking", "How the clock follows the servers"),
        ("sources [-a] [-v]", "The servers (-a: also those without an address; -v: with a legend)"),
        ("sourcestats", "What is known of each server's clock"),
        ("activity", "How many servers are asked"),
        ("waitsync [TRIES [CORRECTION [SKEW [INTERVAL]]]]", "Wait until the clock is right"),
        ("burst GOOD/TOTAL", "Ask each server several times at once"),
        ("makestep", "Set the clock at once by what is left to be corrected"),
        ("online", "The network is there: ask all servers"),
        ("offline", "The network is away: ask none"),
        ("onoffline", "Look which servers can be reached"),
        ("reload sources", "Read the lists of servers again"),
    ],
    flags: &[
        Flag { short: Some('n'), long: "numeric", value: None, help: "Print addresses, not names" },
        Flag {
            short: Some('N'),
            long: "names",
            value: None,
            help: "Print names as configured (the default)",
        },
        Flag { short: Some('c'), long: "csv", value: None, help: "Print values with commas between" },
        Flag { short: Some('4'), long: "ipv4", value: None, help: "Taken for compatibility" },
        Flag { short: Some('6'), long: "ipv6", value: None, help: "Taken for compatibility" },
        Flag { short: Some('a'), long: "authenticate", value: None, help: "Taken for compatibility" },
        crate::status::SOCKET_FLAG,
    ],
    examples: &[
        ("chronyc -n sources | grep '\\*'", "The server that the clock follows"),
        ("chronyc waitsync 60 0.1 0 1", "Wait up to a minute for a clock that is right to 0.1 s"),
    ],
    // Options after the command belong to it.
    parsing: Parsing::StopAtOperand,
    run,
};

fn run(args: &Args) -> u8 {
    let command = match (args.operand(0).unwrap_or_default(), args.operand(1), args.operands().len()) {
        ("tracking", None, 1) => return show(args, tracking),
        ("sources", ..) => return show(args, sources),
        ("sourcestats", ..) => return show(args, sourcestats),
        ("activity", None, 1) => return show(args, activity),
        ("waitsync", ..) => return wait(args),
        ("burst", Some(numbers), 2) => match burst(numbers) {
            Some(command) => command,
            None => return usage("burst: expected GOOD/TOTAL, for instance 4/4"),
        },
        ("makestep", None, 1) => Command::Step,
        ("online", None, 1) => Command::Online,
        ("offline", None, 1) => Command::Offline,
        ("onoffline", None, 1) => Command::OnOffline,
        ("reload", Some("sources"), 2) => Command::Reload,
        _ => return usage("no such command here"),
    };
    match tell(args, command) {
        0 => print("200 OK\n"),
        status => status,
    }
}

fn usage(why: &str) -> u8 {
    errln!("chronyc: {why}; see 'chronyc --help'");
    EXIT_USAGE
}

fn burst(numbers: &str) -> Option<Command> {
    let (good, total) = split_once(numbers, "/")?;
    Some(Command::Burst { good: number::<u32>(good)?.into(), total: number::<u32>(total)?.into() })
}

fn show(args: &Args, text: fn(Form, &Status) -> String) -> u8 {
    let word = |wanted: &str| args.operands().iter().any(|word| word == wanted);
    let (numeric, csv) = (args.has("numeric"), args.has("csv"));
    let form = Form { numeric, csv, all: word("-a"), legend: word("-v") };
    ask(args).map_or(1, |status| print(&text(form, &status)))
}

/// How a report is wanted.
#[derive(Clone, Copy, Default)]
struct Form {
    /// Addresses, not names.
    numeric: bool,
    /// Values with commas between.
    csv: bool,
    /// Sources without an address too.
    all: bool,
    /// An explanation of the columns first.
    legend: bool,
}

impl Form {
    /// What a source is called.
    fn name(self, source: &Source) -> &String {
        if self.numeric && !source.address.is_empty() { &source.address } else { &source.name }
    }
}

/// A line of CSV.
fn csv(text: &mut String, values: &[&dyn std::fmt::Display]) {
    let mut separator = "";
    for value in values {
        let _ = write!(text, "{separator}{value}");
        separator = ",";
    }
    text.push('\n');
}

/// The numbers of `tracking`: label, digits behind the point, how it is told to people, what follows.
const TRACKING: [(&str, u32, Sign, &str); 9] = [
    ("System time", 9, Sign::Pace, "seconds"),
    ("Last offset", 9, Sign::Always, "seconds"),
    ("RMS offset", 9, Sign::Negative, "seconds"),
    ("Frequency", 3, Sign::Pace, "ppm"),
    ("Residual freq", 3, Sign::Always, "ppm"),
    ("Skew", 3, Sign::Negative, "ppm"),
    ("Root delay", 9, Sign::Negative, "seconds"),
    ("Root dispersion", 9, Sign::Negative, "seconds"),
    ("Update interval", 1, Sign::Negative, "seconds"),
];

#[derive(Clone, Copy, PartialEq)]
enum Sign {
    /// Of negative numbers.
    Negative,
    /// Of each.
    Always,
    /// Of none: a word tells.
    Pace,
}

fn tracking(form: Form, status: &Status) -> String {
    let time = status.reference_time_ns.unwrap_or(0);
    let refid = if status.stratum == 0 { 0 } else { status.refid };
    let leap = NAMED_LEAP.get(usize::from(status.leap)).copied().unwrap_or("Not synchronised");
    let selected = status.sources.iter().find(|source| source.state == State::Selected);
    let reference = selected.map_or(&status.reference, |source| form.name(source));
    let stratum = status.stratum;
    let numbers = [
        status.system_offset_ns,
        status.last_offset_ns.saturating_neg(),
        status.rms_offset_ns,
        status.frequency_ppb.saturating_neg(),
        status.residual_frequency_ppb.saturating_neg(),
        status.skew_ppb,
        status.root_delay_ns,
        status.root_dispersion_ns,
        // Tenths of a second.
        status.update_interval_ms.saturating_add(50) / 100,
    ];
    let mut text = if form.csv {
        format!("{refid:08X},{reference},{stratum},{}", fixed(time, 9))
    } else {
        let date = day(Civil::from_unix(time.div_euclid(1_000_000_000)));
        format!(
            "Reference ID    : {refid:08X} ({reference})\nStratum         : {stratum}\nRef time (UTC)  : {date}\n"
        )
    };
    for ((label, decimals, sign, unit), number) in TRACKING.into_iter().zip(numbers) {
        let value = match sign {
            _ if form.csv => {
                let _ = write!(text, ",{}", fixed(number, decimals));
                continue;
            }
            Sign::Negative => fixed(number, decimals),
            Sign::Always => signed(number, decimals),
            Sign::Pace => fixed(number.saturating_abs(), decimals),
        };
        let _ = write!(text, "{label:15} : {value} {unit}");
        text.push_str(match (sign, decimals, number < 0) {
            (Sign::Pace, 9, true) => " fast of NTP time",
            (Sign::Pace, 9, false) => " slow of NTP time",
            // What makes up for the oscillator has the other sign.
            (Sign::Pace, _, true) => " slow",
            (Sign::Pace, _, false) => " fast",
            _ => "",
        });
        text.push('\n');
    }
    let _ = if form.csv { writeln!(text, ",{leap}") } else { writeln!(text, "Leap status     : {leap}") };
    text
}

/// `Sat Nov 21 09:57:28 2026`.
fn day(date: Civil) -> String {
    let Civil { year, day, hour, minute, second, .. } = date;
    let (weekday, month) = (date.weekday_name(), date.month_name());
    format!("{weekday} {month} {day:02} {hour:02}:{minute:02}:{second:02} {year}")
}

const LEGEND: &str = "
  .-- Source mode  '^' = server, '=' = peer, '#' = local clock.
 / .- Source state '*' = current best, '+' = combined, '-' = not combined,
| /             'x' = may be in error, '~' = too variable, '?' = unusable.
||                                                 .- xxxx [ yyyy ] +/- zzzz
||      Reachability register (octal) -.           |  xxxx = adjusted offset,
||      Log2(Polling interval) --.      |          |  yyyy = measured offset,
||                                \\     |          |  zzzz = estimated error.
||                                 |    |           \\
";
const SOURCES: &str = "MS Name/IP address         Stratum Poll Reach LastRx Last sample               
===============================================================================
";

fn sources(form: Form, status: &Status) -> String {
    let mut text = String::new();
    if form.legend && !form.csv {
        text.push_str(LEGEND);
    }
    if !form.csv {
        text.push_str(SOURCES);
    }
    for source in &status.sources {
        if source.address.is_empty() && !form.all {
            continue;
        }
        let (name, state) = (form.name(source), source.state.letter());
        let Source { stratum, poll, reach, .. } = *source;
        let (current, measured) =
            (source.current_offset_ns.saturating_neg(), source.offset_ns.saturating_neg());
        if form.csv {
            let reach = format!("{reach:o}");
            // chronyc prints the number for "never" as it is.
            let last = source.last_rx_s.unwrap_or(u32::MAX.into());
            let (current, measured, error) =
                (fixed(current, 9), fixed(measured, 9), fixed(source.error_ns, 9));
            csv(
                &mut text,
                &[&"^", &state, name, &stratum, &poll, &reach, &last, &current, &measured, &error],
            );
        } else {
            let (last, current, measured) =
                (ago(source.last_rx_s), signed_span(current), signed_span(measured));
            let error = span(source.error_ns);
            let _ = writeln!(
                text,
                "^{state} {name:27}  {stratum:2}  {poll:2}   {reach:3o}  {last:>4}  {current:>7}[{measured:>7}] +/- {error:>6}"
            );
        }
    }
    text
}

const SOURCESTATS: &str = "Name/IP Address            NP  NR  Span  Frequency  Freq Skew  Offset  Std Dev
==============================================================================
";

fn sourcestats(form: Form, status: &Status) -> String {
    let mut text = String::new();
    if !form.csv {
        text.push_str(SOURCESTATS);
    }
    for source in &status.sources {
        if source.address.is_empty() {
            continue;
        }
        let name = form.name(source);
        let Source { samples, runs, span_s, .. } = *source;
        let frequency = source.frequency_ppb.saturating_neg();
        let offset = source.current_offset_ns.saturating_neg();
        let skew = fixed(source.skew_ppb, 3);
        if form.csv {
            let (frequency, offset, jitter) =
                (fixed(frequency, 3), fixed(offset, 9), fixed(source.jitter_ns, 9));
            csv(&mut text, &[name, &samples, &runs, &span_s, &frequency, &skew, &offset, &jitter]);
        } else {
            let (frequency, offset, jitter) =
                (signed(frequency, 3), signed_span(offset), span(source.jitter_ns));
            let since = ago(Some(span_s));
            let _ = writeln!(
                text,
                "{name:25}  {samples:2}  {runs:2}  {since:>4} {frequency:>10} {skew:>10}  {offset:>7}  {jitter:>6}"
            );
        }
    }
    text
}

fn activity(form: Form, status: &Status) -> String {
    let mut counts = [0u32; 5];
    let [online, offline, .., unknown] = &mut counts;
    for source in &status.sources {
        let count = match (source.address.is_empty(), source.online) {
            (true, _) => &mut *unknown,
            (false, true) => &mut *online,
            (false, false) => &mut *offline,
        };
        *count = count.saturating_add(1);
    }
    let [online, offline, burst_online, burst_offline, unknown] = counts;
    let mut text = String::new();
    if form.csv {
        csv(&mut text, &[&online, &offline, &burst_online, &burst_offline, &unknown]);
        return text;
    }
    let _ = write!(
        text,
        "200 OK\n{online} sources online\n{offline} sources offline\n\
         {burst_online} sources doing burst (return to online)\n\
         {burst_offline} sources doing burst (return to offline)\n\
         {unknown} sources with unknown address\n"
    );
    text
}

/// Asks again and again, every `INTERVAL` seconds (10), until the clock is synchronised and what is left to be
/// corrected is at most `CORRECTION` seconds and the skew at most `SKEW` ppm (0: any); at most `TRIES` times (0: for
/// ever).
fn wait(args: &Args) -> u8 {
    let mut limits = [0u64; 4];
    for (limit, word) in limits.iter_mut().zip(args.operands().iter().skip(1)) {
        let Some(value) = word.to_str().and_then(nano) else {
            return usage("waitsync: expected numbers");
        };
        *limit = value;
    }
    let [tries, correction, skew, interval] = limits;
    let tries = tries / NANO;
    let interval = if interval == 0 { Duration::from_secs(10) } else { Duration::from_nanos(interval) };
    let mut attempt = 0u64;
    loop {
        let Some(status) = ask(args) else { return 1 };
        attempt = attempt.saturating_add(1);
        let refid = if status.stratum == 0 { 0 } else { status.refid };
        print(&format!(
            "try: {attempt}, refid: {refid:08X}, correction: {}, skew: {}\n",
            fixed(status.system_offset_ns.saturating_abs(), 9),
            fixed(status.skew_ppb, 3)
        ));
        // The skew is in ppb, its limit in 1e-9 ppm.
        let skew_now = u64::try_from(status.skew_ppb).unwrap_or(u64::MAX).saturating_mul(1_000_000);
        let right = status.synchronized
            && (correction == 0 || status.system_offset_ns.unsigned_abs() <= correction)
            && (skew == 0 || skew_now <= skew);
        if right {
            return 0;
        }
        if attempt == tries {
            return 1;
        }
        clock::sleep(interval);
    }
}

const NANO: u64 = 1_000_000_000;

/// A decimal number that is not negative, in billionths; digits beyond those are ignored.
fn nano(text: &str) -> Option<u64> {
    let (whole, part) = if contains(text, ".") { split_once(text, ".")? } else { (text, "") };
    let whole: u32 = if whole.is_empty() && !part.is_empty() { 0 } else { number(whole)? };
    let mut value = u64::from(whole);
    let mut digits = part.bytes();
    for _ in 0..9 {
        let digit = digits.next().unwrap_or(b'0');
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0')))?;
    }
    digits.all(|digit| digit.is_ascii_digit()).then_some(value)
}

#[cfg(test)]
#[path = "chronyc_tests.rs"]
mod tests;
