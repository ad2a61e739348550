//! The oscillator and the kernel's clock.

use super::{Now, SECOND, now_of};
use crate::client::Steering;

/// Seeded noise (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -(1.0 - self.uniform()).ln()
    }

    /// Mean 0, variance 1.
    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// True time, the oscillator, and the clock that the kernel makes of it.
#[derive(Debug, Clone)]
pub(crate) struct World {
    /// Nanoseconds since 1970.
    pub(crate) time: i64,
    /// When it began, in seconds.
    pub(crate) began: f64,
    pub(crate) random: Random,
    /// By which share the oscillator is fast, and the variance of its walk in a second.
    pub(crate) fast: f64,
    pub(crate) wander: f64,
    /// Changes of the frequency: from which second of the run, by how much, within how many seconds.
    pub(crate) warmths: Vec<(f64, f64, f64)>,
    raw: i64,
    raw_rest: f64,
    suspended: i64,
    /// The clock, in nanoseconds since 1970.
    real: i64,
    real_rest: f64,
    /// The kernel's NTP state: frequency, what is left to work off (in nanoseconds), the exponent of its share, and what is
    /// worked off in this second of the clock.
    frequency: f64,
    left: f64,
    constant: i64,
    chunk: f64,
}

impl World {
    /// An oscillator that is fast by a share, and a clock that is ahead by seconds.
    pub(crate) fn new(seed: u64, fast: f64, wander: f64, ahead: f64) -> Self {
        let time = 1_795_219_200 * SECOND + 123_456_789;
        Self {
            time,
            began: time as f64 * 1e-9,
            random: Random(seed),
            fast,
            wander,
            warmths: Vec::new(),
            raw: 10 * SECOND,
            raw_rest: 0.0,
            suspended: 0,
            real: time + (ahead * 1e9) as i64,
            real_rest: 0.0,
            frequency: 0.0,
            left: 0.0,
            constant: 0,
            chunk: 0.0,
        }
    }

    pub(crate) fn time(&self) -> i64 {
        self.time
    }

    pub(crate) fn now(&mut self) -> Now {
        now_of(self.raw, self.suspended, self.real, self.random.next())
    }

    /// The clock's error in seconds.
    pub(crate) fn error(&self) -> f64 {
        (self.real - self.time) as f64 * 1e-9
    }

    pub(crate) fn step(&mut self, by: i64) {
        self.real += by;
    }

    /// As adjtimex does it (kernel/time/ntp.c): the new offset is worked off from the next second on.
    pub(crate) fn steer(&mut self, steering: &Steering) {
        assert!(steering.offset.abs() <= SECOND / 2);
        assert!(steering.frequency.abs() < 5e-4, "{steering:?}");
        // The kernel counts in 2^-16 ppm.
        self.frequency = (steering.frequency * 1e6 * 65536.0).trunc() / 65536.0 * 1e-6;
        self.left = steering.offset as f64;
        self.constant = steering.constant;
    }

    /// The machine sleeps: the clock goes on by another, coarser one.
    pub(crate) fn suspend(&mut self, seconds: i64, wrong: f64) {
        self.time += seconds * SECOND;
        self.suspended += seconds * SECOND;
        self.real += seconds * SECOND + (wrong * 1e9) as i64;
    }

    /// Lets true time pass until `at`.
    pub(crate) fn advance(&mut self, at: i64) {
        while self.time < at {
            let span = (at - self.time).min(8 * SECOND);
            let seconds = span as f64 * 1e-9;
            let since = self.time as f64 * 1e-9 - self.began;
            for (from, by, within) in &self.warmths {
                let done = |at: f64| ((at - from) / within).clamp(0.0, 1.0);
                self.fast += by * (done(since + seconds) - done(since));
            }
            let noise = (self.wander * seconds).sqrt() * self.random.normal();
            self.fast += noise;
            self.tick(span as f64 * (1.0 + self.fast));
            self.time += span;
        }
    }

    /// The oscillator counts nanoseconds.
    fn tick(&mut self, mut nanos: f64) {
        while nanos > 0.0 {
            let rate = 1.0 + self.frequency + self.chunk * 1e-9;
            let idle = self.left.abs() < 1e-3 && self.chunk.abs() < 1e-3;
            let to_second = ((SECOND - self.real.rem_euclid(SECOND)) as f64 - self.real_rest) / rate;
            let span = if idle { nanos } else { nanos.min(to_second) };
            add(&mut self.raw, &mut self.raw_rest, span);
            add(&mut self.real, &mut self.real_rest, span * rate);
            nanos -= span;
            if !idle && span == to_second {
                self.chunk = self.left / f64::from(1u32 << (2 + self.constant));
                self.left -= self.chunk;
                // Never twice for the same second.
                self.real += i64::from(self.real.rem_euclid(SECOND) > SECOND / 2);
            }
        }
    }
}

fn add(whole: &mut i64, rest: &mut f64, nanos: f64) {
    let sum = *rest + nanos;
    let floor = sum.floor();
    *whole += floor as i64;
    *rest = sum - floor;
}
