//! What was learned of the oscillator, kept for the next run: `drift`, in chrony's format: the frequency and how far it
//! may be wrong, in parts per million.
//!
//! The file is replaced whole (`minke_sys::file::write_durable`): a power cut leaves the former or the new one.

use minke_applet::log;
use minke_sys::file;
use minke_wire::text;
use std::path::{Path, PathBuf};

/// Between two writes, in nanoseconds.
const PAUSE: i64 = 3600 * 1_000_000_000;
/// Smaller changes are not worth a write: what a few degrees do.
const CHANGE: f64 = 0.05e-6;
/// What is known worse than this is not worth keeping.
const WORST: f64 = 5e-6;

#[derive(Debug)]
pub(crate) struct Drift {
    path: PathBuf,
    /// What the file says, and when it was looked at whether to write it.
    kept: Option<(f64, f64)>,
    looked: i64,
}

impl Drift {
    pub(crate) fn new(folder: &Path) -> Self {
        let path = folder.join("drift");
        let kept = parse(&file::text(&path));
        Self { path, kept, looked: super::boot() }
    }

    /// Frequency and standard deviation as they were kept; a damaged file counts as none.
    pub(crate) fn read(&self) -> Option<(f64, f64)> {
        self.kept
    }

    /// Writes what is known, now and then.
    pub(crate) fn note(&mut self, now: i64, drift: (f64, f64), synchronized: bool) {
        if synchronized && now.saturating_sub(self.looked) >= PAUSE {
            self.looked = now;
            self.write(drift);
        }
    }

    /// Writes what is known, if it is worth it.
    pub(crate) fn write(&mut self, drift: (f64, f64)) {
        let (frequency, deviation) = drift;
        let same = |kept: (f64, f64)| (kept.0 - frequency).abs() < CHANGE && deviation > 0.5 * kept.1;
        if deviation > WORST || self.kept.is_some_and(same) {
            return;
        }
        match file::write_durable(&self.path, format(drift).as_bytes(), 0o644) {
            Ok(()) => self.kept = Some(drift),
            Err(error) => {
                log::warn(format_args!("{error}; the frequency will be learned anew after a restart"));
            }
        }
    }
}

fn format((frequency, deviation): (f64, f64)) -> String {
    let ppm = |value: f64| {
        // Millionths of a millionth.
        let count = crate::nanos::whole(value * 1e12);
        let sign = if count < 0 { "-" } else { "" };
        let count = count.unsigned_abs();
        format!("{sign}{}.{:06}", count / 1_000_000, count % 1_000_000)
    };
    // chrony counts how fast the clock is, not what makes up for it.
    format!("{:>20} {:>20}\n", ppm(-frequency), ppm(deviation))
}

fn parse(content: &str) -> Option<(f64, f64)> {
    let mut words = content.split_ascii_whitespace();
    let ppm = |word: &str| {
        let (whole, part) = text::split_once(word, ".").unwrap_or((word, "0"));
        let negative = whole.starts_with('-');
        let whole: i32 = text::number(whole)?;
        let mut value = f64::from(whole.checked_abs()?);
        let mut unit = 0.1;
        for digit in part.bytes().take(9) {
            value += f64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?) * unit;
            unit *= 0.1;
        }
        Some(if negative { -value } else { value } * 1e-6)
    };
    let (frequency, deviation) = (ppm(words.next()?)?, ppm(words.next()?)?);
    // What no oscillator has is not believed.
    (frequency.abs() <= 1e-3 && (0.0..=1e-3).contains(&deviation)).then_some((-frequency, deviation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for (frequency, deviation) in
            [(12.345_678e-6, 0.123_456e-6), (-0.5e-6, 0.0), (-99.999_999e-6, 3e-6), (0.0, 1e-6)]
        {
            let read = parse(&format((frequency, deviation))).unwrap();
            assert!(
                (read.0 - frequency).abs() < 2e-12 && (read.1 - deviation).abs() < 2e-12,
                "{frequency} {read:?}"
            );
        }
        let chrony = parse("           -17.823471             0.008762\n").unwrap();
        assert!((chrony.0 - 17.823_471e-6).abs() < 1e-12, "{chrony:?}");
    }

    #[test]
    fn damaged_files_count_as_none() {
        for content in [
            "",
            "1",
            "1 x",
            "\0\0 \0",
            "5000 1",
            "1 -1",
            "1e5 1",
            "1..2 3",
            "nan nan",
            "2147483649 1",
            "-2147483648 1",
        ] {
            assert_eq!(parse(content), None, "{content:?}");
        }
    }

    #[test]
    fn only_changes_are_written() {
        let folder = std::env::temp_dir().join(format!("minke-drift-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut drift = Drift::new(&folder);
        assert_eq!(drift.read(), None);
        drift.write((1e-5, 1e-5));
        assert!(!folder.join("drift").exists(), "too vague");
        drift.write((1e-5, 1e-7));
        let first = std::fs::read_to_string(folder.join("drift")).unwrap();
        drift.write((1.001e-5, 1e-7));
        assert_eq!(std::fs::read_to_string(folder.join("drift")).unwrap(), first);
        drift.write((1.1e-5, 1e-7));
        let second = Drift::new(&folder).read().unwrap();
        assert!((second.0 - 1.1e-5).abs() < 1e-12);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
