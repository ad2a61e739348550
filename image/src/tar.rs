//! Tar archives in memory, everything owned by root, with fixed times, so that the same content is the same archive.

use crate::error::{Context, Error, Result};
use crate::tree::walk;
pub use minke_wire::tar::Kind;
use minke_wire::tar::{Decoder, Encoder, Entry, Event, Time};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// An archive that is being written.
#[derive(Debug)]
pub struct Tar {
    bytes: Vec<u8>,
    stamp: u64,
}

impl Tar {
    /// An empty archive whose members have this time, in seconds since 1970.
    pub fn new(stamp: u64) -> Tar {
        Tar { bytes: Vec::new(), stamp }
    }

    /// Adds a file with these permission bits.
    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.member(name, Kind::File, mode, "", content)
    }

    /// Adds a folder.
    pub fn folder(&mut self, name: &str) -> Result<()> {
        self.member(&format!("{name}/"), Kind::Folder, 0o755, "", &[])
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, name: &str, target: &str) -> Result<()> {
        self.member(name, Kind::Symlink, 0o777, target, &[])
    }

    /// Adds another name of the member `target`, which comes before.
    pub fn hard_link(&mut self, name: &str, target: &str) -> Result<()> {
        self.member(name, Kind::HardLink, 0o755, target, &[])
    }

    /// Adds everything below `folder`; a file is executable when its owner may execute it.
    pub fn tree(&mut self, folder: &Path) -> Result<()> {
        self.members(folder, &|name| name)
    }

    /// Adds everything below `folder` as what is below the member `place`.
    pub fn tree_below(&mut self, place: &str, folder: &Path) -> Result<()> {
        self.members(folder, &|name| format!("{place}/{name}"))
    }

    fn members(&mut self, folder: &Path, named: &dyn Fn(String) -> String) -> Result<()> {
        for (name, path) in walk(folder)? {
            let name = named(name);
            let data = fs::symlink_metadata(&path).on("looking at", &path)?;
            if data.is_dir() {
                self.folder(&name)?;
            } else if data.is_symlink() {
                let target = fs::read_link(&path).on("reading the link", &path)?;
                self.link(&name, &target.to_string_lossy())?;
            } else {
                let mode = if data.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
                self.file(&name, mode, &fs::read(&path).on("reading", &path)?)?;
            }
        }
        Ok(())
    }

    fn member(&mut self, name: &str, kind: Kind, mode: u32, link: &str, content: &[u8]) -> Result<()> {
        let mut entry = Entry::new(name.as_bytes(), kind, mode);
        entry.link = link.as_bytes().to_vec();
        entry.size = content.len() as u64;
        entry.mtime = Time { seconds: self.stamp.cast_signed(), nanoseconds: 0 };
        let failed = |error| Error::Invalid(format!("packing {name}: {error}"));
        Encoder::header(&entry, &mut self.bytes).map_err(failed)?;
        self.bytes.extend_from_slice(content);
        Encoder::padding(entry.size, &mut self.bytes);
        Ok(())
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        Encoder::end(&mut self.bytes);
        self.bytes
    }
}

/// A member of an archive that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Target of a link.
    pub link: String,
    /// Seconds since 1970.
    pub time: i64,
    /// Content of a file.
    pub content: Vec<u8>,
}

/// The members of an archive by name (that of a folder without its slash).
pub fn read(archive: &[u8]) -> Result<BTreeMap<String, Member>> {
    let failed = |error| Error::Invalid(format!("reading an archive: {error}"));
    let (mut decoder, mut input) = (Decoder::new(), archive);
    let mut members = BTreeMap::new();
    let mut last = String::new();
    loop {
        match decoder.next(&mut input).map_err(failed)? {
            Event::Entry(entry) => {
                last = String::from_utf8_lossy(&entry.path).trim_end_matches('/').to_owned();
                let link = String::from_utf8_lossy(&entry.link).into_owned();
                let (kind, mode, time) = (entry.kind, entry.mode, entry.mtime.seconds);
                let member = Member { kind, mode, link, time, content: Vec::new() };
                members.insert(last.clone(), member);
            }
            Event::Data(bytes) => {
                if let Some(member) = members.get_mut(&last) {
                    member.content.extend_from_slice(bytes);
                }
            }
            Event::More | Event::End => break,
        }
    }
    decoder.finish().map_err(failed)?;
    Ok(members)
}
