//! Base64 (RFC 4648 §4).

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The bytes that `text` stands for. White space in it does not count; padding must be whole, and unused bits zero.
#[inline(never)]
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut digits, mut padding) = (0u32, 0u32, 0u32);
    for byte in text.iter().filter(|byte| !byte.is_ascii_whitespace()) {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' if digits % 4 >= 2 && padding < 2 => {
                padding += 1;
                continue;
            }
            _ => return None,
        };
        if padding > 0 {
            return None;
        }
        bits = bits << 6 | u32::from(value);
        digits = (digits + 1) % 4;
        if digits == 0 {
            out.extend_from_slice(bits.to_be_bytes().get(1..)?);
        }
    }
    // Two digits make a byte and four bits more, three make two bytes and two bits more.
    let (count, spare) = match (digits, padding) {
        (0, 0) => return Some(out),
        (2, 2) => (1, 4),
        (3, 1) => (2, 2),
        _ => return None,
    };
    if bits & ((1 << spare) - 1) != 0 {
        return None;
    }
    let last = match digits {
        2 => bits << 12,
        _ => bits << 6,
    };
    out.extend_from_slice(last.to_be_bytes().get(1..1 + count)?);
    Some(out)
}

/// `bytes` in base64, without padding.
#[inline(never)]
pub fn encode_unpadded(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let mut bits = 0u32;
        for place in 0..3 {
            bits = bits << 8 | u32::from(chunk.get(place).copied().unwrap_or(0));
        }
        for digit in 0..=chunk.len() {
            let value = bits >> (18 - 6 * digit) & 63;
            let value = usize::try_from(value).ok().and_then(|value| ALPHABET.get(value));
            out.push(char::from(*value.unwrap_or(&b'=')));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(decode(text.as_bytes()).as_deref(), Some(bytes.as_bytes()), "{text}");
            assert_eq!(encode_unpadded(bytes.as_bytes()), text.trim_end_matches('='));
        }
        assert_eq!(decode(b" Zm9v\r\nYmFy\n").as_deref(), Some(&b"foobar"[..]));
        for bad in
            ["Z", "Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "=", "Zg==Zg==", "Zm9v=", "Z=g=", "Zm 9*", "Zm9v-_"]
        {
            assert_eq!(decode(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn what_is_encoded_comes_back() {
        let bytes: Vec<u8> = (0..=255).chain(0..=255).collect();
        for length in 0..bytes.len() {
            let mut text = encode_unpadded(&bytes[..length]);
            while !text.len().is_multiple_of(4) {
                text.push('=');
            }
            assert_eq!(decode(text.as_bytes()).unwrap(), bytes[..length]);
        }
    }

    #[test]
    fn never_panics() {
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        for _ in 0..50_000 {
            let mut text = [0u8; 12];
            for byte in &mut text {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let choice = usize::try_from(state >> 33).unwrap();
                *byte = b"ABz09+/= \n*\xff"[choice % 12];
            }
            if let Some(bytes) = decode(&text) {
                assert!(bytes.len() <= 9);
            }
        }
    }
}
