//! Which time is believed: pure rules (SPECIFICATION.md, "Sane time at boot").

/// How long after its build a system may still be in use, in seconds: twenty years. A time beyond that is a broken clock,
/// not a device that was forgotten in a drawer.
pub const LIFETIME: i64 = 20 * 31_557_600;
/// How far the clock may be wrong before it is set: an HTTP date has whole seconds, and so has a real-time clock.
pub const TOLERANCE: i64 = 2;
/// A real-time clock's drift in years: an honest clock may be put back by so much.
const BACK: i64 = 3600;
/// A device that was long in a drawer, in seconds: five years. A jump beyond that is worth a second opinion.
const AHEAD: i64 = 5 * 31_557_600;
/// How far two honest servers, asked one after the other, may differ.
const AGREEMENT: i64 = 60;

/// What is plausible, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The build time: nothing that runs here is older.
    pub earliest: i64,
    /// [`LIFETIME`] later.
    pub latest: i64,
}

impl Bounds {
    /// Those of a system that was built then.
    pub fn new(build: i64) -> Self {
        Self { earliest: build, latest: build.saturating_add(LIFETIME) }
    }

    /// Whether a time may be the present.
    pub fn hold(self, time: i64) -> bool {
        (self.earliest..=self.latest).contains(&time)
    }
}

/// What a clock or a file says, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// There is none.
    Nothing,
    /// It cannot be read, or is no time.
    Garbage,
    /// A time.
    Time(i64),
}

/// What is to be told about a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// The clock was before it and is set to it.
    Set,
    /// It is before the clock (by more than [`TOLERANCE`], a real-time clock's case).
    Past,
    /// It is as the clock, or not far from it.
    Agrees,
    /// It is beyond what is plausible, and not believed.
    Refused,
    /// It cannot be read.
    Garbage,
    /// There is none.
    Missing,
}

/// The clock at the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// What the clock shall be.
    pub clock: i64,
    /// Whether it was before the build time (`Set`) or beyond what is plausible (`Refused`).
    pub build: Note,
    /// What became of the saved clock.
    pub saved: Note,
    /// What became of the real-time clock.
    pub rtc: Note,
}

impl Boot {
    /// Build time, saved clock and real-time clock in this order, each of which can only put the clock forward. What is
    /// not plausible is not believed: one wrong time, saved once or left in a battery's clock, would hold the device in the
    /// future at each boot. For the same reason a clock beyond what is plausible, which the kernel has from the real-time
    /// clock, begins again at the build time.
    pub fn new(now: i64, bounds: Bounds, saved: Said, rtc: Said) -> Self {
        let build = match now {
            _ if now < bounds.earliest => Note::Set,
            _ if now > bounds.latest => Note::Refused,
            _ => Note::Agrees,
        };
        let mut boot = Self { clock: now, build, saved: Note::Missing, rtc: Note::Missing };
        if build != Note::Agrees {
            boot.clock = bounds.earliest;
        }
        boot.saved = boot.consider(saved, bounds, 0);
        boot.rtc = boot.consider(rtc, bounds, TOLERANCE);
        boot
    }

    fn consider(&mut self, said: Said, bounds: Bounds, tolerance: i64) -> Note {
        match said {
            Said::Nothing => Note::Missing,
            Said::Garbage => Note::Garbage,
            Said::Time(time) if time > bounds.latest => Note::Refused,
            Said::Time(time) if time > self.clock.saturating_add(tolerance) => {
                self.clock = time;
                Note::Set
            }
            Said::Time(time) if time < self.clock.saturating_sub(tolerance) => Note::Past,
            Said::Time(_) => Note::Agrees,
        }
    }

    /// Whether the real-time clock goes on from where the device has been: then its time can be trusted.
    pub fn rtc_is_sane(&self) -> bool {
        matches!(self.rtc, Note::Set | Note::Agrees)
    }
}

/// What a second server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Second {
    /// It was not asked yet.
    Unasked,
    /// There is none, or it does not answer.
    Silent,
    /// Its date.
    Says(i64),
}

/// What becomes of a server's date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The clock is right.
    Same,
    /// It is to be set.
    Set,
    /// A second server should be asked first.
    Ask,
    /// The date is not believed, for this reason.
    Refuse(&'static str),
}

/// Judges a server's `date` while the clock says `now`.
///
/// - A date before the build time is never believed.
/// - A difference of at most [`TOLERANCE`] is none.
/// - A date at most an hour before and five years after the clock is believed.
/// - Any other needs a second server that agrees to within a minute. Where there is none, or none that answers, it is
///   believed all the same, unless it is beyond what is plausible.
pub fn judge(date: i64, now: i64, bounds: Bounds, second: Second) -> Verdict {
    if date < bounds.earliest {
        return Verdict::Refuse("is earlier than this system's build");
    }
    if date.abs_diff(now) <= TOLERANCE.unsigned_abs() {
        return Verdict::Same;
    }
    let near = (now.saturating_sub(BACK)..=now.saturating_add(AHEAD)).contains(&date) && bounds.hold(date);
    match second {
        _ if near => Verdict::Set,
        Second::Unasked => Verdict::Ask,
        Second::Silent if bounds.hold(date) => Verdict::Set,
        Second::Silent => Verdict::Refuse("is more than 20 years after this system's build"),
        Second::Says(other) if other.abs_diff(date) <= AGREEMENT.unsigned_abs() => Verdict::Set,
        Second::Says(_) => Verdict::Refuse("contradicts that of another server"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Said::{Garbage, Nothing, Time};

    const DAY: i64 = 86_400;
    const YEAR: i64 = 365 * DAY;
    const BUILD: i64 = 1_800_000_000;
    const BOUNDS: Bounds = Bounds { earliest: BUILD, latest: BUILD + LIFETIME };

    fn at_boot(now: i64, saved: Said, rtc: Said) -> (i64, Note, Note, Note) {
        let boot = Boot::new(now, BOUNDS, saved, rtc);
        (boot.clock, boot.build, boot.saved, boot.rtc)
    }

    #[test]
    fn each_source_only_puts_the_clock_forward() {
        use Note::{Agrees, Missing, Past, Set};
        let (a, b) = (BUILD + DAY, BUILD + 2 * DAY);
        assert_eq!(at_boot(0, Nothing, Nothing), (BUILD, Set, Missing, Missing));
        assert_eq!(at_boot(0, Time(a), Nothing), (a, Set, Set, Missing));
        assert_eq!(at_boot(0, Time(a), Time(b)), (b, Set, Set, Set));
        assert_eq!(at_boot(0, Time(b), Time(a)), (b, Set, Set, Past));
        assert_eq!(at_boot(b, Time(a), Time(b + 2)), (b, Agrees, Past, Agrees));
        assert_eq!(at_boot(b, Time(a), Time(b + 3)), (b + 3, Agrees, Past, Set));
        assert_eq!(at_boot(b, Time(b), Time(0)), (b, Agrees, Agrees, Past));
        assert_eq!(at_boot(-5, Time(-5), Time(-5)), (BUILD, Set, Past, Past));
    }

    #[test]
    fn a_time_from_the_far_future_is_not_believed_and_does_not_hold_the_device() {
        use Note::{Agrees, Garbage as Broken, Refused, Set};
        let far = BUILD + LIFETIME + 1;
        assert_eq!(at_boot(BUILD, Time(far), Time(far)), (BUILD, Agrees, Refused, Refused));
        // The kernel has taken the real-time clock's already.
        assert_eq!(at_boot(far, Time(BUILD + DAY), Time(far)), (BUILD + DAY, Refused, Set, Refused));
        assert_eq!(at_boot(i64::MAX, Time(i64::MAX), Time(i64::MIN)).0, BUILD);
        assert_eq!(at_boot(BUILD, Garbage, Garbage), (BUILD, Agrees, Broken, Broken));
        // Beyond 2038, and plausible.
        let later = 2_200_000_000;
        assert_eq!(at_boot(0, Nothing, Time(later)).0, later);
    }

    #[test]
    fn a_real_time_clock_is_trusted_when_it_goes_on_from_the_last_boot() {
        let sane = |saved, rtc| Boot::new(0, BOUNDS, saved, rtc).rtc_is_sane();
        assert!(sane(Time(BUILD + DAY), Time(BUILD + DAY)) && sane(Nothing, Time(BUILD + 9)));
        assert!(!sane(Time(BUILD + DAY), Time(BUILD + 5)) && !sane(Nothing, Nothing));
        assert!(!sane(Nothing, Time(0)) && !sane(Nothing, Time(BUILD + LIFETIME + 1)));
    }

    #[test]
    fn a_date_is_judged() {
        use Second::{Says, Silent, Unasked};
        use Verdict::{Ask, Refuse, Same, Set};
        let judge = |date, now, second| match judge(date, now, BOUNDS, second) {
            Refuse(_) => None,
            verdict => Some(verdict),
        };
        let now = BUILD + YEAR;
        for second in [Unasked, Silent, Says(0)] {
            assert_eq!(judge(BUILD - 1, BUILD - 1, second), None);
            assert_eq!(judge(now + 2, now, second), Some(Same));
            assert_eq!(judge(now - 2, now, second), Some(Same));
            assert_eq!(judge(now - 3, now, second), Some(Set));
            assert_eq!(judge(now - BACK, now, second), Some(Set));
            assert_eq!(judge(now + 5 * YEAR, now, second), Some(Set));
        }
        for date in [now - DAY, BUILD, now + 6 * YEAR] {
            assert_eq!(judge(date, now, Unasked), Some(Ask));
            assert_eq!(judge(date, now, Silent), Some(Set));
            assert_eq!(judge(date, now, Says(date + 60)), Some(Set));
            assert_eq!(judge(date, now, Says(date + 61)), None);
        }
        let far = BUILD + LIFETIME + 1;
        assert_eq!(judge(far, now, Unasked), Some(Ask));
        assert_eq!(judge(far, now, Silent), None);
        assert_eq!(judge(far, now, Says(far)), Some(Set));
        // Also from a clock that stands there already.
        assert_eq!(judge(far, far + 9, Unasked), Some(Ask));
        for extreme in [i64::MIN, i64::MAX] {
            let _ =
                (judge(extreme, now, Unasked), judge(now, extreme, Silent), judge(now, now, Says(extreme)));
        }
    }
}
