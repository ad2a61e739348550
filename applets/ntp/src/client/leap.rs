//! Leap seconds: whom to believe, and when the kernel hears of it.

use super::select::Verdict;
use super::source::{SECOND, Source};
use crate::nanos::Nanos;
use minke_wire::civil::Civil;
use minke_wire::ntp::Leap;

/// How long before the leap the kernel hears of it, in seconds.
const LEAP_NOTICE: i64 = 12 * 3600;

fn is_good(source: &Source) -> bool {
    matches!(source.verdict, Some(Verdict::Selected | Verdict::Combined))
}

/// What most of the good servers announce.
pub(super) fn announced(sources: &[Source]) -> Leap {
    let mut votes = (0usize, 0usize, 0usize);
    for source in sources.iter().filter(|source| is_good(source)) {
        votes.0 = votes.0.saturating_add(1);
        match source.last.map(|last| last.packet.leap) {
            Some(Leap::Insert) => votes.1 = votes.1.saturating_add(1),
            Some(Leap::Delete) => votes.2 = votes.2.saturating_add(1),
            _ => {}
        }
    }
    let (all, insert, delete) = votes;
    if insert.saturating_mul(2) > all {
        Leap::Insert
    } else if delete.saturating_mul(2) > all {
        Leap::Delete
    } else {
        Leap::None
    }
}

/// The kernel leaps at the end of the day on which it was told: so it is told in the last hours of June and December,
/// when leap seconds happen.
pub(super) fn due(leap: Leap, real: i64) -> Leap {
    let later = real.after(LEAP_NOTICE.saturating_mul(SECOND)).div_euclid(SECOND);
    let date = Civil::from_unix(later);
    let today = Civil::from_unix(real.div_euclid(SECOND));
    let due = date.day == 1 && today.day != 1 && matches!(date.month, 1 | 7);
    if due { leap } else { Leap::None }
}
