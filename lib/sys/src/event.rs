//! The event loop's parts: epoll(7), timers, and a way for threads to wake the loop.
//!
//! A daemon sleeps in [`Poller::wait`] and nowhere else. A `Poller` is itself a descriptor that becomes
//! readable when one of its own does, so that a component (the HTTP server, say) brings its own poller and
//! the daemon adds that one descriptor to its own.

use crate::{Context, Result};
use rustix::event::epoll;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// What to wait for on a descriptor. Errors and hang-ups are always reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Data or a connection can be read.
    Read,
    /// Data can be written.
    Write,
    /// Either.
    Both,
    /// Only errors and hang-ups.
    None,
}

/// What happened on a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The token that the descriptor was added with.
    pub token: u64,
    /// Reading will not block (a closed peer counts).
    pub readable: bool,
    /// Writing will not block.
    pub writable: bool,
    /// The peer is gone or the descriptor has an error.
    pub hangup: bool,
}

/// An epoll instance, level triggered.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    /// A poller without descriptors.
    pub fn new() -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("create", "epoll")?;
        Ok(Self { epoll })
    }

    /// Starts to watch a descriptor; `token` comes back with its events.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> Result<()> {
        self.set(fd.as_fd(), token, Some(interest), false)
    }

    /// Changes what is waited for on a descriptor that was added.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> Result<()> {
        self.set(fd.as_fd(), token, Some(interest), true)
    }

    /// Stops to watch a descriptor. Closing it does so as well.
    pub fn remove(&self, fd: impl AsFd) -> Result<()> {
        self.set(fd.as_fd(), 0, None, true)
    }

    // Called from everywhere: one function for all kinds of descriptors.
    #[inline(never)]
    fn set(&self, fd: BorrowedFd<'_>, token: u64, interest: Option<Interest>, known: bool) -> Result<()> {
        let data = epoll::EventData::new_u64(token);
        let done = match interest {
            None => epoll::delete(&self.epoll, fd),
            Some(interest) if known => epoll::modify(&self.epoll, fd, data, flags(interest)),
            Some(interest) => epoll::add(&self.epoll, fd, data, flags(interest)),
        };
        done.context("watch", fd.as_raw_fd())
    }

    /// Sleeps until something happens or `timeout` has passed (`None`: for ever), and fills `ready`. A signal
    /// may end the sleep with nothing ready.
    pub fn wait(&self, ready: &mut Vec<Ready>, mut timeout: Option<Duration>) -> Result<()> {
        ready.clear();
        while timeout.is_none_or(|timeout| !timeout.is_zero()) {
            // What a program had for its start it gives back between two sleeps.
            let left = crate::rest::left();
            if timeout.is_some_and(|timeout| timeout <= left) {
                break;
            }
            self.turn(ready, Some(left))?;
            if !ready.is_empty() {
                return Ok(());
            }
            timeout = timeout.map(|timeout| timeout.saturating_sub(left));
        }
        self.turn(ready, timeout)
    }

    fn turn(&self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> Result<()> {
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 16];
        let timeout = timeout.map(timespec);
        match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok((events, _)) => {
                ready.extend(events.iter().map(|event| {
                    let hangup = epoll::EventFlags::HUP | epoll::EventFlags::ERR;
                    let (flags, data) = (event.flags, event.data);
                    Ready {
                        token: data.u64(),
                        readable: flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP | hangup),
                        writable: flags.contains(epoll::EventFlags::OUT),
                        hangup: flags.intersects(hangup),
                    }
                }));
                Ok(())
            }
            Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno).context("wait on", "epoll"),
        }
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn flags(interest: Interest) -> epoll::EventFlags {
    match interest {
        Interest::Read => epoll::EventFlags::IN | epoll::EventFlags::RDHUP,
        Interest::Write => epoll::EventFlags::OUT,
        Interest::Both => epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::OUT,
        Interest::None => epoll::EventFlags::empty(),
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// A one-shot timer on the clock that goes on during suspend.
#[derive(Debug)]
pub struct Timer {
    fd: OwnedFd,
}

impl Timer {
    /// A timer that is not set.
    pub fn new() -> Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let fd = rustix::time::timerfd_create(TimerfdClockId::Boottime, flags).context("create", "timer")?;
        Ok(Self { fd })
    }

    /// Sets it to become readable once after `delay`, or stops it.
    pub fn set(&self, delay: Option<Duration>) -> Result<()> {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // A zero value would stop the timer: fire as soon as possible instead.
        let value = delay.map_or(zero, |delay| timespec(delay.max(Duration::from_nanos(1))));
        let setting = Itimerspec { it_interval: zero, it_value: value };
        rustix::time::timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &setting)
            .context("set", "timer")
            .map(|_| ())
    }

    /// Takes the expiry, so that the descriptor is no longer readable.
    pub fn take(&self) {
        let _ = rustix::io::read(&self.fd, &mut [0u8; 8]);
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// An eventfd(2) by which a thread wakes the loop.
#[derive(Debug)]
pub struct Waker {
    fd: OwnedFd,
}

impl Waker {
    /// A waker that has not been called.
    pub fn new() -> Result<Self> {
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        Ok(Self { fd: rustix::event::eventfd(0, flags).context("create", "eventfd")? })
    }

    /// A second handle on the same waker, for another thread.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self { fd: crate::file::duplicate(&self.fd)? })
    }

    /// Makes the descriptor readable.
    pub fn wake(&self) {
        let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
    }

    /// Takes all calls, so that the descriptor is no longer readable.
    pub fn take(&self) {
        let _ = rustix::io::read(&self.fd, &mut [0u8; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waker_in_an_inner_poller_wakes_the_outer_one() {
        let (outer, inner, waker) = (Poller::new().unwrap(), Poller::new().unwrap(), Waker::new().unwrap());
        inner.add(&waker, 1, Interest::Read).unwrap();
        outer.add(&inner, 7, Interest::Read).unwrap();
        let mut ready = Vec::new();
        outer.wait(&mut ready, Some(Duration::ZERO)).unwrap();
        assert!(ready.is_empty());
        waker.try_clone().unwrap().wake();
        outer.wait(&mut ready, None).unwrap();
        assert_eq!((ready.len(), ready[0].token, ready[0].readable), (1, 7, true));
        waker.take();
        outer.wait(&mut ready, Some(Duration::ZERO)).unwrap();
        assert!(ready.is_empty());
    }

    #[test]
    fn a_timer_fires_once_and_a_zero_delay_fires_too() {
        let (poller, timer) = (Poller::new().unwrap(), Timer::new().unwrap());
        poller.add(&timer, 3, Interest::Read).unwrap();
        timer.set(Some(Duration::ZERO)).unwrap();
        let mut ready = Vec::new();
        poller.wait(&mut ready, None).unwrap();
        assert_eq!(ready[0].token, 3);
        timer.take();
        timer.set(Some(Duration::from_secs(3600))).unwrap();
        timer.set(None).unwrap();
        poller.wait(&mut ready, Some(Duration::ZERO)).unwrap();
        assert!(ready.is_empty());
    }
}
