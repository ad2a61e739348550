//! The 512-byte header block.

use super::{BLOCK, Error};

/// One header block with the fields at their places.
pub(super) struct Header<'a>(pub(super) &'a [u8; BLOCK]);

/// Where a field begins, and its length (POSIX ustar).
pub(super) type Field = (usize, usize);
pub(super) const NAME: Field = (0, 100);
pub(super) const MODE: Field = (100, 8);
pub(super) const UID: Field = (108, 8);
pub(super) const GID: Field = (116, 8);
pub(super) const SIZE: Field = (124, 12);
pub(super) const MTIME: Field = (136, 12);
pub(super) const CHECKSUM: Field = (148, 8);
pub(super) const TYPE: Field = (156, 1);
pub(super) const LINK: Field = (157, 100);
pub(super) const MAGIC: Field = (257, 6);
pub(super) const VERSION: Field = (263, 2);
pub(super) const MAJOR: Field = (329, 8);
pub(super) const MINOR: Field = (337, 8);
pub(super) const PREFIX: Field = (345, 155);

impl<'a> Header<'a> {
    /// Whether the block is all zero.
    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// A field's bytes.
    pub(super) fn field(&self, (start, length): Field) -> &'a [u8] {
        self.0.get(start..).and_then(|rest| rest.get(..length)).unwrap_or_default()
    }

    /// A field's bytes up to the first NUL.
    pub(super) fn text(&self, field: Field) -> &'a [u8] {
        let bytes = self.field(field);
        bytes.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// The member's type.
    pub(super) fn kind(&self) -> u8 {
        self.field(TYPE).first().copied().unwrap_or(0)
    }

    /// Whether the header is POSIX ustar (and so has a prefix); GNU's old format uses that space otherwise.
    pub(super) fn is_posix(&self) -> bool {
        self.field(MAGIC) == b"ustar\0"
    }

    /// Verifies the checksum: the sum of all bytes with the checksum field taken as blanks. Some old writers
    /// summed signed bytes.
    pub(super) fn verify(&self) -> Result<(), Error> {
        let stored = octal(self.field(CHECKSUM)).ok_or(Error::Checksum)?;
        let (unsigned, signed) = sums(self.0);
        if u32::try_from(stored) == Ok(unsigned) || i64::try_from(stored) == Ok(i64::from(signed)) {
            return Ok(());
        }
        Err(Error::Checksum)
    }

    /// A numeric field: octal text, or GNU base-256 with the first bit set (negative: the first eight).
    pub(super) fn number(&self, field: Field, name: &'static str) -> Result<i64, Error> {
        let bytes = self.field(field);
        let fail = Error::Number(name);
        match bytes.split_first() {
            Some((first, rest)) if first & 0x80 != 0 => base256(*first, rest).ok_or(fail),
            _ => octal(bytes).and_then(|value| i64::try_from(value).ok()).ok_or(fail),
        }
    }
}

/// Both sums of a header block, unsigned and signed. 512 bytes cannot overflow them.
pub(super) fn sums(block: &[u8; BLOCK]) -> (u32, i32) {
    let (start, length) = CHECKSUM;
    let field = start..start.saturating_add(length);
    let mut sums = (0u32, 0i32);
    for (index, byte) in block.iter().enumerate() {
        let byte = if field.contains(&index) { b' ' } else { *byte };
        sums.0 = sums.0.saturating_add(u32::from(byte));
        sums.1 = sums.1.saturating_add(i32::from(i8::from_ne_bytes([byte])));
    }
    sums
}

/// Octal digits with blanks before them and a blank, a NUL or nothing after them. An empty field is 0.
fn octal(bytes: &[u8]) -> Option<u64> {
    let start = bytes.iter().position(|byte| *byte != b' ').unwrap_or(bytes.len());
    let digits = bytes.get(start..)?;
    let end = digits.iter().position(|byte| matches!(byte, b' ' | 0)).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at_checked(end)?;
    if !rest.iter().all(|byte| matches!(byte, b' ' | 0)) {
        return None;
    }
    if digits.is_empty() { Some(0) } else { crate::number(digits, 8) }
}

/// Two's complement in big-endian order, the first bit of `first` being the format's mark.
fn base256(first: u8, rest: &[u8]) -> Option<i64> {
    let negative = first & 0x40 != 0;
    let start = if negative { i64::from(first | 0x80) | !0xff } else { i64::from(first & 0x3f) };
    rest.iter().try_fold(start, |value, byte| value.checked_mul(256)?.checked_add(i64::from(*byte)))
}
