//! Which servers are right: the intersection algorithm and the clustering of RFC 5905 §11.2, and what the good ones say
//! together.

use super::filter::Estimate;

/// As many are kept when the others only add noise: NMIN of RFC 5905.
const LEAST_CLUSTER: usize = 3;

/// A server that could be right.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// Its place in the caller's list.
    pub(crate) index: usize,
    /// What it says of now.
    pub(crate) estimate: Estimate,
    /// The true offset lies so near, if the server is right: its root distance.
    pub(crate) distance: f64,
    /// Variance that all its answers share: from unequal ways there and back, and from its own error.
    pub(crate) bias: f64,
    /// It is to be preferred to others that are right too.
    pub(crate) prefer: bool,
    /// It weighed most the last time, and stays it until another is worth twice as much.
    pub(crate) favourite: bool,
}

/// What a server is found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The one that weighs most.
    Selected,
    /// Has a part in the result.
    Combined,
    /// Right, and left out.
    Outlier,
    /// Contradicts the majority.
    Falseticker,
}

/// The servers' common result.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    /// One for each candidate.
    pub(crate) verdicts: Vec<Verdict>,
    /// The candidate that weighs most.
    pub(crate) first: usize,
    /// What the good ones say together.
    pub(crate) estimate: Estimate,
    /// How many are right.
    pub(crate) truechimers: usize,
}

/// Judges; `None`: no majority agrees.
pub(crate) fn select(candidates: &[Candidate]) -> Option<Selection> {
    let (low, high) = intersection(candidates)?;
    let mut verdicts = Vec::with_capacity(candidates.len());
    let mut truechimers = 0usize;
    for one in candidates {
        let (from, to) = (one.estimate.offset - one.distance, one.estimate.offset + one.distance);
        let right = from <= high && to >= low;
        truechimers = truechimers.saturating_add(right.into());
        verdicts.push(if right { Verdict::Combined } else { Verdict::Falseticker });
    }
    let preferred =
        candidates.iter().zip(&verdicts).any(|(one, verdict)| one.prefer && *verdict == Verdict::Combined);
    if preferred {
        for (one, verdict) in candidates.iter().zip(&mut verdicts) {
            if !one.prefer && *verdict == Verdict::Combined {
                *verdict = Verdict::Outlier;
            }
        }
    }
    let mut estimate = combine(candidates, &verdicts)?;
    // Leave out, one by one, those that contradict what all say together more than their own uncertainty allows.
    while count(&verdicts) > LEAST_CLUSTER {
        let mut worst = (0.0, None);
        for (place, (one, verdict)) in candidates.iter().zip(&verdicts).enumerate() {
            let variance = one.estimate.offset_variance + one.bias;
            let away = one.estimate.offset - estimate.offset;
            let apart = one.estimate.frequency - estimate.frequency;
            let badness = (away * away / variance).max(apart * apart / one.estimate.frequency_variance);
            if *verdict == Verdict::Combined && badness > worst.0 {
                worst = (badness, Some(place));
            }
        }
        let (9.0.., Some(place)) = worst else { break };
        if let Some(verdict) = verdicts.get_mut(place) {
            *verdict = Verdict::Outlier;
        }
        estimate = combine(candidates, &verdicts)?;
    }
    let mut first = (f64::INFINITY, None);
    for (place, (one, verdict)) in candidates.iter().zip(&verdicts).enumerate() {
        let share = if one.favourite { 0.5 } else { 1.0 };
        let variance = share * (one.estimate.offset_variance + one.bias);
        if *verdict == Verdict::Combined && variance < first.0 {
            first = (variance, Some(place));
        }
    }
    let first = first.1?;
    if let Some(verdict) = verdicts.get_mut(first) {
        *verdict = Verdict::Selected;
    }
    Some(Selection { verdicts, first, estimate, truechimers })
}

fn count(verdicts: &[Verdict]) -> usize {
    verdicts.iter().filter(|verdict| **verdict == Verdict::Combined).count()
}

/// The smallest interval that holds a point of the most intervals, when those are more than half of all (Marzullo, as in
/// RFC 5905 §11.2.1, without its rule on midpoints, which discards good servers on unequal paths).
fn intersection(candidates: &[Candidate]) -> Option<(f64, f64)> {
    let mut edges: Vec<(f64, bool)> = Vec::with_capacity(candidates.len().saturating_mul(2));
    for one in candidates {
        for (at, ends) in
            [(one.estimate.offset - one.distance, false), (one.estimate.offset + one.distance, true)]
        {
            // Where one ends and another begins, they touch: beginnings first.
            let place = edges.partition_point(|edge| edge.0 < at || edge.0 == at && !edge.1);
            edges.insert(place, (at, ends));
        }
    }
    let (mut depth, mut most, mut found) = (0usize, 0usize, None);
    for (place, (at, ends)) in edges.iter().enumerate() {
        if *ends {
            depth = depth.saturating_sub(1);
            continue;
        }
        depth = depth.saturating_add(1);
        if depth > most {
            most = depth;
            // The next edge, which ends one of them or deepens the interval.
            found = edges.get(place.saturating_add(1)).map(|next| (*at, next.0));
        }
    }
    found.filter(|_| most.saturating_mul(2) > candidates.len())
}

/// All say the same two numbers, each with its own uncertainty: their information adds up. What they share, the
/// oscillator's wander, counts more than once, which makes the result a little too sure.
fn combine(candidates: &[Candidate], verdicts: &[Verdict]) -> Option<Estimate> {
    let (mut a, mut b, mut c, mut x, mut y, mut time) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    // Differences from one of them keep small numbers small.
    let mut base = None;
    for (one, verdict) in candidates.iter().zip(verdicts) {
        if *verdict != Verdict::Combined {
            continue;
        }
        let Estimate { offset, frequency, offset_variance, covariance, frequency_variance, .. } =
            one.estimate;
        let variance = offset_variance + one.bias;
        let determinant = variance * frequency_variance - covariance * covariance;
        if determinant.is_nan() || determinant <= 0.0 {
            continue;
        }
        let origin = *base.get_or_insert(offset);
        time = one.estimate.time;
        let (p, q, r) = (frequency_variance / determinant, -covariance / determinant, variance / determinant);
        a += p;
        b += q;
        c += r;
        x += p * (offset - origin) + q * frequency;
        y += q * (offset - origin) + r * frequency;
    }
    let determinant = a * c - b * b;
    if determinant.is_nan() || determinant <= 0.0 {
        return None;
    }
    Some(Estimate {
        time,
        offset: base? + (c * x - b * y) / determinant,
        frequency: (a * y - b * x) / determinant,
        offset_variance: c / determinant,
        covariance: -b / determinant,
        frequency_variance: a / determinant,
    })
}
