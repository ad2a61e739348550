//! FAT16 and FAT32 on disk: geometry, the check that repairs what a power cut leaves, the serial number.
//!
//! Layout: Microsoft's "FAT32 File System Specification" (2000) and ECMA-107. The caller brings the disk as a
//! [`Medium`]; a partition, an image file and a test's memory serve alike.

mod boot;
mod check;
mod entry;
mod files;
mod folders;
mod table;

pub use boot::set_serial;
pub use check::check;

/// A disk or an image. Offsets count bytes from the start of the file system.
pub trait Medium {
    /// Fills `buffer` from `offset`.
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Refused>;
    /// Writes `content` at `offset`; it need not last before the next [`Medium::sync`].
    fn write(&mut self, offset: u64, content: &[u8]) -> Result<(), Refused>;
    /// Makes everything written so far last over a power cut.
    fn sync(&mut self) -> Result<(), Refused>;
}

/// The medium has failed; it knows how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

/// Why a file system was not checked to the end. In each case but the first, nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Reading or writing failed.
    Medium,
    /// The file system is left alone, for this reason.
    LeftAlone(&'static str),
}

impl From<Refused> for Failure {
    fn from(_: Refused) -> Self {
        Self::Medium
    }
}

/// What a check repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// The mark that the file system was not unmounted, or an error flag, was taken away.
    Mark,
    /// Sectors of the tables that were written: they differed, or a repair changed them.
    Table,
    /// Clusters that belonged to nothing were freed.
    Lost,
    /// Files whose chain ended before their length were cut to it.
    Cut,
    /// Chains that went on after their file's end.
    Trimmed,
    /// Files that shared clusters with another and got a copy of them.
    Copied,
    /// Short names that were invalid or there twice.
    Name,
    /// Entries of long names that belong to no file.
    LongName,
    /// Entries that lead nowhere were removed.
    Removed,
    /// Entries with a wrong kind, length or start.
    Entry,
    /// The count of free clusters.
    Count,
    /// The boot sector or its copy.
    Boot,
}

/// The words for each [`Repair`], in its order.
const WORDS: [&str; 12] = [
    "mark of an unclean end",
    "table sectors written",
    "lost clusters freed",
    "files cut to what is there",
    "chains cut to the file's length",
    "files copied that shared clusters",
    "short names changed",
    "orphan long names removed",
    "broken entries removed",
    "entries corrected",
    "free count corrected",
    "boot sector copied",
];

/// How often each repair was made.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report([u32; WORDS.len()]);

impl Report {
    /// How often this repair was made.
    pub fn count(&self, repair: Repair) -> u32 {
        self.0.get(repair as usize).copied().unwrap_or(0)
    }

    /// Whether nothing was written.
    pub fn is_clean(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
    }

    /// The repairs in words, separated by commas.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (count, words) in self.0.iter().zip(WORDS) {
            if *count == 0 {
                continue;
            }
            if !text.is_empty() {
                text.push_str(", ");
            }
            if *count > 1 {
                text.push_str(&count.to_string());
                text.push(' ');
            }
            text.push_str(words);
        }
        text
    }

    fn note(&mut self, repair: Repair) {
        if let Some(count) = self.0.get_mut(repair as usize) {
            *count = count.saturating_add(1);
        }
    }
}

/// One bit per cluster.
#[derive(Debug)]
struct Bits(Vec<u8>);

impl Bits {
    fn new(count: u32) -> Self {
        Self(vec![0; count as usize / 8 + 1])
    }

    fn has(&self, at: u32) -> bool {
        self.0.get(at as usize / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1)
    }

    fn set(&mut self, at: u32) {
        if let Some(byte) = self.0.get_mut(at as usize / 8) {
            *byte |= 1 << (at % 8);
        }
    }

    fn clear(&mut self, at: u32) {
        if let Some(byte) = self.0.get_mut(at as usize / 8) {
            *byte &= !(1 << (at % 8));
        }
    }
}

#[cfg(test)]
mod replay_tests;
#[cfg(test)]
mod tests;
