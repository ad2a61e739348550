//! A line of OpenSSH's `authorized_keys` (sshd(8), "AUTHORIZED_KEYS FILE FORMAT"): options, type, key in base64, comment.

use crate::base64;
use crate::text::find;

/// The longest line that is accepted, in bytes; OpenSSH's `SSH_MAX_PUBKEY_BYTES`.
pub const LINE_LIMIT: usize = 16_384;

/// The types with the fields of their keys: `k` 32 bytes, `m` a positive number, `c` the curve's name, `q` a point on
/// it, `a` a text (RFC 4253 §6.6, RFC 5656 §3.1, RFC 8709, OpenSSH's PROTOCOL.u2f).
const TYPES: &str = "ssh-ed25519 k ssh-rsa mm ssh-dss mmmm ecdsa-sha2-nistp256 cq ecdsa-sha2-nistp384 cq \
    ecdsa-sha2-nistp521 cq sk-ssh-ed25519@openssh.com ka sk-ecdsa-sha2-nistp256@openssh.com cqa";

/// The options; those with `=` take a value.
const OPTIONS: &str = "agent-forwarding cert-authority command= environment= expiry-time= from= \
    no-agent-forwarding no-port-forwarding no-pty no-touch-required no-user-rc no-x11-forwarding permitlisten= \
    permitopen= port-forwarding principals= pty restrict tunnel= user-rc verify-required x11-forwarding";

/// The shortest RSA key that sshd takes, in bytes (`RequiredRSASize`).
const RSA_LEAST: usize = 128;

/// A key that may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key<'a> {
    /// What restricts it, as it is written; empty when nothing does.
    pub options: &'a str,
    /// For instance `ssh-ed25519`.
    pub kind: &'a str,
    /// The key itself, which begins with its type.
    pub blob: Vec<u8>,
    /// Anything.
    pub comment: &'a str,
}

/// Reads one line, without its line feed. What is wrong with it completes the sentence "the key …".
pub fn parse(line: &str) -> Result<Key<'_>, &'static str> {
    if line.len() > LINE_LIMIT {
        return Err("is too long");
    }
    if line.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err("has a line feed or another control character in it");
    }
    let line = line.trim_matches(BLANK);
    if line.is_empty() {
        return Err("is empty");
    }
    if line.starts_with('#') {
        return Err("is a comment");
    }
    let (mut options, mut rest) = ("", line);
    if fields_of(word(line).0).is_none() {
        // Without a known type at its beginning, options stand there, or nothing that anybody knows.
        if let Some(end) = end_of_options(line)? {
            (options, rest) = line.split_at_checked(end).unwrap_or((line, ""));
            rest = rest.trim_start_matches(BLANK);
        }
    }
    let (kind, rest) = word(rest);
    let fields = fields_of(kind).ok_or("has no known type, such as ssh-ed25519")?;
    let (encoded, comment) = word(rest);
    if encoded.is_empty() {
        return Err("has nothing after its type");
    }
    let blob = base64::decode(encoded.as_bytes()).ok_or("is not whole: its base64 is broken")?;
    check(&blob, kind, fields)?;
    Ok(Key { options, kind, blob, comment })
}

const BLANK: [char; 2] = [' ', '\t'];

/// The first word, and what follows it.
fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(BLANK).unwrap_or((text, ""));
    (word, rest.trim_start_matches(BLANK))
}

fn fields_of(kind: &str) -> Option<&'static str> {
    let mut words = TYPES.split(' ');
    while let (Some(name), Some(fields)) = (words.next(), words.next()) {
        if name == kind {
            return Some(fields);
        }
    }
    None
}

/// Where the options at the beginning of `line` end, when the line's first word is made of known ones.
fn end_of_options(line: &str) -> Result<Option<usize>, &'static str> {
    let bytes = line.as_bytes();
    let mut place = 0;
    loop {
        let rest = bytes.get(place..).unwrap_or_default();
        let length =
            rest.iter().position(|byte| matches!(byte, b',' | b'=' | b' ' | b'\t')).unwrap_or(rest.len());
        let name = rest.get(..length).unwrap_or_default();
        let valued = rest.get(length) == Some(&b'=');
        if !is_option(name, valued) {
            // In the first place, it may be anything; after a known option, it was meant as one.
            return if place == 0 { Ok(None) } else { Err("has an option that sshd does not know") };
        }
        place += length;
        if valued {
            place += 1 + quoted(bytes.get(place + 1..).unwrap_or_default())?;
        }
        match bytes.get(place) {
            Some(b',') => place += 1,
            Some(b' ' | b'\t') => return Ok(Some(place)),
            None => return Err("has options and no type"),
            Some(_) => return Err("has an option with text after its value"),
        }
    }
}

fn is_option(name: &[u8], valued: bool) -> bool {
    OPTIONS.split(' ').any(|option| match option.strip_suffix('=') {
        Some(option) => valued && option.as_bytes().eq_ignore_ascii_case(name),
        None => !valued && option.as_bytes().eq_ignore_ascii_case(name),
    })
}

/// The length of a quoted value with its quotes; `\"` in it is no end.
fn quoted(text: &[u8]) -> Result<usize, &'static str> {
    if text.first() != Some(&b'"') {
        return Err("has an option whose value has no quotes");
    }
    let mut before = 0;
    for (place, byte) in text.iter().enumerate().skip(1) {
        if *byte == b'"' && before != b'\\' {
            return Ok(place + 1);
        }
        before = *byte;
    }
    Err("has an option whose value has no closing quote")
}

/// Whether the key is made as its type asks.
fn check(blob: &[u8], kind: &str, fields: &str) -> Result<(), &'static str> {
    const CUT: &str = "is not whole: its fields are cut off";
    let (own, mut rest) = field(blob).ok_or(CUT)?;
    if own != kind.as_bytes() {
        return Err("has another type inside than in front");
    }
    let mut last = 0;
    for letter in fields.bytes() {
        let (value, after) = field(rest).ok_or(CUT)?;
        (rest, last) = (after, value.len());
        let good = match letter {
            b'k' => value.len() == 32,
            b'm' => value.first().is_some_and(|first| *first < 0x80),
            b'c' => {
                find(kind, "nistp").and_then(|start| kind.as_bytes().get(start..start + 8)) == Some(value)
            }
            b'q' => {
                let length = match () {
                    () if find(kind, "p256").is_some() => 65,
                    () if find(kind, "p384").is_some() => 97,
                    () => 133,
                };
                value.len() == length && value.first() == Some(&4)
            }
            _ => !value.is_empty(),
        };
        if !good {
            return Err("has a field that does not fit its type");
        }
    }
    if !rest.is_empty() {
        return Err("has something after its last field");
    }
    if kind == "ssh-rsa" && last < RSA_LEAST {
        return Err("is an RSA key of less than 1024 bits");
    }
    Ok(())
}

/// A string of RFC 4251 §5, and what follows it.
fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[cfg(test)]
#[path = "authorized_keys_tests.rs"]
mod tests;
