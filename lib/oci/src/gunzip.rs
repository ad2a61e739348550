//! gzip (RFC 1952), one or several members; miniz_oxide inflates what is in them.
//!
//! The CRC in the trailer is not computed: every layer is held to its sha256.

use crate::{Error, Result};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY,
};
use miniz_oxide::inflate::core::{BlockBoundaryState, DecompressorOxide, decompress};

/// Where the compressed data comes from and the content goes to.
pub(crate) trait Pipe {
    /// The next bytes of the compressed data; none at its end.
    fn data(&mut self) -> Result<&[u8]>;
    /// So many of them are done.
    fn advance(&mut self, count: usize);
    /// Takes the next bytes of the content.
    fn content(&mut self, content: &[u8]) -> Result<()>;
    /// Between two blocks: from here decompression may be taken up another time.
    fn between(&mut self, place: &Place<'_>) -> Result<()>;
}

/// How far back content may be repeated.
pub(crate) const WINDOW: usize = 32 * 1024;

/// Where decompression may be taken up: between two blocks of a member.
#[derive(Debug, Clone)]
pub(crate) struct Place<'a> {
    /// Bits of the last byte done that belong to the next block, in the lower places, and how many.
    pub(crate) bits: u8,
    pub(crate) count: u8,
    /// The last [`WINDOW`] bytes of content, round and round, and where the next one goes.
    pub(crate) window: std::borrow::Cow<'a, [u8]>,
    pub(crate) next: usize,
}

/// Flags of the header (RFC 1952 §2.3.1).
const FHCRC: u8 = 2;
const FEXTRA: u8 = 4;
const FNAME: u8 = 8;
const FCOMMENT: u8 = 16;

const NOT_GZIP: &str = "not gzip data";
const DAMAGED: &str = "damaged gzip data";
const CUT: &str = "gzip data is cut short";

#[cold]
#[inline(never)]
fn fail(reason: &'static str) -> Error {
    Error::bad("layer", &reason)
}

/// Decompresses everything, or what follows a place.
pub(crate) fn gunzip(pipe: &mut dyn Pipe, from: Option<&Place<'_>>) -> Result<()> {
    let mut decoder = Decoder { pipe, inflate: Box::default(), window: vec![0; WINDOW] };
    let Some(from) = from else { return decoder.members(None) };
    let state = BlockBoundaryState { num_bits: from.count, bit_buf: from.bits, ..Default::default() };
    // The decoder takes no more than the bits of a byte, and its window is as large as its own.
    if from.count > 7 || from.window.len() != WINDOW || from.next >= WINDOW {
        return Err(fail(DAMAGED));
    }
    *decoder.inflate = DecompressorOxide::from_block_boundary_state(&state);
    decoder.window.copy_from_slice(&from.window);
    decoder.members(Some(from.next))
}

struct Decoder<'a> {
    pipe: &'a mut dyn Pipe,
    inflate: Box<DecompressorOxide>,
    /// The last content, written round and round.
    window: Vec<u8>,
}

impl Decoder<'_> {
    /// All members; first the rest of one when it is taken up.
    fn members(&mut self, mut rest: Option<usize>) -> Result<()> {
        let mut first = if rest.is_some() { 0x1f } else { self.byte()? };
        loop {
            if first != 0x1f {
                return Err(fail(NOT_GZIP));
            }
            let place = rest.take();
            if place.is_none() {
                self.header()?;
                self.inflate.init();
            }
            self.body(place.unwrap_or(0))?;
            // Checksum and length.
            self.skip(8)?;
            // What follows is another member or zero padding.
            match self.next()? {
                Some(0) => break,
                Some(byte) => first = byte,
                None => return Ok(()),
            }
        }
        while let Some(byte) = self.next()? {
            if byte != 0 {
                return Err(fail(NOT_GZIP));
            }
        }
        Ok(())
    }

    /// A member's header after its first byte.
    fn header(&mut self) -> Result<()> {
        let (magic, method, flags) = (self.byte()?, self.byte()?, self.byte()?);
        if magic != 0x8b || method != 8 || flags & 0xe0 != 0 {
            return Err(fail(NOT_GZIP));
        }
        self.skip(6)?;
        if flags & FEXTRA != 0 {
            let length = u16::from_le_bytes([self.byte()?, self.byte()?]);
            self.skip(length)?;
        }
        for flag in [FNAME, FCOMMENT] {
            while flags & flag != 0 && self.byte()? != 0 {}
        }
        // The header's own checksum has two bytes.
        self.skip((flags & FHCRC).into())
    }

    fn body(&mut self, mut place: usize) -> Result<()> {
        loop {
            let data = self.pipe.data()?;
            let more = if data.is_empty() { 0 } else { TINFL_FLAG_HAS_MORE_INPUT };
            let flags = more | TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY;
            let (status, used, written) = decompress(&mut self.inflate, data, &mut self.window, place, flags);
            self.pipe.advance(used);
            let fresh = self.window.get(place..).and_then(|rest| rest.get(..written));
            self.pipe.content(fresh.unwrap_or_default())?;
            place = place.saturating_add(written) % WINDOW;
            match status {
                TINFLStatus::Done => return Ok(()),
                TINFLStatus::HasMoreOutput | TINFLStatus::NeedsMoreInput => {}
                TINFLStatus::BlockBoundary => {
                    if let Some(state) = self.inflate.block_boundary_state() {
                        let window = std::borrow::Cow::Borrowed(self.window.as_slice());
                        let (bits, count) = (state.bit_buf, state.num_bits);
                        self.pipe.between(&Place { bits, count, window, next: place })?;
                    }
                }
                TINFLStatus::FailedCannotMakeProgress => return Err(fail(CUT)),
                _ => return Err(fail(DAMAGED)),
            }
        }
    }

    fn next(&mut self) -> Result<Option<u8>> {
        let byte = self.pipe.data()?.first().copied();
        self.pipe.advance(usize::from(byte.is_some()));
        Ok(byte)
    }

    fn byte(&mut self) -> Result<u8> {
        self.next()?.ok_or_else(|| fail(CUT))
    }

    fn skip(&mut self, bytes: u16) -> Result<()> {
        for _ in 0..bytes {
            self.byte()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    /// Data in pieces of this size.
    struct Pieces<'a> {
        pieces: std::slice::Chunks<'a, u8>,
        piece: &'a [u8],
        /// Bytes of the data that are done.
        done: usize,
        out: Vec<u8>,
        /// Where it may be taken up: bytes of the data and of the content, and the place.
        places: Vec<(usize, usize, Place<'static>)>,
    }

    impl Pipe for Pieces<'_> {
        fn data(&mut self) -> Result<&[u8]> {
            if self.piece.is_empty() {
                self.piece = self.pieces.next().unwrap_or_default();
            }
            Ok(self.piece)
        }

        fn advance(&mut self, count: usize) {
            self.piece = &self.piece[count..];
            self.done += count;
        }

        fn content(&mut self, content: &[u8]) -> Result<()> {
            self.out.extend_from_slice(content);
            Ok(())
        }

        fn between(&mut self, place: &Place<'_>) -> Result<()> {
            let window = place.window.to_vec().into();
            self.places.push((self.done, self.out.len(), Place { window, ..*place }));
            Ok(())
        }
    }

    fn pieces(data: &[u8], step: usize) -> Pieces<'_> {
        Pieces { pieces: data.chunks(step), piece: &[], done: 0, out: Vec::new(), places: Vec::new() }
    }

    fn all(data: &[u8], step: usize) -> std::result::Result<Vec<u8>, String> {
        let mut pipe = pieces(data, step);
        match gunzip(&mut pipe, None) {
            Ok(()) => Ok(pipe.out),
            Err(error) => Err(error.to_string().replace("layer: ", "")),
        }
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
        for step in [1000, 1 << 20, 4096] {
            assert!(all(&packed, step).unwrap() == sample);
        }
        assert!(all(&gzip(b"abc", &[]), 1).unwrap() == b"abc");
        let mut two = gzip(&sample, &["-c", "-1"]);
        two.extend(gzip(b"", &[]));
        two.extend(gzip(b"more", &[]));
        two.extend([0; 700]);
        let mut expected = sample;
        expected.extend(b"more");
        assert!(all(&two, 777).unwrap() == expected);
    }

    #[test]
    fn every_kind_of_block_and_distance_is_understood() {
        // Text with repetitions near and far, runs, and noise that gzip stores as it is.
        let mut seed = 88_172_645_463_325_252_u64;
        let mut content = Vec::new();
        for round in 0..3000usize {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let number = usize::try_from(seed >> 40).unwrap();
            match number % 4 {
                0 => content.extend(seed.to_le_bytes().repeat(1 + number % 90)),
                1 => content.extend(vec![seed.to_le_bytes()[0]; number % 700]),
                2 => content.extend(format!("line {round} of {number}\n").repeat(number % 5).into_bytes()),
                _ => {
                    let start = content.len().saturating_sub(number % 40_000);
                    let again = content[start..].iter().take(number % 300).copied().collect::<Vec<_>>();
                    content.extend(again);
                }
            }
        }
        let mut noise = seed;
        for _ in 0..100_000 {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            content.push(noise.to_le_bytes()[7]);
        }
        for level in ["-1", "-6", "-9"] {
            assert!(all(&gzip(&content, &[level]), 5000).unwrap() == content, "{level}");
            assert!(all(&gzip(&content[..40], &[level]), 5000).unwrap() == content[..40], "{level}");
        }
        assert_eq!(all(&gzip(b"", &[]), 10).unwrap(), b"");
    }

    #[test]
    fn it_is_taken_up_between_any_two_blocks() {
        let content = sample();
        let mut packed = gzip(&content[..500_000], &["-1"]);
        packed.extend(gzip(&content[500_000..], &["-9"]));
        for step in [1, 4096] {
            let mut pipe = pieces(&packed, step);
            gunzip(&mut pipe, None).unwrap();
            assert!(pipe.out == content && pipe.places.len() > 20, "{}", pipe.places.len());
            for (done, out, place) in pipe.places.iter().step_by(if step == 1 { 5 } else { 1 }) {
                let mut rest = pieces(&packed[*done..], 1000);
                gunzip(&mut rest, Some(place)).unwrap();
                assert!(rest.out == content[*out..], "{done}");
            }
        }
        let bad = Place { bits: 0, count: 9, window: vec![0; WINDOW].into(), next: 0 };
        assert!(gunzip(&mut pieces(&packed, 9), Some(&bad)).is_err());
    }

    #[test]
    fn all_header_fields_are_skipped() {
        let mut packed = gzip(b"content", &[]);
        let body = packed.split_off(10);
        packed[3] = FHCRC | FEXTRA | FNAME | FCOMMENT;
        packed.extend(b"\x03\0extname\0comment\0cc");
        packed.extend(&body);
        assert_eq!(all(&packed, 3).unwrap(), b"content");
        packed[3] = 0x80;
        assert_eq!(all(&packed, 3), Err(NOT_GZIP.to_owned()));
    }

    #[test]
    fn cut_and_mutated_streams_are_refused_or_decoded_without_panic() {
        let packed = gzip(&sample()[..50_000], &[]);
        for length in (0..packed.len()).step_by(997) {
            assert_eq!(all(&packed[..length], 4096), Err(CUT.to_owned()), "{length}");
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
            let _ = all(&mutant, 1000);
        }
    }
}
