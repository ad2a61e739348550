//! Boot environments: lines `NAME=VALUE` as U-Boot imports them (`env import -t`: `resinOS_uEnv.txt`, `bootcount.env`),
//! and GRUB's environment blocks (`grubenv`, `bootenv`), spec os §15.7.
//!
//! [`set`] puts our variables first, so that they stand in the file's first sector, keeps all others, and keeps the
//! length: a change is one sector, overwritten in place.

/// What a disk writes as one.
pub const SECTOR: usize = 512;

/// The usual length of an environment block.
pub const BLOCK: usize = 1024;

/// The first line of an environment block (GRUB, `include/grub/lib/envblk.h`).
const SIGNATURE: &[u8] = b"# GRUB Environment Block\n";

/// How an environment is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Lines; a zero byte ends them.
    Text,
    /// GRUB's block: a first line by which it is known, lines in which a backslash takes the next byte as it is, and
    /// `#` up to the end.
    Block,
}

impl Format {
    /// What holds the lines; `None` when the boot loader would refuse it.
    fn body(self, content: &[u8]) -> Option<&[u8]> {
        match self {
            Self::Text => content.split(|byte| *byte == 0).next(),
            Self::Block => content.strip_prefix(SIGNATURE),
        }
    }

    /// The first line of `rest`, and what follows it.
    fn line(self, rest: &[u8]) -> (&[u8], &[u8]) {
        let mut taken = false;
        let end = rest.iter().position(|byte| {
            let ends = *byte == b'\n' && !taken;
            taken = self == Self::Block && *byte == b'\\' && !taken;
            ends
        });
        let (line, rest) = rest.split_at_checked(end.unwrap_or(rest.len())).unwrap_or_default();
        (line, rest.get(1..).unwrap_or_default())
    }
}

/// The value of a variable as the boot loader sees it: of several the last, without the carriage return of an editor.
pub fn get<'a>(format: Format, content: &'a [u8], name: &str) -> Option<&'a str> {
    let (mut rest, mut found) = (format.body(content)?, None);
    while !rest.is_empty() {
        let (line, next) = format.line(rest);
        if let Some(value) = value_of(line, name) {
            found = Some(value);
        }
        rest = next;
    }
    std::str::from_utf8(found?.strip_suffix(b"\r").or(found)?).ok()
}

fn value_of<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    line.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

/// The content with these variables set. Others and comments stay, what is no variable goes. The length stays too,
/// unless the lines need more: then a block grows by whole blocks.
pub fn set(format: Format, content: &[u8], values: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len().max(BLOCK));
    if format == Format::Block {
        out.extend_from_slice(SIGNATURE);
    }
    for (name, value) in values {
        for part in [name, "=", value, "\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    let mut rest = format.body(content).unwrap_or_default();
    while !rest.is_empty() {
        let (line, next) = format.line(rest);
        if is_kept(line) && !values.iter().any(|(name, _)| value_of(line, name).is_some()) {
            out.extend_from_slice(line);
            out.push(b'\n');
        }
        rest = next;
    }
    let length = match format {
        Format::Text => content.len().max(out.len()),
        Format::Block => content.len().max(out.len().next_multiple_of(BLOCK)),
    };
    // A line that U-Boot takes for a comment, unless there is room for its end alone.
    let padded = out.len() < length;
    out.resize(length, b'#');
    if padded
        && format == Format::Text
        && let Some(last) = out.last_mut()
    {
        *last = b'\n';
    }
    out
}

/// A variable or a comment: text, and no padding.
fn is_kept(line: &[u8]) -> bool {
    let text = line.iter().all(|byte| matches!(byte, b'\t' | b'\r' | b'\n' | b' '..=b'~' | 0x80..));
    let named = line.contains(&b'=') && !line.starts_with(b"=");
    text && (named || line.starts_with(b"#") && line.iter().any(|byte| *byte != b'#'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Format::{Block, Text};

    #[test]
    fn as_the_image_has_them() {
        let text = b"resin_root_part=2\nupgrade_available=0\n";
        assert_eq!(get(Text, text, "resin_root_part"), Some("2"));
        assert_eq!(get(Text, text, "upgrade_available"), Some("0"));
        assert_eq!(get(Text, text, "upgrade"), None);
        let new = set(Text, text, &[("resin_root_part", "3"), ("upgrade_available", "1")]);
        assert_eq!(new, b"resin_root_part=3\nupgrade_available=1\n");
        // As U-Boot exports it: with the zero byte at its end.
        assert_eq!(get(Text, b"bootcount=3\n\0", "bootcount"), Some("3"));
        assert_eq!(set(Text, b"bootcount=3\n\0", &[("bootcount", "0")]), b"bootcount=0\n\n");
        assert_eq!(set(Text, b"bootcount=10\n\0", &[("bootcount", "0")]), b"bootcount=0\n#\n");
    }

    #[test]
    fn a_block_keeps_its_length_and_what_it_does_not_know() {
        let values = [("resin_root_part", "B"), ("upgrade_available", "1"), ("bootcount", "0")];
        let old = set(Block, b"", &[("kernel_override_abi", "a\\\nresin_root_part=X"), ("bootcount", "2")]);
        assert_eq!(old.len(), BLOCK);
        assert_eq!(get(Block, &old, "resin_root_part"), None, "an escaped end of line is none");
        let new = set(Block, &old, &values);
        assert_eq!(new.len(), BLOCK);
        for (name, value) in values {
            assert_eq!(get(Block, &new, name), Some(value));
        }
        assert_eq!(get(Block, &new, "kernel_override_abi"), Some("a\\\nresin_root_part=X"));
        assert_eq!(get(Block, b"resin_root_part=A\n", "resin_root_part"), None, "GRUB refuses it");
        let many = format!("{}x={}\n", String::from_utf8_lossy(SIGNATURE), "y".repeat(1000));
        assert_eq!(set(Block, many.as_bytes(), &values).len(), 2 * BLOCK);
    }

    #[test]
    fn foreign_shapes_are_read_and_kept() {
        let text =
            b"# mine\r\nupgrade_available=1\r\nresin_root_part=2\r\nresin_root_part=3\r\nx=y\r\n\r\n####\n";
        assert_eq!(get(Text, text, "resin_root_part"), Some("3"), "the last one counts");
        assert_eq!(get(Text, text, "upgrade_available"), Some("1"));
        let new = set(Text, text, &[("resin_root_part", "2"), ("upgrade_available", "0")]);
        assert_eq!(new.len(), text.len());
        assert!(new.starts_with(b"resin_root_part=2\nupgrade_available=0\n# mine\r\nx=y\r\n##"));
        assert!(new.ends_with(b"#\n"));
        assert_eq!(set(Text, &new, &[("resin_root_part", "2"), ("upgrade_available", "0")]), new);
    }

    #[test]
    fn any_bytes_do_no_harm_and_what_is_set_is_found() {
        let mut random = 0x2545_F491_4F6C_DD1D_u64;
        let values = [("resin_root_part", "3"), ("upgrade_available", "1")];
        for round in 0..20_000_usize {
            let mut content = match round % 3 {
                0 => b"resin_root_part=2\r\nupgrade_available=0\n# c\\\n=\nx=y".to_vec(),
                1 => set(Block, b"", &[("bootcount", "1"), ("a\\", "b")]),
                _ => Vec::new(),
            };
            for _ in 0..round % 7 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let bytes = random.to_le_bytes();
                let place = usize::from(u16::from_le_bytes([bytes[0], bytes[1]])) % content.len().max(1);
                match bytes[2] % 3 {
                    0 if !content.is_empty() => content[place] = bytes[3],
                    1 => content.truncate(place),
                    _ => content.extend_from_slice(&[bytes[3], b'=', bytes[4], b'\n']),
                }
            }
            for format in [Text, Block] {
                let new = set(format, &content, &values);
                assert!(new.len() >= content.len());
                for (name, value) in values {
                    assert_eq!(get(format, &new, name), Some(value));
                    assert!(get(format, &new[..SECTOR.min(new.len())], name) == Some(value), "first sector");
                }
                assert_eq!(set(format, &new, &values), new, "a second time changes nothing");
            }
        }
    }
}
