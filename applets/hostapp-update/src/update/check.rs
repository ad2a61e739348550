//! Whether a release may be installed: decided from its documents alone, before anything is touched.

use super::version::Version;
use std::fmt;

/// What is known of a release from its documents.
#[derive(Debug, Clone, Default)]
pub struct Release<'a> {
    /// `SLUG` of its os-release: the device type.
    pub slug: Option<&'a str>,
    /// `VERSION` of its os-release.
    pub version: Option<&'a str>,
    /// Bytes that its files take; of a release that does not tell, what its transport tells at least.
    pub bytes: u64,
}

/// What is known of this device.
#[derive(Debug, Clone, Default)]
pub struct Device<'a> {
    /// The device type; `None`: nothing tells.
    pub slug: Option<&'a str>,
    /// The version that runs.
    pub version: Option<&'a str>,
    /// Bytes that the slot can take when nothing of the old is left in it.
    pub room: u64,
}

/// Why a release is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is for another device type: which, and which this is.
    Slug(Box<str>, Box<str>),
    /// It names no device type or no version.
    Unnamed(&'static str),
    /// It is older than what runs: its version, ours.
    Older(Box<str>, Box<str>),
    /// There is no order between its version and ours.
    Unordered(Box<str>, Box<str>),
    /// It takes so many bytes, and the slot has so many.
    Room(u64, u64),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slug(theirs, ours) => {
                write!(f, "the release is for the device type {theirs}, and this device is a {ours}")
            }
            Self::Unnamed(what) => write!(f, "the release does not tell its {what}: it is no host OS"),
            Self::Older(theirs, ours) => {
                write!(f, "the release {theirs} is older than {ours}, which runs; --allow-downgrade takes it")
            }
            Self::Unordered(theirs, ours) => {
                write!(f, "whether {theirs} is newer than {ours} cannot be told; --allow-downgrade takes it")
            }
            Self::Room(needs, has) => {
                let (needs, has) = (needs.div_ceil(1 << 20), has >> 20);
                write!(f, "the release needs {needs} MiB, and the slot can take {has} MiB")
            }
        }
    }
}

/// Decides. A release of the version that runs is no downgrade. `downgrade`: an older one is wanted.
pub fn check(release: &Release<'_>, device: &Device<'_>, downgrade: bool) -> Result<(), Refusal> {
    let slug = release.slug.ok_or(Refusal::Unnamed("device type"))?;
    let version = release.version.ok_or(Refusal::Unnamed("version"))?;
    if let Some(ours) = device.slug.filter(|ours| *ours != slug) {
        return Err(Refusal::Slug(slug.into(), ours.into()));
    }
    if let Some(ours) = device.version.filter(|ours| !downgrade && *ours != version) {
        match (Version::parse(version), Version::parse(ours)) {
            (Some(new), Some(old)) if new >= old => {}
            (Some(_), Some(_)) => return Err(Refusal::Older(version.into(), ours.into())),
            _ => return Err(Refusal::Unordered(version.into(), ours.into())),
        }
    }
    // Folders, and what ext4 needs to find the blocks of large files.
    let needs = release.bytes.saturating_add(release.bytes >> 8).saturating_add(256 << 10);
    if needs > device.room {
        return Err(Refusal::Room(needs, device.room));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn device() -> Device<'static> {
        Device { slug: Some("generic-aarch64"), version: Some("8.0.2+rev1"), room: 100 * MIB }
    }

    fn release(version: &'static str) -> Release<'static> {
        Release { slug: Some("generic-aarch64"), version: Some(version), bytes: 50 * MIB }
    }

    #[test]
    fn newer_and_equal_versions_are_taken_and_older_ones_when_that_is_wanted() {
        for version in ["8.0.2+rev1", "8.0.2+rev2", "8.1.0-1700000000", "2024.1.0"] {
            assert_eq!(check(&release(version), &device(), false), Ok(()), "{version}");
        }
        for version in ["8.0.2", "8.0.1+rev9", "2.99.0"] {
            let refusal = check(&release(version), &device(), false).unwrap_err();
            assert_eq!(refusal, Refusal::Older(version.into(), "8.0.2+rev1".into()));
            assert_eq!(check(&release(version), &device(), true), Ok(()));
        }
        let refusal = check(&release("latest"), &device(), false).unwrap_err();
        assert!(refusal.to_string().contains("cannot be told"), "{refusal}");
        assert_eq!(check(&release("latest"), &device(), true), Ok(()));
        let own = Device { version: Some("latest"), ..device() };
        assert_eq!(check(&release("latest"), &own, false), Ok(()), "to itself");
        assert_eq!(check(&release("1.0.0"), &Device { version: None, ..device() }, false), Ok(()));
    }

    #[test]
    fn another_board_is_refused_whatever_was_waived() {
        let other = Release { slug: Some("raspberry-pi"), ..release("9.0.0") };
        let refusal = check(&other, &device(), true).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "the release is for the device type raspberry-pi, and this device is a generic-aarch64"
        );
        assert_eq!(check(&other, &Device { slug: None, ..device() }, true), Ok(()));
        let nothing = Release { slug: None, ..release("9.0.0") };
        assert_eq!(check(&nothing, &device(), true), Err(Refusal::Unnamed("device type")));
        let nothing = Release { version: None, ..release("9.0.0") };
        assert_eq!(check(&nothing, &device(), true), Err(Refusal::Unnamed("version")));
    }

    #[test]
    fn what_the_slot_cannot_hold_is_refused() {
        let large = Release { bytes: 100 * MIB, ..release("9.0.0") };
        let refusal = check(&large, &device(), false).unwrap_err();
        assert_eq!(refusal.to_string(), "the release needs 101 MiB, and the slot can take 100 MiB");
        let fits = Release { bytes: 99 * MIB, ..large.clone() };
        assert_eq!(check(&fits, &device(), false), Ok(()));
        let endless = Release { bytes: u64::MAX, ..large };
        assert!(check(&endless, &device(), false).is_err());
    }
}
