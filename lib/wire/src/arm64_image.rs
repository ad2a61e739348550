//! A kernel for 64-bit ARM, and where in memory it may lie: Linux Documentation/arch/arm64/booting.rst.

/// The kernel is loaded at a multiple of this, plus its offset; the kernel maps the device tree by such blocks.
const BLOCK: u64 = 2 << 20;
/// The largest page of a kernel for this architecture: segments begin and end with one.
pub const PAGE: u64 = 64 << 10;

/// What the header of an `Image` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// Bytes from a multiple of 2 MiB to the first byte.
    pub text_offset: u64,
    /// Bytes in memory, with what the file does not hold.
    pub size: u64,
}

impl Image {
    /// Reads the first 64 bytes. `None`: no such kernel, or one in a packed form.
    pub fn parse(head: &[u8]) -> Option<Self> {
        let number = |at: usize| head.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        if head.get(56..60)? != b"ARM\x64" {
            return None;
        }
        let (text_offset, size) = (number(8)?, number(16)?);
        // Kernels before 3.17 said nothing.
        (size > 0 && size < 1 << 32 && text_offset < BLOCK).then_some(Self { text_offset, size })
    }
}

/// Where everything goes, as physical addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// The kernel's first byte.
    pub kernel: u64,
    /// The device tree.
    pub tree: u64,
    /// A page for the first instructions.
    pub entry: u64,
    /// The initramfs.
    pub initramfs: u64,
}

/// Finds room in the memory map `/proc/iomem` for a kernel, a device tree of at most 2 MiB and an initramfs of so many
/// bytes, all in one piece, in RAM that nobody has reserved.
pub fn place(iomem: &str, image: Image, initramfs: u64) -> Option<Places> {
    let length = image
        .size
        .checked_add(image.text_offset)?
        .checked_next_multiple_of(BLOCK)?
        .checked_add(BLOCK.checked_mul(2)?)?
        .checked_add(initramfs.checked_next_multiple_of(PAGE)?)?;
    for (first, last) in free(iomem) {
        let base = first.checked_next_multiple_of(BLOCK)?;
        if base.checked_add(length)?.checked_sub(1)? > last {
            continue;
        }
        let kernel = base.checked_add(image.text_offset)?;
        let tree = kernel.checked_add(image.size)?.checked_next_multiple_of(BLOCK)?;
        let entry = tree.checked_add(BLOCK)?;
        return Some(Places { kernel, tree, entry, initramfs: entry.checked_add(BLOCK)? });
    }
    None
}

/// Ranges of RAM without what is reserved in them, as first and last address. The running kernel lies in RAM that may be
/// overwritten: what replaces it is put in place when it has ended.
fn free(iomem: &str) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    let mut in_ram = false;
    for line in iomem.lines() {
        let Some((range, name)) = crate::text::split_once(line, " : ") else { continue };
        let Some((first, last)) = range.trim_start().split_once('-') else { continue };
        let (Ok(first), Ok(last)) = (u64::from_str_radix(first, 16), u64::from_str_radix(last, 16)) else {
            continue;
        };
        if !line.starts_with(' ') {
            in_ram = name == "System RAM";
            if in_ram {
                ranges.push((first, last));
            }
        } else if in_ram && name == "reserved" {
            // What is inside of the last range is listed in order.
            let Some((start, end)) = ranges.pop() else { continue };
            if first > start {
                ranges.push((start, first.saturating_sub(1).min(end)));
            }
            if last < end {
                ranges.push((last.saturating_add(1).max(start), end));
            }
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    const IOMEM: &str = "\
00000000-03ffffff : 0.flash flash@0
09000000-09000fff : pl011@9000000
  09000000-09000fff : pl011@9000000 pl011@9000000
40000000-5fffffff : System RAM
  40210000-4155ffff : Kernel code
  41560000-4186ffff : reserved
  41870000-41cbffff : Kernel data
  48000000-48004fff : reserved
  5cc00000-5fbfffff : reserved
  5fc20000-5fffffff : reserved
4010000000-401fffffff : PCI ECAM
  4010000000-4010000fff : reserved
";

    #[test]
    fn a_header_of_debians_kernel() {
        let mut head = [0; 64];
        head[..2].copy_from_slice(b"MZ");
        head[18..20].copy_from_slice(&[0xAB, 1]);
        head[56..60].copy_from_slice(b"ARM\x64");
        assert_eq!(Image::parse(&head), Some(Image { text_offset: 0, size: 0x01AB_0000 }));
        assert_eq!(Image::parse(&head[..59]), None);
        head[56] = b'B';
        assert_eq!(Image::parse(&head), None);
        assert_eq!(Image::parse(b"\x1f\x8b"), None);
    }

    #[test]
    fn reserved_memory_is_spared() {
        assert_eq!(
            free(IOMEM),
            [
                (0x4000_0000, 0x4155_FFFF),
                (0x4187_0000, 0x47FF_FFFF),
                (0x4800_5000, 0x5CBF_FFFF),
                (0x5FC0_0000, 0x5FC1_FFFF)
            ]
        );
    }

    #[test]
    fn everything_has_its_place() {
        let image = Image { text_offset: 0, size: 0x01AB_0000 };
        // 28 and 4 MiB, and the initramfs: not before 41560000.
        let found = place(IOMEM, image, 1_767_341).unwrap();
        let expected =
            Places { kernel: 0x41A0_0000, tree: 0x4360_0000, entry: 0x4380_0000, initramfs: 0x43A0_0000 };
        assert_eq!(found, expected);
        let far = place(IOMEM, image, 200 << 20).unwrap();
        assert_eq!((far.kernel, far.initramfs), (0x4820_0000, 0x4A20_0000));
        assert_eq!(place(IOMEM, image, 400 << 20), None);
        // The kernel hides addresses from a process without rights: they are all zero.
        assert_eq!(place("00000000-00000000 : System RAM\n", image, 0), None);
        assert_eq!(place(IOMEM, image, u64::MAX), None);
    }

    #[test]
    fn never_panics_on_mutated_maps() {
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..20_000 {
            let mut map = IOMEM.as_bytes().to_vec();
            for _ in 0..6 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let index = usize::try_from(random >> 33).unwrap() % map.len();
                map[index] = b"0f -:\nrSF"[usize::try_from(random & 0xFF).unwrap() % 9];
            }
            let map = String::from_utf8(map).unwrap();
            if let Some(found) = place(&map, Image { text_offset: 0x8_0000, size: 5 << 20 }, 1 << 20) {
                assert!(found.kernel < found.tree && found.tree < found.entry);
            }
        }
    }
}
