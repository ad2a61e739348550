//! MD5 (RFC 1321): `fatrw` names its copies by it, so other readers of the boot partition expect it. It guards
//! against torn writes, not against people.

use std::fmt::Write as _;

/// `floor(2^32 × |sin(i + 1)|)`.
#[rustfmt::skip]
const SINES: [u32; 64] = [
    0xD76A_A478, 0xE8C7_B756, 0x2420_70DB, 0xC1BD_CEEE, 0xF57C_0FAF, 0x4787_C62A, 0xA830_4613, 0xFD46_9501,
    0x6980_98D8, 0x8B44_F7AF, 0xFFFF_5BB1, 0x895C_D7BE, 0x6B90_1122, 0xFD98_7193, 0xA679_438E, 0x49B4_0821,
    0xF61E_2562, 0xC040_B340, 0x265E_5A51, 0xE9B6_C7AA, 0xD62F_105D, 0x0244_1453, 0xD8A1_E681, 0xE7D3_FBC8,
    0x21E1_CDE6, 0xC337_07D6, 0xF4D5_0D87, 0x455A_14ED, 0xA9E3_E905, 0xFCEF_A3F8, 0x676F_02D9, 0x8D2A_4C8A,
    0xFFFA_3942, 0x8771_F681, 0x6D9D_6122, 0xFDE5_380C, 0xA4BE_EA44, 0x4BDE_CFA9, 0xF6BB_4B60, 0xBEBF_BC70,
    0x289B_7EC6, 0xEAA1_27FA, 0xD4EF_3085, 0x0488_1D05, 0xD9D4_D039, 0xE6DB_99E5, 0x1FA2_7CF8, 0xC4AC_5665,
    0xF429_2244, 0x432A_FF97, 0xAB94_23A7, 0xFC93_A039, 0x655B_59C3, 0x8F0C_CC92, 0xFFEF_F47D, 0x8584_5DD1,
    0x6FA8_7E4F, 0xFE2C_E6E0, 0xA301_4314, 0x4E08_11A1, 0xF753_7E82, 0xBD3A_F235, 0x2AD7_D2BB, 0xEB86_D391,
];
const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// A sum under way.
#[derive(Debug, Clone)]
pub struct Md5 {
    state: [u32; 4],
    length: u64,
    /// What does not make a block yet.
    rest: Vec<u8>,
}

impl Default for Md5 {
    fn default() -> Self {
        Self { state: [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476], length: 0, rest: Vec::new() }
    }
}

impl Md5 {
    /// Takes the next bytes in.
    pub fn update(&mut self, content: &[u8]) {
        self.length = self.length.wrapping_add(u64::try_from(content.len()).unwrap_or(0));
        self.rest.extend_from_slice(content);
        let (blocks, rest) = self.rest.as_chunks::<64>();
        for block in blocks {
            compress(&mut self.state, block);
        }
        let done = self.rest.len().saturating_sub(rest.len());
        self.rest.drain(..done);
    }

    /// The digest as 32 lower-case hex digits.
    pub fn hex(mut self) -> String {
        // The padding: one bit, zeros, the length in bits; it takes one block or two.
        let bits = self.length.wrapping_mul(8);
        self.rest.push(0x80);
        while self.rest.len() % 64 != 56 {
            self.rest.push(0);
        }
        self.update(&bits.to_le_bytes());
        let mut text = String::with_capacity(32);
        for word in self.state {
            let _ = write!(text, "{:08x}", word.swap_bytes());
        }
        text
    }
}

/// The digest of what is in memory.
pub fn hex(content: &[u8]) -> String {
    let mut sum = Md5::default();
    sum.update(content);
    sum.hex()
}

fn compress(state: &mut [u32; 4], block: &[u8; 64]) {
    let mut words = [0u32; 16];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    let [mut a, mut b, mut c, mut d] = *state;
    for (step, sine) in SINES.iter().enumerate() {
        let (mix, index) = match step / 16 {
            0 => ((b & c) | (!b & d), step),
            1 => ((d & b) | (!d & c), 5 * step + 1),
            2 => (b ^ c ^ d, 3 * step + 5),
            _ => (c ^ (b | !d), 7 * step),
        };
        let word = words.get(index % 16).copied().unwrap_or(0);
        let shift = SHIFTS.get(step / 16).and_then(|row| row.get(step % 4)).copied().unwrap_or(0);
        let sum = a.wrapping_add(mix).wrapping_add(*sine).wrapping_add(word);
        (a, d, c, b) = (d, c, b, b.wrapping_add(sum.rotate_left(shift)));
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(add);
    }
}

#[cfg(test)]
mod tests {
    use super::hex;

    #[test]
    fn the_test_suite_of_rfc_1321() {
        assert_eq!(hex(b""), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(hex(b"abc"), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(hex(b"message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
        let digits = "1234567890".repeat(8);
        assert_eq!(hex(digits.as_bytes()), "57edf4a22be3c955ac49da2e2107b67a");
    }

    #[test]
    fn every_length_around_a_block_as_md5sum_has_it() {
        use std::io::Write;
        for length in (53..=66).chain(117..=130) {
            let content = vec![b'x'; length];
            let mut child = std::process::Command::new("md5sum")
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(&content).unwrap();
            let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
            assert_eq!(Some(hex(&content).as_str()), output.split_whitespace().next(), "{length}");
            let mut pieces = super::Md5::default();
            content.chunks(7).for_each(|piece| pieces.update(piece));
            assert_eq!(pieces.hex(), hex(&content));
        }
    }
}
