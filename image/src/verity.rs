//! The hash tree by which the kernel checks each block of the root image as it reads it (dm-verity, Linux
//! Documentation/admin-guide/device-mapper/verity.rst), made by cryptsetup's `veritysetup`: format 1, SHA-256, blocks
//! of 4 KiB, its superblock in front.

use crate::error::{Error, Result};
use crate::table::{identifier, uuid_text};
use crate::tool::Tool;
use std::path::Path;

/// Makes the tree of the file `data` in the file `tree`; returns the root hash as 64 hexadecimal digits.
///
/// Without salt: it would keep nobody from anything, and equal blocks of two versions have equal hashes this way, which
/// the delta between the two need not carry.
pub fn format(data: &Path, tree: &Path) -> Result<String> {
    let uuid = uuid_text(identifier("dm-verity", "rootfs.verity"));
    let printed = Tool::new("veritysetup")
        .args(["format", "--format=1", "--hash=sha256", "--data-block-size=4096", "--hash-block-size=4096"])
        .args(["--salt=-", &format!("--uuid={uuid}")])
        .args([data, tree])
        .text()?;
    let hash = printed.lines().find_map(|line| line.strip_prefix("Root hash:")).map(str::trim);
    let hash = hash.filter(|hash| hash.len() == 64);
    hash.map(str::to_owned)
        .ok_or_else(|| Error::Invalid(format!("veritysetup printed no root hash:\n{printed}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::tree::Scratch;
    use std::fs;

    #[test]
    fn veritysetup_verifies_the_tree_and_finds_one_wrong_bit() {
        let scratch = Scratch::new("verity").unwrap();
        let (data, tree) = (scratch.join("data"), scratch.join("tree"));
        let mut content: Vec<u8> = (0..1_000_000u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        content.resize(content.len().next_multiple_of(4096), 0);
        fs::write(&data, &content).unwrap();
        let hash = format(&data, &tree).unwrap();
        let first = fs::read(&tree).unwrap();
        assert!(first.starts_with(b"verity\0\0\x01\0\0\0\x01\0\0\0"));
        let verify = || Tool::new("veritysetup").arg("verify").args([&data, &tree]).arg(&hash).run();
        verify().unwrap();
        fs::remove_file(&tree).unwrap();
        assert_eq!(format(&data, &tree).unwrap(), hash);
        assert_eq!(fs::read(&tree).unwrap(), first);
        *content.get_mut(2_345_678).unwrap() ^= 4;
        fs::write(&data, &content).unwrap();
        assert!(verify().is_err());
    }
}
