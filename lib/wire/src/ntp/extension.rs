//! Extension fields (RFC 7822).

/// Bytes before a field's value: its type and the length of the whole.
const HEAD: usize = 4;
/// One field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension<'a> {
    /// The field's type.
    pub kind: u16,
    /// Its value with padding.
    pub value: &'a [u8],
    /// Where it begins, counted from the first field's first byte.
    pub start: usize,
}

/// The fields of a packet: what [`super::Packet::decode`] left. It ends before a message authentication code, and before
/// what is no field: see [`Extensions::rest`].
#[derive(Debug, Clone)]
pub struct Extensions<'a> {
    rest: &'a [u8],
    start: usize,
}

impl<'a> Extensions<'a> {
    /// The longest message authentication code with its key id. As much or less behind the last field is such a code
    /// (RFC 7822 §3), and so the last field without one has at least 28 bytes.
    pub const LONGEST_MAC: usize = 24;

    /// The fields in these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, start: 0 }
    }

    /// What has not been read. After the last field: nothing, a message authentication code of at most 24 bytes, or
    /// more when what stands there is damaged.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Extension<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.len() <= Self::LONGEST_MAC {
            return None;
        }
        let [k0, k1, l0, l1] = *self.rest.first_chunk::<HEAD>()?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if length < HEAD || length % 4 != 0 {
            return None;
        }
        let (field, rest) = self.rest.split_at_checked(length)?;
        let start = self.start;
        self.rest = rest;
        self.start = start.wrapping_add(length);
        Some(Extension { kind: u16::from_be_bytes([k0, k1]), value: field.get(HEAD..)?, start })
    }
}

/// Appends a field, padded with zeros to whole words and to at least `least` bytes. `false`, and nothing is written,
/// when the value is too long.
pub fn put(bytes: &mut Vec<u8>, kind: u16, value: &[u8], least: usize) -> bool {
    let length = value.len().saturating_add(HEAD).max(least).next_multiple_of(4);
    let Ok(size) = u16::try_from(length) else { return false };
    let end = bytes.len().saturating_add(length);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&size.to_be_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(end, 0);
    true
}
