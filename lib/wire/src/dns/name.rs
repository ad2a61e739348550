//! Domain names (RFC 1035 §3.1): owned ones, and those that stand in a message, perhaps compressed (§4.1.4).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};

/// Bytes of the longest name, its last zero included (RFC 1035 §2.3.4).
pub const LONGEST: usize = 255;
/// Bytes of the longest label.
const LONGEST_LABEL: usize = 63;
/// Labels of the longest name: each takes two bytes at least.
const MOST_LABELS: usize = 127;
/// Most pointers that are followed within one name. Compressors use one for each name; who needs more wastes our time.
const MOST_POINTERS: usize = 64;
/// A pointer never leads into the header.
const HEADER: usize = super::HEADER;

/// A domain name in wire form without compression, its last zero included. Equality, order and hash ignore the case of
/// ASCII letters (RFC 4343); the order is the canonical one of RFC 4034 §6.1.
#[derive(Clone, Debug)]
pub struct Name(Cow<'static, [u8]>);

/// A name that stands in a message or in a [`Name`]. It was checked when it was read.
#[derive(Clone, Copy, Debug)]
pub struct NameRef<'a> {
    message: &'a [u8],
    at: usize,
}

/// The labels of a name, the first one first, the empty one of the root left out.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a>(NameRef<'a>);

impl Name {
    /// The root of all names.
    pub const ROOT: Self = Self(Cow::Borrowed(&[0]));

    /// A name as people write it (RFC 1035 §5.1): labels with dots between them, a dot at the end or none, `\.` for a
    /// dot in a label and `\032` for any byte by its decimal number. `None` for what is no name: empty labels, too long.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "." {
            return Some(Self::ROOT);
        }
        let mut wire = Vec::with_capacity(text.len().saturating_add(2));
        let mut label = Vec::new();
        let mut rest = text.bytes();
        let mut open = true;
        while let Some(byte) = rest.next() {
            open = byte != b'.';
            match byte {
                b'.' => push_label(&mut wire, &mut label)?,
                b'\\' => label.push(escaped(&mut rest)?),
                _ => label.push(byte),
            }
        }
        if open {
            push_label(&mut wire, &mut label)?;
        }
        wire.push(0);
        (wire.len() <= LONGEST).then_some(Self(Cow::Owned(wire)))
    }

    /// The name that `wire` begins with, which is not compressed; `None` for what is no name.
    pub fn from_wire(wire: &[u8]) -> Option<Self> {
        let length = plain_length(wire)?;
        Some(Self(Cow::Owned(wire.get(..length)?.to_vec())))
    }

    /// The name of these labels; `None` when one is empty or too long, or all together are.
    pub fn from_labels<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let mut wire = Vec::new();
        for label in labels {
            push_label(&mut wire, &mut label.to_vec())?;
        }
        wire.push(0);
        (wire.len() <= LONGEST).then_some(Self(Cow::Owned(wire)))
    }

    /// The wire form, at most 255 bytes, the last of them zero.
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// The same name as those in messages are used.
    pub fn as_ref(&self) -> NameRef<'_> {
        NameRef { message: &self.0, at: 0 }
    }

    /// The labels, the first one first.
    pub fn labels(&self) -> Labels<'_> {
        self.as_ref().labels()
    }

    /// The name without its first label; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        Some(self.as_ref().parent()?.to_name())
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.len() <= 1
    }

    /// Whether this is `zone` or stands below it.
    pub fn is_within(&self, zone: &Self) -> bool {
        self.as_ref().is_within(zone.as_ref())
    }

    /// This name with `suffix` behind it: `www` and `example.com` make `www.example.com`; `None` when that is too long.
    pub fn join(&self, suffix: &Self) -> Option<Self> {
        let mut wire = self.0.split_last()?.1.to_vec();
        wire.extend_from_slice(&suffix.0);
        (wire.len() <= LONGEST).then_some(Self(Cow::Owned(wire)))
    }

    /// This name with small letters.
    pub fn to_lower(&self) -> Self {
        Self(Cow::Owned(self.0.to_ascii_lowercase()))
    }
}

impl<'a> NameRef<'a> {
    /// The name at a place of a message, and where what follows it begins. Pointers lead backwards only, so every walk
    /// ends; `None` for labels and names that are too long, and for what leads out of the message.
    pub fn read(message: &'a [u8], start: usize) -> Option<(Self, usize)> {
        let (mut at, mut bound, mut after) = (start, start, None);
        let (mut length, mut pointers) = (0usize, 0usize);
        loop {
            let first = *message.get(at)?;
            let next = at.checked_add(1)?;
            match first {
                0 => {
                    let fits = length < LONGEST && message.len() > at;
                    return fits.then_some((Self { message, at: start }, after.unwrap_or(next)));
                }
                1..=63 => {
                    at = next.checked_add(first.into())?;
                    length = length.checked_add(first.into())?.checked_add(1)?;
                }
                192.. => {
                    let low = *message.get(next)?;
                    after = after.or(next.checked_add(1));
                    at = usize::from(u16::from_be_bytes([first & 0x3F, low]));
                    pointers = pointers.checked_add(1)?;
                    if at >= bound || at < HEADER || pointers > MOST_POINTERS {
                        return None;
                    }
                    bound = at;
                }
                // 64 and 128 begin kinds of labels that nobody uses (RFC 6891 §5).
                _ => return None,
            }
            if length >= LONGEST {
                return None;
            }
        }
    }

    /// A name that a writer has written, at its place.
    pub(super) fn written(message: &'a [u8], at: usize) -> Self {
        Self { message, at }
    }

    /// The labels, the first one first.
    pub fn labels(self) -> Labels<'a> {
        Labels(self)
    }

    /// An owned copy.
    pub fn to_name(self) -> Name {
        let mut wire = Vec::new();
        self.write(&mut wire);
        Name(Cow::Owned(wire))
    }

    /// Appends the wire form without compression.
    pub fn write(self, out: &mut Vec<u8>) {
        for label in self.labels() {
            out.push(label.len() as u8);
            out.extend_from_slice(label);
        }
        out.push(0);
    }

    /// The name without its first label; `None` for the root.
    pub fn parent(self) -> Option<Self> {
        let mut labels = self.labels();
        labels.next()?;
        Some(labels.0)
    }

    /// Whether this is `zone` or stands below it.
    pub fn is_within(self, zone: NameRef<'_>) -> bool {
        let Some(more) = self.labels().count().checked_sub(zone.labels().count()) else { return false };
        let mut rest = self.labels();
        for _ in 0..more {
            rest.next();
        }
        same(rest, zone.labels())
    }
}

impl<'a> Labels<'a> {
    /// The name that the labels which are left make.
    pub fn rest(self) -> NameRef<'a> {
        self.0
    }
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let NameRef { message, at } = &mut self.0;
        loop {
            let first = *message.get(*at)?;
            let next = at.checked_add(1)?;
            match first {
                1..=63 => {
                    let end = next.checked_add(first.into())?;
                    let label = message.get(next..end)?;
                    *at = end;
                    return Some(label);
                }
                192.. => {
                    let to = usize::from(u16::from_be_bytes([first & 0x3F, *message.get(next)?]));
                    // It was checked; once more, so that the walk surely ends.
                    if to >= *at {
                        return None;
                    }
                    *at = to;
                }
                _ => return None,
            }
        }
    }
}

fn same(mut one: Labels<'_>, mut other: Labels<'_>) -> bool {
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a.eq_ignore_ascii_case(b) => {}
            _ => return false,
        }
    }
}

/// The length of an uncompressed name that `wire` begins with.
pub fn plain_length(wire: &[u8]) -> Option<usize> {
    let mut length = 0usize;
    loop {
        let label = usize::from(*wire.get(length)?);
        length = length.checked_add(label)?.checked_add(1)?;
        if label > LONGEST_LABEL || length > LONGEST {
            return None;
        }
        if label == 0 {
            return Some(length);
        }
    }
}

fn push_label(wire: &mut Vec<u8>, label: &mut Vec<u8>) -> Option<()> {
    if label.is_empty() || label.len() > LONGEST_LABEL || wire.len() > LONGEST {
        return None;
    }
    wire.push(label.len() as u8);
    wire.append(label);
    Some(())
}

/// What stands behind a backslash: three digits, or any other character as it is.
fn escaped(rest: &mut std::str::Bytes<'_>) -> Option<u8> {
    let first = rest.next()?;
    if !first.is_ascii_digit() {
        return Some(first);
    }
    let digits = [first, rest.next()?, rest.next()?];
    crate::number(&digits, 10)?.try_into().ok()
}

/// As people write it, without a dot at the end but for the root's; what could be misread is escaped.
impl fmt::Display for NameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for label in self.labels() {
            if !first {
                f.write_char('.')?;
            }
            first = false;
            for byte in label {
                match byte {
                    b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => {
                        f.write_char('\\')?;
                        f.write_char(char::from(*byte))?;
                    }
                    b'!'..=b'~' => f.write_char(char::from(*byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
        }
        if first { f.write_char('.') } else { Ok(()) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

impl PartialEq for NameRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        same(self.labels(), other.labels())
    }
}

impl Eq for NameRef<'_> {}

impl PartialEq<Name> for NameRef<'_> {
    fn eq(&self, other: &Name) -> bool {
        *self == other.as_ref()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in self.0.iter() {
            state.write_u8(byte.to_ascii_lowercase());
        }
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        let (mut ours, mut theirs) = ([&[][..]; MOST_LABELS], [&[][..]; MOST_LABELS]);
        let (mut one, mut two) = (places(&mut ours, self), places(&mut theirs, other));
        // From the last label, nearest to the root, to the first.
        while let (Some((label, rest)), Some((second, others))) = (one.split_last(), two.split_last()) {
            for (a, b) in label.iter().zip(*second) {
                let order = a.to_ascii_lowercase().cmp(&b.to_ascii_lowercase());
                if order.is_ne() {
                    return order;
                }
            }
            if label.len() != second.len() {
                return label.len().cmp(&second.len());
            }
            (one, two) = (rest, others);
        }
        one.len().cmp(&two.len())
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn places<'a, 'b>(places: &'b mut [&'a [u8]; MOST_LABELS], name: &'a Name) -> &'b [&'a [u8]] {
    let mut count = 0;
    for (place, label) in places.iter_mut().zip(name.labels()) {
        *place = label;
        count += 1;
    }
    places.get(..count).unwrap_or_default()
}
