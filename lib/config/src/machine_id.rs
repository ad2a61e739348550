//! The machine id (spec os §3.3, machine-id(5)): 32 hex digits, made once.

use crate::identity::{hex, random_bytes};
use minke_sys::{Context, Result, file};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Writes a fresh id to `path` unless it holds one, and tells whether it did.
///
/// The file is a bind mount's source, so it is written in place. Power cut: it holds nothing, a part or the
/// whole of an id that nobody has seen before the boot went on; a part is no id and is replaced.
pub fn ensure(path: &Path) -> Result<bool> {
    if is_there(path) {
        return Ok(false);
    }
    let line = format!("{}\n", fresh()?);
    let file = file::open(path, file::Flags::WRONLY | file::Flags::CREATE)?;
    file.write_all_at(line.as_bytes(), 0).on("write", path)?;
    file.set_len(line.len() as u64).on("truncate", path)?;
    file.sync_all().on("fsync", path)?;
    Ok(true)
}

/// Whether `path` holds an id.
pub fn is_there(path: &Path) -> bool {
    file::read_bounded(path, 4096).is_ok_and(|content| is_id(&content))
}

fn is_id(content: &[u8]) -> bool {
    let id = content.strip_suffix(b"\n").unwrap_or(content);
    id.len() == 32 && id.iter().all(u8::is_ascii_hexdigit) && id.iter().any(|digit| *digit != b'0')
}

/// Random, with the version and variant of a random UUID (RFC 9562 §5.4), as machine-id(5) asks for.
fn fresh() -> Result<String> {
    let mut bytes = random_bytes()?;
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    Ok(hex(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_replaced_when_torn() {
        let path = std::env::temp_dir().join(format!("minke-machine-id-{}", std::process::id()));
        std::fs::write(&path, "").unwrap();
        assert!(ensure(&path).unwrap());
        let first = std::fs::read(&path).unwrap();
        assert!(is_id(&first) && first[12] == b'4' && b"89ab".contains(&first[16]));
        assert!(!ensure(&path).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), first);
        for bad in [&first[..20], &[0; 33], b"uninitialized\n", &[b'0'; 32], &[b'x'; 100]] {
            std::fs::write(&path, bad).unwrap();
            assert!(ensure(&path).unwrap());
            assert!(is_id(&std::fs::read(&path).unwrap()));
        }
        std::fs::remove_file(path).unwrap();
    }
}
