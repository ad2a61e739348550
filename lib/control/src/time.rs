//! Whether this device's clock can be trusted, and waiting until it can.
//!
//! Two marks in [`FOLDER`] say so, each made at most once in a boot: `synchronized` (systemd-timesyncd's), when the date
//! of an HTTPS server or the time client has confirmed or set the clock, and `rtc`, when the real-time clock's time was
//! plausible at the boot. What checks certificates, or stores times that others compare, waits for either; what does not,
//! does not wait. A plausible time may be wrong all the same: where a certificate's dates are all that is wrong with it,
//! that is a verdict once the clock is synchronised, and not before ([`is_doubtful`]).

use minke_sys::event::{Interest, Poller};
use minke_sys::inotify::{Inotify, Scope};
use minke_sys::{Result, clock, file, status};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

/// Where the marks are. It belongs to the time client's user.
pub const FOLDER: &str = "/run/systemd/timesync";
/// The clock was compared with another one outside, and is right.
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";
/// How long what checks certificates waits for a clock that can be trusted, before it tries all the same: in a network
/// without the time the certificates themselves decide.
pub const CLOCK_LIMIT: Duration = Duration::from_secs(300);
/// The real-time clock had a plausible time.
const RTC: &str = "/run/systemd/timesync/rtc";

/// Tells everybody that the clock is right: to be called once, after the first confirmation or step, with the name of
/// what knows the time (`HTTPS`, `NTP`). The first mark of a boot stays; the clock is saved when it is made.
pub fn mark_synchronized(by: &str) -> Result<()> {
    if is_synchronized() { Ok(()) } else { file::write(SYNCHRONIZED, by) }
}

/// What has made the mark `synchronized`; empty when nothing has.
pub fn synchronized_by() -> String {
    file::text(SYNCHRONIZED)
}

/// Tells everybody that the real-time clock's time is plausible.
pub fn mark_rtc() -> Result<()> {
    file::write(RTC, "")
}

/// Whether another clock outside has confirmed or set this one since the boot.
pub fn is_synchronized() -> bool {
    status::exists(SYNCHRONIZED)
}

/// Whether the dates of a certificate that this clock contradicts may be right all the same: no other clock has confirmed
/// this one, and on this system one may yet. To be asked before a try: what fails in it by dates alone is worth another
/// one when [`is_synchronized`].
pub fn is_doubtful() -> bool {
    !is_synchronized() && status::is_dir(FOLDER)
}

/// Whether the clock is good enough to begin with what checks certificates' dates.
pub fn is_sane() -> bool {
    is_synchronized() || status::exists(RTC)
}

/// Waits until [`is_sane`], at most for `limit`, and says whether it is. It sleeps meanwhile.
pub fn wait_until_sane(limit: Duration) -> bool {
    wait(is_sane, limit, None) == Woken::Holds
}

/// Waits between two tries of what checks certificates: for `span`, or until the clock is synchronised if it was not. A
/// certificate that seemed to have expired may not when the clock is right.
pub fn pause(span: Duration) {
    if is_synchronized() {
        clock::sleep(span);
    } else {
        wait(is_synchronized, span, None);
    }
}

/// What has ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// What was waited for holds.
    Holds,
    /// The other descriptor is readable.
    Other,
    /// The time is over.
    Time,
}

/// Waits until `holds`, which looks at the marks, until `other` is readable, or for `limit`.
pub fn wait(holds: fn() -> bool, limit: Duration, other: Option<BorrowedFd<'_>>) -> Woken {
    let until = minke_sys::clock::ahead(limit);
    let watch = watch(other);
    let mut ready = Vec::new();
    loop {
        if holds() {
            return Woken::Holds;
        }
        let left = until.saturating_sub(clock::boottime());
        if left.is_zero() {
            return Woken::Time;
        }
        match &watch {
            Ok((poller, inotify)) if poller.wait(&mut ready, Some(left)).is_ok() => {
                if ready.iter().any(|ready| ready.token == 1) {
                    return Woken::Other;
                }
                inotify.take();
            }
            // Without a watch the time alone ends it.
            _ => clock::sleep(left),
        }
    }
}

fn watch(other: Option<BorrowedFd<'_>>) -> Result<(Poller, Inotify)> {
    let (poller, inotify) = (Poller::new()?, Inotify::new()?);
    // No folder, no marks: then the other descriptor and the time count.
    let _ = inotify.add(Path::new(FOLDER), Scope::Names);
    poller.add(&inotify, 0, Interest::Read)?;
    if let Some(other) = other {
        poller.add(other, 1, Interest::Read)?;
    }
    Ok((poller, inotify))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_wait_ends_by_its_time_by_what_holds_and_by_the_other() {
        let long = Duration::from_secs(60);
        assert_eq!(wait(|| false, Duration::from_millis(20), None), Woken::Time);
        assert_eq!(wait(|| true, long, None), Woken::Holds);
        let (mut writer, reader) = std::os::unix::net::UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut writer, b"x").unwrap();
        assert_eq!(wait(|| false, long, Some(reader.as_fd())), Woken::Other);
    }
}
