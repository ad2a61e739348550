//! The decoder beside the crate that defines the format, cut into pieces, and fed with damage.

use super::*;
use std::io::{Cursor, Read};

/// Applies a delta that comes in pieces of `piece` bytes; new data beyond `limit` is an error, as on the device.
fn apply(delta: &[u8], old: &[u8], piece: usize, limit: usize) -> Option<Vec<u8>> {
    let (mut decoder, mut new, mut place) = (Decoder::default(), Vec::new(), 0i64);
    for mut input in delta.chunks(piece) {
        loop {
            match decoder.next(&mut input).ok()? {
                Event::More => break,
                Event::Add(bytes) => {
                    let from = usize::try_from(place).ok()?;
                    let old = old.get(from..)?.get(..bytes.len())?;
                    new.extend(old.iter().zip(bytes).map(|(old, more)| old.wrapping_add(*more)));
                    place += i64::try_from(bytes.len()).unwrap();
                }
                Event::Copy(bytes) => new.extend_from_slice(bytes),
                Event::Seek(by) => place = place.checked_add(by)?,
            }
            if new.len() > limit {
                return None;
            }
        }
        assert!(input.is_empty());
    }
    decoder.finish().ok()?;
    Some(new)
}

/// Two versions of something: the second has changed, moved, left out and new parts.
fn versions(seed: u64, length: usize) -> (Vec<u8>, Vec<u8>) {
    let mut random = Random(seed | 1);
    let old: Vec<u8> = (0..length).map(|_| random.byte() & random.byte()).collect();
    let mut new = old.clone();
    for _ in 0..8 {
        let (at, count) = (random.below(length), random.below(length / 8));
        let end = (at + count).min(new.len());
        match random.below(4) {
            0 => new
                .get_mut(at.min(end)..end)
                .unwrap()
                .iter_mut()
                .step_by(7)
                .for_each(|byte| *byte = byte.wrapping_add(3)),
            1 => drop(new.drain(at.min(end)..end)),
            2 => new.extend_from_within(at.min(end)..end),
            _ => new.extend((0..count).map(|_| random.byte())),
        }
    }
    (old, new)
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % (limit as u64)).unwrap()
    }
}

#[test]
fn deltas_of_bidiff_apply_as_bipatch_applies_them() {
    for seed in 1..12 {
        let (old, new) = versions(seed * 77, 3000);
        let mut delta = Vec::new();
        bidiff::simple_diff(&old, &new, &mut delta).unwrap();
        for piece in [1, 2, 7, 4096, usize::MAX] {
            assert_eq!(
                apply(&delta, &old, piece.min(delta.len()), new.len()).as_ref(),
                Some(&new),
                "{seed} {piece}"
            );
        }
        let mut theirs = Vec::new();
        bipatch::Reader::new(&delta[..], Cursor::new(&old)).unwrap().read_to_end(&mut theirs).unwrap();
        assert_eq!(theirs, new);
        // Cut short anywhere but between two records it is refused.
        let whole =
            (0..delta.len()).filter(|end| apply(&delta[..*end], &old, 4096, new.len()).is_some()).count();
        assert!(whole < delta.len() / 8, "{whole} of {}", delta.len());
    }
}

#[test]
fn numbers_at_their_limits() {
    let mut decoder = Decoder::default();
    let events = |decoder: &mut Decoder, bytes: &[u8]| {
        let mut input = bytes;
        std::iter::from_fn(|| match decoder.next(&mut input) {
            Ok(Event::More) => None,
            Ok(Event::Seek(by)) => Some(Ok(by)),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Some(Err(error)),
        })
        .next()
    };
    assert_eq!(events(&mut decoder, &HEAD), None);
    assert_eq!(decoder.finish(), Ok(()));
    assert_eq!(events(&mut decoder, &[0, 0, 3]), Some(Ok(-2)));
    assert_eq!(events(&mut decoder, b"\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), Some(Ok(i64::MIN)));
    assert_eq!(events(&mut decoder, b"\0\0\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"), Some(Ok(i64::MAX)));
    assert_eq!(events(&mut decoder, &[0x80]), None);
    assert_eq!(decoder.finish(), Err(Error::Truncated));
    assert_eq!(
        events(&mut decoder, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]),
        Some(Err(Error::Number))
    );
    for head in [&b"\xdf\xb1\0\0\x01\x10\0\0"[..], b"BSDIFF40"] {
        assert_eq!(events(&mut Decoder::default(), head), Some(Err(Error::Head)));
    }
}

#[test]
fn never_panics() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let (old, new) = versions(5, 600);
    let mut delta = Vec::new();
    bidiff::simple_diff(&old, &new, &mut delta).unwrap();
    for _ in 0..20_000 {
        let mut bytes = delta.clone();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[at] = random.byte(),
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, [0, 1, 0x7f, 0x80, 0xff][random.below(5)]),
            }
        }
        let piece = 1 + random.below(bytes.len());
        let _ = apply(&bytes, &old, piece, 4 * new.len());
    }
}
