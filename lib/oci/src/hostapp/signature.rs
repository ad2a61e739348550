//! Who has signed a release (minisign(1); RFC 8032, RFC 7693).

use crate::{Error, Result};
pub use minke_wire::minisign::PublicKey;
use minke_wire::minisign::Signature;
use std::path::Path;

/// Largest key file.
const MAX_KEY: usize = 4096;

/// A signature that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The id of its key, as minisign shows it.
    pub key: String,
    /// The comment that the signer has signed as well.
    pub comment: String,
}

/// The keys `*.pub` of some folders; a folder that is not there has none. A file that is no key is an error, as a device
/// whose key was damaged must not take unsigned releases.
pub fn read_keys(folders: &[&Path]) -> Result<Vec<PublicKey>> {
    let mut keys = Vec::new();
    for folder in folders {
        let paths = match minke_sys::file::list(folder) {
            Err(error) if error.errno == minke_sys::Errno::NOENT => continue,
            other => other?,
        };
        for path in paths {
            if path.extension().is_none_or(|extension| extension != "pub") {
                continue;
            }
            let content = minke_sys::file::read_bounded(&path, MAX_KEY)?;
            let key = std::str::from_utf8(&content).ok().and_then(PublicKey::parse);
            keys.push(key.ok_or_else(|| Error::malformed(&path, &"is no minisign public key"))?);
        }
    }
    Ok(keys)
}

/// Verifies the signature of a configuration when there are keys.
pub(super) fn check(keys: &[PublicKey], signature: &str, content: &[u8]) -> Result<Option<Signer>> {
    if keys.is_empty() {
        return Ok(None);
    }
    if signature.is_empty() {
        return Err(Error::refused(&"this release is not signed, and this device takes only signed ones"));
    }
    let signature =
        Signature::parse(signature).ok_or_else(|| Error::refused(&"the release's signature is malformed"))?;
    let id = shown(&signature.id);
    let Some(key) = keys.iter().find(|key| key.id == signature.id) else {
        return Err(Error::refused(&format_args!(
            "this release is signed with key {id}, which is not installed here"
        )));
    };
    if verifies(key, &signature, content) {
        return Ok(Some(Signer { key: id, comment: signature.comment.to_owned() }));
    }
    Err(Error::refused(&format_args!(
        "the release's signature is not one of key {id}: it is damaged, or forged"
    )))
}

fn verifies(key: &PublicKey, signature: &Signature<'_>, content: &[u8]) -> bool {
    use ring::signature::{ED25519, UnparsedPublicKey};
    let public = UnparsedPublicKey::new(&ED25519, &key.key);
    let good = if signature.prehashed {
        use blake2::Digest;
        public.verify(&blake2::Blake2b512::digest(content), &signature.signature)
    } else {
        public.verify(content, &signature.signature)
    };
    good.is_ok() && public.verify(&signature.global_message(), &signature.global).is_ok()
}

/// A key's id as minisign shows it.
fn shown(id: &[u8; 8]) -> String {
    format!("{:016X}", u64::from_le_bytes(*id))
}
