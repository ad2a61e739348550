//! The superblock of a dm-verity hash tree, as veritysetup(8) writes it in front of the tree, and the kernel's table line
//! made of it.
//!
//! Layout: cryptsetup's "DMVerity" page, "Verity superblock format"; the table: the kernel's
//! Documentation/admin-guide/device-mapper/verity.rst. Numbers are little endian.

use std::fmt::Write;

/// Bytes of the superblock, at the start of the hash device.
pub const BYTES: usize = 512;
/// The kernel's sector, in which device mapper counts.
const SECTOR: u32 = 512;
/// Linux maps no blocks larger than a page; 4096 is the smallest page.
const LARGEST_BLOCK: u32 = 4096;
/// The longest digest that the kernel's table takes, in bytes: SHA-512.
const LONGEST_DIGEST: usize = 64;

/// What the superblock tells. It is no secret and signed by nobody: a wrong one makes a tree whose root has another hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// 1; 0 is Chrome OS's form, where the salt stands behind the block.
    pub hash_type: u32,
    /// The kernel's name of the hash, for instance `sha256`.
    pub algorithm: String,
    /// Bytes of a block of data.
    pub data_block: u32,
    /// Bytes of a block of the tree.
    pub hash_block: u32,
    /// How many blocks of data the tree covers.
    pub blocks: u64,
    /// What is hashed in front of each block.
    pub salt: Vec<u8>,
}

impl Superblock {
    /// Reads a superblock. `None`: it is none, or of a form that no kernel maps.
    pub fn parse(block: &[u8]) -> Option<Self> {
        let block = block.get(..BYTES)?;
        if !block.starts_with(b"verity\0\0") || number(block, 8, 4)? != 1 {
            return None;
        }
        let size = |at| {
            let size = u32::try_from(number(block, at, 4)?).ok()?;
            (size.is_power_of_two() && (SECTOR..=LARGEST_BLOCK).contains(&size)).then_some(size)
        };
        let name = block.get(32..64)?.split(|byte| *byte == 0).next()?;
        // It becomes a word of the table.
        let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
        if name.is_empty() || !name.iter().all(plain) {
            return None;
        }
        let salt = usize::try_from(number(block, 80, 2)?).ok()?;
        let found = Self {
            hash_type: u32::try_from(number(block, 12, 4)?).ok().filter(|kind| *kind <= 1)?,
            algorithm: String::from_utf8_lossy(name).into_owned(),
            data_block: size(64)?,
            hash_block: size(68)?,
            blocks: number(block, 72, 8)?,
            salt: block.get(88..344)?.get(..salt)?.to_vec(),
        };
        found.data_bytes().filter(|bytes| *bytes > 0)?;
        Some(found)
    }

    /// How many bytes of data the tree covers.
    pub fn data_bytes(&self) -> Option<u64> {
        self.blocks.checked_mul(self.data_block.into()).filter(|bytes| *bytes <= i64::MAX.unsigned_abs())
    }

    /// The length of the mapped device in sectors of 512 bytes.
    pub fn sectors(&self) -> u64 {
        self.data_bytes().unwrap_or(0) / u64::from(SECTOR)
    }

    /// The parameters of the kernel's target `verity`, for data on the device `data` and a tree with its superblock on
    /// the device `tree`. `option` is one of the table's optional words, or empty. `None`: `root_hash` is no hash.
    pub fn table(&self, data: &str, tree: &str, root_hash: &str, option: &str) -> Option<String> {
        let digest = root_hash.as_bytes();
        let bytes = digest.len() / 2;
        if !digest.iter().all(u8::is_ascii_hexdigit)
            || !digest.len().is_multiple_of(2)
            || !(16..=LONGEST_DIGEST).contains(&bytes)
        {
            return None;
        }
        let Self { hash_type, algorithm, data_block, hash_block, blocks, salt } = self;
        // The superblock has the first block of the tree's device for itself.
        let mut table = format!(
            "{hash_type} {data} {tree} {data_block} {hash_block} {blocks} 1 {algorithm} {root_hash} "
        );
        if salt.is_empty() {
            table.push('-');
        }
        for byte in salt {
            let _ = write!(table, "{byte:02x}");
        }
        if !option.is_empty() {
            let _ = write!(table, " 1 {option}");
        }
        Some(table)
    }
}

/// A number of at most eight bytes.
fn number(block: &[u8], at: usize, length: usize) -> Option<u64> {
    let mut value = 0u64;
    for byte in block.get(at..at.checked_add(length)?)?.iter().rev() {
        value = value << 8 | u64::from(*byte);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "4e3db6df9d4bd2e7de0a1a3bbaaf9fc7b7bbf1b6d8f5fd2b5e3cf2ed2b5f3a10";

    /// The fields as the page of cryptsetup places them.
    fn superblock() -> Vec<u8> {
        let mut block = vec![0; BYTES];
        block[..8].copy_from_slice(b"verity\0\0");
        block[8..16].copy_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0]);
        block[16..32].fill(0xAA);
        block[32..38].copy_from_slice(b"sha256");
        block[64..72].copy_from_slice(&[0, 16, 0, 0, 0, 16, 0, 0]);
        block[72..80].copy_from_slice(&787u64.to_le_bytes());
        block[80] = 3;
        block[88..91].copy_from_slice(&[0xDE, 0x0A, 0xD0]);
        block
    }

    #[test]
    fn fields_and_table() {
        let found = Superblock::parse(&superblock()).unwrap();
        assert_eq!((found.blocks, found.sectors(), found.data_bytes()), (787, 6296, Some(3_223_552)));
        assert_eq!(
            found.table("/dev/loop0", "/dev/loop1", HASH, "restart_on_corruption").unwrap(),
            format!("1 /dev/loop0 /dev/loop1 4096 4096 787 1 sha256 {HASH} de0ad0 1 restart_on_corruption")
        );
        let plain = Superblock { salt: Vec::new(), ..found };
        assert!(plain.table("7:0", "7:1", HASH, "").unwrap().ends_with(&format!("{HASH} -")));
    }

    #[test]
    fn a_hash_is_whole_bytes_of_hexadecimal_digits() {
        let found = Superblock::parse(&superblock()).unwrap();
        let long = HASH.repeat(3);
        for wrong in [
            "",
            "00",
            "4e3d b6df9d4bd2e7de0a1a3bbaaf9fc7b",
            &HASH[1..],
            &long,
            "zz3db6df9d4bd2e7de0a1a3bbaaf9fc7",
        ] {
            assert_eq!(found.table("a", "b", wrong, ""), None, "{wrong}");
        }
    }

    #[test]
    fn what_no_kernel_maps_is_refused() {
        let broken: &[(usize, u8)] = &[
            (0, b'V'),
            (8, 2),
            (12, 2),
            (32, 0),
            (33, b' '),
            (64, 1),
            (65, 0),
            (69, 32),
            (81, 2),
            (79, 255),
        ];
        for (at, byte) in broken {
            let mut block = superblock();
            block[*at] = *byte;
            assert_eq!(Superblock::parse(&block), None, "{at}");
        }
        assert_eq!(Superblock::parse(&superblock()[..BYTES - 1]), None);
    }

    #[test]
    fn never_panics_on_mutated_superblocks() {
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..50_000 {
            let mut block = superblock();
            for _ in 0..3 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let index = usize::try_from(random >> 33).unwrap() % block.len();
                block[index] = u8::try_from(random & 0xFF).unwrap();
            }
            if let Some(found) = Superblock::parse(&block) {
                assert!(found.table("/dev/loop0", "/dev/loop1", HASH, "").unwrap().len() < 1024);
            }
        }
    }
}
