//! A layer's tar into a folder that overlayfs takes as a lower layer (OCI image-spec 1.1, `layer.md`;
//! Linux Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").
//!
//! The archive is not trusted: every path is resolved inside the target (see [`minke_sys::tree`]), `..` is
//! refused, and the `trusted.*` attributes by which overlayfs redirects are not taken from it.

use crate::{Error, Result};
use minke_sys::Errno;
use minke_sys::tree::{self, Folder, Node, Status, Tree};
use minke_wire::tar::{Decoder, Entry, Event, Kind};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Most members of one layer. Large distributions have some 200,000 files in all.
pub const MAX_MEMBERS: u64 = 2_000_000;
/// Most folders of one layer, as their times are kept in memory to the end.
pub const MAX_FOLDERS: usize = 200_000;
/// Most bytes of one layer, unpacked: a bound for decompression bombs; the disk usually ends before.
pub const MAX_BYTES: u64 = 64 << 30;

/// The prefix of names that remove what lower layers have.
const WHITEOUT: &[u8] = b".wh.";
/// The prefix of the names that AUFS kept for itself.
const AUFS: &[u8] = b".wh..wh.";
/// The name that hides all that lower layers have in its folder.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// overlayfs's attribute for the same.
const OPAQUE_ATTRIBUTE: &[u8] = b"trusted.overlay.opaque";

/// What a layer turned out to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Bytes in its files, hard links counted once.
    pub bytes: u64,
    /// Its members.
    pub members: u64,
    /// Whether it hides everything below it. overlayfs does not look at the attribute of a layer's root, so
    /// whoever mounts must leave the lower layers out.
    pub opaque: bool,
    /// Extended attributes that the file system could not hold.
    pub lost_attributes: u64,
}

/// Unpacks one layer; bytes of the tar go in with [`Unpacker::push`].
pub struct Unpacker {
    decoder: Decoder,
    tree: Tree,
    /// The file that is being written.
    file: Option<OpenFile>,
    /// The folder of the last member: most follow in the same one.
    recent: Option<(Vec<u8>, Folder)>,
    /// Folders whose times are set at the end, as every new name in them changes those.
    folders: Vec<(Vec<u8>, tree::Time)>,
    result: Unpacked,
}

struct OpenFile {
    file: File,
    entry: Box<Entry>,
    left: u64,
}

impl Unpacker {
    /// Unpacks into the folder `target`, which should be empty.
    pub fn new(target: &Path) -> Result<Self> {
        let tree = Tree::open(target)?;
        tree::set_owner_and_mode(tree.folder(b"")?, 0, 0, 0o755)?;
        Ok(Self {
            decoder: Decoder::new(),
            tree,
            file: None,
            recent: None,
            folders: Vec::new(),
            result: Unpacked::default(),
        })
    }

    /// Takes the next bytes of the tar. After an error the target is in an undefined state.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        loop {
            match self.decoder.next(&mut bytes).map_err(|error| malformed(&error))? {
                Event::More | Event::End => return Ok(()),
                Event::Entry(entry) => self.member(entry)?,
                Event::Data(data) => self.content(data)?,
            }
        }
    }

    /// The tar has ended.
    pub fn finish(self) -> Result<Unpacked> {
        self.decoder.finish().map_err(|error| malformed(&error))?;
        for (path, time) in &self.folders {
            // What was a folder may have been replaced by a later member.
            match self.tree.folder_itself(path) {
                Ok(folder) => tree::set_time(&folder, *time)?,
                Err(error) if gone(error.errno) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.result)
    }

    fn member(&mut self, entry: Box<Entry>) -> Result<()> {
        self.result.members = self.result.members.saturating_add(1);
        if self.result.members > MAX_MEMBERS {
            return Err(malformed(&"too many members"));
        }
        let whole = entry.path.clone();
        let path = components(&whole)?;
        let Some((name, parents)) = path.split_last() else { return self.root(&entry) };
        if *name == OPAQUE {
            return self.make_opaque(parents);
        }
        if path.iter().any(|component| component.starts_with(AUFS)) {
            return Ok(());
        }
        if parents.iter().any(|component| component.starts_with(WHITEOUT)) {
            return Err(malformed(&"a whiteout that is a folder"));
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(parents, hidden);
        }
        self.create(parents, name, entry)
    }

    /// The member `./`: attributes of the layer's root.
    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Folder {
            return Err(malformed(&"the root is not a folder"));
        }
        let root = self.tree.folder(b"")?;
        self.finish_folder(&root, Vec::new(), entry)
    }

    fn create(&mut self, parents: &[&[u8]], name: &[u8], entry: Box<Entry>) -> Result<()> {
        // Before the parent is borrowed: a hard link's target may be in any folder.
        let target = match entry.kind {
            Kind::HardLink => Some(self.link_target(&entry.link)?),
            _ => None,
        };
        let existing = self.parent(parents)?.status(name)?;
        if let (Some((folder, target)), Some(existing)) = (&target, existing)
            && folder.status(target)?.is_some_and(|status| status.identity == existing.identity)
        {
            return Ok(());
        }
        let keep = entry.kind == Kind::Folder && existing.is_some_and(|status| status.is_folder);
        if existing.is_some() && !keep {
            self.remove(parents, name)?;
        }
        let time = (entry.mtime.seconds, entry.mtime.nanoseconds);
        let parent = self.parent(parents)?;
        match entry.kind {
            Kind::File => {
                let file = parent.make_file(name)?;
                return self.begin_file(file, entry);
            }
            Kind::Folder => {
                let folder = if keep { parent.folder(name)? } else { parent.make_folder(name)? };
                return self.folder(&folder, parents, name, &entry, existing);
            }
            Kind::HardLink => {
                // Owner, mode and time are those of the file, which has them already.
                if let Some((folder, target)) = &target {
                    parent.make_hard_link(name, folder, target)?;
                }
                return Ok(());
            }
            Kind::Symlink => parent.make_link(name, &entry.link)?,
            Kind::CharDevice => {
                parent.make_node(name, Node::Char(entry.device.0, entry.device.1), entry.mode)?;
            }
            Kind::BlockDevice => {
                parent.make_node(name, Node::Block(entry.device.0, entry.device.1), entry.mode)?;
            }
            Kind::Fifo => parent.make_node(name, Node::Fifo, entry.mode)?,
        }
        parent.set_owner(name, entry.uid, entry.gid)?;
        Ok(parent.set_time(name, time)?)
    }

    fn begin_file(&mut self, file: File, entry: Box<Entry>) -> Result<()> {
        self.result.bytes = self.result.bytes.saturating_add(entry.size);
        if self.result.bytes > MAX_BYTES {
            return Err(malformed(&"too large"));
        }
        let left = entry.size;
        self.file = Some(OpenFile { file, entry, left });
        if left == 0 { self.end_file() } else { Ok(()) }
    }

    fn content(&mut self, data: &[u8]) -> Result<()> {
        use minke_sys::Context;
        let Some(open) = &mut self.file else {
            // The content of a member that is skipped.
            return Ok(());
        };
        let path = || String::from_utf8_lossy(&open.entry.path).into_owned();
        open.file.write_all(data).context("write", path())?;
        open.left = open.left.saturating_sub(u64::try_from(data.len()).unwrap_or(u64::MAX));
        if open.left == 0 { self.end_file() } else { Ok(()) }
    }

    fn end_file(&mut self) -> Result<()> {
        let Some(OpenFile { file, entry, .. }) = self.file.take() else { return Ok(()) };
        tree::set_owner_and_mode(&file, entry.uid, entry.gid, entry.mode)?;
        // After the owner: a change of that would clear the file's capabilities.
        self.attributes(&file, &entry)?;
        Ok(tree::set_time(&file, (entry.mtime.seconds, entry.mtime.nanoseconds))?)
    }

    fn folder(
        &mut self,
        folder: &Folder,
        parents: &[&[u8]],
        name: &[u8],
        entry: &Entry,
        existing: Option<Status>,
    ) -> Result<()> {
        if existing.is_some_and(|status| status.is_whiteout) {
            // Removed and made anew in one layer: nothing of the lower one shows through.
            tree::set_attribute(folder, OPAQUE_ATTRIBUTE, b"y")?;
        }
        let mut path = joined(parents);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        self.finish_folder(folder, path, entry)
    }

    fn finish_folder(&mut self, folder: &Folder, path: Vec<u8>, entry: &Entry) -> Result<()> {
        tree::set_owner_and_mode(folder, entry.uid, entry.gid, entry.mode)?;
        self.attributes(folder, entry)?;
        if self.folders.len() >= MAX_FOLDERS {
            return Err(malformed(&"too many folders"));
        }
        self.folders.push((path, (entry.mtime.seconds, entry.mtime.nanoseconds)));
        Ok(())
    }

    fn attributes(&mut self, fd: impl std::os::fd::AsFd, entry: &Entry) -> Result<()> {
        for (name, value) in &entry.xattrs {
            if !name.starts_with(b"trusted.") && !tree::set_attribute(&fd, name, value)? {
                self.result.lost_attributes = self.result.lost_attributes.saturating_add(1);
            }
        }
        Ok(())
    }

    fn make_opaque(&mut self, parents: &[&[u8]]) -> Result<()> {
        self.result.opaque |= parents.is_empty();
        let folder = self.parent(parents)?;
        match tree::set_attribute(folder, OPAQUE_ATTRIBUTE, b"y")? {
            true => Ok(()),
            false => Err(Error::unsupported(&"a data file system without trusted.* extended attributes")),
        }
    }

    /// Marks `hidden` as removed from the lower layers. What this same layer has under that name stays,
    /// whichever of the two comes first.
    fn whiteout(&mut self, parents: &[&[u8]], hidden: &[u8]) -> Result<()> {
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(malformed(&"a whiteout without a name"));
        }
        let parent = self.parent(parents)?;
        match parent.status(hidden)? {
            None => Ok(parent.make_node(hidden, Node::Char(0, 0), 0)?),
            Some(status) if status.is_folder => {
                tree::set_attribute(parent.folder(hidden)?, OPAQUE_ATTRIBUTE, b"y")?;
                Ok(())
            }
            Some(_) => Ok(()),
        }
    }

    fn remove(&mut self, parents: &[&[u8]], name: &[u8]) -> Result<()> {
        self.parent(parents)?.remove(name)?;
        // The folder that is held open may just have gone.
        self.recent = None;
        Ok(())
    }

    /// The folder in which a hard link's target is, and the target's name in it.
    fn link_target<'b>(&mut self, link: &'b [u8]) -> Result<(Folder, &'b [u8])> {
        let path = components(link)?;
        let (name, parents) = path.split_last().ok_or_else(|| malformed(&"a hard link to the root"))?;
        let folder = self.tree.folder(&joined(parents))?;
        if folder.status(name)?.is_none() {
            let target = String::from_utf8_lossy(link);
            return Err(malformed(&format_args!("hard link to {target}, which the layer does not have")));
        }
        Ok((folder, name))
    }

    /// Opens the folder that these components name. Those that are missing are made, as writers may leave
    /// them out.
    fn parent(&mut self, parents: &[&[u8]]) -> Result<&Folder> {
        let path = joined(parents);
        let folder = match self.recent.take() {
            Some((recent, folder)) if recent == path => folder,
            _ => match self.tree.folder(&path) {
                Ok(folder) => folder,
                Err(error) if gone(error.errno) => self.make_parents(parents)?,
                Err(error) => return Err(error.into()),
            },
        };
        Ok(&self.recent.insert((path, folder)).1)
    }

    fn make_parents(&self, parents: &[&[u8]]) -> Result<Folder> {
        let mut folder = self.tree.folder(b"")?;
        let mut path = Vec::new();
        for name in parents {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            let status = folder.status(name)?;
            let removed = status.is_some_and(|status| status.is_whiteout);
            if removed {
                folder.remove(name)?;
            }
            folder = if status.is_none() || removed {
                let made = folder.make_folder(name)?;
                tree::set_owner_and_mode(&made, 0, 0, 0o755)?;
                made
            } else {
                // By its path: it may be a link to a folder elsewhere in the layer.
                self.tree.folder(&path)?
            };
            if removed {
                tree::set_attribute(&folder, OPAQUE_ATTRIBUTE, b"y")?;
            }
        }
        Ok(folder)
    }
}

/// The components of a path in the archive, without empty ones and `.`; empty for the root.
fn components(path: &[u8]) -> Result<Vec<&[u8]>> {
    let parts: Vec<&[u8]> = path
        .split(|byte| *byte == b'/')
        .filter(|component| !component.is_empty() && *component != b".")
        .collect();
    if parts.contains(&&b".."[..]) {
        let path = String::from_utf8_lossy(path);
        return Err(malformed(&format_args!("'{path}' contains '..'; the layer is refused")));
    }
    Ok(parts)
}

fn joined(components: &[&[u8]]) -> Vec<u8> {
    components.join(&b'/')
}

fn gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

fn malformed(reason: &dyn std::fmt::Display) -> Error {
    Error::bad("layer", reason)
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
