//! The decoder: bytes in, events out.

use super::header::{self, Header};
use super::pax::Values;
use super::{BLOCK, Entry, Error, Kind, MAX_EXTENSION, MAX_PATH, MAX_SIZE, Time};

/// What the decoder found next.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// All input is used up: give more, or call [`Decoder::finish`].
    More,
    /// A member begins. If its size is not 0, its content follows.
    Entry(Box<Entry>),
    /// The next part of the member's content, never empty.
    Data(&'a [u8]),
    /// The archive's end mark. Whatever follows is padding.
    End,
}

/// A streaming decoder. After an error it must not be used again.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// Bytes left of the present content, extension record or padding.
    left: u64,
    /// How much padding follows the present content or extension record.
    padding: u64,
    /// The kind of the present extension record, and its content so far.
    kind: u8,
    content: Vec<u8>,
    /// A header block that is being collected, and how much of it there is.
    block: Box<[u8; BLOCK]>,
    filled: usize,
    /// Values of `g` headers, for all members.
    global: Values,
    /// Values of `x` headers and GNU long names, for the next member.
    local: Values,
    /// Whether `local` was begun and so a member must follow.
    pending: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Collecting a header block.
    Header,
    /// One zero block was seen.
    Zero,
    /// In a member's content.
    Data,
    /// In an extension record.
    Extension,
    /// In padding.
    Padding,
    /// Behind the end mark.
    End,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder at the start of an archive.
    pub fn new() -> Self {
        Self {
            state: State::Header,
            left: 0,
            padding: 0,
            kind: 0,
            content: Vec::new(),
            block: Box::new([0; BLOCK]),
            filled: 0,
            global: Values::default(),
            local: Values::default(),
            pending: false,
        }
    }

    /// A decoder in the content of a member of `size` bytes, of which `left` are still to come.
    pub fn within(size: u64, left: u64) -> Self {
        let mut decoder = Self::new();
        decoder.begin(State::Data, size);
        decoder.left = left.min(size);
        decoder
    }

    /// Takes what it needs from the front of `input` and tells what it found.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Event<'a>, Error> {
        loop {
            match self.state {
                State::End => {
                    *input = &[];
                    return Ok(Event::End);
                }
                State::Data | State::Extension | State::Padding if self.left == 0 => self.end_part()?,
                _ if input.is_empty() => return Ok(Event::More),
                State::Header | State::Zero => {
                    if !self.collect(input) {
                        return Ok(Event::More);
                    }
                    if let Some(entry) = self.header()? {
                        return Ok(Event::Entry(entry));
                    }
                }
                state => {
                    let data = take(input, &mut self.left);
                    match state {
                        State::Data => return Ok(Event::Data(data)),
                        State::Extension => self.content.extend_from_slice(data),
                        _ => {}
                    }
                }
            }
        }
    }

    /// The end of content, of an extension record or of padding.
    fn end_part(&mut self) -> Result<(), Error> {
        match self.state {
            State::Padding => self.state = State::Header,
            state => {
                if state == State::Extension {
                    self.extend()?;
                }
                self.state = State::Padding;
                self.left = self.padding;
            }
        }
        Ok(())
    }

    /// Skips what is left of the current member's content, for a caller that can seek: the number of bytes
    /// (padding included) that the next input must not contain.
    pub fn skip_content(&mut self) -> u64 {
        let skipped = match self.state {
            State::Data => self.left.saturating_add(self.padding),
            State::Padding => self.left,
            _ => return 0,
        };
        self.state = State::Header;
        skipped
    }

    /// The input has ended: an error if that is inside a member. An archive without end mark is accepted,
    /// as GNU tar does.
    pub fn finish(&self) -> Result<(), Error> {
        let complete = match self.state {
            State::End | State::Zero => true,
            State::Extension => false,
            // The last member's padding may be missing.
            state => self.filled == 0 && !self.pending && (state != State::Data || self.left == 0),
        };
        if complete { Ok(()) } else { Err(Error::Truncated) }
    }

    /// Collects a header block; true when it is whole.
    fn collect(&mut self, input: &mut &[u8]) -> bool {
        let room = self.block.get_mut(self.filled..).unwrap_or_default();
        let count = room.len().min(input.len());
        let (Some(target), Some((now, rest))) = (room.get_mut(..count), input.split_at_checked(count)) else {
            return false;
        };
        target.copy_from_slice(now);
        *input = rest;
        self.filled = self.filled.saturating_add(count);
        if self.filled < BLOCK {
            return false;
        }
        self.filled = 0;
        true
    }

    /// Understands a whole header block and sets the state that follows it.
    fn header(&mut self) -> Result<Option<Box<Entry>>, Error> {
        let header = Header(&self.block);
        if header.is_zero() {
            if self.pending {
                return Err(Error::Truncated);
            }
            self.state = if self.state == State::Zero { State::End } else { State::Zero };
            return Ok(None);
        }
        if self.state == State::Zero {
            return Err(Error::LoneZeroBlock);
        }
        header.verify()?;
        let size = header.number(header::SIZE, "size")?;
        let size = u64::try_from(size).ok().filter(|size| *size <= MAX_SIZE).ok_or(Error::Number("size"))?;
        let kind = header.kind();
        if matches!(kind, b'x' | b'X' | b'g' | b'L' | b'K') {
            if size > u64::try_from(MAX_EXTENSION).unwrap_or(0) {
                return Err(Error::Extension);
            }
            self.pending |= kind != b'g';
            self.kind = kind;
            self.content.clear();
            self.begin(State::Extension, size);
            return Ok(None);
        }
        let entry = self.entry(kind, size)?;
        self.begin(State::Data, entry.size);
        Ok(Some(entry))
    }

    fn begin(&mut self, state: State, size: u64) {
        (self.state, self.left, self.padding) = (state, size, padding(size));
    }

    /// Builds the member from its header, whose size field is `size`, and the extension values.
    fn entry(&mut self, kind: u8, size: u64) -> Result<Box<Entry>, Error> {
        let header = Header(&self.block);
        let (local, global) = (std::mem::take(&mut self.local), &self.global);
        self.pending = false;
        let path = local.path.or_else(|| global.path.clone()).unwrap_or_else(|| name(&header));
        let kind = match kind {
            // Before POSIX, a folder was a file whose name ends with a slash.
            0 if path.ends_with(b"/") => Kind::Folder,
            0 | b'0' | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Folder,
            b'6' => Kind::Fifo,
            b'S' => return Err(Error::Sparse),
            other => return Err(Error::Type(other)),
        };
        // Some writers put the file type into the mode as well.
        let mode = small(&header, header::MODE, "mode")? & 0o7777;
        let mut entry = Box::new(Entry::new(b"", kind, mode));
        entry.path = path;
        let mut good = good_path(&entry.path);
        match kind {
            // Only files have content, whatever the size field of another member says.
            Kind::File => entry.size = local.size.or(global.size).unwrap_or(size),
            Kind::HardLink | Kind::Symlink => {
                let link = local.link.or_else(|| global.link.clone());
                entry.link = link.unwrap_or_else(|| header.text(header::LINK).to_vec());
                good &= good_path(&entry.link);
            }
            Kind::CharDevice | Kind::BlockDevice => {
                entry.device =
                    (small(&header, header::MAJOR, "devmajor")?, small(&header, header::MINOR, "devminor")?);
            }
            Kind::Folder | Kind::Fifo => {}
        }
        if !good {
            return Err(Error::Path);
        }
        entry.xattrs = local.xattrs;
        for attribute in &global.xattrs {
            if !entry.xattrs.iter().any(|(known, _)| *known == attribute.0) {
                entry.xattrs.push(attribute.clone());
            }
        }
        entry.uid = match local.uid.or(global.uid) {
            Some(uid) => uid,
            None => small(&header, header::UID, "uid")?,
        };
        entry.gid = match local.gid.or(global.gid) {
            Some(gid) => gid,
            None => small(&header, header::GID, "gid")?,
        };
        entry.mtime = match local.mtime.or(global.mtime) {
            Some(mtime) => mtime,
            None => Time { seconds: header.number(header::MTIME, "mtime")?, nanoseconds: 0 },
        };
        Ok(entry)
    }

    /// Applies an extension record.
    fn extend(&mut self) -> Result<(), Error> {
        let mut content = std::mem::take(&mut self.content);
        let place = match self.kind {
            b'g' => return self.global.apply(&content),
            b'L' => &mut self.local.path,
            b'K' => &mut self.local.link,
            _ => return self.local.apply(&content),
        };
        // GNU writes the name with a NUL behind it.
        while content.last() == Some(&0) {
            content.pop();
        }
        *place = Some(content);
        Ok(())
    }
}

/// The name field, with the ustar prefix before it.
fn name(header: &Header<'_>) -> Vec<u8> {
    let prefix = if header.is_posix() { header.text(header::PREFIX) } else { &[] };
    let mut path = prefix.to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(header.text(header::NAME));
    path
}

fn good_path(path: &[u8]) -> bool {
    (1..=MAX_PATH).contains(&path.len()) && !path.contains(&0)
}

/// A numeric field that fits 32 bits and is not the kernel's "no change".
fn small(header: &Header<'_>, field: header::Field, name: &'static str) -> Result<u32, Error> {
    let value = u32::try_from(header.number(field, name)?).ok().filter(|value| *value != u32::MAX);
    value.ok_or(Error::Number(name))
}

/// How many bytes fill the last block.
pub(super) fn padding(size: u64) -> u64 {
    size.wrapping_neg() & 511
}

/// Takes up to `left` bytes from the front of `input` and counts them off.
fn take<'a>(input: &mut &'a [u8], left: &mut u64) -> &'a [u8] {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    let (now, rest) = input.split_at_checked(count).unwrap_or((input, &[]));
    *input = rest;
    *left = left.saturating_sub(u64::try_from(now.len()).unwrap_or(u64::MAX));
    now
}
