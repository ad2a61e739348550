//! Reading a message: its structure is checked once, then questions and records are borrowed from it.

use super::data::{self, Data};
use super::{Class, HEADER, Header, Kind, NameRef, Rcode};

/// A message whose counts, names and lengths are right, also those of names in the data of the types that this
/// codec knows. What stands behind the last record is ignored.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// Its first twelve bytes.
    pub header: Header,
    /// Where each section begins, and where the last one ends.
    starts: [usize; 5],
    opt: Option<Opt<'a>>,
}

/// A question.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The name that is asked for.
    pub name: NameRef<'a>,
    /// The type of records.
    pub kind: Kind,
    /// The class, in mDNS with a flag as its top bit.
    pub class: Class,
}

/// A record.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The owner.
    pub name: NameRef<'a>,
    /// The type.
    pub kind: Kind,
    /// The class, in mDNS with a flag as its top bit. In OPT: the size of UDP messages.
    pub class: Class,
    /// How long it may be kept, in seconds; what is above 2^31 - 1 is 0 (RFC 2181 §8). In OPT: code, version and flags.
    pub ttl: u32,
    message: &'a [u8],
    start: usize,
    end: usize,
}

/// What OPT says (RFC 6891 §6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opt<'a> {
    /// The longest message by UDP that the sender takes, in bytes.
    pub size: u16,
    /// The version; only 0 is defined.
    pub version: u8,
    /// The sender wants DNSSEC records (RFC 3225).
    pub dnssec_ok: bool,
    /// The upper eight bits of the response code.
    pub upper_code: u8,
    /// The options as they stand there; see [`Opt::options`].
    pub data: &'a [u8],
}

/// The questions of a message.
#[derive(Clone, Debug)]
pub struct Questions<'a> {
    bytes: &'a [u8],
    at: usize,
    left: u16,
}

/// The records of one section.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    left: u16,
}

impl<'a> Message<'a> {
    /// Checks the structure; `None` for what is cut, has pointers that do not lead backwards, lengths that do
    /// not fit, or more than one OPT (RFC 6891 §6.1.1).
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = Header::read(bytes)?;
        let [questions, sections @ ..] = header.counts;
        let mut asked = Questions { bytes, at: HEADER, left: questions };
        while asked.left > 0 {
            asked.next()?;
        }
        let mut starts = [HEADER, asked.at, 0, 0, 0];
        let (mut at, mut opt) = (asked.at, None);
        for (count, end) in sections.into_iter().zip(starts.iter_mut().skip(2)) {
            let mut records = Records { bytes, at, left: count };
            while records.left > 0 {
                let record = records.next()?;
                data::check(record.meant(), bytes, record.start, record.end)?;
                if record.kind == Kind::OPT && opt.replace(Opt::of(&record)).is_some() {
                    return None;
                }
            }
            at = records.at;
            *end = at;
        }
        Some(Self { bytes, header, starts, opt })
    }

    /// The whole message.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Where what comes after the last record begins.
    pub fn end(&self) -> usize {
        let [.., end] = self.starts;
        end
    }

    /// Where the first record begins.
    pub fn records_start(&self) -> usize {
        let [_, start, ..] = self.starts;
        start
    }

    /// The questions.
    pub fn questions(&self) -> Questions<'a> {
        let [left, ..] = self.header.counts;
        Questions { bytes: self.bytes, at: HEADER, left }
    }

    /// The one question; `None` where there is none or more than one, which means nothing in unicast (RFC 9619).
    pub fn question(&self) -> Option<Question<'a>> {
        let [left, ..] = self.header.counts;
        if left == 1 { self.questions().next() } else { None }
    }

    /// What answers the question.
    pub fn answers(&self) -> Records<'a> {
        let [_, at, ..] = self.starts;
        let [_, left, ..] = self.header.counts;
        Records { bytes: self.bytes, at, left }
    }

    /// Who has authority, or the SOA of what does not exist.
    pub fn authorities(&self) -> Records<'a> {
        let [_, _, at, ..] = self.starts;
        let [_, _, left, _] = self.header.counts;
        Records { bytes: self.bytes, at, left }
    }

    /// What may be useful besides.
    pub fn additionals(&self) -> Records<'a> {
        let [_, _, _, at, _] = self.starts;
        let [.., left] = self.header.counts;
        Records { bytes: self.bytes, at, left }
    }

    /// What OPT says, if there is one.
    pub fn opt(&self) -> Option<Opt<'a>> {
        self.opt
    }

    /// The response code, with the bits that `opt` adds.
    pub fn rcode(&self, opt: Option<&Opt<'_>>) -> Rcode {
        let upper = opt.map_or(0, |opt| u16::from(opt.upper_code));
        Rcode(upper << 4 | self.header.flags.rcode().0)
    }
}

impl<'a> Record<'a> {
    /// The data as it stands in the message; names in it may be compressed.
    pub fn raw(&self) -> &'a [u8] {
        self.message.get(self.start..self.end).unwrap_or_default()
    }

    /// The type by which the data is read: one that is nobody's where the class has none of this number.
    pub(super) fn meant(&self) -> Kind {
        data::meant(self.kind, self.class)
    }

    /// The message and where the data begins and ends in it.
    pub(super) fn place(&self) -> (&'a [u8], usize, usize) {
        (self.message, self.start, self.end)
    }

    /// What the data means; `None` where it is not as its type wants it.
    pub fn data(&self) -> Option<Data<'a>> {
        Data::read(self.meant(), self.message, self.start, self.end)
    }
}

impl<'a> Opt<'a> {
    /// The fields of an OPT record.
    pub fn of(record: &Record<'a>) -> Self {
        let [upper_code, version, flags, _] = record.ttl.to_be_bytes();
        let data = record.raw();
        Self { size: record.class.0, version, dnssec_ok: flags & 0x80 != 0, upper_code, data }
    }

    /// The options: code and content.
    pub fn options(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let mut rest = self.data;
        std::iter::from_fn(move || {
            let ([a, b, c, d], more) = rest.split_first_chunk::<4>()?;
            let (content, more) = more.split_at_checked(u16::from_be_bytes([*c, *d]).into())?;
            rest = more;
            Some((u16::from_be_bytes([*a, *b]), content))
        })
    }

    /// Appends the record; who counts records counts it.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(0);
        for number in [Kind::OPT.0, self.size] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.ttl().to_be_bytes());
        // Options of more than 65,535 bytes fit no message.
        let data = self.data.get(..usize::from(u16::MAX)).unwrap_or(self.data);
        out.extend_from_slice(&(data.len() as u16).to_be_bytes());
        out.extend_from_slice(data);
    }

    fn ttl(&self) -> u32 {
        u32::from_be_bytes([self.upper_code, self.version, u8::from(self.dnssec_ok) << 7, 0])
    }
}

impl<'a> Iterator for Questions<'a> {
    type Item = Question<'a>;

    fn next(&mut self) -> Option<Question<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (name, at) = NameRef::read(self.bytes, self.at)?;
        let [a, b, c, d] = *self.bytes.get(at..)?.first_chunk()?;
        self.at = at.checked_add(4)?;
        Some(Question {
            name,
            kind: Kind(u16::from_be_bytes([a, b])),
            class: Class(u16::from_be_bytes([c, d])),
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (name, at) = NameRef::read(self.bytes, self.at)?;
        let [a, b, c, d, ttl @ .., e, f] = *self.bytes.get(at..)?.first_chunk::<10>()?;
        let [g, h, i, j] = ttl;
        let kind = Kind(u16::from_be_bytes([a, b]));
        let ttl = u32::from_be_bytes([g, h, i, j]);
        let start = at.checked_add(10)?;
        let end = start.checked_add(u16::from_be_bytes([e, f]).into())?;
        self.at = end;
        (end <= self.bytes.len()).then_some(Record {
            name,
            kind,
            class: Class(u16::from_be_bytes([c, d])),
            ttl: if kind != Kind::OPT && ttl > i32::MAX as u32 { 0 } else { ttl },
            message: self.bytes,
            start,
            end,
        })
    }
}
