//! Units that start others: systemd.path(5), systemd.timer(5), systemd.automount(5).

use super::directive::{Directive, Field, Outcome, Wanted, put, set, span, text};
use minke_wire::calendar::Calendar;
use minke_wire::unit::{Name, boolean};
use std::time::Duration;

/// What makes a path or timer unit start its unit.
#[derive(Debug, Clone)]
pub struct Trigger {
    /// The unit that it starts.
    pub unit: String,
    /// An automatic mount point: where.
    pub place: Option<String>,
    /// A path: what is watched, and where.
    pub paths: Vec<(Look, String)>,
    /// The folders are made when they are missing.
    pub make_directory: bool,
    /// With these permission bits.
    pub directory_mode: u32,
    /// A path's starts in so long a time, after which it waits; `None`: no limit.
    pub limit_interval: Option<Duration>,
    /// How many those are.
    pub limit_burst: u32,
    /// A timer: moments that count from something.
    pub moments: Vec<(Base, Duration)>,
    /// Moments of the calendar, with their text.
    pub calendars: Vec<(Calendar, String)>,
    /// How much later it may be, so that timers run out together.
    pub accuracy: Option<Duration>,
    /// A delay up to this is added, another one each time.
    pub random: Option<Duration>,
    /// The delay is always the same one of this unit on this machine.
    pub fixed_random: bool,
    /// Moments of the calendar that passed while it was down are made up for.
    pub persistent: bool,
    /// It stays up when no moment is left.
    pub remain: bool,
}

/// What a path unit looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Something is there.
    Exists,
    /// A folder with something in it is there.
    NotEmpty,
    /// It was changed: written and closed, replaced, made, removed.
    Changed,
    /// The same, or written to.
    Modified,
}

/// The same by the names of their directives.
pub const LOOKS: [(&str, Look); 4] = [
    ("PathExists", Look::Exists),
    ("DirectoryNotEmpty", Look::NotEmpty),
    ("PathChanged", Look::Changed),
    ("PathModified", Look::Modified),
];

/// What a timer's moment counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// The timer's own start.
    Active,
    /// The boot. PID 1 starts seconds later, which is taken for the same.
    Boot,
    /// The last start of its unit.
    UnitActive,
    /// The last end of its unit.
    UnitInactive,
}

const BASES: [(&str, Base); 5] = [
    ("OnActiveSec", Base::Active),
    ("OnBootSec", Base::Boot),
    ("OnStartupSec", Base::Boot),
    ("OnUnitActiveSec", Base::UnitActive),
    ("OnUnitInactiveSec", Base::UnitInactive),
];

/// systemd's DefaultTimerAccuracySec=.
const ACCURACY: Duration = Duration::from_secs(60);
/// systemd's limit of starts by a path.
const LIMIT: (Duration, u32) = (Duration::from_secs(2), 200);

impl Trigger {
    /// That of a unit whose file says nothing yet; `None` for a unit of another kind.
    pub fn new(name: &str) -> Option<Box<Self>> {
        let (stem, kind) = name.rsplit_once('.')?;
        let unit = match kind {
            "path" | "timer" => "service",
            "automount" => "mount",
            _ => return None,
        };
        Some(Box::new(Self {
            unit: format!("{stem}.{unit}"),
            place: None,
            paths: Vec::new(),
            make_directory: false,
            directory_mode: 0o755,
            limit_interval: Some(LIMIT.0),
            limit_burst: LIMIT.1,
            moments: Vec::new(),
            calendars: Vec::new(),
            accuracy: Some(ACCURACY),
            random: None,
            fixed_random: false,
            persistent: false,
            remain: true,
        }))
    }

    /// What makes it impossible to start.
    pub fn fault(&self, name: &str) -> Option<&'static str> {
        if name.ends_with(".automount") {
            return if self.place.is_none() { Some("no place: no Where=") } else { None };
        }
        let is_path = name.ends_with(".path");
        if is_path && self.paths.is_empty() {
            Some("nothing to watch: no PathChanged= or the like")
        } else if !is_path && self.moments.is_empty() && self.calendars.is_empty() {
            Some("no moment: no OnCalendar= or the like")
        } else {
            None
        }
    }
}

/// The directives of `[Path]`, beside [`LOOKS`].
pub(super) const PATH: &[Directive<Trigger>] = &[
    ("Unit", |trigger, value| Field::Done(put(&mut trigger.unit, unit(value)))),
    ("MakeDirectory", |trigger, _| Field::Flag(&mut trigger.make_directory)),
    ("DirectoryMode", |trigger, _| Field::Bits(&mut trigger.directory_mode)),
    ("TriggerLimitIntervalSec", |trigger, _| Field::Timeout(&mut trigger.limit_interval)),
    ("TriggerLimitBurst", |trigger, value| {
        Field::Done(put(&mut trigger.limit_burst, minke_wire::text::number(value).ok_or("a number")))
    }),
];

/// The directives of `[Automount]`.
pub(super) const AUTOMOUNT: &[Directive<Trigger>] = &[
    ("Where", |trigger, value| Field::Done(put(&mut trigger.place, place(value)))),
    ("TimeoutIdleSec", |_, value| {
        Field::Done(if value == "0" || value == "infinity" {
            Ok(())
        } else {
            Err("0: what is mounted stays")
        })
    }),
    ("DirectoryMode", |trigger, _| Field::Bits(&mut trigger.directory_mode)),
];

/// The directives of `[Timer]`, beside the moments.
pub(super) const TIMER: &[Directive<Trigger>] = &[
    ("Unit", |trigger, value| Field::Done(put(&mut trigger.unit, unit(value)))),
    ("AccuracySec", |trigger, _| Field::Span(&mut trigger.accuracy)),
    ("RandomizedDelaySec", |trigger, _| Field::Span(&mut trigger.random)),
    ("FixedRandomDelay", |trigger, _| Field::Flag(&mut trigger.fixed_random)),
    ("Persistent", |trigger, _| Field::Flag(&mut trigger.persistent)),
    ("RemainAfterElapse", |trigger, _| Field::Flag(&mut trigger.remain)),
    ("WakeSystem", |_, value| {
        Field::Done(if boolean(value) == Some(false) { Ok(()) } else { Err("no: the machine never sleeps") })
    }),
];

/// Applies a directive that adds something to watch or a moment; `None`: it is none of these.
pub(super) fn apply_list(trigger: &mut Trigger, section: &str, key: &str, value: &str) -> Option<Outcome> {
    if section == "Automount" {
        return None;
    }
    if section == "Path" {
        let (_, look) = *LOOKS.iter().find(|(name, _)| *name == key)?;
        return Some(add_path(trigger, look, value));
    }
    if key == "OnCalendar" {
        return Some(add_calendar(trigger, value));
    }
    let (_, base) = *BASES.iter().find(|(name, _)| *name == key)?;
    Some(add_moment(trigger, base, value))
}

fn add_path(trigger: &mut Trigger, look: Look, value: &str) -> Outcome {
    if value.is_empty() {
        // As systemd has it, the empty value takes all back, whichever directive it is.
        return set(&mut trigger.paths, Vec::new());
    }
    if !value.starts_with('/') {
        return Err("an absolute path");
    }
    trigger.paths.push((look, value.to_owned()));
    Ok(())
}

fn add_calendar(trigger: &mut Trigger, value: &str) -> Outcome {
    if value.is_empty() {
        return clear_moments(trigger);
    }
    let calendar =
        Calendar::parse(value).ok_or("a time of the calendar, for instance Mon *-*-* 06:00, in UTC")?;
    trigger.calendars.push((calendar, value.to_owned()));
    Ok(())
}

fn add_moment(trigger: &mut Trigger, base: Base, value: &str) -> Outcome {
    if value.is_empty() {
        return clear_moments(trigger);
    }
    // One that never comes is none.
    if let Some(span) = span(value)?.limit() {
        trigger.moments.push((base, span));
    }
    Ok(())
}

fn clear_moments(trigger: &mut Trigger) -> Outcome {
    trigger.calendars.clear();
    set(&mut trigger.moments, Vec::new())
}

fn place(value: &str) -> Wanted<Option<String>> {
    if value.starts_with('/') && value.len() > 1 && !value.ends_with('/') {
        Ok(Some(value.to_owned()))
    } else {
        Err("an absolute path")
    }
}

fn unit(value: &str) -> Wanted<String> {
    text(value).filter(|value| Name::parse(value).is_ok()).ok_or("a unit name")
}
