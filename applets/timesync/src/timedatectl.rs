//! `timedatectl`: what scripts ask of systemd's.

use crate::places::{now, shown};
use crate::rule::Said;
use minke_applet::{Args, EXIT_USAGE, errln, outln};
use minke_control::init;

/// Runs the program.
pub fn run(args: &Args) -> u8 {
    match (args.operand(0), args.operands().len()) {
        (None | Some("status"), 0..=1) => status(),
        (Some("show"), 1) => show(args),
        (Some("list-timezones"), 1) => {
            outln!("UTC");
            0
        }
        (Some("set-timezone"), 2) if matches!(args.operand(1), Some("UTC" | "Etc/UTC")) => 0,
        (Some("set-timezone"), 2) => {
            refuse("the host's time zone is UTC; containers may have their own (TZ)")
        }
        (Some("set-local-rtc"), 2) => refuse("the RTC is kept in UTC"),
        (Some("set-ntp"), 2) => {
            refuse("the clock follows NTP always; 'systemctl stop chronyd' lets it go until the next boot")
        }
        (Some("set-time"), 2) => {
            refuse("Automatic time synchronization is enabled; 'ntpServers' of config.json says by whom")
        }
        (Some("timesync-status" | "show-timesync"), 1) => refuse("see 'ntp status' and 'timesync status'"),
        _ => {
            errln!("timedatectl: expected status or show; see 'timedatectl --help'");
            EXIT_USAGE
        }
    }
}

fn refuse(why: &str) -> u8 {
    errln!("timedatectl: {why}");
    1
}

/// `Sat 2026-11-21 10:00:00 UTC`, or without the zone.
fn date(time: i64, zone: &str) -> String {
    let civil = shown(time);
    format!("{} {civil}{zone}", civil.weekday_name())
}

fn rtc() -> Option<i64> {
    match crate::boot::rtc() {
        Said::Time(time) => Some(time),
        _ => None,
    }
}

fn yes(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

fn status() -> u8 {
    let time = date(now(), " UTC");
    let service = init::active_state("chronyd.service").unwrap_or_default();
    outln!("               Local time: {time}");
    outln!("           Universal time: {time}");
    outln!("                 RTC time: {}", rtc().map_or("n/a".to_owned(), |time| date(time, "")));
    outln!("                Time zone: UTC (UTC, +0000)");
    outln!("System clock synchronized: {}", yes(crate::is_disciplined()));
    outln!("              NTP service: {}", if service == "active" { "active" } else { "inactive" });
    outln!("          RTC in local TZ: no");
    0
}

fn show(args: &Args) -> u8 {
    let wanted: Vec<&str> = args.values("property").flat_map(|names| names.split(',')).collect();
    for name in ["Timezone", "LocalRTC", "CanNTP", "NTP", "NTPSynchronized", "TimeUSec", "RTCTimeUSec"] {
        if !wanted.is_empty() && !wanted.contains(&name) {
            continue;
        }
        let value = match name {
            "Timezone" => "UTC".to_owned(),
            "LocalRTC" => "no".to_owned(),
            "CanNTP" => "yes".to_owned(),
            "NTP" => {
                yes(init::active_state("chronyd.service").is_ok_and(|state| state == "active")).to_owned()
            }
            "NTPSynchronized" => yes(crate::is_disciplined()).to_owned(),
            "TimeUSec" => date(now(), " UTC"),
            _ => match rtc() {
                Some(time) => date(time, " UTC"),
                None => continue,
            },
        };
        if args.has("value") {
            outln!("{value}");
        } else {
            outln!("{name}={value}");
        }
    }
    0
}
