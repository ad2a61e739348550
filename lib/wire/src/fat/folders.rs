//! First part of the check: the tree of folders, and what is wrong with names.

use super::boot::NO_LABEL;
use super::check::{Check, Slot};
use super::entry::{self, ATTRIBUTES, DOT, DOTS, Entry, LENGTH};
use super::table::Link;
use super::{Failure, Repair};

/// The most folders; each occupies a cluster of its own.
const FOLDER_LIMIT: usize = 1 << 16;
/// Names twice in one folder are looked for among so many. Comparing takes time by the square of it.
const NAME_LIMIT: usize = 4096;

/// A folder, and the one that it lies in. FAT16's root has the number 0.
#[derive(Debug, Clone, Copy)]
pub struct Folder {
    pub start: u32,
    parent: u32,
}

/// Pieces of a long name, waiting for the short entry that they belong to.
#[derive(Default)]
struct Pieces {
    places: Vec<u64>,
    /// The number of the piece that comes next; 0: the short entry.
    next: u8,
    sum: u8,
}

/// What is known of the folder that is read.
#[derive(Default)]
struct State {
    pieces: Pieces,
    names: Vec<[u8; 11]>,
    volume: bool,
    /// The first free entry.
    free: Option<u64>,
    used: u32,
    senseless: u32,
}

impl Check<'_> {
    /// Walks the tree and returns its folders, the root first. A root without a label gets `label`, the boot
    /// sector's, by which the partition is found.
    pub fn folders(&mut self, label: [u8; 11]) -> Result<Vec<Folder>, Failure> {
        let root = self.geometry.root_cluster;
        if root != 0 {
            if !self.table.is_used(root) {
                return Err(Failure::LeftAlone("its root folder is free in its table"));
            }
            self.take_folder(root)?;
        }
        let mut folders = vec![Folder { start: root, parent: 0 }];
        let (mut done, mut refused, mut renamed) = (0, 0u32, 0u32);
        while let Some(&folder) = folders.get(done) {
            let mut state = State::default();
            self.entries(folder.start, &mut |check, Slot { place, number, entry }| {
                let Some(entry) = entry else {
                    state.free = state.free.or(Some(place));
                    return check.drop_pieces(&mut state);
                };
                let inside = done != 0;
                if inside && number < 2 {
                    return check.dots(place, number, &entry, folder);
                }
                if entry.is_long() {
                    return check.piece(place, &entry, &mut state);
                }
                check.short(place, entry, &mut state, &mut renamed, (!inside).then_some(label))
            })?;
            self.drop_pieces(&mut state)?;
            // A root of nonsense is no root: the geometry is wrong, or the wrong disk is looked at.
            if done == 0 && state.senseless > 3 && state.senseless > state.used / 2 {
                return Err(Failure::LeftAlone("its root folder is none"));
            }
            if done == 0
                && !state.volume
                && label != NO_LABEL
                && let Some(place) = state.free
            {
                let mut entry = [0; entry::BYTES];
                for (to, from) in entry.iter_mut().zip(label.iter().chain(&[entry::VOLUME])) {
                    *to = *from;
                }
                self.report.note(Repair::Entry);
                self.edit(place, &entry)?;
            }
            self.subfolders(folder.start, &mut folders, &mut refused)?;
            done += 1;
        }
        // With a wrong geometry all files look whole, but no folder does.
        if refused > 1 && refused as usize >= folders.len() {
            return Err(Failure::LeftAlone("most of its folders are none"));
        }
        Ok(folders)
    }

    /// The first two entries of a folder lead to itself and to the one above.
    fn dots(&mut self, place: u64, number: u32, entry: &Entry, folder: Folder) -> Result<(), Failure> {
        let root = self.geometry.root_cluster;
        // The root counts as 0 from below.
        let parent = if folder.parent == root { 0 } else { folder.parent };
        let (name, start) = if number == 0 { (DOT, folder.start) } else { (DOTS, parent) };
        if entry.name() == name
            && entry.is_folder()
            && !entry.is_volume()
            && entry.start(self.geometry.wide) == start
            && entry.length() == 0
        {
            return Ok(());
        }
        self.report.note(Repair::Entry);
        self.edit(place, &name)?;
        self.edit(place + ATTRIBUTES, &[entry.file_attributes(true)])?;
        self.edit(place + LENGTH, &[0; 4])?;
        self.set_start(place, start)
    }

    fn drop_pieces(&mut self, state: &mut State) -> Result<(), Failure> {
        let pieces = std::mem::take(&mut state.pieces);
        for place in pieces.places {
            self.remove(place, Repair::LongName)?;
        }
        Ok(())
    }

    /// A piece of a long name: the last comes first, and all carry the sum of the short name.
    fn piece(&mut self, place: u64, entry: &Entry, state: &mut State) -> Result<(), Failure> {
        let (order, last) = entry.order();
        let pieces = &state.pieces;
        let begins = last && (1..=20).contains(&order);
        let continues = !last && order != 0 && order == pieces.next && entry.sum() == pieces.sum;
        if !continues {
            self.drop_pieces(state)?;
        }
        if !begins && !continues {
            return self.remove(place, Repair::LongName);
        }
        if !entry.makes_sense() {
            self.report.note(Repair::Entry);
            self.edit(place + ATTRIBUTES + 1, &[0])?;
            self.set_low_start(place, 0)?;
        }
        state.pieces.places.push(place);
        state.pieces.next = order - 1;
        state.pieces.sum = entry.sum();
        Ok(())
    }

    /// An entry that is no piece of a long name. In the root there is `label`.
    fn short(
        &mut self,
        place: u64,
        entry: Entry,
        state: &mut State,
        renamed: &mut u32,
        label: Option<[u8; 11]>,
    ) -> Result<(), Failure> {
        state.used += 1;
        state.senseless += u32::from(!entry.makes_sense());
        let name = entry.name();
        let whole = state.pieces.next == 0 && state.pieces.sum == entry::sum(&name);
        if !whole {
            self.drop_pieces(state)?;
        }
        let pieces = std::mem::take(&mut state.pieces).places;
        let empty = entry.length() == 0 && entry.start(self.geometry.wide) == 0;
        if entry.is_volume() && !entry.is_folder() && empty {
            // The label: one, in the root.
            let Some(label) = label.filter(|_| !state.volume && pieces.is_empty()) else {
                return self.remove_all(place, &pieces);
            };
            state.volume = true;
            let valid = entry::is_label(&name);
            if !valid && label == NO_LABEL {
                return self.remove_all(place, &pieces);
            }
            // Elsewhere the root's counts; ours is what the partition is found by, and never changes.
            if !valid || name != label && (label.starts_with(b"resin-") || label.starts_with(b"balena-")) {
                self.report.note(Repair::Entry);
                self.edit(place, &label)?;
            }
            return Ok(());
        }
        if name == DOT || name == DOTS {
            return self.remove_all(place, &pieces);
        }
        if entry.is_volume() {
            // A label has no content: it is a file or a folder.
            self.report.note(Repair::Entry);
            let folder = entry.is_folder();
            self.edit(place + ATTRIBUTES, &[entry.file_attributes(folder)])?;
        }
        if pieces.is_empty() && entry.is_hidden_short() {
            self.report.note(Repair::Entry);
            self.edit(place + ATTRIBUTES + 1, &[entry.case()])?;
        }
        let many = state.names.len() >= NAME_LIMIT;
        // What cannot stand in a name and is behind its end goes; else the name is a new one.
        let mut new = entry::blanked(&name);
        while !entry::is_valid(&new) || (!many && state.names.contains(&new)) {
            new = numbered(*renamed);
            *renamed += 1;
        }
        if new != name {
            self.report.note(Repair::Name);
            self.edit(place, &new)?;
            for piece in pieces {
                self.edit(piece + entry::SUM, &[entry::sum(&new)])?;
            }
        }
        if !many {
            state.names.push(new);
        }
        Ok(())
    }

    fn remove_all(&mut self, place: u64, pieces: &[u64]) -> Result<(), Failure> {
        for piece in pieces {
            self.remove(*piece, Repair::LongName)?;
        }
        self.remove(place, Repair::Removed)
    }

    /// The folders in a folder whose names are in order by now.
    fn subfolders(
        &mut self,
        parent: u32,
        folders: &mut Vec<Folder>,
        refused: &mut u32,
    ) -> Result<(), Failure> {
        let mut pieces = Vec::new();
        let inside = folders.first().is_some_and(|root| root.start != parent);
        self.entries(parent, &mut |check, Slot { place, number, entry }| {
            let Some(entry) = entry.filter(|_| !inside || number >= 2) else {
                pieces.clear();
                return Ok(());
            };
            if entry.is_long() {
                pieces.push(place);
                return Ok(());
            }
            let pieces = std::mem::take(&mut pieces);
            if !entry.is_folder() {
                return Ok(());
            }
            let start = entry.start(check.geometry.wide);
            if check.is_folder(start)? && folders.len() < FOLDER_LIMIT {
                folders.push(Folder { start, parent });
                if entry.length() != 0 {
                    check.report.note(Repair::Entry);
                    check.edit(place + LENGTH, &[0; 4])?;
                }
                return check.take_folder(start);
            }
            if entry.length() != 0 {
                // With a length and without a folder's content it is a file.
                check.report.note(Repair::Entry);
                return check.edit(place + ATTRIBUTES, &[entry.file_attributes(false)]);
            }
            *refused += 1;
            check.remove_all(place, &pieces)
        })
    }

    /// Whether a folder begins in this cluster that no other entry leads to. One of its first two entries is enough;
    /// of a cluster that is free in the table, both: a cut may have left it so.
    fn is_folder(&mut self, start: u32) -> Result<bool, Failure> {
        let usable = (2..self.geometry.end).contains(&start) && !self.table.is_bad(start);
        if !usable || self.taken.has(start) {
            return Ok(false);
        }
        let head = self.folder_content(self.geometry.place(start), 2 * entry::BYTES as u64)?;
        let (dot, dots) = (head.get(..11) == Some(&DOT), head.get(32..43) == Some(&DOTS));
        Ok(dot && dots || (dot || dots) && self.table.is_used(start))
    }

    /// Takes a folder's clusters, up to one that is another folder's or holds no entries.
    fn take_folder(&mut self, start: u32) -> Result<(), Failure> {
        let mut cluster = start;
        loop {
            self.taken.set(cluster);
            match self.table.link(cluster) {
                Link::End => return Ok(()),
                Link::Next(next)
                    if self.table.is_used(next) && !self.taken.has(next) && self.holds_entries(next)? =>
                {
                    cluster = next;
                }
                _ => {
                    self.report.note(Repair::Trimmed);
                    self.ends.set(cluster);
                    return Ok(());
                }
            }
        }
    }

    /// Whether a cluster can go on with a folder: a chain that leads into a file must not make entries of its content.
    fn holds_entries(&mut self, cluster: u32) -> Result<bool, Failure> {
        let content = self.folder_content(self.geometry.place(cluster), self.geometry.cluster)?;
        let (mut used, mut senseless) = (0u32, 0u32);
        for bytes in content.chunks_exact(entry::BYTES) {
            let entry = Entry(bytes.first_chunk().copied().unwrap_or_default());
            if bytes.iter().all(|byte| *byte == 0) || bytes.first() == Some(&entry::REMOVED) {
                continue;
            }
            used += 1;
            senseless += u32::from(bytes.first() == Some(&0) || !entry.makes_sense());
        }
        Ok(senseless <= used / 4)
    }
}

/// `FSCK0000.REN` and so on.
fn numbered(number: u32) -> [u8; 11] {
    let mut name = *b"FSCK0000REN";
    let mut left = number;
    for digit in name.iter_mut().take(8).skip(4).rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
    name
}
