//! Just enough of DNS messages to say what a test wants, right or wrong. It shares no code with what is tested.

/// Kinds of records.
pub const A: u16 = 1;
pub const NS: u16 = 2;
pub const CNAME: u16 = 5;
pub const SOA: u16 = 6;
pub const PTR: u16 = 12;
pub const TXT: u16 = 16;
pub const AAAA: u16 = 28;
pub const OPT: u16 = 41;
pub const ANY: u16 = 255;

/// QR, RD and RA.
pub const ANSWER: u16 = 0x8180;
pub const AA: u16 = 0x0400;
pub const TC: u16 = 0x0200;
pub const AD: u16 = 0x0020;
pub const CD: u16 = 0x0010;
pub const SERVFAIL: u16 = 2;
pub const NXDOMAIN: u16 = 3;
pub const REFUSED: u16 = 5;

/// A name on the wire, without compression.
pub fn wire(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// A question with RD, of class IN.
pub fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    query_of(id, &wire(name), kind, 1)
}

/// A question with RD.
pub fn query_of(id: u16, name: &[u8], kind: u16, class: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [id, 0x0100, 1, 0, 0, 0] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend_from_slice(name);
    bytes.extend(kind.to_be_bytes());
    bytes.extend(class.to_be_bytes());
    bytes
}

/// The same with an OPT record: version, flags and options.
pub fn with_opt(mut query: Vec<u8>, size: u16, version: u8, dnssec: bool, options: &[u8]) -> Vec<u8> {
    query[11] += 1;
    query.push(0);
    query.extend(OPT.to_be_bytes());
    query.extend(size.to_be_bytes());
    query.extend([0, version, if dnssec { 0x80 } else { 0 }, 0]);
    query.extend((options.len() as u16).to_be_bytes());
    query.extend_from_slice(options);
    query
}

/// An answer in the making.
#[derive(Debug, Clone)]
pub struct Reply(pub Vec<u8>);

impl Reply {
    /// To this question: its id, its question as it came, and these flags.
    pub fn to(query: &[u8], flags: u16) -> Self {
        let end = Message::read(query).question_end;
        let mut bytes = query[..end].to_vec();
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        bytes[4..12].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        Self(bytes)
    }

    fn record(mut self, section: usize, name: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Self {
        let count = 4 + 2 * section;
        let more = u16::from_be_bytes([self.0[count], self.0[count + 1]]) + 1;
        self.0[count..count + 2].copy_from_slice(&more.to_be_bytes());
        self.0.extend_from_slice(name);
        self.0.extend(kind.to_be_bytes());
        self.0.extend(1u16.to_be_bytes());
        self.0.extend(ttl.to_be_bytes());
        self.0.extend((data.len() as u16).to_be_bytes());
        self.0.extend_from_slice(data);
        self
    }

    /// A record of the name that was asked.
    pub fn own(self, kind: u16, ttl: u32, data: &[u8]) -> Self {
        self.record(1, &[0xc0, 12], kind, ttl, data)
    }

    /// A record of the answer section.
    pub fn answer(self, name: &str, kind: u16, ttl: u32, data: &[u8]) -> Self {
        self.record(1, &wire(name), kind, ttl, data)
    }

    /// A record of the authority section.
    pub fn authority(self, name: &str, kind: u16, ttl: u32, data: &[u8]) -> Self {
        self.record(2, &wire(name), kind, ttl, data)
    }

    /// A record of the additional section.
    pub fn additional(self, name: &str, kind: u16, ttl: u32, data: &[u8]) -> Self {
        self.record(3, &wire(name), kind, ttl, data)
    }

    /// The SOA of `zone`, by which what does not exist lives for `minimum` seconds.
    pub fn soa(self, zone: &str, minimum: u32) -> Self {
        let mut data = [wire("ns.test"), wire("hostmaster.test")].concat();
        for number in [1, 3600, 600, 86_400, minimum] {
            data.extend(u32::to_be_bytes(number));
        }
        self.authority(zone, SOA, minimum, &data)
    }

    /// Another id.
    pub fn id(mut self, id: u16) -> Self {
        self.0[..2].copy_from_slice(&id.to_be_bytes());
        self
    }
}

/// A record as read, its name in text.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub section: usize,
    pub name: String,
    pub kind: u16,
    pub class: u16,
    pub ttl: u32,
    pub data: Vec<u8>,
}

/// A message as read. A test fails with what cannot be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub id: u16,
    pub flags: u16,
    pub name: String,
    pub kind: u16,
    pub class: u16,
    pub question_end: usize,
    pub records: Vec<Record>,
}

impl Message {
    pub fn read(bytes: &[u8]) -> Self {
        let word = |place: usize| u16::from_be_bytes([bytes[place], bytes[place + 1]]);
        assert_eq!(word(4), 1, "one question in {bytes:02x?}");
        let (name, end) = name_at(bytes, 12);
        let mut message = Self {
            id: word(0),
            flags: word(2),
            name,
            kind: word(end),
            class: word(end + 2),
            question_end: end + 4,
            records: Vec::new(),
        };
        let mut place = end + 4;
        for section in 1..4 {
            for _ in 0..word(4 + 2 * section) {
                let (name, end) = name_at(bytes, place);
                let length = usize::from(word(end + 8));
                message.records.push(Record {
                    section,
                    name,
                    kind: word(end),
                    class: word(end + 2),
                    ttl: u32::from(word(end + 4)) << 16 | u32::from(word(end + 6)),
                    data: bytes[end + 10..end + 10 + length].to_vec(),
                });
                place = end + 10 + length;
            }
        }
        assert_eq!(place, bytes.len(), "a message without anything behind it");
        message
    }

    pub fn rcode(&self) -> u16 {
        self.flags & 15
    }

    /// What the answer section says of this kind.
    pub fn answers(&self, kind: u16) -> Vec<&Record> {
        self.records.iter().filter(|record| record.section == 1 && record.kind == kind).collect()
    }

    /// The OPT record.
    pub fn opt(&self) -> Option<&Record> {
        self.records.iter().find(|record| record.kind == OPT)
    }
}

/// A name in text, case as it is, and where it ends.
fn name_at(bytes: &[u8], start: usize) -> (String, usize) {
    let (mut name, mut place, mut end) = (String::new(), start, None);
    for _ in 0..128 {
        let length = usize::from(bytes[place]);
        match length {
            0 => return (name, end.unwrap_or(place + 1)),
            192.. => {
                end = end.or(Some(place + 2));
                place = (length & 63) << 8 | usize::from(bytes[place + 1]);
            }
            _ => {
                name.push_str(&String::from_utf8_lossy(&bytes[place + 1..place + 1 + length]));
                name.push('.');
                place += 1 + length;
            }
        }
    }
    panic!("a name without an end at {start}");
}
