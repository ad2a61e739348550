//! The device's uuid: generated once, durable before anybody uses it (spec os §4.3 `uuid`).

use crate::{Config, Origin, Store};
use minke_sys::{Result, file, random};

/// The uuid and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// It was in `config.json`, or in what stands in for it.
    Known(String),
    /// It is new, and in `config.json`.
    Generated(String),
    /// It was generated while `config.json` was broken, or stood in the last good copy, and is in
    /// `config.json` now.
    Adopted(String),
    /// `config.json` cannot take it for the reason given: it is kept on the state partition until it can.
    Provisional(String, String),
}

impl Identity {
    /// The uuid.
    pub fn uuid(&self) -> &str {
        match self {
            Self::Known(uuid) | Self::Generated(uuid) | Self::Adopted(uuid) | Self::Provisional(uuid, _) => {
                uuid
            }
        }
    }
}

/// 16 random bytes as 32 lower-case hex digits: a uuid or a device key.
pub fn generate_key() -> Result<String> {
    random_bytes().map(hex)
}

pub(crate) fn random_bytes() -> Result<[u8; 16]> {
    let mut bytes = [0u8; 16];
    random::fill(&mut bytes)?;
    Ok(bytes)
}

pub(crate) fn hex(bytes: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(bytes))
}

/// Whether a text looks like what [`generate_key`] makes.
pub(crate) fn is_generated(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Store {
    /// Makes sure that the device has a uuid, and keeps the last good copy current.
    ///
    /// Power cut: before the write is complete the device has no uuid yet and gets another one at the next
    /// boot, which is the same to everybody, as nobody has seen the first. After it, the uuid stays.
    pub fn ensure_uuid(&self) -> Result<Identity> {
        let loaded = self.load();
        let known = loaded.config.string("uuid").map(str::to_owned);
        let replaceable = loaded.problem.as_ref().is_none_or(|problem| problem.nothing_to_lose());
        if !replaceable {
            let reason = loaded.message().unwrap_or_default();
            return match known {
                Some(uuid) if self.provisional().as_ref() != Some(&uuid) => Ok(Identity::Known(uuid)),
                Some(uuid) => Ok(Identity::Provisional(uuid, reason)),
                None => self.keep_provisional(generate_key()?, reason),
            };
        }
        let held = self.provisional();
        if let (Some(uuid), Origin::File) = (&known, &loaded.origin)
            && held.as_ref() != Some(uuid)
        {
            // Kept or not, the device has its uuid; the caller's `remember` reports a full state partition.
            let _ = self.remember(&loaded.config);
            let _ = file::remove_durable(&self.paths().provisional);
            return Ok(Identity::Known(uuid.clone()));
        }
        // A uuid of another type than string is damage and not a wish for a new identity.
        let damaged = loaded.config.get("uuid").is_some() && known.is_none();
        let former = || self.last_good()?.string("uuid").map(str::to_owned);
        let former = known.clone().or(held).or_else(|| if damaged { former() } else { None });
        let (uuid, adopted) = match former {
            Some(uuid) => (uuid, true),
            None => (generate_key()?, false),
        };
        match self.update(&mut |config: &mut Config| config.set("uuid", uuid.as_str().into())) {
            Ok(()) => {
                let _ = file::remove_durable(&self.paths().provisional);
                Ok(if adopted { Identity::Adopted(uuid) } else { Identity::Generated(uuid) })
            }
            Err(error) => self.keep_provisional(uuid, error.to_string()),
        }
    }

    fn keep_provisional(&self, uuid: String, reason: String) -> Result<Identity> {
        if self.provisional().as_ref() != Some(&uuid) {
            file::write_durable(&self.paths().provisional, format!("{uuid}\n").as_bytes(), 0o644)?;
        }
        Ok(Identity::Provisional(uuid, reason))
    }
}
