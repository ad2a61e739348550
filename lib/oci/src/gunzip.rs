//! gzip (RFC 1952) with deflate (RFC 1951), one or several members.
//!
//! The CRC in the trailer is not computed: every layer is held to its sha256.

use crate::{Error, Result};

/// Where the compressed data comes from and the content goes to.
pub(crate) trait Pipe {
    /// The next byte of the compressed data; `None` at its end.
    fn byte(&mut self) -> Result<Option<u8>>;
    /// Takes the next bytes of the content.
    fn content(&mut self, content: &[u8]) -> Result<()>;
}

/// How far back content may be repeated.
const WINDOW: usize = 32 * 1024;
/// Codes up to this length are looked up at once.
const FAST: u32 = 9;
/// The longest code.
const LONGEST: u32 = 15;

/// Flags of the header (RFC 1952 §2.3.1).
const FHCRC: u32 = 2;
const FEXTRA: u32 = 4;
const FNAME: u32 = 8;
const FCOMMENT: u32 = 16;

const NOT_GZIP: &str = "not gzip data";
const DAMAGED: &str = "damaged gzip data";
const CUT: &str = "gzip data is cut short";

#[cold]
#[inline(never)]
fn fail(reason: &'static str) -> Error {
    Error::bad("layer", &reason)
}

/// Decompresses everything.
pub(crate) fn gunzip(pipe: &mut dyn Pipe) -> Result<()> {
    Decoder { pipe, held: 0, count: 0, window: vec![0; WINDOW], place: 0, reach: 0 }.members()
}

struct Decoder<'a> {
    pipe: &'a mut dyn Pipe,
    /// Bits that were read and not used yet, the next one lowest, and how many.
    held: u32,
    count: u32,
    /// The last content, written round and round.
    window: Vec<u8>,
    place: usize,
    /// How far back there is content of this member.
    reach: usize,
}

impl Decoder<'_> {
    fn members(&mut self) -> Result<()> {
        let mut first = self.bits(8)?;
        loop {
            if (first, self.bits(8)?, self.bits(8)?) != (0x1f, 0x8b, 8) {
                return Err(fail(NOT_GZIP));
            }
            self.member()?;
            // What follows is another member or zero padding.
            if !self.hold(8)? {
                break;
            }
            first = self.bits(8)?;
            if first == 0 {
                while self.hold(8)? {
                    if self.bits(8)? != 0 {
                        return Err(fail(NOT_GZIP));
                    }
                }
                break;
            }
        }
        self.pipe.content(self.window.get(..self.place).unwrap_or_default())
    }

    /// A member after its first three bytes.
    fn member(&mut self) -> Result<()> {
        let flags = self.bits(8)?;
        if flags & 0xe0 != 0 {
            return Err(fail(NOT_GZIP));
        }
        self.skip(6)?;
        if flags & FEXTRA != 0 {
            let length = self.bits(16)?;
            self.skip(length)?;
        }
        for flag in [FNAME, FCOMMENT] {
            while flags & flag != 0 && self.bits(8)? != 0 {}
        }
        if flags & FHCRC != 0 {
            self.skip(2)?;
        }
        self.reach = 0;
        loop {
            let last = self.bits(1)?;
            match self.bits(2)? {
                0 => self.stored()?,
                1 => {
                    let mut lengths = [8; 288];
                    lengths.iter_mut().take(256).skip(144).for_each(|length| *length = 9);
                    lengths.iter_mut().take(280).skip(256).for_each(|length| *length = 7);
                    self.compressed(&lengths, &[5; 30])?;
                }
                2 => self.dynamic()?,
                _ => return Err(fail(DAMAGED)),
            }
            if last == 1 {
                break;
            }
        }
        // Checksum and length.
        self.align();
        self.skip(8)
    }

    /// Reads until `wanted` bits are held; whether there are as many.
    fn hold(&mut self, wanted: u32) -> Result<bool> {
        while self.count < wanted {
            let Some(byte) = self.pipe.byte()? else { return Ok(false) };
            self.held |= u32::from(byte) << self.count;
            self.count += 8;
        }
        Ok(true)
    }

    /// The next up to 16 bits.
    fn bits(&mut self, wanted: u32) -> Result<u32> {
        if !self.hold(wanted)? {
            return Err(fail(CUT));
        }
        let bits = self.held & !(u32::MAX << wanted);
        self.drop(wanted);
        Ok(bits)
    }

    fn drop(&mut self, bits: u32) {
        self.held >>= bits;
        self.count -= bits;
    }

    fn skip(&mut self, bytes: u32) -> Result<()> {
        (0..bytes).try_for_each(|_| self.bits(8).map(|_| ()))
    }

    /// Goes to the beginning of the next byte.
    fn align(&mut self) {
        self.drop(self.count % 8);
    }

    fn put(&mut self, byte: u8) -> Result<()> {
        if let Some(place) = self.window.get_mut(self.place) {
            *place = byte;
        }
        self.reach = WINDOW.min(self.reach + 1);
        self.place += 1;
        if self.place == WINDOW {
            self.place = 0;
            self.pipe.content(&self.window)?;
        }
        Ok(())
    }

    fn stored(&mut self) -> Result<()> {
        self.align();
        let (length, check) = (self.bits(16)?, self.bits(16)?);
        if length ^ check != 0xffff {
            return Err(fail(DAMAGED));
        }
        for _ in 0..length {
            let byte = self.bits(8)?.to_le_bytes()[0];
            self.put(byte)?;
        }
        Ok(())
    }

    /// A block that says by which codes it is compressed (RFC 1951 §3.2.7).
    fn dynamic(&mut self) -> Result<()> {
        const ORDER: [u8; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
        let literals = usize_of(self.bits(5)?) + 257;
        let all = literals + usize_of(self.bits(5)?) + 1;
        let count = usize_of(self.bits(4)?) + 4;
        let mut lengths = [0; 19];
        for place in ORDER.iter().take(count) {
            let length = self.bits(3)?.to_le_bytes()[0];
            if let Some(place) = lengths.get_mut(usize::from(*place)) {
                *place = length;
            }
        }
        let codes = Codes::new(&lengths)?;
        let mut lengths: Vec<u8> = Vec::new();
        while lengths.len() < all {
            let (length, times) = match self.symbol(&codes)? {
                16 => (lengths.last().copied().ok_or_else(|| fail(DAMAGED))?, self.bits(2)? + 3),
                17 => (0, self.bits(3)? + 3),
                18 => (0, self.bits(7)? + 11),
                length => (length.to_le_bytes()[0], 1),
            };
            lengths.resize(lengths.len() + usize_of(times), length);
        }
        match lengths.split_at_checked(literals) {
            Some((literals, distances)) if lengths.len() == all => self.compressed(literals, distances),
            _ => Err(fail(DAMAGED)),
        }
    }

    fn compressed(&mut self, literals: &[u8], distances: &[u8]) -> Result<()> {
        let (literals, distances) = (Codes::new(literals)?, Codes::new(distances)?);
        loop {
            // RFC 1951 §3.2.5; the tables there follow these rules.
            let length = match self.symbol(&literals)? {
                literal @ 0..256 => {
                    self.put(literal.to_le_bytes()[0])?;
                    continue;
                }
                256 => return Ok(()),
                symbol @ 257..265 => symbol - 254,
                symbol @ 265..285 => self.extended(symbol - 257, 2)? + 3,
                285 => 258,
                _ => return Err(fail(DAMAGED)),
            };
            let distance = match self.symbol(&distances)? {
                symbol @ 0..4 => symbol + 1,
                symbol @ 4..30 => self.extended(symbol, 1)? + 1,
                _ => return Err(fail(DAMAGED)),
            };
            let distance = usize_of(distance);
            if distance > self.reach {
                return Err(fail(DAMAGED));
            }
            for _ in 0..length {
                let from = self.place.wrapping_sub(distance) % WINDOW;
                self.put(self.window.get(from).copied().unwrap_or(0))?;
            }
        }
    }

    /// The number of a symbol with extra bits: its lowest `low` bits follow a one, then come the extra bits.
    fn extended(&mut self, symbol: u32, low: u32) -> Result<u32> {
        let extra = (symbol >> low) - 1;
        let start = (1 << low | symbol & !(u32::MAX << low)) << extra;
        Ok(start + self.bits(extra)?)
    }

    fn symbol(&mut self, codes: &Codes) -> Result<u32> {
        // At the end of the data there may be fewer.
        self.hold(LONGEST)?;
        let mut found = codes.fast.get(usize_of(self.held & !(u32::MAX << FAST))).copied().unwrap_or(0);
        if found == 0 {
            found = codes.find(self.held);
        }
        let length = u32::from(found & 15);
        if found == 0 || length > self.count {
            return Err(fail(if self.count < LONGEST { CUT } else { DAMAGED }));
        }
        self.drop(length);
        Ok(u32::from(found >> 4))
    }
}

/// A set of Huffman codes (RFC 1951 §3.2.2). A symbol's entry is its number times 16 and its code's length.
struct Codes {
    /// Entries by the next [`FAST`] bits; 0 where the code is longer.
    fast: Vec<u16>,
    /// Entries in the order of their codes.
    entries: Vec<u16>,
    /// How many codes of each length there are.
    counts: Vec<u32>,
}

impl Codes {
    /// The codes of symbols whose lengths these are; 0: the symbol does not occur.
    fn new(lengths: &[u8]) -> Result<Self> {
        let mut codes = Self { fast: vec![0; 1 << FAST], entries: Vec::new(), counts: Vec::new() };
        let mut code = 0u32;
        for length in 1..=LONGEST {
            code <<= 1;
            let first = code;
            for (symbol, _) in (0u16..).zip(lengths).filter(|(_, found)| u32::from(**found) == length) {
                let entry = symbol << 4 | u16::try_from(length).unwrap_or(0);
                codes.entries.push(entry);
                let mut place = usize_of(code.reverse_bits() >> (32 - length));
                while let Some(fast) = codes.fast.get_mut(place).filter(|_| length <= FAST) {
                    *fast = entry;
                    place += 1 << length;
                }
                code += 1;
            }
            // More codes than there is room for.
            if code > 1 << length {
                return Err(fail(DAMAGED));
            }
            codes.counts.push(code - first);
        }
        Ok(codes)
    }

    /// The entry whose code the next bits begin with; 0: there is none.
    fn find(&self, mut bits: u32) -> u16 {
        let (mut code, mut first, mut place) = (0, 0, 0);
        for count in &self.counts {
            code |= bits & 1;
            if code - first < *count {
                return self.entries.get(usize_of(place + code - first)).copied().unwrap_or(0);
            }
            bits >>= 1;
            place += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        0
    }
}

fn usize_of(number: u32) -> usize {
    usize::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    /// Data in pieces of this size.
    struct Pieces<'a> {
        pieces: std::slice::Chunks<'a, u8>,
        piece: std::slice::Iter<'a, u8>,
        out: Vec<u8>,
    }

    impl Pipe for Pieces<'_> {
        fn byte(&mut self) -> Result<Option<u8>> {
            if self.piece.len() == 0 {
                self.piece = self.pieces.next().unwrap_or_default().iter();
            }
            Ok(self.piece.next().copied())
        }

        fn content(&mut self, content: &[u8]) -> Result<()> {
            self.out.extend_from_slice(content);
            Ok(())
        }
    }

    fn all(data: &[u8], step: usize) -> std::result::Result<Vec<u8>, String> {
        let mut pipe = Pieces { pieces: data.chunks(step), piece: [].iter(), out: Vec::new() };
        match gunzip(&mut pipe) {
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
    fn all_header_fields_are_skipped() {
        let mut packed = gzip(b"content", &[]);
        let body = packed.split_off(10);
        packed[3] = u8::try_from(FHCRC | FEXTRA | FNAME | FCOMMENT).unwrap();
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
