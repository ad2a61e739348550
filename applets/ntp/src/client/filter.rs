//! What one server's answers say about the oscillator: its offset, its frequency, and how sure that is.
//!
//! Times are counted on the bare oscillator (`CLOCK_MONOTONIC_RAW`), which nobody steers: so corrections of the clock
//! never show in the samples, and the estimate needs no history of them.
//!
//! The last answers are played through a Kalman filter again whenever one arrives. The state is the offset, the
//! frequency, and how much of an answer's excess delay stands in its offset: 0 when both directions are equally jammed,
//! ±1/2 when it is one of them. An excess x = delay − least delay lets an offset be wrong by at most x/2, by x/√12
//! (standard deviation) when nothing else is known; what really follows from x on this path is learned from how
//! wrong predictions were. As the least delay may be found late, all is weighed anew each time.

use super::law;

/// How many answers of a server are kept, at most the bits of a word.
pub(crate) const WINDOW: usize = 64;
/// Random walk of the phase in s²/s: 1 ns in a second, what reading clocks costs.
const PHASE_NOISE: f64 = 1e-18;
/// An innovation beyond this many standard deviations, squared, is an outlier.
const OUTLIER: f64 = 16.0;
/// As many outliers in a row, to the same side, are no accident: something jumped.
const JUMP: usize = 3;
/// Variance of the share of the excess delay before anything is known.
const SHARE: f64 = 0.005;

/// One answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    /// When, in seconds of the oscillator: halfway between question and answer.
    pub(crate) time: f64,
    /// The server's time less the oscillator's, in seconds from a common base.
    pub(crate) offset: f64,
    /// Round trip without the server's part, in seconds.
    pub(crate) delay: f64,
    /// How far the stamps alone may be wrong, in seconds.
    pub(crate) precision: f64,
}

/// What is known at one time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Estimate {
    /// When, in seconds of the oscillator.
    pub(crate) time: f64,
    /// True time less the oscillator's, in seconds.
    pub(crate) offset: f64,
    /// How fast that grows; positive when the oscillator is slow.
    pub(crate) frequency: f64,
    /// Variance of the offset.
    pub(crate) offset_variance: f64,
    /// Covariance of the two.
    pub(crate) covariance: f64,
    /// Variance of the frequency.
    pub(crate) frequency_variance: f64,
}

impl Estimate {
    /// What is known of a later time, when the oscillator's frequency wanders by a variance of `wander` a second.
    pub(crate) fn at(&self, time: f64, wander: f64) -> Self {
        let dt = time - self.time;
        let noise = wander * dt.abs();
        Self {
            time,
            offset: self.offset + self.frequency * dt,
            frequency: self.frequency,
            offset_variance: self.offset_variance
                + 2.0 * dt * self.covariance
                + dt * dt * (self.frequency_variance + noise / 3.0)
                + PHASE_NOISE * dt.abs(),
            covariance: self.covariance + dt * (self.frequency_variance + noise / 2.0),
            frequency_variance: self.frequency_variance + noise,
        }
    }
}

/// What excess delays do to offsets on one path. At first x²/12 beside what the path's delay lets expect, as above; that times
/// a factor that is learned for each class of excess: below half of the mean excess, below the mean, below 1.5 of it, and
/// above. So no law is taken for granted: where delays vary like a bell, all answers are worth the same; where they vary
/// evenly, those with the greatest delay are as precise as those with the least.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Jitter {
    factors: [f64; 4],
}

impl Jitter {
    const UNKNOWN: Self = Self { factors: [1.0; 4] };
}

/// The path as the window shows it.
#[derive(Debug, Clone, Copy)]
struct Path {
    /// Least delay, and how far the true least one may lie below it.
    least: f64,
    hidden: f64,
    /// Mean excess.
    mean: f64,
    /// Variance that is expected of any answer: from 2 % of the delay, and 20 µs.
    floor: f64,
}

impl Path {
    fn of(samples: &[Sample]) -> Self {
        let first = samples.first().map_or(0.0, |sample| sample.delay);
        let least = samples.iter().fold(first, |least, sample| least.min(sample.delay));
        let mut sum = 0.0;
        for sample in samples {
            sum += sample.delay - least;
        }
        let count = (samples.len() as f64).max(1.0);
        // The true least delay lies below the least of a few. Of n sums of two random delays the least exceeds the true
        // one by about the mean excess / √n.
        let hidden = if samples.len() < 2 { 0.1 * least } else { 0.6 * sum / (count * count.sqrt()) };
        Self { least, hidden, mean: sum / count, floor: square(0.02 * least + 2e-5) }
    }

    /// What is expected of an answer with this excess at first.
    fn law(&self, excess: f64) -> f64 {
        self.floor + square(excess + self.hidden) / 12.0
    }

    fn class(&self, excess: f64) -> usize {
        // A cast saturates; 0 by 0 is 0.
        ((2.0 * excess / self.mean) as usize).min(3)
    }
}

/// The answers of one server.
#[derive(Debug)]
pub(crate) struct Filter {
    samples: Vec<Sample>,
    jitter: Jitter,
    deviation: f64,
    /// Least delay among the samples.
    least: f64,
    /// Of the frequency before the first sample.
    prior: (f64, f64),
    estimate: Option<Estimate>,
    /// Outliers at the end of the window.
    outliers: usize,
}

/// What one pass over the window found.
struct Pass {
    estimate: Estimate,
    /// −2 log of the likelihood, less what does not depend on the wander.
    cost: f64,
    /// Outliers to the same side at the end.
    outliers: usize,
    /// All outliers, a bit each.
    ignored: u64,
    /// What was known before the first of them.
    before: Estimate,
    jitter: Jitter,
    deviation: f64,
}

impl Filter {
    /// Without answers; of the frequency this value is expected with this variance.
    pub(crate) fn new(frequency: f64, variance: f64) -> Self {
        Self {
            samples: Vec::new(),
            jitter: Jitter::UNKNOWN,
            deviation: 0.0,
            least: 0.0,
            prior: (frequency, variance),
            estimate: None,
            outliers: 0,
        }
    }

    /// Forgets the answers; what they said of the frequency may be kept as `frequency` with `variance`.
    pub(crate) fn restart(&mut self, frequency: f64, variance: f64) {
        *self = Self::new(frequency, variance);
    }

    /// The estimate after the last answer.
    pub(crate) fn estimate(&self) -> Option<&Estimate> {
        self.estimate.as_ref()
    }

    /// The answers.
    pub(crate) fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The least delay among the answers, in seconds.
    pub(crate) fn least_delay(&self) -> f64 {
        self.least
    }

    /// Standard deviation of its answers' offsets, in seconds.
    pub(crate) fn deviation(&self) -> f64 {
        self.deviation
    }

    /// Whether the last answer contradicts the ones before it.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.outliers > 0
    }

    /// All offsets are counted from another base from now on, which is later by `by` seconds.
    pub(crate) fn rebase(&mut self, by: f64) {
        for sample in &mut self.samples {
            sample.offset -= by;
        }
        if let Some(estimate) = &mut self.estimate {
            estimate.offset -= by;
        }
    }

    /// Takes an answer in. `wander` is the variance by which the frequency changes in a second. `true`: the time
    /// jumped, and the answers before the jump are forgotten.
    pub(crate) fn add(&mut self, sample: Sample, wander: f64) -> bool {
        if self.samples.len() >= WINDOW {
            self.samples.remove(0);
        }
        self.samples.push(sample);
        let Some(pass) = self.play(wander) else { return false };
        let jumped = pass.outliers >= JUMP && self.samples.len() > pass.outliers;
        if jumped {
            // A jump of the phase, or the frequency changed while nobody looked.
            let first = self.samples.len().saturating_sub(pass.outliers);
            let start = self.samples.get(first).copied().unwrap_or(sample);
            let known = pass.before.at(start.time, wander);
            let rate = (start.offset - known.offset) / (start.time - pass.before.time).max(1.0);
            self.prior = (known.frequency, known.frequency_variance + rate * rate);
            self.samples.drain(..first);
        }
        let Some(pass) = (if jumped { self.play(wander) } else { Some(pass) }) else { return false };
        self.outliers = pass.outliers;
        self.estimate = Some(self.refined(&pass, wander));
        self.jitter = pass.jitter;
        self.deviation = pass.deviation;
        jumped
    }

    /// How badly a wander explains the answers; only comparisons mean something.
    pub(crate) fn cost(&mut self, wander: f64) -> f64 {
        self.play(wander).map_or(0.0, |pass| pass.cost)
    }

    /// Estimates anew with another wander.
    pub(crate) fn replay(&mut self, wander: f64) {
        if let Some(pass) = self.play(wander) {
            self.estimate = Some(self.refined(&pass, wander));
        }
    }

    fn refined(&self, pass: &Pass, wander: f64) -> Estimate {
        law::refine(&self.samples, pass.ignored, self.prior, wander, &pass.estimate).unwrap_or(pass.estimate)
    }

    fn play(&mut self, wander: f64) -> Option<Pass> {
        let path = Path::of(&self.samples);
        let (first, rest) = self.samples.split_first()?;
        self.least = path.least;
        let jitter = self.jitter;
        let noise = |excess: f64| {
            let factor = jitter.factors.get(path.class(excess)).copied().unwrap_or(1.0);
            factor * path.law(excess)
        };
        let mut learn = Learn { weights: [0.0; 4], sums: [0.0; 4] };
        let excess = first.delay - self.least;
        let (frequency, variance) = self.prior;
        let mut noises = noise(excess);
        let mut state = Estimate {
            time: first.time,
            offset: first.offset,
            frequency,
            offset_variance: noises + square(first.precision) + square(excess) * SHARE,
            covariance: 0.0,
            frequency_variance: variance,
        };
        // The share of the excess: value, variance, covariance with offset and frequency.
        let mut share = 0.0;
        let (mut share_variance, mut share_offset, mut share_frequency) = (SHARE, -excess * SHARE, 0.0);
        let (mut cost, mut outliers, mut before, mut side) = (0.0, 0usize, state, false);
        let mut ignored = 0u64;
        for (place, sample) in rest.iter().enumerate() {
            let dt = sample.time - state.time;
            let next = state.at(sample.time, wander);
            share_offset += share_frequency * dt;
            let excess = sample.delay - self.least;
            let error = sample.offset - (next.offset + share * excess);
            // What the state's parts have to do with the prediction.
            let gain = [
                next.offset_variance + excess * share_offset,
                next.covariance + excess * share_frequency,
                share_offset + excess * share_variance,
            ];
            let [on_offset, on_frequency, on_share] = gain;
            let predicted = on_offset + excess * on_share;
            let own = noise(excess);
            noises += own;
            let expected = predicted + own + square(sample.precision);
            let squared = square(error);
            let mut total = expected;
            if squared > OUTLIER * expected {
                if outliers == 0 {
                    before = state;
                }
                outliers = if outliers > 0 && side == (error > 0.0) { outliers.saturating_add(1) } else { 1 };
                side = error > 0.0;
                // The first sample is not among these.
                ignored |= 2 << (place & 63);
                // It counts as little as if it were three standard deviations away.
                total = squared / 9.0;
                cost += OUTLIER;
            } else {
                outliers = 0;
                cost += squared / expected + 0.69 * log2(expected);
                let seen = squared - predicted - square(sample.precision);
                learn.add(path.class(excess), seen / path.law(excess), square(own / expected));
            }
            let weight = 1.0 / total;
            state = Estimate {
                time: sample.time,
                offset: next.offset + on_offset * weight * error,
                frequency: next.frequency + on_frequency * weight * error,
                offset_variance: next.offset_variance - on_offset * on_offset * weight,
                covariance: next.covariance - on_offset * on_frequency * weight,
                frequency_variance: next.frequency_variance - on_frequency * on_frequency * weight,
            };
            share += on_share * weight * error;
            share_offset -= on_offset * on_share * weight;
            share_frequency -= on_frequency * on_share * weight;
            share_variance -= on_share * on_share * weight;
        }
        let deviation = (noises / self.samples.len() as f64).sqrt();
        Some(Pass { estimate: state, cost, outliers, ignored, before, jitter: learn.result(), deviation })
    }
}

/// What was seen of each class, held by the law as if it had been seen a few times.
struct Learn {
    weights: [f64; 4],
    sums: [f64; 4],
}

/// So many answers weigh as much as the law.
const HELD: f64 = 4.0;

impl Learn {
    /// `seen`: what the squared error had beyond the prediction's own, as a multiple of the law; `weight`: how much of the
    /// expected error was the answer's own.
    fn add(&mut self, class: usize, seen: f64, weight: f64) {
        if let (Some(weights), Some(sum)) = (self.weights.get_mut(class), self.sums.get_mut(class)) {
            *weights += weight;
            *sum += weight * seen;
        }
    }

    fn result(&self) -> Jitter {
        let mut jitter = Jitter::UNKNOWN;
        for (factor, (weight, sum)) in jitter.factors.iter_mut().zip(self.weights.iter().zip(&self.sums)) {
            *factor = ((HELD + sum) / (HELD + weight)).clamp(0.01, 100.0);
        }
        jitter
    }
}

pub(crate) fn square(value: f64) -> f64 {
    value * value
}

/// The binary logarithm within 0.09, by the number's own format: exponent and, linearly, mantissa.
fn log2(value: f64) -> f64 {
    value.to_bits() as f64 / (1u64 << 52) as f64 - 1023.0
}
