//! A full image: the files are the members of its layer.

use super::files::{Output, Written, is_kept, make_folders};
use super::resume::{self, Saved};
use super::{Writer, foreign};
use crate::gunzip::Place;
use crate::layer::Sink;
use crate::unpack::{normal, split};
use crate::{Digest, Error, Result};
use minke_boot::ROOT_IMAGE;
use minke_sys::tree::Tree;
use minke_wire::tar::{Decoder, Entry, Event, Kind};
use std::path::{Path, PathBuf};

/// So many bytes are written between two records by which the work can be taken up.
const INTERVAL: u64 = 8 << 20;
/// Most bytes of members that are skipped. Another system's host app is known by how much it has that we know nothing of.
const MAX_SKIPPED: u64 = 16 << 20;

/// Most bytes of headers that are kept for a record.
const MAX_FRAMES: usize = 256 << 10;

/// The layer's tar but for the content of its files, which stands in the slot: with both the hash of what came can be made
/// once more.
#[derive(Default)]
pub(super) struct Frames {
    pub(super) bytes: Vec<u8>,
    /// For each file how many of the bytes are before its content.
    pub(super) starts: Vec<usize>,
}

/// Makes the files.
pub(super) struct Whole {
    tree: Tree,
    decoder: Decoder,
    resume: PathBuf,
    layer: Digest,
    open: Option<Output>,
    files: Vec<Written>,
    /// `None` once something came that is neither here nor in the slot: from there on nothing is taken up. (In our own
    /// artefacts that is behind the slot's files.)
    frames: Option<Frames>,
    skipped: u64,
    /// Bytes written since the last record.
    fresh: u64,
}

impl Whole {
    pub(super) fn new(
        target: &Path,
        resume: &Path,
        layer: &Digest,
        saved: Option<&mut Saved>,
    ) -> Result<Self> {
        let mut whole = Self {
            tree: Tree::open(target)?,
            decoder: Decoder::new(),
            resume: resume.to_owned(),
            layer: layer.clone(),
            open: None,
            files: Vec::new(),
            frames: Some(Frames::default()),
            skipped: 0,
            fresh: 0,
        };
        if let Some(saved) = saved {
            let open = saved.output(target)?;
            whole.decoder = Decoder::within(open.size, open.size.saturating_sub(open.hash.length()));
            whole.open = Some(open);
            whole.files = std::mem::take(&mut saved.files);
            whole.frames = Some(std::mem::take(&mut saved.frames));
        }
        Ok(whole)
    }

    fn member(&mut self, entry: &Entry) -> Result<()> {
        let path = normal(&entry.path)?;
        if !is_kept(&path) {
            self.skipped = self.skipped.saturating_add(entry.size);
            if self.skipped > MAX_SKIPPED {
                return Err(foreign(&"it holds a whole system beside boot and rootfs.squashfs"));
            }
            return Ok(());
        }
        let Ok(path) = String::from_utf8(path) else {
            return Err(Error::bad("host app", &"a name that is not UTF-8"));
        };
        match entry.kind {
            Kind::Folder => {
                make_folders(&self.tree, path.as_bytes())?;
            }
            Kind::File => {
                let output = Output::create(&self.tree, &path, entry.size, entry.mode)?;
                self.open = Some(output);
                if let Some(Frames { bytes, starts }) = &mut self.frames {
                    starts.push(bytes.len());
                }
                if entry.size == 0 {
                    self.end()?;
                }
            }
            Kind::Symlink => {
                let (folder, name) = split(path.as_bytes());
                let folder = make_folders(&self.tree, folder)?;
                folder.remove(name)?;
                folder.make_link(name, &entry.link)?;
            }
            _ => return Err(Error::bad("host app", &format_args!("{path} is neither a file nor a folder"))),
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        match self.open.take() {
            Some(output) => output.finish(&mut self.files),
            None => Ok(()),
        }
    }
}

impl Sink for Whole {
    fn content(&mut self, mut tar: &[u8]) -> Result<()> {
        loop {
            let before = tar;
            let event = self.decoder.next(&mut tar).map_err(|error| Error::bad("layer", &error))?;
            if !matches!(event, Event::Data(_))
                && let Some(Frames { bytes, .. }) = &mut self.frames
            {
                let used = before.len().saturating_sub(tar.len());
                bytes.extend_from_slice(before.get(..used).unwrap_or_default());
                if bytes.len() > MAX_FRAMES {
                    self.frames = None;
                }
            }
            match event {
                Event::More | Event::End => return Ok(()),
                Event::Entry(entry) => self.member(&entry)?,
                Event::Data(data) => {
                    let Some(open) = &mut self.open else {
                        self.frames = None;
                        continue;
                    };
                    open.write(data)?;
                    self.fresh = self.fresh.saturating_add(u64::try_from(data.len()).unwrap_or(0));
                    if open.hash.length() == open.size {
                        self.end()?;
                    }
                }
            }
        }
    }

    fn between(&mut self, done: u64, place: &Place<'_>) -> Result<()> {
        let (Some(open), Some(frames)) = (&self.open, &self.frames) else { return Ok(()) };
        if self.fresh < INTERVAL {
            return Ok(());
        }
        self.fresh = 0;
        // What the record speaks of is on the disk before the record is.
        open.sync()?;
        resume::write(&self.resume, &self.layer, (done, place), &self.files, frames, open)
    }
}

impl Writer for Whole {
    fn sink(&mut self) -> &mut dyn Sink {
        self
    }

    fn finish(&mut self) -> Result<Vec<Written>> {
        self.decoder.finish().map_err(|error| Error::bad("layer", &error))?;
        let has = |path: &str| self.files.iter().any(|file| file.path.starts_with(path));
        if !has(ROOT_IMAGE) || !has("boot/") {
            return Err(foreign(&"it has no boot or no rootfs.squashfs"));
        }
        Ok(std::mem::take(&mut self.files))
    }
}
