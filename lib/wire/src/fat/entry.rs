//! One entry of a folder: 32 bytes.

use crate::superblock::{le16, le32};

/// Bytes of an entry.
pub const BYTES: usize = 32;
/// First byte of an entry that was removed.
pub const REMOVED: u8 = 0xE5;
/// Where the attributes are.
pub const ATTRIBUTES: u64 = 11;
/// Where the sum of the short name is in a piece of a long name.
pub const SUM: u64 = 13;
/// Where the length is.
pub const LENGTH: u64 = 28;

const LONG_NAME: u8 = 0x0F;
/// Attribute of the entry with the file system's label.
pub const VOLUME: u8 = 0x08;
const FOLDER: u8 = 0x10;

/// The names that lead to a folder itself and to the one above.
pub const DOT: [u8; 11] = *b".          ";
/// See [`DOT`].
pub const DOTS: [u8; 11] = *b"..         ";

/// An entry, taken out of its folder.
#[derive(Debug, Clone, Copy)]
pub struct Entry(pub [u8; BYTES]);

impl Entry {
    fn first(&self) -> u8 {
        self.0.first().copied().unwrap_or(0)
    }

    fn byte(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    /// Whether nothing is there. As in Linux, the zeros at a folder's end are no different from removed entries.
    pub fn is_free(&self) -> bool {
        matches!(self.first(), 0 | REMOVED)
    }

    pub fn attributes(&self) -> u8 {
        self.byte(11)
    }

    /// Whether it is a piece of a long name.
    pub fn is_long(&self) -> bool {
        self.attributes() == LONG_NAME
    }

    pub fn is_volume(&self) -> bool {
        self.attributes() & VOLUME != 0
    }

    pub fn is_folder(&self) -> bool {
        self.attributes() & FOLDER != 0
    }

    /// The attributes without the volume's, and without the folder's unless it is one.
    pub fn file_attributes(&self, folder: bool) -> u8 {
        let kept = self.attributes() & !(VOLUME | FOLDER);
        if folder { kept | FOLDER } else { kept }
    }

    /// Whether it is a file that a writer keeps beside the one it will become: `.NAME.new`, `….tmp`, `….md5sum`.
    pub fn is_temporary(&self) -> bool {
        matches!(self.0.get(8..11), Some(b"NEW" | b"TMP" | b"MD5"))
    }

    /// Whether the short name only stands in for a long one.
    pub fn is_hidden_short(&self) -> bool {
        self.byte(12) & 0x20 != 0
    }

    /// The bits that show parts of the short name in lower case.
    pub fn case(&self) -> u8 {
        self.byte(12) & 0x18
    }

    pub fn name(&self) -> [u8; 11] {
        self.0.first_chunk().copied().unwrap_or_default()
    }

    /// The number of a long name's piece, and whether it is the last piece of the name, which comes first.
    pub fn order(&self) -> (u8, bool) {
        (self.first() & 0x1F, self.first() & 0x40 != 0)
    }

    pub fn sum(&self) -> u8 {
        self.byte(13)
    }

    /// The first cluster. FAT16 has other things in the upper half.
    pub fn start(&self, wide: bool) -> u32 {
        let half = |at| u32::from(le16(&self.0, at).unwrap_or(0));
        let high = if wide { half(20) << 16 } else { 0 };
        high | half(26)
    }

    pub fn length(&self) -> u32 {
        le32(&self.0, 28).unwrap_or(0)
    }

    /// Whether these bytes can be an entry at all: what no system writes shows that they belong to a file.
    pub fn makes_sense(&self) -> bool {
        if self.is_long() {
            return self.byte(12) == 0 && le16(&self.0, 26) == Some(0);
        }
        self.attributes() & 0xC0 == 0 && self.name().iter().all(|byte| *byte >= 0x20)
    }
}

/// Whether a short name is one that systems accept.
pub fn is_valid(name: &[u8; 11]) -> bool {
    mended(name) == *name && name.first() != Some(&b' ')
}

/// A short name without what stands behind the end of its parts, which is at the first byte that cannot stand in one.
pub fn mended(name: &[u8; 11]) -> [u8; 11] {
    let mut name = blanked(name);
    let (stem, extension) = name.split_at_mut(8);
    for part in [stem, extension] {
        let end = part.iter().position(|byte| *byte == b' ').unwrap_or(part.len());
        part.iter_mut().skip(end).for_each(|byte| *byte = b' ');
    }
    name
}

/// Whether a label is one that systems accept: as a name, but with spaces where they like.
pub fn is_label(label: &[u8; 11]) -> bool {
    blanked(label) == *label
}

/// A name with blanks for what cannot stand in one.
fn blanked(name: &[u8; 11]) -> [u8; 11] {
    name.map(|byte| if byte < 0x20 || b"\x7F.*?<>|\":/\\".contains(&byte) { b' ' } else { byte })
}

/// The sum of a short name that each piece of its long name carries.
pub fn sum(name: &[u8; 11]) -> u8 {
    name.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}
