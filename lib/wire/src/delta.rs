//! Binary deltas in the form of the crate `bidiff` 1.0 (`enc::Writer`): what bsdiff has in three streams is one here, so
//! that a delta can be applied while it comes.
//!
//! A head of two little-endian words (magic number, version), then records of: a count and as many bytes to be added to the
//! old ones (each modulo 256) from the present place on, which moves on with them; a count and as many bytes as they
//! are; a signed number by which the present place moves. Counts are LEB128, the signed number too, in zigzag.
//!
//! [`Decoder`] takes the delta's bytes as they come and says what to do; who has the old data makes the new of it.

use std::fmt;

/// The head: magic number 0xB1DF and version 0x1000.
const HEAD: [u8; 8] = [0xdf, 0xb1, 0, 0, 0, 0x10, 0, 0];

/// A LEB128 number of 64 bits has at most ten bytes of seven bits.
const MAX_SHIFT: u32 = 63;

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// All input is used up: give more, or call [`Decoder::finish`].
    More,
    /// The next bytes of the new data are the old ones from the present place on, plus these, each modulo 256; never
    /// empty. The place moves on by as many.
    Add(&'a [u8]),
    /// These are the next bytes of the new data; never empty.
    Copy(&'a [u8]),
    /// The place in the old data moves by so many bytes, which may lead outside of it: an error only if old bytes are
    /// wanted from there.
    Seek(i64),
}

/// Why a delta is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The head is none of this format and version.
    Head,
    /// A number has more than 64 bits.
    Number,
    /// The delta ends inside a record.
    Truncated,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Head => "not a delta that this version understands",
            Self::Number => "delta: damaged: a number is too large",
            Self::Truncated => "the delta is cut short",
        })
    }
}

impl std::error::Error for Error {}

/// A streaming decoder; it holds no more than a number. After an error it must not be used again.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    /// Bytes of the head that were read, or the place of the next seven bits of a number.
    at: u32,
    /// The number that is being read, or what is left of the bytes that it counted.
    number: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    AddCount,
    Add,
    CopyCount,
    Copy,
    Seek,
}

impl Decoder {
    /// Takes what it needs from the front of `input` and tells what to do.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Event<'a>, Error> {
        loop {
            // Counted bytes: none left is the end of their part, also when there is no input.
            if let State::Add | State::Copy = self.state {
                if self.number == 0 {
                    self.enter(if self.state == State::Add { State::CopyCount } else { State::Seek });
                    continue;
                }
                let length = usize::try_from(self.number).map_or(input.len(), |left| left.min(input.len()));
                let (data, rest) = input.split_at_checked(length).unwrap_or_default();
                *input = rest;
                if data.is_empty() {
                    return Ok(Event::More);
                }
                self.number = self.number.saturating_sub(length as u64);
                return Ok(if self.state == State::Add { Event::Add(data) } else { Event::Copy(data) });
            }
            let Some((byte, rest)) = input.split_first() else { return Ok(Event::More) };
            *input = rest;
            if self.state == State::Head {
                if HEAD.get(self.at as usize) != Some(byte) {
                    return Err(Error::Head);
                }
                self.at = self.at.saturating_add(1);
                if self.at as usize == HEAD.len() {
                    self.enter(State::AddCount);
                }
                continue;
            }
            // The tenth byte has one bit that counts.
            let bits = u64::from(byte & 0x7f);
            if self.at > MAX_SHIFT || (self.at == MAX_SHIFT && bits > 1) {
                return Err(Error::Number);
            }
            self.number |= bits << self.at;
            self.at = self.at.saturating_add(7);
            if byte & 0x80 != 0 {
                continue;
            }
            match self.state {
                State::AddCount => self.state = State::Add,
                State::CopyCount => self.state = State::Copy,
                _ => {
                    let by = (self.number >> 1).cast_signed() ^ -(self.number & 1).cast_signed();
                    self.enter(State::AddCount);
                    return Ok(Event::Seek(by));
                }
            }
        }
    }

    /// Whether the input may end here: an error if that is inside a record.
    pub fn finish(&self) -> Result<(), Error> {
        if self.state == State::AddCount && self.at == 0 { Ok(()) } else { Err(Error::Truncated) }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.at = 0;
        self.number = 0;
    }
}

#[cfg(test)]
mod tests;
