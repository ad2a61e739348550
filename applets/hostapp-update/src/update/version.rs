//! Versions of the host OS and their order (spec os §18.2): three numbers, then the revision. A part for a pre-release
//! says when a draft was built, and decides nothing, as in the cloud's own rule (spec os §15.11.1).

use minke_wire::text::{find, number, split_once};

/// A version such as `8.0.2`, `v6.1.24+rev3` or `2024.10.1-1729000000`, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version([u64; 4]);

impl Version {
    /// Reads a version; `None`: there is no order for it.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let end = text.bytes().position(|byte| matches!(byte, b'-' | b'+')).unwrap_or(text.len());
        let (numbers, rest) = text.split_at_checked(end)?;
        let mut parts = [0; 4];
        let mut words = numbers.split('.');
        for part in parts.iter_mut().take(3) {
            *part = number(words.next()?)?;
        }
        if words.next().is_some() {
            return None;
        }
        // `+rev2`, and of old releases `-rc1.rev2`.
        if let Some((_, revision)) = split_once(rest, "rev") {
            let end = find(revision, ".").unwrap_or(revision.len());
            let [.., last] = &mut parts;
            *last = number(revision.get(..end)?)?;
        }
        Some(Self(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_versions() {
        let rising = ["2.9.9", "2.30.0", "v6.1.24", "6.1.24+rev1", "6.1.24+rev10", "6.2.0", "2024.1.2"];
        for pair in rising.windows(2) {
            assert!(Version::parse(pair[0]).unwrap() < Version::parse(pair[1]).unwrap(), "{pair:?}");
        }
        for (a, b) in
            [("8.0.2", "8.0.2-1729000000"), ("8.0.2+rev0", "8.0.2"), ("2.0.0-rc1.rev1", "2.0.0+rev1")]
        {
            assert_eq!(Version::parse(a).unwrap(), Version::parse(b).unwrap());
        }
        for text in
            ["", "8", "8.0", "8.0.2.1", "8.0.x", "8.0.-2", "latest", "8.0.2+revx", "99999999999999999999.0.0"]
        {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }
}
