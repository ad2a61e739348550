//! Bodies: by length, chunked (RFC 9112, section 7.1), or until the connection ends.

use super::Framing;
use std::fmt;

/// Most bytes of a chunk's size line, with extensions, and of all trailer fields together.
const MAX_LINE: u16 = 4096;

/// Ends a chunked body that has no trailer fields.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Writes one chunk. Empty data writes nothing, as an empty chunk would end the body.
pub fn write_chunk(data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// A chunked body that breaks the grammar or a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyError;

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed chunked body")
    }
}

/// Takes a body out of a byte stream, in whatever pieces the stream comes.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    /// Bytes of the current line, held against [`MAX_LINE`].
    line: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Counted(u64),
    UntilClose,
    Size {
        value: u64,
        digits: bool,
    },
    Extension {
        value: u64,
    },
    SizeEnd {
        value: u64,
    },
    Data(u64),
    DataCr,
    DataLf,
    /// In the trailer section; `empty` while the line has no character yet.
    Trailer {
        empty: bool,
    },
    TrailerEnd {
        last: bool,
    },
    Done,
}

impl BodyDecoder {
    /// A decoder at the first byte of the body.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Counted(length),
            Framing::Chunked => State::Size { value: 0, digits: false },
            Framing::Close => State::UntilClose,
        };
        Self { state, line: 0 }
    }

    /// Whether the whole body has been read.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the end of the connection now is the proper end of the body.
    pub fn may_end(&self) -> bool {
        matches!(self.state, State::Done | State::UntilClose)
    }

    /// Appends to `out` what `input` holds of the body, and returns how many bytes of `input` belong to it;
    /// what follows is the next message. `out` grows by at most `input.len()`.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, BodyError> {
        let mut rest = input;
        while let Some((byte, after)) = rest.split_first() {
            match self.state {
                State::Done => break,
                State::UntilClose => {
                    out.extend_from_slice(rest);
                    rest = &[];
                }
                State::Counted(left) => {
                    let taken = take(&mut rest, left, out);
                    let left = left.saturating_sub(taken);
                    self.state = if left == 0 { State::Done } else { State::Counted(left) };
                }
                State::Data(left) => {
                    let taken = take(&mut rest, left, out);
                    let left = left.saturating_sub(taken);
                    self.state = if left == 0 { State::DataCr } else { State::Data(left) };
                }
                state => {
                    self.state = self.line_byte(state, *byte)?;
                    rest = after;
                }
            }
        }
        Ok(input.len().saturating_sub(rest.len()))
    }

    /// One byte outside the data.
    fn line_byte(&mut self, state: State, byte: u8) -> Result<State, BodyError> {
        self.line = self.line.saturating_add(1);
        if self.line > MAX_LINE {
            return Err(BodyError);
        }
        match (state, byte) {
            (State::Size { value, digits: true }, b'\r') => Ok(State::SizeEnd { value }),
            (State::Size { value, digits: true }, b';' | b' ' | b'\t') => Ok(State::Extension { value }),
            (State::Size { value, .. }, _) => {
                let digit = char::from(byte).to_digit(16).ok_or(BodyError)?;
                let value = value.checked_mul(16).and_then(|value| value.checked_add(digit.into()));
                Ok(State::Size { value: value.ok_or(BodyError)?, digits: true })
            }
            (State::Extension { value }, b'\r') => Ok(State::SizeEnd { value }),
            (State::Extension { .. }, b'\n') => Err(BodyError),
            (State::Extension { value }, _) => Ok(State::Extension { value }),
            // The trailer section starts a new count; so does the next chunk.
            (State::SizeEnd { value: 0 }, b'\n') => {
                self.line = 0;
                Ok(State::Trailer { empty: true })
            }
            (State::SizeEnd { value }, b'\n') => {
                self.line = 0;
                Ok(State::Data(value))
            }
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => {
                self.line = 0;
                Ok(State::Size { value: 0, digits: false })
            }
            (State::Trailer { empty }, b'\r') => Ok(State::TrailerEnd { last: empty }),
            (State::Trailer { .. }, b'\n') => Err(BodyError),
            (State::Trailer { .. }, _) => Ok(State::Trailer { empty: false }),
            (State::TrailerEnd { last: true }, b'\n') => Ok(State::Done),
            (State::TrailerEnd { last: false }, b'\n') => Ok(State::Trailer { empty: true }),
            _ => Err(BodyError),
        }
    }
}

/// Moves at most `left` bytes from `rest` to `out`.
fn take(rest: &mut &[u8], left: u64, out: &mut Vec<u8>) -> u64 {
    let count = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
    if let Some((data, after)) = rest.split_at_checked(count) {
        out.extend_from_slice(data);
        *rest = after;
    }
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Calls `check` with `count` seeded mutations of `seed`: bytes flipped, cut, doubled.
    pub(in crate::http) fn mutate(seed: &[u8], count: u32, mut check: impl FnMut(&[u8])) {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |bound: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % u64::try_from(bound.max(1)).unwrap()).unwrap()
        };
        for _ in 0..count {
            let mut input = seed.to_vec();
            for _ in 0..=next(3) {
                let (at, from) = (next(input.len()), next(input.len()));
                match next(4) {
                    0 if !input.is_empty() => input[at] = next(256).to_le_bytes()[0],
                    1 => input.truncate(at),
                    2 if !input.is_empty() => input.insert(at, input[from]),
                    3 if !input.is_empty() => drop(input.remove(at)),
                    _ => {}
                }
            }
            check(&input);
        }
    }

    fn decode(framing: Framing, pieces: &[&[u8]]) -> Result<(Vec<u8>, usize, bool), BodyError> {
        let (mut decoder, mut out, mut used) = (BodyDecoder::new(framing), Vec::new(), 0);
        for piece in pieces {
            used += decoder.decode(piece, &mut out)?;
        }
        Ok((out, used, decoder.is_done()))
    }

    #[test]
    fn chunks_in_every_splitting() {
        let body = b"4;name=value\r\nWiki\r\n5\r\npedia\r\n0\r\nTrailer: x\r\n\r\nNEXT";
        for at in 0..body.len() {
            let (out, used, done) = decode(Framing::Chunked, &[&body[..at], &body[at..]]).unwrap();
            // What comes after the body in the first piece is left alone; the second piece starts there.
            assert_eq!((&*out, done), (&b"Wikipedia"[..], true), "{at}");
            assert!(used >= body.len() - 4 - at.saturating_sub(body.len() - 4));
        }
        let singles: Vec<&[u8]> = body.chunks(1).collect();
        assert_eq!(
            decode(Framing::Chunked, &singles).unwrap(),
            (b"Wikipedia".to_vec(), body.len() - 4, true)
        );
    }

    #[test]
    fn lengths_end_where_they_say() {
        assert_eq!(decode(Framing::Length(3), &[b"ab", b"cd"]).unwrap(), (b"abc".to_vec(), 3, true));
        assert_eq!(decode(Framing::Length(0), &[b"x"]).unwrap(), (vec![], 0, true));
        assert_eq!(decode(Framing::Close, &[b"x", b"y"]).unwrap(), (b"xy".to_vec(), 2, false));
    }

    #[test]
    fn broken_chunks_are_refused() {
        for body in [
            &b"\r\n"[..],
            b"g\r\n",
            b"-1\r\n",
            b"1\nx\r\n",
            b"1\r\nxy\r\n",
            b"1\r\nx\n",
            b"10000000000000000\r\n",
            b";a\r\n",
            b"1;\n",
        ] {
            assert_eq!(decode(Framing::Chunked, &[body]), Err(BodyError), "{body:?}");
        }
        let long = [b"1;".to_vec(), vec![b'x'; usize::from(MAX_LINE)]].concat();
        assert_eq!(decode(Framing::Chunked, &[&long]), Err(BodyError));
        let trailers = [b"0\r\n".to_vec(), b"a: b\r\n".repeat(1000)].concat();
        assert_eq!(decode(Framing::Chunked, &[&trailers]), Err(BodyError));
    }

    #[test]
    fn written_chunks_read_back() {
        let mut out = Vec::new();
        write_chunk(b"", &mut out);
        write_chunk(&[7; 300], &mut out);
        write_chunk(b"z", &mut out);
        out.extend_from_slice(LAST_CHUNK);
        let (body, used, done) = decode(Framing::Chunked, &[&out]).unwrap();
        assert_eq!((body.len(), used, done), (301, out.len(), true));
    }

    #[test]
    fn mutated_bodies_never_panic_and_never_grow() {
        mutate(
            b"4;n=v\r\nWiki\r\n1f\r\npediapediapediapediapediapediape\r\n0\r\nT: x\r\n\r\n",
            300_000,
            |input| {
                let (mut decoder, mut out) = (BodyDecoder::new(Framing::Chunked), Vec::new());
                if let Ok(used) = decoder.decode(input, &mut out) {
                    assert!(used <= input.len() && out.len() <= used);
                }
            },
        );
    }
}
