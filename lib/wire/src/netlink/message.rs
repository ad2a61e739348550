//! The message around everything (`struct nlmsghdr`): reading a datagram, building a request.

use super::{Attributes, NLMSG_DONE, NLMSG_ERROR, aligned};

const HEADER: usize = 16;
/// `struct nlmsgerr` without the copy of the request: the error number and the request's header.
const ERROR: usize = 4 + HEADER;

/// "This is a request."
pub(crate) const NLM_F_REQUEST: u16 = 1;
/// "Answer, even when it worked."
pub(crate) const NLM_F_ACK: u16 = 4;
/// "All of them."
pub(crate) const NLM_F_DUMP: u16 = 0x300;
/// "Replace what is there."
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
/// "It must not be there yet."
pub(crate) const NLM_F_EXCL: u16 = 0x200;
/// "Make it."
pub(crate) const NLM_F_CREATE: u16 = 0x400;
/// The table changed during a dump: it may be inconsistent.
const NLM_F_DUMP_INTR: u16 = 0x10;
/// The answer does not repeat the request's content.
const NLM_F_CAPPED: u16 = 0x100;
/// The answer has attributes that explain it.
const NLM_F_ACK_TLVS: u16 = 0x200;
/// The kernel's explanation in words.
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLA_F_NESTED: u16 = 0x8000;

/// One message of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The message type, `RTM_…` or `NLMSG_…`.
    pub kind: u16,
    /// The flags, `NLM_F_…`.
    pub flags: u16,
    /// The sequence number of the request that this answers; 0 for notices.
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

/// The messages of a datagram. What follows a damaged one is not looked at.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// Reads the messages of `datagram`.
    pub fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let whole = std::mem::take(&mut self.rest);
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *whole.first_chunk::<HEADER>()?;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let payload = whole.get(HEADER..length)?;
        self.rest = whole.get(aligned(length)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            payload,
        })
    }
}

/// What a message means to the one who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// Content: one object.
    Content(Message<'a>),
    /// The request worked, or the dump is complete.
    Done,
    /// The dump is complete, but the table changed meanwhile: ask again.
    Interrupted,
    /// The request failed.
    Failed {
        /// The error number of errno(3), positive.
        errno: i32,
        /// The kernel's explanation, often empty.
        text: &'a str,
    },
}

/// Sorts a message into content, success and failure.
pub fn answer(message: Message<'_>) -> Answer<'_> {
    let interrupted = message.flags & NLM_F_DUMP_INTR != 0;
    let errno = match message.kind {
        NLMSG_ERROR | NLMSG_DONE => {
            message.payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes))
        }
        _ => return Answer::Content(message),
    };
    match errno {
        0 if interrupted => Answer::Interrupted,
        0 => Answer::Done,
        errno => Answer::Failed { errno: errno.saturating_neg().max(1), text: explanation(message) },
    }
}

fn explanation(message: Message<'_>) -> &str {
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return "";
    }
    let skip = match message.kind {
        NLMSG_DONE => 4,
        _ if message.flags & NLM_F_CAPPED != 0 => ERROR,
        // The whole request is repeated before the attributes; its length stands in its header.
        _ => match message.payload.get(4..8).and_then(|bytes| bytes.first_chunk::<4>()) {
            Some(bytes) => usize::try_from(u32::from_ne_bytes(*bytes))
                .map_or(usize::MAX, |length| aligned(length).saturating_add(4)),
            None => return "",
        },
    };
    let attributes = Attributes::new(message.payload.get(skip..).unwrap_or_default());
    attributes.find(NLMSGERR_ATTR_MSG).and_then(|attribute| attribute.text()).unwrap_or("")
}

/// A request that is being written.
#[derive(Debug)]
pub struct Builder {
    bytes: Vec<u8>,
}

impl Builder {
    /// A request of type `kind`; it always asks for an answer. The sequence number is set by
    /// [`Builder::finish`].
    pub fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        Self { bytes }
    }

    /// Appends the fixed part of a message: `struct ifinfomsg` and the like.
    #[must_use]
    pub fn head(mut self, head: &[u8]) -> Self {
        self.bytes.extend_from_slice(head);
        self.pad();
        self
    }

    /// Appends an attribute.
    #[must_use]
    pub fn bytes(self, kind: u16, value: &[u8]) -> Self {
        self.write(kind, |builder| builder.bytes.extend_from_slice(value))
    }

    /// Appends a number of 32 bits.
    #[must_use]
    pub fn u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Appends text with the zero byte that ends it.
    #[must_use]
    pub fn text(self, kind: u16, value: &str) -> Self {
        self.write(kind, |builder| {
            builder.bytes.extend_from_slice(value.as_bytes());
            builder.bytes.push(0);
        })
    }

    /// Appends an attribute that holds what `content` appends.
    #[must_use]
    pub fn nest(self, kind: u16, content: impl FnOnce(Self) -> Self) -> Self {
        self.write(kind | NLA_F_NESTED, |builder| {
            let taken = Self { bytes: std::mem::take(&mut builder.bytes) };
            *builder = content(taken);
        })
    }

    /// The message's bytes, with this sequence number.
    pub fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.put(0, &length.to_ne_bytes());
        self.put(8, &sequence.to_ne_bytes());
        self.bytes
    }

    fn write(mut self, kind: u16, content: impl FnOnce(&mut Self)) -> Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        content(&mut self);
        // No request of ours comes near 64 KiB; one that did is refused by the kernel as malformed.
        let length = u16::try_from(self.bytes.len().saturating_sub(start)).unwrap_or(u16::MAX);
        self.put(start, &length.to_ne_bytes());
        self.put(start.saturating_add(2), &kind.to_ne_bytes());
        self.pad();
        self
    }

    fn put(&mut self, at: usize, value: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..).and_then(|rest| rest.get_mut(..value.len())) {
            place.copy_from_slice(value);
        }
    }

    fn pad(&mut self) {
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }
}
