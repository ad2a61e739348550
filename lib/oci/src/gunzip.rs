//! gzip (RFC 1952) around miniz_oxide's inflate, one or several members, without input or output.
//!
//! The CRC in the trailer is not computed: every layer is held to its sha256.

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

/// A streaming decoder.
pub(crate) struct Gunzip {
    state: State,
    inflate: Box<InflateState>,
}

/// Where in a member the decoder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the ten bytes of the fixed header: how many are done; flags.
    Fixed(u8, u8),
    /// In the length of the extra field: the first byte, if known; flags.
    ExtraLength(Option<u8>, u8),
    /// In the extra field: bytes left; flags.
    Extra(u16, u8),
    /// In the file name or the comment, which end with a NUL; flags.
    Text(u8),
    /// In the header's own checksum: bytes left.
    HeaderCrc(u8),
    /// In the compressed data.
    Body,
    /// In checksum and length behind it: bytes left.
    Trailer(u8),
    /// Behind a member: the next one or padding may follow.
    Between,
    /// In zero padding.
    Padding,
}

/// Flags of the header (RFC 1952 §2.3.1).
const FHCRC: u8 = 2;
const FEXTRA: u8 = 4;
const FNAME: u8 = 8;
const FCOMMENT: u8 = 16;

/// Why a stream is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Error {
    /// Not gzip.
    Header,
    /// The compressed data is damaged.
    Data,
    /// The stream ends too early.
    Truncated,
}

impl Error {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Header => "not gzip data",
            Self::Data => "damaged gzip data",
            Self::Truncated => "gzip data is cut short",
        }
    }
}

impl Gunzip {
    pub(crate) fn new() -> Self {
        Self { state: State::Fixed(0, 0), inflate: InflateState::new_boxed(DataFormat::Raw) }
    }

    /// Takes from the front of `input` and fills `output`; returns how many bytes it wrote there. 0 with
    /// empty input: give more.
    pub(crate) fn next(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, Error> {
        loop {
            if self.state == State::Body {
                // Even with no input left the window may still hold output.
                let result = inflate(&mut self.inflate, input, output, MZFlush::None);
                *input = input.get(result.bytes_consumed..).unwrap_or_default();
                match result.status {
                    Ok(MZStatus::StreamEnd) => self.state = State::Trailer(8),
                    Ok(_) | Err(MZError::Buf) => {}
                    Err(_) => return Err(Error::Data),
                }
                let stuck = result.bytes_consumed == 0 && self.state == State::Body;
                if result.bytes_written > 0 || stuck {
                    return Ok(result.bytes_written);
                }
                continue;
            }
            let Some((byte, rest)) = input.split_first() else { return Ok(0) };
            *input = rest;
            self.state = self.frame(*byte)?;
        }
    }

    /// The stream has ended.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        match self.state {
            State::Between | State::Padding => Ok(()),
            _ => Err(Error::Truncated),
        }
    }

    /// One byte outside of the compressed data.
    fn frame(&mut self, byte: u8) -> Result<State, Error> {
        Ok(match self.state {
            State::Between if byte == 0 => State::Padding,
            State::Between => {
                self.inflate.reset(DataFormat::Raw);
                self.state = State::Fixed(0, 0);
                return self.frame(byte);
            }
            State::Fixed(done, flags) => {
                let flags = match (done, byte) {
                    (0, 0x1f) | (1, 0x8b) | (2, 8) => 0,
                    (3, flags) if flags & 0xe0 == 0 => flags,
                    (4..=9, _) => flags,
                    _ => return Err(Error::Header),
                };
                match done {
                    9 if flags & FEXTRA != 0 => State::ExtraLength(None, flags),
                    9 => after_extra(flags),
                    _ => State::Fixed(done.saturating_add(1), flags),
                }
            }
            State::ExtraLength(None, flags) => State::ExtraLength(Some(byte), flags),
            State::ExtraLength(Some(low), flags) => match u16::from_le_bytes([low, byte]) {
                0 => after_extra(flags),
                length => State::Extra(length, flags),
            },
            State::Extra(1, flags) => after_extra(flags),
            State::Extra(left, flags) => State::Extra(left.saturating_sub(1), flags),
            // The name comes first, then the comment.
            State::Text(flags) if byte == 0 && flags & FNAME != 0 => after_extra(flags & !FNAME),
            State::Text(flags) if byte == 0 => after_extra(flags & !FCOMMENT),
            State::HeaderCrc(1) => State::Body,
            State::HeaderCrc(left) => State::HeaderCrc(left.saturating_sub(1)),
            State::Trailer(1) => State::Between,
            State::Trailer(left) => State::Trailer(left.saturating_sub(1)),
            State::Padding if byte != 0 => return Err(Error::Header),
            same @ (State::Text(_) | State::Body | State::Padding) => same,
        })
    }
}

/// What follows in a header with these flags, the extra field being done.
fn after_extra(flags: u8) -> State {
    match flags {
        _ if flags & (FNAME | FCOMMENT) != 0 => State::Text(flags),
        _ if flags & FHCRC != 0 => State::HeaderCrc(2),
        _ => State::Body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn all(data: &[u8], step: usize, window: usize) -> Result<Vec<u8>, Error> {
        let (mut gunzip, mut out, mut buffer) = (Gunzip::new(), Vec::new(), vec![0; window]);
        for mut piece in data.chunks(step) {
            loop {
                let count = gunzip.next(&mut piece, &mut buffer)?;
                out.extend_from_slice(&buffer[..count]);
                if count == 0 && piece.is_empty() {
                    break;
                }
            }
        }
        gunzip.finish().map(|()| out)
    }

    fn gzip(content: &[u8], arguments: &[&str]) -> Vec<u8> {
        let mut child = Command::new("gzip")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let content = content.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&content).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output.stdout
    }

    fn sample() -> Vec<u8> {
        (0..200_000u32).flat_map(|number| (number.wrapping_mul(number) >> 3).to_le_bytes()).collect()
    }

    #[test]
    fn gzips_output_is_read_in_pieces_of_any_size_and_members_in_a_row() {
        let sample = sample();
        let packed = gzip(&sample, &["-c"]);
        for (step, window) in [(1000, 64), (1 << 20, 1 << 16), (4096, 100_000)] {
            assert!(all(&packed, step, window).unwrap() == sample);
        }
        assert!(all(&gzip(b"abc", &[]), 1, 1).unwrap() == b"abc");
        let mut two = gzip(&sample, &["-c", "-1"]);
        two.extend(gzip(b"", &[]));
        two.extend(gzip(b"more", &[]));
        two.extend([0; 700]);
        let mut expected = sample;
        expected.extend(b"more");
        assert!(all(&two, 777, 4096).unwrap() == expected);
    }

    #[test]
    fn all_header_fields_are_skipped() {
        let mut packed = gzip(b"content", &[]);
        let body = packed.split_off(10);
        packed[3] = FHCRC | FEXTRA | FNAME | FCOMMENT;
        packed.extend(b"\x03\0extname\0comment\0cc");
        packed.extend(&body);
        assert_eq!(all(&packed, 3, 10).unwrap(), b"content");
        packed[3] = 0x80;
        assert_eq!(all(&packed, 3, 10), Err(Error::Header));
    }

    #[test]
    fn cut_and_mutated_streams_are_refused_or_decoded_without_panic() {
        let packed = gzip(&sample()[..50_000], &[]);
        for length in (0..packed.len()).step_by(997) {
            assert_eq!(all(&packed[..length], 4096, 4096), Err(Error::Truncated), "{length}");
        }
        let mut seed = 88_172_645_463_325_252_u64;
        for _ in 0..400 {
            let mut mutant = packed.clone();
            for _ in 0..3 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let place = usize::try_from(seed % mutant.len() as u64).unwrap();
                mutant[place] = u8::try_from(seed >> 56).unwrap();
            }
            let _ = all(&mutant, 1000, 8192);
        }
    }
}
