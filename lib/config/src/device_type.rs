//! `device-type.json` on the boot partition: what board this is (spec os §1.8, §18.5).

use minke_sys::file;
use minke_wire::json::Value;
use std::path::Path;

/// The board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceType {
    /// For instance `raspberry-pi`.
    pub slug: String,
    /// A person's name for it; empty when there is none.
    pub name: String,
    /// For instance `rpi`, `armv7hf`, `aarch64`, `amd64`; empty when there is none.
    pub arch: String,
}

const LIMIT: usize = 256 * 1024;

impl DeviceType {
    /// Reads `device-type.json` in the folder `boot`; `None` when it is missing or unusable.
    pub fn read(boot: &Path) -> Option<Self> {
        Self::parse(&file::read_bounded(&boot.join("device-type.json"), LIMIT).ok()?)
    }

    /// Reads its text.
    pub fn parse(content: &[u8]) -> Option<Self> {
        let document: Value = minke_wire::json::parse(content).ok()?;
        let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let slug = text("slug");
        (!slug.is_empty()).then(|| Self { slug, name: text("name"), arch: text("arch") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_of_it() {
        let read =
            DeviceType::parse(br#"{"slug":"raspberry-pi","name":"Pi","arch":"rpi","yocto":{}}"#).unwrap();
        assert_eq!((read.slug.as_str(), read.arch.as_str()), ("raspberry-pi", "rpi"));
        for bad in ["{}", "[]", "", r#"{"slug":5}"#] {
            assert_eq!(DeviceType::parse(bad.as_bytes()), None);
        }
    }
}
