//! The boot sector: where everything lies, the mark of an unclean end, the serial number.

use super::{Failure, Medium, Refused, Repair, Report};
use crate::superblock::{Bpb, bpb, le16, le32};

/// Bytes of the boot sector that are used, whatever the sector size is.
pub const BYTES: usize = 512;
/// The most clusters of a file system that is checked. The check holds 4 bytes and 3 bits of each, so it needs
/// at most 9 MiB; a boot partition of the field has under 400,000.
const CLUSTER_LIMIT: u64 = 1 << 21;
/// Where the usual copy of a FAT32 boot sector lies, when the sector itself cannot tell.
const USUAL_BACKUP: u64 = 6 * 512;

/// The label of a file system that has none.
pub const NO_LABEL: [u8; 11] = *b"NO NAME    ";

/// Where everything lies, in bytes.
#[derive(Debug, Clone)]
pub struct Geometry {
    pub sector: u64,
    pub cluster: u64,
    pub tables: u64,
    pub table_start: u64,
    /// Of one table.
    pub table_bytes: u64,
    /// FAT16: the fixed root folder.
    pub root: (u64, u64),
    /// FAT32: the root folder's first cluster. FAT16: 0.
    pub root_cluster: u32,
    pub data_start: u64,
    /// One above the highest cluster number.
    pub end: u32,
    pub wide: bool,
    pub media: u8,
    /// FAT32: the sector with the free count.
    pub info: Option<u64>,
}

impl Geometry {
    /// Where a cluster begins.
    pub fn place(&self, cluster: u32) -> u64 {
        let into = u64::from(cluster).saturating_sub(2).saturating_mul(self.cluster);
        self.data_start.saturating_add(into)
    }

    /// Bytes of a table entry.
    pub fn width(&self) -> u64 {
        if self.wide { 4 } else { 2 }
    }
}

/// Reads the geometry of a file system on a device of `length` bytes. It must fit together in every way that
/// can be told: a check by a wrong geometry would destroy everything.
fn geometry(sector: &[u8], length: u64) -> Result<Geometry, &'static str> {
    let Bpb { sector: bytes, cluster, reserved, tables, root_entries, sectors, table_sectors, wide } =
        bpb(sector).ok_or("its boot sector is broken")?;
    let unfit = "its boot sector does not fit together";
    let root_bytes = root_entries * 32;
    let cluster = cluster * bytes;
    let total = sectors * bytes;
    let (table_start, table_bytes) = (reserved * bytes, table_sectors * bytes);
    let root_start = tables.checked_mul(table_bytes).and_then(|all| all.checked_add(table_start));
    let data_start = root_start.and_then(|start| start.checked_add(root_bytes)).ok_or(unfit)?;
    let clusters = total.checked_sub(data_start).ok_or(unfit)? / cluster.max(1);
    let width = if wide { 4 } else { 2 };
    let entries = table_bytes / width;
    let fits = total <= length
        && (1..=2).contains(&tables)
        && root_bytes % bytes == 0
        && wide == (root_bytes == 0)
        && (wide || (4085..65525).contains(&clusters))
        && entries >= clusters + 2
        // A cluster size that is wrong by a factor of two shows here.
        && entries <= clusters + clusters / 2 + 4096;
    if !fits {
        return Err(unfit);
    }
    if clusters > CLUSTER_LIMIT {
        return Err("it has too many clusters");
    }
    let field = |at: usize| u64::from(le16(sector, at).unwrap_or(0));
    let root_cluster = if wide { le32(sector, 44).unwrap_or(0) } else { 0 };
    let info = field(48);
    let geometry = Geometry {
        sector: bytes,
        cluster,
        tables,
        table_start,
        table_bytes,
        root: (root_start.unwrap_or(0), root_bytes),
        root_cluster,
        data_start,
        end: u32::try_from(clusters + 2).map_err(|_| unfit)?,
        wide,
        media: sector.get(21).copied().unwrap_or(0),
        info: (wide && (1..reserved).contains(&info)).then_some(info * bytes),
    };
    // Of FAT32's own fields: all tables mirrored, version 0.
    if wide && (!(2..geometry.end).contains(&root_cluster) || field(40) & 0x80 != 0 || field(42) != 0) {
        return Err(unfit);
    }
    Ok(geometry)
}

/// A file system's boot sector, with its place and that of its copy.
pub struct Boot {
    pub geometry: Geometry,
    /// The label; [`NO_LABEL`] when there is none.
    pub label: [u8; 11],
    content: Vec<u8>,
    backup: Option<(u64, Vec<u8>)>,
    restored: bool,
}

fn read(medium: &mut dyn Medium, offset: u64) -> Result<Vec<u8>, Refused> {
    let mut content = vec![0; BYTES];
    medium.read(offset, &mut content)?;
    Ok(content)
}

/// The mark that the system sets while the file system is mounted: Linux's `FAT_STATE_DIRTY`.
fn mark(wide: bool) -> usize {
    if wide { 65 } else { 37 }
}

impl Boot {
    /// Reads the boot sector, or where it is broken and the file system has a copy, the copy.
    pub fn read(medium: &mut dyn Medium, length: u64) -> Result<Self, Failure> {
        let mut content = read(medium, 0)?;
        let mut restored = false;
        let geometry = match geometry(&content, length) {
            Ok(found) => found,
            Err(why) => {
                content = read(medium, USUAL_BACKUP).unwrap_or_default();
                restored = true;
                match geometry(&content, length) {
                    Ok(found) if found.wide => found,
                    _ => return Err(Failure::LeftAlone(why)),
                }
            }
        };
        let place = u64::from(le16(&content, 50).unwrap_or(0)) * geometry.sector;
        let apart = (1..geometry.table_start).contains(&place) && geometry.info != Some(place);
        let backup = match geometry.wide && apart {
            true => Some((place, read(medium, place)?)),
            false => None,
        };
        if let Some((_, copy)) = &backup
            && !restored
            && copy.get(510..) == Some(&[0x55, 0xAA])
            && copy.get(11..52) != content.get(11..52)
        {
            // Which of the two is right, nobody can tell.
            return Err(Failure::LeftAlone("its boot sector and the copy of it disagree"));
        }
        let at = if geometry.wide { 71 } else { 43 };
        let label = content.get(at..).and_then(|rest| rest.first_chunk().copied());
        let label = label.filter(|_| content.get(at - 5) == Some(&0x29)).unwrap_or(NO_LABEL);
        Ok(Self { geometry, label, content, backup, restored })
    }

    /// Writes the copy where it differs, then the boot sector without its mark. Both are single sectors; a cut
    /// between them leaves the mark, and the next check does the rest.
    pub fn finish(mut self, medium: &mut dyn Medium, report: &mut Report) -> Result<(), Refused> {
        let mut changed = self.restored;
        if let Some(byte) = self.content.get_mut(mark(self.geometry.wide))
            && *byte & 3 != 0
        {
            *byte &= !3;
            changed = true;
            report.note(Repair::Mark);
        }
        let copy_differs = self.backup.as_ref().is_some_and(|(_, copy)| *copy != self.content);
        if self.restored || copy_differs {
            report.note(Repair::Boot);
        }
        if let Some((place, _)) = self.backup.filter(|_| copy_differs) {
            medium.write(place, &self.content)?;
            medium.sync()?;
        }
        if changed {
            medium.write(0, &self.content)?;
            medium.sync()?;
        }
        Ok(())
    }
}

/// Gives the file system a serial number, in the boot sector and, where there is one, in its copy. A cut between
/// the two writes leaves them different in this number alone, which the next check mends.
pub fn set_serial(medium: &mut dyn Medium, length: u64, serial: u32) -> Result<(), Failure> {
    let boot = Boot::read(medium, length)?;
    let at = if boot.geometry.wide { 67 } else { 39 };
    let mut content = boot.content;
    if !matches!(content.get(at - 1), Some(0x28 | 0x29)) {
        return Err(Failure::LeftAlone("its boot sector has no serial number"));
    }
    if let Some(field) = content.get_mut(at..at + 4) {
        field.copy_from_slice(&serial.to_le_bytes());
    }
    medium.write(0, &content)?;
    medium.sync()?;
    if let Some((place, _)) = boot.backup {
        medium.write(place, &content)?;
        medium.sync()?;
    }
    Ok(())
}
