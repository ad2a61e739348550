//! What keeps a full partition usable (spec os §19.3).
//!
//! Two reserves. The file system's own blocks: they are mounted as nobody's, so a container's root, which lacks
//! CAP_SYS_RESOURCE, cannot take them, and our daemons can; the share is chosen where the file system is made. But a
//! shell or a daemon of the host, which has all capabilities, can fill those too. So a file occupies some space
//! that nobody takes by writing. It goes away when a boot finds the partition full to the last block, so that this
//! boot can write what it must (host name, keys, marks of an update), with an alarm in the log; it comes back when
//! there is room again.

use crate::mount::{find, is_volatile, table};
use crate::plan::{DATA, Partition, STATE};
use minke_applet::log;
use minke_sys::{Errno, file, space, status};
use std::path::Path;

/// The file on either partition.
const FILE: &str = ".reserve";
/// Its bytes on state, and on data, where an engine starts from it.
const SIZES: [(&Partition, u64); 2] = [(&STATE, 256 << 10), (&DATA, 2 << 20)];

/// Sees to the reserve of state and data.
pub fn all(root: &Path) {
    let Ok(table) = table() else { return };
    for (partition, size) in SIZES {
        let folder = root.join(partition.target);
        // What stands in for it in memory has nothing to give.
        if find(&table, &folder).is_none_or(is_volatile) {
            continue;
        }
        let Ok(found) = space::of(&folder) else { continue };
        let path = folder.join(FILE);
        let there = status::exists(&path);
        if there && found.available < size / 2 && is_full(&folder, size / 2) {
            log::error(format_args!(
                "{} is full: its reserve is given up; delete something",
                partition.label
            ));
            if let Err(error) = file::remove_durable(&path) {
                log::error(format_args!("{error}"));
            }
        } else if !there && found.available > size.saturating_mul(8) {
            // A cut leaves it or not, and the next boot looks again.
            let _ = space::occupy(&path, size);
        }
    }
}

/// Whether not even we can write so many bytes. What is free is no answer: ext4 keeps a part for itself.
fn is_full(folder: &Path, size: u64) -> bool {
    let probe = folder.join(".probe");
    let _ = std::fs::remove_file(&probe);
    let full = space::occupy(&probe, size).is_err_and(|error| error.errno == Errno::NOSPC);
    let _ = std::fs::remove_file(&probe);
    full
}
