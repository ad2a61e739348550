//! An alarm at a time of the calendar, which also tells when the clock is set: timerfd_create(2).

use crate::{Context, Result};
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// An alarm. It is readable when its time has come and when somebody has set the clock.
#[derive(Debug)]
pub struct Alarm {
    fd: OwnedFd,
}

impl Alarm {
    /// An alarm that is not set.
    pub fn new() -> Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let fd = rustix::time::timerfd_create(TimerfdClockId::Realtime, flags).context("create", "alarm")?;
        Ok(Self { fd })
    }

    /// Sets it to this time since 1970 UTC, or stops it; stopped it does not watch the clock. `true`: the clock was
    /// set since the last call, so that the time may be wrong.
    pub fn set(&self, time: Option<Duration>) -> Result<bool> {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // A zero value would stop the alarm.
        let value = time.map_or(zero, |time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos()).max(1),
        });
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        match rustix::time::timerfd_settime(
            &self.fd,
            flags,
            &Itimerspec { it_interval: zero, it_value: value },
        ) {
            Err(Errno::CANCELED) => Ok(true),
            done => done.context("set", "alarm").map(|_| false),
        }
    }

    /// Takes what has happened, so that the descriptor is no longer readable; `true`: the clock was set.
    pub fn take(&self) -> bool {
        rustix::io::read(&self.fd, &mut [0u8; 8]) == Err(Errno::CANCELED)
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Interest, Poller};

    #[test]
    fn it_rings_at_its_time_and_not_when_stopped() {
        let (alarm, poller) = (Alarm::new().unwrap(), Poller::new().unwrap());
        poller.add(&alarm, 1, Interest::Read).unwrap();
        let now = crate::clock::realtime();
        alarm.set(Some(now + Duration::from_millis(50))).unwrap();
        let mut ready = Vec::new();
        poller.wait(&mut ready, Some(Duration::from_secs(20))).unwrap();
        assert_eq!(ready.len(), 1);
        assert!(!alarm.take());
        assert!(crate::clock::realtime() >= now + Duration::from_millis(50));
        alarm.set(Some(Duration::ZERO)).unwrap();
        poller.wait(&mut ready, Some(Duration::from_secs(20))).unwrap();
        assert_eq!(ready.len(), 1);
        alarm.set(None).unwrap();
        poller.wait(&mut ready, Some(Duration::ZERO)).unwrap();
        assert!(ready.is_empty());
    }
}
