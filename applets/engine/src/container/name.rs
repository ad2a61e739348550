//! Names: of containers, networks and volumes, and the random ones for containers that are given none.

use std::fmt::Write;

/// The longest name.
const NAME_LIMIT: usize = 255;

/// Whether `name` is acceptable: `[a-zA-Z0-9][a-zA-Z0-9_.-]+` (Engine API, container create).
pub fn is_valid(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name.len() <= NAME_LIMIT
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// Sixteen each.
const ADJECTIVES: &str =
    "amber brave calm deep eager fond gentle happy keen lucid merry noble quiet swift vivid warm";
const WHALES: &str =
    "baird beluga blue bowhead brydes cuvier dwarf fin gray humpback minke narwhal orca pilot sei sperm";

/// A name from random bytes.
pub fn random(bytes: [u8; 4]) -> String {
    let [a, b, c, d] = bytes;
    let pick =
        |words: &'static str, byte: u8| words.split(' ').nth(usize::from(byte & 15)).unwrap_or("minke");
    format!("{}_{}_{c:02x}{d:02x}", pick(ADJECTIVES, a), pick(WHALES, b))
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A random id of 64 hex digits. Its first twelve are never decimal alone, as those would read as a number.
pub fn new_id() -> minke_sys::Result<String> {
    loop {
        let mut bytes = [0u8; 32];
        minke_sys::random::fill(&mut bytes)?;
        let id = hex(&bytes);
        if id.get(..12).is_some_and(|short| short.bytes().any(|byte| byte.is_ascii_alphabetic())) {
            return Ok(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_and_invalid_names() {
        for name in ["a", "web", "main_1_2_abc", "A.b-c_9", "9lives"] {
            assert!(is_valid(name), "{name}");
        }
        for name in ["", "_a", ".a", "-a", "a b", "a/b", "ä", "a\n", &"x".repeat(256)] {
            assert!(!is_valid(name), "{name}");
        }
    }

    #[test]
    fn made_names_and_ids_are_valid() {
        assert!((0..=255).all(|byte| is_valid(&random([byte, byte, byte, byte]))));
        let id = new_id().unwrap();
        assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
