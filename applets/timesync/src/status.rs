//! What the clock is by: `timesync status` and `timesync wait`.

use crate::places::{Places, now, shown};
use minke_applet::{Args, errln, outln, print};
use minke_control::time;
use minke_wire::json::json;
use std::time::Duration;

/// Prints the state; with `--json` for programs. Exit status 1: the clock cannot be trusted yet.
pub fn run(places: &Places, args: &Args) -> u8 {
    let sane = time::is_sane();
    let by = match time::synchronized_by() {
        by if !by.is_empty() => by,
        _ if time::is_synchronized() => "unknown".to_owned(),
        _ if sane => "RTC".to_owned(),
        _ => String::new(),
    };
    let (boot, https) = (places.noted("boot"), places.noted("https"));
    if args.has("json") {
        let mut sources = json!({});
        for line in boot.lines() {
            if let Some((name, text)) = minke_wire::text::split_once(line, ": ") {
                sources.make_object().insert(name, text.into());
            }
        }
        let value = json!({
            "clock": shown(now()).to_string(),
            "sane": sane,
            "synchronized": time::is_synchronized(),
            "by": by,
            "boot": sources,
            "https": https,
        });
        print(&format!("{value:#}\n"));
    } else {
        outln!("clock: {} UTC", shown(now()));
        match (sane, time::is_synchronized()) {
            (_, true) => outln!("state: synchronised, by {by}"),
            (true, _) => outln!("state: plausible, by the RTC; nothing outside has confirmed it yet"),
            _ => outln!("state: not to be trusted; nothing has confirmed it yet"),
        }
        print(&boot);
        outln!("HTTPS: {}", if https.is_empty() { "not asked yet" } else { &https });
    }
    u8::from(!sane)
}

/// Waits until the clock can be trusted.
pub fn wait(limit: Duration) -> u8 {
    let sane = time::wait_until_sane(limit);
    if !sane {
        errln!("the clock is not known to be right after {} s; see 'timesync status'", limit.as_secs());
    }
    u8::from(!sane)
}
