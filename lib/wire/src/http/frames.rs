//! Multiplexed output of a container: frames of `[stream, 0, 0, 0, length as 32 bits big endian]` and the
//! payload (Docker Engine API, "Attach to a container", stream format).

use std::fmt;

/// Bytes before each payload.
pub const FRAME_HEADER: usize = 8;

/// The header of a frame: stream 0 is standard input (echoed), 1 standard output, 2 standard error.
pub fn frame_header(stream: u8, length: u32) -> [u8; FRAME_HEADER] {
    let [a, b, c, d] = length.to_be_bytes();
    [stream, 0, 0, 0, a, b, c, d]
}

/// A byte stream that is not made of frames; usually a container with a terminal, which sends raw bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadFrame;

impl fmt::Display for BadFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a multiplexed stream")
    }
}

/// Takes frames apart, in whatever pieces the stream comes, without a buffer for payloads.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    header: [u8; FRAME_HEADER],
    filled: usize,
    left: u32,
}

/// A piece of a payload with its stream number.
pub type Piece<'a> = (u8, &'a [u8]);

impl FrameDecoder {
    /// Takes the next piece of a payload from `input`; with it comes what is left of `input`. `None`: all of
    /// `input` is used up.
    pub fn next<'a>(&mut self, mut input: &'a [u8]) -> Result<(Option<Piece<'a>>, &'a [u8]), BadFrame> {
        while self.left == 0 {
            let Some((byte, rest)) = input.split_first() else { return Ok((None, input)) };
            input = rest;
            self.header_byte(*byte)?;
        }
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
        let (data, rest) = input.split_at_checked(count).unwrap_or((input, &[]));
        if data.is_empty() {
            return Ok((None, rest));
        }
        self.left = self.left.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        let [stream, ..] = self.header;
        Ok((Some((stream, data)), rest))
    }

    fn header_byte(&mut self, byte: u8) -> Result<(), BadFrame> {
        if let Some(place) = self.header.get_mut(self.filled) {
            *place = byte;
        }
        self.filled = self.filled.saturating_add(1);
        if self.filled < FRAME_HEADER {
            return Ok(());
        }
        self.filled = 0;
        let [stream, zeros @ .., a, b, c, d] = self.header;
        if stream > 2 || zeros != [0; 3] {
            return Err(BadFrame);
        }
        self.left = u32::from_be_bytes([a, b, c, d]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> Result<Vec<(u8, Vec<u8>)>, BadFrame> {
        let (mut decoder, mut all) = (FrameDecoder::default(), Vec::<(u8, Vec<u8>)>::new());
        for piece in pieces {
            let mut rest = *piece;
            while let (Some((stream, data)), after) = decoder.next(rest)? {
                match all.last_mut() {
                    Some((last, text)) if *last == stream => text.extend_from_slice(data),
                    _ => all.push((stream, data.to_vec())),
                }
                rest = after;
            }
        }
        Ok(all)
    }

    fn sample() -> Vec<u8> {
        let mut bytes = frame_header(1, 5).to_vec();
        bytes.extend_from_slice(b"hello");
        bytes.extend_from_slice(&frame_header(1, 0));
        bytes.extend_from_slice(&frame_header(2, 2));
        bytes.extend_from_slice(b"no");
        bytes
    }

    #[test]
    fn frames_in_every_splitting() {
        let bytes = sample();
        for at in 0..=bytes.len() {
            let all = decode(&[&bytes[..at], &bytes[at..]]).unwrap();
            assert_eq!(all, [(1, b"hello".to_vec()), (2, b"no".to_vec())], "{at}");
        }
    }

    #[test]
    fn raw_text_is_no_frame() {
        assert_eq!(decode(&[b"hello world"]), Err(BadFrame));
    }

    #[test]
    fn mutated_frames_never_panic() {
        crate::http::chunked::tests::mutate(&sample(), 200_000, |input| {
            let _ = decode(&[input]);
        });
    }
}
