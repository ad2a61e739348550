//! The clock at the boot: build time, saved clock, real-time clock (spec os §5.1 to §5.4), and saving it.

use crate::places::{Places, now, shown};
use crate::rule::{Boot, Note, Said};
use minke_applet::{log, outln};
use minke_control::time;
use minke_sys::rtc::Rtc;
use minke_sys::{Errno, Result, file};
use minke_wire::civil::Civil;
use std::path::Path;

/// The user and group of the time client, and the group of the network daemon (`image/files/passwd`).
const NTP: &str = "ntp";
/// Where servers are handed to the time client; it answers there, too.
const SOURCES: &str = "run/chrony";

/// Sets the clock as far as this machine alone can. Nothing here stops the boot.
pub fn run(places: &Places) -> u8 {
    let bounds = places.bounds();
    let (before, saved, rtc) = (now(), places.saved(), rtc());
    let boot = Boot::new(before, bounds, saved, rtc);
    if boot.clock != before
        && let Err(error) = places.set_clock(boot.clock)
    {
        log::error(format_args!("{error}"));
    }
    let limit = shown(bounds.latest);
    if boot.build == Note::Refused {
        refuse("the system's clock", before, limit);
    }
    let mut notes = format!("build time: {}\n", shown(bounds.earliest));
    for (name, said, note) in [("saved clock", saved, boot.saved), ("RTC", rtc, boot.rtc)] {
        let text = match said {
            Said::Nothing => "none".to_owned(),
            Said::Garbage => "unreadable".to_owned(),
            Said::Time(time) => {
                if note == Note::Refused {
                    refuse(&format!("the {name}"), time, limit);
                }
                let doubt = if note == Note::Refused { ", which is not believed" } else { "" };
                format!("{}{doubt}", shown(time))
            }
        };
        notes.push_str(&format!("{name}: {text}\n"));
    }
    places.note("boot", &notes);
    if boot.saved == Note::Garbage {
        log::warn(format_args!("{} is no time: it is not believed", places.saved_clock().display()));
    }
    if let (Note::Past, Said::Time(time)) = (boot.rtc, rtc) {
        log::warn(format_args!(
            "RTC time is in the past: it says {}, and the clock {}; its battery may need replacement",
            shown(time),
            shown(boot.clock)
        ));
    }
    let from = match () {
        () if boot.rtc == Note::Set => "the RTC",
        () if boot.saved == Note::Set => "the saved clock",
        () if boot.build != Note::Agrees => "the build time",
        () => "",
    };
    if !from.is_empty() {
        log::info(format_args!(
            "the clock is set from {} to {}, by {from}",
            shown(before),
            shown(boot.clock)
        ));
    }
    if places.no_clock {
        return 0;
    }
    if let Err(error) = prepare(places) {
        log::warn(format_args!("{error}"));
    }
    if boot.rtc_is_sane()
        && let Err(error) = time::mark_rtc()
    {
        log::warn(format_args!("{error}"));
    }
    0
}

fn refuse(what: &str, time: i64, limit: Civil) {
    log::warn(format_args!("{what} says {}, which is after {limit}: it is not believed", shown(time)));
}

/// What the machine's real-time clock says.
pub fn rtc() -> Said {
    let said = Rtc::open().and_then(|rtc| rtc.map(|rtc| rtc.read()).transpose());
    match said {
        Ok(None) => Said::Nothing,
        Ok(Some(time)) => Said::Time(time),
        Err(error) => {
            log::warn(format_args!("{error}"));
            Said::Garbage
        }
    }
}

/// Folders of the time client, which has no rights to make them.
fn prepare(places: &Places) -> Result<()> {
    let Some((user, group)) = account(places) else { return Ok(()) };
    for (folder, owner, mode) in
        [(Path::new(time::FOLDER), user, 0o755), (&places.root.join(SOURCES), 0, 0o770)]
    {
        file::make_folder(folder, 0o755)?;
        file::chown(folder, owner, group)?;
        file::set_mode(folder, mode)?;
    }
    Ok(())
}

fn account(places: &Places) -> Option<(u32, u32)> {
    let text = file::text(places.root.join("etc/passwd"));
    for line in text.lines() {
        let mut fields = line.split(':');
        if fields.next() == Some(NTP) {
            let user = minke_wire::text::number(fields.nth(1)?)?;
            return Some((user, minke_wire::text::number(fields.next()?)?));
        }
    }
    None
}

/// Saves the clock (spec os §5.3.3), and hands it to the real-time clock once it is right.
pub fn save(places: &Places, force: bool) -> Result<u8> {
    let (bounds, now) = (places.bounds(), now());
    if !force && now < bounds.earliest && places.saved() != Said::Nothing {
        outln!("Time travel detected!");
        return Ok(refused("saved", now));
    }
    if !force && now > bounds.latest {
        outln!("The clock is after {}, which is not plausible.", shown(bounds.latest));
        return Ok(refused("saved", now));
    }
    places.save(now)?;
    if time::is_synchronized() {
        places.set_rtc();
    }
    Ok(0)
}

/// Sets the clock by the saved one (spec os §5.3.2).
pub fn load(places: &Places, force: bool) -> Result<u8> {
    let (bounds, before) = (places.bounds(), now());
    let path = places.saved_clock();
    let time = match places.saved() {
        Said::Time(time) => time,
        Said::Nothing => {
            outln!("Unable to read saved clock information: {} does not exist", path.display());
            return Ok(0);
        }
        Said::Garbage => return Err(minke_sys::Error::new("read the time of", path.display(), Errno::INVAL)),
    };
    if !force && time > bounds.latest {
        outln!("The saved clock is after {}, which is not plausible.", shown(bounds.latest));
        return Ok(refused("loaded", time));
    }
    if !force && before > time {
        outln!("Current system time: {}", shown(before));
        outln!("fake-hwclock saved clock information is in the past: {}", shown(time));
        outln!("To set system time to this saved clock anyway, use \"force\"");
        return Ok(0);
    }
    places.set_clock(time)?;
    outln!("Current system time: {}", shown(time));
    Ok(0)
}

fn refused(what: &str, time: i64) -> u8 {
    outln!("{} is not {what}; to do it anyway, use \"force\"", shown(time));
    1
}
