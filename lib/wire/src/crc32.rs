//! CRC-32 as in gzip, GPT and Ethernet (RFC 1952 §8, polynomial 0xEDB88320 reflected): it finds torn and rotten
//! files, not forgeries.

/// The remainders of all values of four bits.
const TABLE: [u32; 16] = table();

const fn table() -> [u32; 16] {
    let mut table = [0u32; 16];
    let mut index = 0;
    let mut value = 0u32;
    while index < 16 {
        let mut entry = value;
        let mut bit = 0;
        while bit < 4 {
            entry = if entry & 1 == 1 { (entry >> 1) ^ 0xedb8_8320 } else { entry >> 1 };
            bit += 1;
        }
        #[expect(clippy::indexing_slicing, reason = "the loop ends at 16, at compile time")]
        {
            table[index] = entry;
        }
        index += 1;
        value += 1;
    }
    table
}

/// The checksum of `data` after that of what came before it (0 at the start).
pub fn update(before: u32, data: &[u8]) -> u32 {
    let step = |crc: u32| {
        let index = usize::try_from(crc & 15).unwrap_or(0);
        (crc >> 4) ^ TABLE.get(index).copied().unwrap_or(0)
    };
    !data.iter().fold(!before, |crc, byte| step(step(crc ^ u32::from(*byte))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_catalogue_comes_out_whole_and_in_parts() {
        assert_eq!(update(0, b"123456789"), 0xcbf4_3926);
        assert_eq!(update(update(0, b"1234"), b"56789"), 0xcbf4_3926);
        assert_eq!(update(0, b""), 0);
    }
}
