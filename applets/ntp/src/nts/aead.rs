//! AEAD_AES_SIV_CMAC_256 (RFC 5297): a nonce that comes twice reveals no more than that a text came twice, which suits
//! machines whose random numbers are young.

use aes_siv::KeyInit;
use aes_siv::siv::Aes128Siv;
use minke_wire::nts::KEY;

/// A key of one direction. It never shows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key(pub(crate) [u8; KEY]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// The tag and the encrypted text. `associated` is what is protected besides; its last part is the nonce. (The
    /// algorithm refuses 127 parts and more; then nothing comes, which no peer takes for an answer.)
    pub(crate) fn seal(&self, associated: &[&[u8]], text: &[u8]) -> Vec<u8> {
        Aes128Siv::new(&self.0.into()).encrypt(associated, text).unwrap_or_default()
    }

    /// The text, if it and `associated` are what the peer has sealed.
    pub(crate) fn open(&self, associated: &[&[u8]], sealed: &[u8]) -> Option<Vec<u8>> {
        Aes128Siv::new(&self.0.into()).decrypt(associated, sealed).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        let digits: Vec<u8> =
            text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn check(key: &str, associated: &[&str], text: &str, sealed: &str) {
        let key = Key(bytes(key).try_into().unwrap());
        let parts: Vec<Vec<u8>> = associated.iter().map(|part| bytes(part)).collect();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let (text, mut sealed) = (bytes(text), bytes(sealed));
        assert_eq!(key.seal(&parts, &text), sealed);
        assert_eq!(key.open(&parts, &sealed), Some(text));
        for at in 0..sealed.len() {
            sealed[at] ^= 1;
            assert_eq!(key.open(&parts, &sealed), None);
            sealed[at] ^= 1;
            assert_eq!(key.open(&parts, &sealed[..at]), None);
        }
        assert_eq!(key.open(&parts[1..], &sealed), None);
    }

    /// RFC 5297, appendix A.1.
    #[test]
    fn deterministic_vector() {
        check(
            "fffefdfc fbfaf9f8 f7f6f5f4 f3f2f1f0 f0f1f2f3 f4f5f6f7 f8f9fafb fcfdfeff",
            &["10111213 14151617 18191a1b 1c1d1e1f 20212223 24252627"],
            "11223344 55667788 99aabbcc ddee",
            "85632d07 c6e8f37f 950acd32 0a2ecc93 40c02b96 90c4dc04 daef7f6a fe5c",
        );
    }

    /// RFC 5297, appendix A.2.
    #[test]
    fn vector_with_a_nonce() {
        check(
            "7f7e7d7c 7b7a7978 77767574 73727170 40414243 44454647 48494a4b 4c4d4e4f",
            &[
                "00112233 44556677 8899aabb ccddeeff deaddada deaddada ffeeddcc bbaa9988 77665544 33221100",
                "10203040 50607080 90a0",
                "09f91102 9d74e35b d84156c5 635688c0",
            ],
            "74686973 20697320 736f6d65 20706c61 696e7465 78742074 6f20656e 63727970 74207573 696e6720 5349562d 414553",
            "7bdb6e3b 432667eb 06f4d14b ff2fbd0f cb900f2f ddbe4043 26601965 c889bf17 dba77ceb 094fa663 b7a3f748 \
             ba8af829 ea64ad54 4a272e9c 485b62a3 fd5c0d",
        );
    }
}
