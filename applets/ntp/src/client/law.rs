//! What the delays of a server's answers say beyond their offsets.
//!
//! On its way there an answer's question is held up by u, on its way back the answer by v, beside a least delay that is
//! the same in both directions as far as anybody can know. If the clock's error along the window is a line, each line
//! gives all these delays, and a law of delay says how likely they are. Bounded delays know the line far better than
//! the mean of the offsets does: its error falls with 1/n and not with 1/√n.
//!
//! No law is taken for granted. Some compete, each with the parameters that suit it best, and the line is the mean over
//! what all of them say, weighed by how well they explain the delays: queues that are mostly empty (exponential, one mean
//! for both directions or one for each), delays between two bounds (uniform), and the sum of many causes (normal), for
//! which it is least squares.

use super::filter::{Estimate, Sample, square};

/// Fewer answers say nothing of their law.
const LEAST: usize = 8;
/// What a law must explain the delays better by than the normal one, as a logarithm: with few answers all laws fit.
const DOUBT: f64 = 4.0;
/// The same where each direction has its own mean, which fits better by itself.
const MORE_DOUBT: f64 = 6.0;
/// Points of the grid to each side of its centre.
const REACH: i8 = 4;
/// Distance of the grid's points in standard deviations.
const STEP: f64 = 0.75;
/// The grid is laid anew around what it showed until it is fine enough, at most so often.
const PASSES: u8 = 8;
/// Answers older than this, in seconds, are left to the offsets: where servers are asked seldom, the oscillator's wander
/// decides and not the delays.
const SPAN: f64 = 7200.0;
/// Delays that vary less than this, in seconds, are the same.
const FINEST: f64 = 5e-6;

/// An answer, beside a line.
struct Delays {
    /// Seconds since the line's origin.
    since: f64,
    /// Half the round trip with the offset from the line, and without it: delay there, delay back.
    there: f64,
    back: f64,
}

/// Offset and frequency of the clock's error, relative to the line that all begins with, and how sure they are.
struct Line {
    offset: f64,
    frequency: f64,
    offset_variance: f64,
    covariance: f64,
    frequency_variance: f64,
}

/// What the samples' delays say at the time of `known`, which is what their offsets say. `ignored`: a bit for each sample
/// that is not to be believed. `prior`: frequency and variance before the first sample. `wander`: variance by which the
/// frequency changes in a second. `None`: too few answers for a line.
pub(crate) fn refine(
    samples: &[Sample],
    ignored: u64,
    prior: (f64, f64),
    wander: f64,
    known: &Estimate,
) -> Option<Estimate> {
    let delays = window(samples, ignored, wander, known);
    let count = delays.len() as f64;
    let span = -delays.last()?.since;
    if delays.len() < LEAST || span <= 0.0 {
        return None;
    }
    let mut mean = 0.0;
    let mut least = f64::INFINITY;
    for one in &delays {
        mean += (one.there + one.back) / count;
        least = least.min(one.there + one.back);
    }
    // The grid holds every line that the delays allow.
    let wide = (square((mean - least) / 4.0) / known.offset_variance).max(1.0);
    let mut line = Line {
        offset: 0.0,
        frequency: 0.0,
        offset_variance: known.offset_variance * wide,
        covariance: known.covariance * wide,
        frequency_variance: known.frequency_variance * wide,
    };
    let prior = (prior.0 - known.frequency, prior.1 + wander * span);
    for _ in 0..PASSES {
        let before = (line.offset_variance, line.frequency_variance);
        line = improve(&line, &delays, prior)?;
        if line.offset_variance > before.0 / 2.0 && line.frequency_variance > before.1 / 2.0 {
            break;
        }
    }
    // That a wandering clock's error is no line.
    Some(Estimate {
        time: known.time,
        offset: known.offset + line.offset,
        frequency: known.frequency + line.frequency,
        offset_variance: line.offset_variance + wander * span * span * span / 4.0,
        covariance: line.covariance + wander * span * span / 2.0,
        frequency_variance: line.frequency_variance + wander * span,
    })
}

/// The answers beside the line of `known`, the newest first, as far back as the oscillator's wander hides less than so
/// many answers show.
fn window(samples: &[Sample], ignored: u64, wander: f64, known: &Estimate) -> Vec<Delays> {
    let mut delays: Vec<Delays> = Vec::with_capacity(samples.len());
    let (mut sum, mut least) = (0.0, f64::INFINITY);
    for (place, sample) in samples.iter().enumerate().rev() {
        if ignored >> (place & 63) & 1 != 0 {
            continue;
        }
        let since = sample.time - known.time;
        let offset = sample.offset - known.offset - known.frequency * since;
        let half = sample.delay / 2.0;
        sum += half;
        least = half.min(least);
        let count = delays.len() as f64 + 1.0;
        let shown = (sum / count - least + FINEST) / count;
        if since < -SPAN || wander * (-since * since * since) / 3.0 > square(shown) / 4.0 {
            break;
        }
        delays.push(Delays { since, there: half + offset, back: half - offset });
    }
    delays
}

/// Mean and variances of the lines around `line`, each as likely as the laws find it.
fn improve(line: &Line, delays: &[Delays], prior: (f64, f64)) -> Option<Line> {
    // Grid axes: of the offset, and of the frequency that does not go with it.
    let scale = line.offset_variance.sqrt();
    let slope = line.covariance / scale;
    let rest = (line.frequency_variance - slope * slope).max(0.01 * line.frequency_variance).sqrt();
    let mut points = Vec::with_capacity(81);
    let mut best = f64::NEG_INFINITY;
    for x in -REACH..=REACH {
        for y in -REACH..=REACH {
            let (x, y) = (f64::from(x) * STEP, f64::from(y) * STEP);
            let (offset, frequency) = (line.offset + scale * x, line.frequency + slope * x + rest * y);
            let likely =
                likelihood(delays, offset, frequency) - square(frequency - prior.0) / (2.0 * prior.1);
            best = likely.max(best);
            points.push((offset, frequency, likely));
        }
    }
    let (mut weight, mut offset, mut frequency) = (0.0, 0.0, 0.0);
    for (one, other, likely) in &mut points {
        *likely = exp(*likely - best);
        weight += *likely;
        offset += *likely * *one;
        frequency += *likely * *other;
    }
    offset /= weight;
    frequency /= weight;
    // A point's surroundings are as wide as the grid is coarse.
    let own = 0.16 * square(STEP);
    let (mut of_offset, mut of_both, mut of_frequency) = (0.0, 0.0, 0.0);
    for (one, other, likely) in points {
        let share = likely / weight;
        of_offset += share * square(one - offset);
        of_both += share * (one - offset) * (other - frequency);
        of_frequency += share * square(other - frequency);
    }
    let of_offset = of_offset.max(own * line.offset_variance);
    let of_frequency = of_frequency.max(own * line.frequency_variance);
    let most = 0.98 * (of_offset * of_frequency).sqrt();
    let found = offset.is_finite() && frequency.is_finite() && of_offset > 0.0 && of_frequency > 0.0;
    found.then_some(Line {
        offset,
        frequency,
        offset_variance: of_offset,
        covariance: of_both.clamp(-most, most),
        frequency_variance: of_frequency,
    })
}

/// How likely the delays are if this is the clock's error, as a logarithm: by all laws together, each with the location
/// and scale that make it most likely.
fn likelihood(delays: &[Delays], offset: f64, frequency: f64) -> f64 {
    let count = delays.len() as f64;
    let (mut least, mut most, mut there_sum, mut back_sum, mut squares) =
        (f64::INFINITY, f64::NEG_INFINITY, 0.0, 0.0, 0.0);
    for one in delays {
        let error = offset + frequency * one.since;
        let (there, back) = (one.there - error, one.back + error);
        least = least.min(there).min(back);
        most = most.max(there).max(back);
        there_sum += there;
        back_sum += back;
        squares += there * there + back * back;
    }
    let (there, back) = (there_sum / count, back_sum / count);
    let mean = f64::midpoint(there, back);
    let variance = (squares / (2.0 * count) - mean * mean).max(0.0) + FINEST * FINEST;
    let scale = |excess: f64| ln(excess + FINEST) + 1.0;
    let laws = [
        // 1.4189 is ln(2πe) / 2.
        -count * (ln(variance) + 2.0 * 1.4189),
        -2.0 * count * ln(most - least + FINEST) - DOUBT,
        -2.0 * count * scale(mean - least) - DOUBT,
        -count * (scale(there - least) + scale(back - least)) - MORE_DOUBT,
    ];
    let best = laws.iter().fold(f64::NEG_INFINITY, |best, law| law.max(best));
    let mut sum = 0.0;
    for law in laws {
        sum += exp(law - best);
    }
    best + ln(sum)
}

/// The natural logarithm of a positive number, within 10⁻⁵: exponent, and a series for the mantissa.
fn ln(value: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    let bits = value.to_bits();
    let exponent = (bits >> 52) as f64 - 1023.0;
    // From 1 to 2, compared with √2.
    let mantissa = f64::from_bits(bits & MANTISSA | 1023 << 52) / std::f64::consts::SQRT_2;
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let t = s * s;
    (exponent + 0.5) * std::f64::consts::LN_2 + 2.0 * s * (1.0 + t * (1.0 / 3.0 + t * (0.2 + t / 7.0)))
}

/// e to a power of at most 0, within a few percent where it matters.
fn exp(power: f64) -> f64 {
    let mut value = (1.0 + power / 4096.0).max(0.0);
    for _ in 0..12 {
        value *= value;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_and_powers_are_near_enough() {
        for value in [1e-9, 0.3, 1.0, 1.999, 2.0, 1234.5] {
            assert!((ln(value) - value.ln()).abs() < 1e-5, "{value}: {}", ln(value));
        }
        for power in [-0.0, -0.5, -3.0, -12.0] {
            assert!((exp(power) / power.exp() - 1.0).abs() < 0.05, "{power}: {}", exp(power));
        }
        assert_eq!(exp(-1e9), 0.0);
    }
}
