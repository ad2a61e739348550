//! minisign's key and signature files (minisign(1), "Signature format", "Public key format"; the same as OpenBSD's
//! signify but for the comments). Only what they say is read here; who has the cryptography verifies:
//!
//! - [`Signature::signature`] is Ed25519 of the file, or, where it is [`Signature::prehashed`], of the file's BLAKE2b-512;
//! - [`Signature::global`] is Ed25519 of [`Signature::global_message`], by which the trusted comment is to be trusted.

use crate::base64;

/// What stands before the comment that is signed.
const TRUSTED: &str = "trusted comment: ";

/// Ed25519 of the content itself.
const PLAIN: [u8; 2] = *b"Ed";
/// Ed25519 of the content's BLAKE2b-512; what minisign does since version 0.11.
const PREHASHED: [u8; 2] = *b"ED";

/// A public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey {
    /// A random number by which signatures name their key; it proves nothing.
    pub id: [u8; 8],
    /// The Ed25519 public key (RFC 8032).
    pub key: [u8; 32],
}

/// A signature file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature<'a> {
    /// Whether the BLAKE2b-512 of the content was signed instead of the content.
    pub prehashed: bool,
    /// The [`PublicKey::id`] of the key that it was made with.
    pub id: [u8; 8],
    /// The Ed25519 signature of the content.
    pub signature: [u8; 64],
    /// The trusted comment: whatever the signer wrote, usually time and file name. To be believed once
    /// [`Signature::global`] is verified.
    pub comment: &'a str,
    /// The Ed25519 signature of [`Signature::global_message`].
    pub global: [u8; 64],
}

impl PublicKey {
    /// Reads a public key file: a comment line and the key. The key's line alone, as `minisign -P` takes it, serves as well.
    /// `None` for anything else, a key of another algorithm included.
    pub fn parse(text: &str) -> Option<Self> {
        let (first, rest) = next_line(text);
        let line = if rest.is_empty() { first } else { next_line(rest).0 };
        let bytes = decoded::<42>(line)?;
        let (algorithm, rest) = bytes.split_first_chunk()?;
        let (id, key) = rest.split_first_chunk()?;
        (*algorithm == PLAIN).then_some(Self { id: *id, key: *key.first_chunk()? })
    }
}

impl<'a> Signature<'a> {
    /// Reads a signature file of four lines: a comment, the signature, the trusted comment, the signature of that.
    /// `None` for anything else.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (_, text) = next_line(text);
        let (signature, text) = next_line(text);
        let (comment, text) = next_line(text);
        let bytes = decoded::<74>(signature)?;
        let (algorithm, rest) = bytes.split_first_chunk()?;
        let (id, signature) = rest.split_first_chunk()?;
        if *algorithm != PLAIN && *algorithm != PREHASHED {
            return None;
        }
        Some(Self {
            prehashed: *algorithm == PREHASHED,
            id: *id,
            signature: *signature.first_chunk()?,
            comment: comment.strip_prefix(TRUSTED)?,
            global: decoded(next_line(text).0)?,
        })
    }

    /// What [`Signature::global`] signs: the signature and the trusted comment.
    pub fn global_message(&self) -> Vec<u8> {
        let mut message = self.signature.to_vec();
        message.extend_from_slice(self.comment.as_bytes());
        message
    }
}

/// The first line without its end, and what follows.
fn next_line(text: &str) -> (&str, &str) {
    let (line, rest) = crate::text::split_once(text, "\n").unwrap_or((text, ""));
    (line.strip_suffix('\r').unwrap_or(line), rest)
}

/// A line of base64 for exactly so many bytes.
fn decoded<const N: usize>(line: &str) -> Option<[u8; N]> {
    base64::decode(line.as_bytes())?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made by Debian's minisign 0.11: `minisign -G -W`, `minisign -S` and `minisign -S -l` of "hello\n".
    const KEY: &str = "untrusted comment: minisign public key E4DEFAF65EAE1113\n\
                       RWQTEa5e9vre5D3k8mValbovOcvu+XU7AN4Srh7mfyiOf3Ugj6QR44b5\n";
    const PREHASHED: &str = "untrusted comment: signature from minisign secret key\n\
        RUQTEa5e9vre5O7mb0JlAbcbMN5So6zSlG1hbvwZU0XEYEiXbRGH1OohbvB3UrSZY0xTNN3C7nPc0S3Hy9UzhPAZ/Xtp6S4Y5wo=\n\
        trusted comment: timestamp:1795280676\tfile:f\thashed\n\
        kZaK9dQyd4tTaciXGKc4oYSw90jWLTeob+2l7A8uE37mqrKMXLn0/v0Ba1lb2v5op36Q4TloPon2k8kyKZOZCg==\n";
    const PLAIN: &str = "untrusted comment: signature from minisign secret key\n\
        RWQTEa5e9vre5EYmsL9aiarTrfYqSXZEj/3ctUipqiuxGHt0QNoYPd1b0VYP2F9JJNejzZCjX6g8A+Z2rWBhuQTqi90zzVg99wM=\n\
        trusted comment: timestamp:1795280676\tfile:f\n\
        F7hP6NDWdGP8g1sa7LtffxxpIAN/vDEA2wOedLV6o9+mNw/XeDCHFcT5tuEtajjLXlQPh4aUpnUDlDQTGbQvCA==\n";

    #[test]
    fn what_minisign_writes_is_read() {
        let key = PublicKey::parse(KEY).unwrap();
        assert_eq!(key.id, 0xE4DE_FAF6_5EAE_1113u64.to_le_bytes());
        assert_eq!((key.key[0], key.key[31]), (0x3d, 0xf9));
        assert_eq!(PublicKey::parse(next_line(KEY).1.trim_end()), Some(key));
        assert_eq!(PublicKey::parse(&KEY.replace('\n', "\r\n")), Some(key));
        for (text, prehashed, comment) in [
            (PREHASHED, true, "timestamp:1795280676\tfile:f\thashed"),
            (PLAIN, false, "timestamp:1795280676\tfile:f"),
        ] {
            let read = Signature::parse(text).unwrap();
            assert_eq!((read.prehashed, read.id, read.comment), (prehashed, key.id, comment));
            assert_eq!(read.global_message().len(), 64 + comment.len());
            assert_eq!(Signature::parse(&text.replace('\n', "\r\n")), Some(read));
            // The last line need not be ended.
            assert_eq!(Signature::parse(text.trim_end()), Some(read));
        }
    }

    #[test]
    fn what_is_no_key_or_signature_is_refused() {
        for text in [
            "",
            "\n",
            "untrusted comment: x\n",
            PLAIN,
            "RWQTEa5e9vre5D3k8mValbovOcvu+XU7AN4Srh7mfyiOf3Ugj6QR44b5AA==",
        ] {
            assert_eq!(PublicKey::parse(text), None, "{text}");
        }
        // Another algorithm.
        assert_eq!(PublicKey::parse(&KEY.replace("RWQ", "RUQ")), None);
        assert_eq!(Signature::parse(&PLAIN.replace("RWQ", "RVQ")), None);
        for text in [KEY, "", &PLAIN.replace("trusted comment: t", "t"), &PLAIN[..PLAIN.len() - 9]] {
            assert_eq!(Signature::parse(text), None, "{text}");
        }
    }

    #[test]
    fn never_panics() {
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let mut random = |limit: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % limit
        };
        for _ in 0..20_000 {
            let mut text = [KEY, PLAIN, PREHASHED][random(3)].as_bytes().to_vec();
            for _ in 0..=random(3) {
                let at = random(text.len());
                match random(3) {
                    0 => text[at] = b"\n\r =A:\xc3"[random(7)],
                    1 => text.truncate(at.max(1)),
                    _ => text.insert(at, b"\nRW="[random(4)]),
                }
            }
            let text = String::from_utf8_lossy(&text);
            let _ = (PublicKey::parse(&text), Signature::parse(&text));
        }
    }
}
