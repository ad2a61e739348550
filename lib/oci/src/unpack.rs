//! A layer's tar into a folder that overlayfs takes as a lower layer (OCI image-spec 1.1, `layer.md`;
//! Linux Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").
//!
//! The archive is not trusted: every path is resolved inside the target (see [`minke_sys::tree`]), `..` is
//! refused, and the `trusted.*` attributes by which overlayfs redirects are not taken from it.

use crate::{Error, Result};
use minke_sys::Errno;
use minke_sys::tree::{self, Folder, Node, Tree};
use minke_wire::tar::{Decoder, Entry, Event, Kind};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
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
        tree::set_owner_and_mode(tree.folder(b"")?.as_fd(), 0, 0, 0o755)?;
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
                Ok(folder) => tree::set_time(folder.as_fd(), *time)?,
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
        let path = normal(&entry.path)?;
        if path.is_empty() {
            return self.root(&entry);
        }
        let (parents, name) = split(&path);
        if name == OPAQUE {
            return self.make_opaque(parents);
        }
        if components(&path).any(|component| component.starts_with(AUFS)) {
            return Ok(());
        }
        if components(parents).any(|component| component.starts_with(WHITEOUT)) {
            return Err(malformed(&"a whiteout that is a folder"));
        }
        match (name.strip_prefix(WHITEOUT), entry.kind) {
            (Some(hidden), _) => self.whiteout(parents, hidden),
            (None, Kind::HardLink) => self.hard_link(parents, name, &entry.link),
            (None, Kind::Folder) => self.folder(&path, &entry),
            _ => self.create(parents, name, entry),
        }
    }

    /// The member `./`: attributes of the layer's root.
    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Folder {
            return Err(malformed(&"the root is not a folder"));
        }
        let root = self.tree.folder(b"")?;
        self.finish_folder(&root, b"", entry)
    }

    /// Another name for a file. Owner, mode and time are those of the file, which has them already.
    fn hard_link(&mut self, parents: &[u8], name: &[u8], link: &[u8]) -> Result<()> {
        let path = normal(link)?;
        if path.is_empty() {
            return Err(malformed(&"a hard link to the root"));
        }
        let (folder, target) = split(&path);
        let folder = self.tree.folder(folder)?;
        let Some(status) = folder.status(target)? else {
            let target = String::from_utf8_lossy(link);
            return Err(malformed(&format_args!("hard link to {target}, which the layer does not have")));
        };
        match self.parent(parents)?.status(name)? {
            Some(existing) if existing.identity == status.identity => return Ok(()),
            Some(_) => self.remove(parents, name)?,
            None => {}
        }
        Ok(self.parent(parents)?.make_hard_link(name, &folder, target)?)
    }

    fn folder(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let (parents, name) = split(path);
        let existing = self.parent(parents)?.status(name)?;
        let folder = match existing {
            Some(existing) if existing.is_folder => self.parent(parents)?.folder(name)?,
            existing => {
                if existing.is_some() {
                    self.remove(parents, name)?;
                }
                self.parent(parents)?.make_folder(name)?
            }
        };
        if existing.is_some_and(|status| status.is_whiteout) {
            // Removed and made anew in one layer: nothing of the lower one shows through.
            tree::set_attribute(folder.as_fd(), OPAQUE_ATTRIBUTE, b"y")?;
        }
        self.finish_folder(&folder, path, entry)
    }

    /// A file, link or node.
    fn create(&mut self, parents: &[u8], name: &[u8], entry: Box<Entry>) -> Result<()> {
        if self.parent(parents)?.status(name)?.is_some() {
            self.remove(parents, name)?;
        }
        let parent = self.parent(parents)?;
        let (major, minor) = entry.device;
        let node = match entry.kind {
            Kind::File => {
                let file = parent.make_file(name)?;
                return self.begin_file(file, entry);
            }
            Kind::CharDevice => Some(Node::Char(major, minor)),
            Kind::BlockDevice => Some(Node::Block(major, minor)),
            Kind::Fifo => Some(Node::Fifo),
            // A folder or a hard link is made elsewhere.
            Kind::Symlink | Kind::Folder | Kind::HardLink => None,
        };
        match node {
            Some(node) => parent.make_node(name, node, entry.mode)?,
            None => parent.make_link(name, &entry.link)?,
        }
        parent.set_owner(name, entry.uid, entry.gid)?;
        Ok(parent.set_time(name, time(&entry))?)
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
        open.file.write_all(data).context("write", String::from_utf8_lossy(&open.entry.path))?;
        open.left = open.left.saturating_sub(u64::try_from(data.len()).unwrap_or(u64::MAX));
        if open.left == 0 { self.end_file() } else { Ok(()) }
    }

    fn end_file(&mut self) -> Result<()> {
        let Some(OpenFile { file, entry, .. }) = self.file.take() else { return Ok(()) };
        self.attributes(file.as_fd(), &entry)?;
        Ok(tree::set_time(file.as_fd(), time(&entry))?)
    }

    fn finish_folder(&mut self, folder: &Folder, path: &[u8], entry: &Entry) -> Result<()> {
        self.attributes(folder.as_fd(), entry)?;
        if self.folders.len() >= MAX_FOLDERS {
            return Err(malformed(&"too many folders"));
        }
        self.folders.push((path.to_vec(), time(entry)));
        Ok(())
    }

    /// Sets owner, mode and extended attributes.
    fn attributes(&mut self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
        tree::set_owner_and_mode(fd, entry.uid, entry.gid, entry.mode)?;
        // After the owner: a change of that would clear the file's capabilities.
        for (name, value) in &entry.xattrs {
            if !name.starts_with(b"trusted.") && !tree::set_attribute(fd, name, value)? {
                self.result.lost_attributes = self.result.lost_attributes.saturating_add(1);
            }
        }
        Ok(())
    }

    fn make_opaque(&mut self, parents: &[u8]) -> Result<()> {
        self.result.opaque |= parents.is_empty();
        let folder = self.parent(parents)?;
        match tree::set_attribute(folder.as_fd(), OPAQUE_ATTRIBUTE, b"y")? {
            true => Ok(()),
            false => Err(Error::unsupported(&"a data file system without trusted.* extended attributes")),
        }
    }

    /// Marks `hidden` as removed from the lower layers. What this same layer has under that name stays,
    /// whichever of the two comes first.
    fn whiteout(&mut self, parents: &[u8], hidden: &[u8]) -> Result<()> {
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(malformed(&"a whiteout without a name"));
        }
        let parent = self.parent(parents)?;
        match parent.status(hidden)? {
            None => parent.make_node(hidden, Node::Char(0, 0), 0)?,
            Some(status) if status.is_folder => {
                tree::set_attribute(parent.folder(hidden)?.as_fd(), OPAQUE_ATTRIBUTE, b"y")?;
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn remove(&mut self, parents: &[u8], name: &[u8]) -> Result<()> {
        self.parent(parents)?.remove(name)?;
        // The folder that is held open may just have gone.
        self.recent = None;
        Ok(())
    }

    /// Opens a folder. What is missing on the way is made, as writers may leave it out.
    fn parent(&mut self, path: &[u8]) -> Result<&Folder> {
        let folder = match self.recent.take() {
            Some((recent, folder)) if recent == path => folder,
            _ => match self.tree.folder(path) {
                Ok(folder) => folder,
                Err(error) if gone(error.errno) => self.make_parents(path)?,
                Err(error) => return Err(error.into()),
            },
        };
        Ok(&self.recent.insert((path.to_vec(), folder)).1)
    }

    fn make_parents(&self, whole: &[u8]) -> Result<Folder> {
        let mut folder = self.tree.folder(b"")?;
        let mut path = Vec::new();
        for name in components(whole) {
            append(&mut path, name);
            let status = folder.status(name)?;
            let removed = status.is_some_and(|status| status.is_whiteout);
            if removed {
                folder.remove(name)?;
            }
            folder = if status.is_none() || removed {
                let made = folder.make_folder(name)?;
                tree::set_owner_and_mode(made.as_fd(), 0, 0, 0o755)?;
                made
            } else {
                // By its path: it may be a link to a folder elsewhere in the layer.
                self.tree.folder(&path)?
            };
            if removed {
                tree::set_attribute(folder.as_fd(), OPAQUE_ATTRIBUTE, b"y")?;
            }
        }
        Ok(folder)
    }
}

pub(crate) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
}

/// Adds a component to a path.
fn append(path: &mut Vec<u8>, component: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(component);
}

/// A path of the archive without empty components and `.`; empty for the root.
pub(crate) fn normal(path: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for component in components(path) {
        match component {
            b"" | b"." => {}
            b".." => {
                let path = String::from_utf8_lossy(path);
                return Err(malformed(&format_args!("'{path}' contains '..'; the layer is refused")));
            }
            component => append(&mut out, component),
        }
    }
    Ok(out)
}

/// The folder of a path, and the name in it.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let name = components(path).last().unwrap_or_default();
    let folder = path.strip_suffix(name).unwrap_or_default();
    (folder.strip_suffix(b"/").unwrap_or_default(), name)
}

fn time(entry: &Entry) -> tree::Time {
    (entry.mtime.seconds, entry.mtime.nanoseconds)
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
