//! The kernel's clock: read, steered, set; or only watched.

use super::nanos;
use crate::client::{Client, Now, Steering};
use crate::nanos::{Nanos, whole};
use minke_applet::log;
use minke_sys::adjtime::{self, FREQ_PER_PPM, STA_DEL, STA_INS, STA_UNSYNC, State, Steer, TICK};
use minke_sys::{clock, random};
use minke_wire::ntp::Leap;
use std::cell::Cell;

/// The kernel lets its error bound grow by 0.05 % of the time, and counts itself as not synchronised when it has reached
/// 16 s, after nearly 9 hours: so it is told the true one more often than that. In nanoseconds.
const REFRESH: i64 = 6 * 3600 * 1_000_000_000;
/// At other wakings it is told when the last time is so long ago.
const STALE: i64 = 1800 * 1_000_000_000;
/// The loop corrects up to 500 ppm; beyond that ticks get longer, by 100 ppm each.
const MOST_FREQUENCY: f64 = 450e-6;

#[derive(Debug)]
pub(crate) struct Kernel {
    watch_only: bool,
    /// When it was told something, in nanoseconds since boot.
    told: Option<i64>,
    complained: bool,
    /// Where the numbers come from that must not be the same on all devices.
    noise: Cell<u64>,
}

impl Kernel {
    pub(crate) fn new(watch_only: bool) -> Self {
        Self { watch_only, told: None, complained: false, noise: Cell::new(random::quick()) }
    }

    /// All clocks at once. The bare oscillator and the clock are read in turns until they were read close together.
    pub(crate) fn now(&self) -> Now {
        let (mut raw, mut real, mut best) = (0, 0, i64::MAX);
        for _ in 0..3 {
            let before = nanos(clock::raw());
            let between = nanos(clock::realtime());
            let took = nanos(clock::raw()).since(before);
            if took < best {
                (raw, real, best) = (before.after(took / 2), between, took);
            }
        }
        let boot = nanos(clock::boottime());
        let suspended = boot.since(nanos(clock::monotonic()));
        // splitmix64's step; nothing secret is made of it.
        let noise = self.noise.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.noise.set(noise);
        let random = (noise ^ (noise >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16;
        Now { boot, suspended, raw, real, spread: best, random }
    }

    pub(crate) fn watches_only(&self) -> bool {
        self.watch_only
    }

    /// The kernel's own view.
    pub(crate) fn state(&self) -> Option<State> {
        adjtime::read().ok()
    }

    pub(crate) fn is_synchronized(&self) -> bool {
        self.state().is_some_and(|state| state.status & STA_UNSYNC == 0)
    }

    /// Sets the clock; `false`: it was not set.
    pub(crate) fn step(&mut self, by: i64) -> bool {
        !self.watch_only && self.done(adjtime::step(by))
    }

    pub(crate) fn steer(&mut self, steering: &Steering) {
        if self.watch_only {
            return;
        }
        let steer = steer(steering);
        self.told = Some(super::boot());
        if self.done(adjtime::steer(&steer)) {
            // Once in a boot: what waits for a clock that is right goes on, and the clock is saved.
            let _ = minke_control::time::mark_synchronized("NTP");
        }
    }

    /// The clock is no longer known to be right.
    pub(crate) fn lost(&mut self) {
        self.told = None;
        if !self.watch_only {
            self.done(adjtime::tell(16_000_000, 16_000_000, STA_UNSYNC));
        }
    }

    /// When the kernel must hear of us next, in nanoseconds since boot.
    pub(crate) fn deadline(&self) -> Option<i64> {
        self.told.map(|told| told.after(REFRESH))
    }

    /// Tells the error bound anew, if that was long ago.
    pub(crate) fn refresh(&mut self, now: Now, client: &Client) {
        if self.told.is_none_or(|told| now.boot.since(told) < STALE) {
            return;
        }
        if !client.clock.is_synchronized(now) {
            return self.lost();
        }
        let steer = steer(&client.clock.steering(now, 0, &client.sources));
        self.told = Some(now.boot);
        self.done(adjtime::tell(steer.maxerror, steer.esterror, steer.status));
    }

    fn done(&mut self, result: minke_sys::Result<()>) -> bool {
        match result {
            Ok(()) => {
                self.complained = false;
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.complained, true) {
                    log::error(format_args!("{error}; is CAP_SYS_TIME there?"));
                }
                false
            }
        }
    }
}

/// In the kernel's units.
fn steer(steering: &Steering) -> Steer {
    let mut frequency = steering.frequency;
    let mut tick = TICK;
    // Ticks of 100 ppm, the rest by the loop.
    while frequency.abs() > MOST_FREQUENCY && (tick - TICK).abs() < 90 {
        let one = if frequency > 0.0 { 1 } else { -1 };
        tick += one;
        frequency -= one as f64 * 1e-4;
    }
    let micros = |seconds: f64| whole(seconds * 1e6).clamp(1, 15_999_999);
    Steer {
        offset: steering.offset,
        constant: steering.constant,
        freq: whole(frequency.clamp(-5e-4, 5e-4) * 1e6 * FREQ_PER_PPM as f64),
        tick,
        maxerror: micros(steering.maxerror),
        esterror: micros(steering.esterror),
        status: match steering.leap {
            Leap::Insert => STA_INS,
            Leap::Delete => STA_DEL,
            Leap::None | Leap::Unknown => 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_in_the_kernels_units() {
        let steering = |frequency: f64| Steering {
            offset: -5,
            constant: 2,
            frequency,
            maxerror: 0.01,
            esterror: 100.0,
            leap: Leap::Insert,
        };
        let small = steer(&steering(100e-6));
        assert_eq!((small.freq, small.tick, small.offset), (100 << 16, 10_000, -5));
        assert_eq!((small.maxerror, small.esterror, small.status), (10_000, 15_999_999, STA_INS));
        assert_eq!(steer(&Steering { leap: Leap::Delete, ..steering(0.0) }).status, STA_DEL);
        for ppm in [-700.0, 450.0, 500.0, 2000.0] {
            let large = steer(&steering(ppm * 1e-6));
            let sum = (large.tick - 10_000) as f64 * 100.0 + large.freq as f64 / 65536.0;
            assert!((sum - ppm).abs() < 1e-3 && large.freq.abs() <= 500 << 16, "{ppm} {large:?}");
        }
    }
}
