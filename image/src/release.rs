//! What is built: one version of the system for one architecture, and how it names itself.

use crate::arch::Arch;
use crate::error::{Error, Result};

/// The version of balenaOS whose behaviour the image has (spec os §18.1): cloud and supervisor decide by it.
pub const OS_VERSION: &str = "8.0.2";

/// Longest version; it is part of an image's tag.
const MAX_VERSION: usize = 64;

/// One version for one architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Architecture.
    pub arch: Arch,
    /// Development image: console, root shell, developmentMode.
    pub development: bool,
    /// The operating system's version, [`OS_VERSION`] when nobody says.
    pub version: String,
    /// Build stamp, seconds since 1970.
    pub stamp: u64,
}

/// Checks a version that a person gives: numbers and words with the separators of semantic versions.
pub fn version(text: &str) -> Result<String> {
    let good = |character: char| character.is_ascii_alphanumeric() || ".+-_~".contains(character);
    let starts = text.starts_with(|first: char| first.is_ascii_digit());
    if starts && text.len() <= MAX_VERSION && text.chars().all(good) {
        return Ok(text.to_owned());
    }
    Err(Error::Usage(format!("'{text}' is no version; one looks like {OS_VERSION} or {OS_VERSION}+rev1")))
}

impl Release {
    /// `/etc/os-release` (spec os §18.1); minke's own version is one more key.
    pub fn os_release(&self) -> String {
        let text = self.os_release_lines().map(|(key, value)| format!("{key}=\"{value}\"\n"));
        text.collect()
    }

    /// The lines of `/etc/os-release`, without the quotation marks that values have there.
    pub fn os_release_lines(&self) -> impl Iterator<Item = (&'static str, String)> {
        let version = &self.version;
        [
            ("ID", "balena-os".to_owned()),
            ("NAME", "balenaOS".to_owned()),
            ("VERSION", version.clone()),
            ("VERSION_ID", version.clone()),
            ("PRETTY_NAME", format!("balenaOS {version}")),
            ("DISTRO_CODENAME", "minke".to_owned()),
            ("MACHINE", self.arch.device_type().to_owned()),
            ("META_BALENA_VERSION", version.clone()),
            ("SLUG", self.arch.device_type().to_owned()),
            ("MINKE_VERSION", env!("CARGO_PKG_VERSION").to_owned()),
        ]
        .into_iter()
    }

    /// `/etc/issue`.
    pub fn issue(&self) -> String {
        format!("balenaOS {} (minke {})\n\n", self.version, env!("CARGO_PKG_VERSION"))
    }

    /// `/etc/build` and `image-version-info`: what the image was made from.
    pub fn build_information(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "minke {version}\narchitecture {}\nbuild time {}\n",
            self.arch.name(),
            stamp_digits(self.stamp)
        )
    }

    /// The build stamp as `/etc/timestamp` has it.
    pub fn stamp_digits(&self) -> String {
        stamp_digits(self.stamp)
    }
}

/// `YYYYMMDDhhmmss` in UTC (spec os §0.8).
pub fn stamp_digits(seconds: u64) -> String {
    let (days, rest) = (seconds / 86400, seconds % 86400);
    // Civil date from days, counting years from March so that the leap day is the last one.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}{:02}{:02}{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn stamps() {
        assert_eq!(stamp_digits(0), "19700101000000");
        assert_eq!(stamp_digits(1_700_000_000), "20231114221320");
        assert_eq!(stamp_digits(951_782_400), "20000229000000");
        assert_eq!(stamp_digits(4_107_542_399), "21000228235959");
    }

    #[test]
    fn versions() {
        for good in ["8.0.2", "2.114.13+rev2", "9.0.0-rc.1", "2026.1.0_dev"] {
            assert_eq!(version(good).unwrap(), good);
        }
        for bad in ["", "v8", "8 0", "8.0\"", "8/0", &"1".repeat(65)] {
            assert!(matches!(version(bad), Err(Error::Usage(_))), "{bad}");
        }
        let release = Release { arch: Arch::Armv6, development: false, version: "9.1.2".into(), stamp: 0 };
        let text = release.os_release();
        for line in ["VERSION=\"9.1.2\"", "META_BALENA_VERSION=\"9.1.2\"", "SLUG=\"raspberry-pi\""] {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
    }
}
