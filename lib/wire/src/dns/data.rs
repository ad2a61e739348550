//! What stands in records (RFC 1035 §3.3 and the RFCs of the types).

use super::{Class, Kind, NameRef};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The data of a record, for reading and for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data<'a> {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address (RFC 3596).
    Aaaa(Ipv6Addr),
    /// Another name of the same.
    Cname(NameRef<'a>),
    /// A name server.
    Ns(NameRef<'a>),
    /// The name that an address or a service leads to.
    Ptr(NameRef<'a>),
    /// A mail server.
    Mx {
        /// The smallest is tried first.
        preference: u16,
        /// Its name.
        exchange: NameRef<'a>,
    },
    /// Where a service is (RFC 2782).
    Srv {
        /// The smallest is tried first.
        priority: u16,
        /// Share among those of the same priority.
        weight: u16,
        /// The port.
        port: u16,
        /// The host.
        target: NameRef<'a>,
    },
    /// The start of a zone.
    Soa(Soa<'a>),
    /// Texts, each behind a byte with its length; see [`texts`].
    Txt(&'a [u8]),
    /// Which types exist (RFC 4034 §4; RFC 6762 §6.1).
    Nsec {
        /// In DNS the next name of the zone, in mDNS the owner.
        next: NameRef<'a>,
        /// The types as a bitmap; see [`types`] and [`bitmap`].
        types: &'a [u8],
    },
    /// Options (RFC 6891); see [`super::Opt`].
    Opt(&'a [u8]),
    /// Of any other type, as it is.
    Other(&'a [u8]),
}

/// The start of a zone (RFC 1035 §3.3.13). The times are in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Soa<'a> {
    pub mname: NameRef<'a>,
    pub rname: NameRef<'a>,
    pub serial: u32,
    pub refresh: u32,
    pub retry: u32,
    pub expire: u32,
    /// How long it may be remembered that something does not exist (RFC 2308 §4).
    pub minimum: u32,
}

/// Where names stand in the data of a type: after how many bytes, and how many one after the other. Whether a writer
/// may compress them: in DNS only those of RFC 1035 (RFC 3597 §4).
pub(super) struct Layout {
    pub(super) skip: usize,
    pub(super) names: u8,
    pub(super) compressible: bool,
}

/// Type, bytes before the first name, names, whether they may be compressed. RFC 3597 §4 wants names of the later types
/// understood when they are compressed; RFC 6762 §18.14 compresses them in mDNS.
static LAYOUTS: &[(Kind, u8, u8, bool)] = &[
    (Kind::NS, 0, 1, true),
    (Kind::CNAME, 0, 1, true),
    (Kind::PTR, 0, 1, true),
    (Kind::SOA, 0, 2, true),
    (Kind::MX, 2, 1, true),
    (Kind::SRV, 6, 1, false),
    (Kind::NSEC, 0, 1, false),
    (Kind::RRSIG, 18, 1, false),
    (Kind::DNAME, 0, 1, false),
    (Kind::MB, 0, 1, true),
    (Kind::MG, 0, 1, true),
    (Kind::MR, 0, 1, true),
    (Kind::MINFO, 0, 2, true),
    (Kind::RP, 0, 2, false),
    (Kind::AFSDB, 2, 1, false),
    (Kind::RT, 2, 1, false),
    (Kind::SIG, 18, 1, false),
    (Kind::PX, 2, 2, false),
    (Kind::KX, 2, 1, false),
];

/// The type by which the data of a record is read: some types are of the class IN alone (RFC 1035 §3.4, RFC 2163, RFC 2230,
/// RFC 2782, RFC 3596), and what their numbers stand for in another class nobody knows (RFC 3597 §3).
pub(super) fn meant(kind: Kind, class: Class) -> Kind {
    let internet = matches!(kind, Kind::A | Kind::AAAA | Kind::SRV | Kind::PX | Kind::KX);
    if internet && class.plain() != Class::IN { Kind(0) } else { kind }
}

/// The layout of a type's data, without names for those that have none or are not known.
pub(super) fn layout(kind: Kind) -> Layout {
    for (known, skip, names, compressible) in LAYOUTS {
        if *known == kind {
            return Layout { skip: usize::from(*skip), names: *names, compressible: *compressible };
        }
    }
    Layout { skip: 0, names: 0, compressible: false }
}

/// Whether the data of a record is as its type wants it: names that end inside of it, fixed parts that are there.
pub(super) fn check(kind: Kind, message: &[u8], start: usize, end: usize) -> Option<()> {
    let layout = layout(kind);
    let mut at = start;
    if layout.names > 0 {
        at = at.checked_add(layout.skip)?;
        for _ in 0..layout.names {
            at = NameRef::read(message, at)?.1;
        }
    }
    let left = end.checked_sub(at)?;
    let right = match kind {
        Kind::A => left == 4,
        Kind::AAAA => left == 16,
        Kind::SOA => left == 20,
        // A signature and a bitmap follow.
        Kind::RRSIG | Kind::SIG | Kind::NSEC => true,
        Kind::TXT => texts_fit(message.get(at..end)?),
        _ => layout.names == 0 || left == 0,
    };
    right.then_some(())
}

/// Each length leads to the next one or to the end.
fn texts_fit(mut rest: &[u8]) -> bool {
    while let Some((length, more)) = rest.split_first() {
        let Some(after) = more.get(usize::from(*length)..) else { return false };
        rest = after;
    }
    true
}

impl<'a> Data<'a> {
    /// What stands in a message from `start` to `end`; `None` where it is not as its type wants it.
    pub(super) fn read(kind: Kind, message: &'a [u8], start: usize, end: usize) -> Option<Self> {
        check(kind, message, start, end)?;
        let raw = message.get(start..end)?;
        let number = |at: usize| raw.get(at..)?.first_chunk().map(|two| u16::from_be_bytes(*two));
        let name = |skip: usize| NameRef::read(message, start.checked_add(skip)?);
        Some(match kind {
            Kind::A => Self::A(Ipv4Addr::from(*raw.first_chunk::<4>()?)),
            Kind::AAAA => Self::Aaaa(Ipv6Addr::from(*raw.first_chunk::<16>()?)),
            Kind::CNAME => Self::Cname(name(0)?.0),
            Kind::NS => Self::Ns(name(0)?.0),
            Kind::PTR => Self::Ptr(name(0)?.0),
            Kind::MX => Self::Mx { preference: number(0)?, exchange: name(2)?.0 },
            Kind::SRV => {
                Self::Srv { priority: number(0)?, weight: number(2)?, port: number(4)?, target: name(6)?.0 }
            }
            Kind::SOA => {
                let (mname, next) = name(0)?;
                let (rname, next) = NameRef::read(message, next)?;
                let mut numbers = [0; 5];
                let (chunks, _) = message.get(next..end)?.as_chunks::<4>();
                for (place, chunk) in numbers.iter_mut().zip(chunks) {
                    *place = u32::from_be_bytes(*chunk);
                }
                let [serial, refresh, retry, expire, minimum] = numbers;
                Self::Soa(Soa { mname, rname, serial, refresh, retry, expire, minimum })
            }
            Kind::TXT => Self::Txt(raw),
            Kind::NSEC => {
                let (next, types) = name(0)?;
                Self::Nsec { next, types: message.get(types..end)? }
            }
            Kind::OPT => Self::Opt(raw),
            _ => Self::Other(raw),
        })
    }

    /// The type of what is written; [`Data::Other`] has none of its own.
    pub fn kind(&self) -> Option<Kind> {
        Some(match self {
            Self::A(_) => Kind::A,
            Self::Aaaa(_) => Kind::AAAA,
            Self::Cname(_) => Kind::CNAME,
            Self::Ns(_) => Kind::NS,
            Self::Ptr(_) => Kind::PTR,
            Self::Mx { .. } => Kind::MX,
            Self::Srv { .. } => Kind::SRV,
            Self::Soa(_) => Kind::SOA,
            Self::Txt(_) => Kind::TXT,
            Self::Nsec { .. } => Kind::NSEC,
            Self::Opt(_) => Kind::OPT,
            Self::Other(_) => return None,
        })
    }
}

/// The texts of TXT data.
pub fn texts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (length, more) = rest.split_first()?;
        let (text, more) = more.split_at_checked(usize::from(*length))?;
        rest = more;
        Some(text)
    })
}

/// The types of an NSEC bitmap (RFC 4034 §4.1.2).
pub fn types(bitmap: &[u8]) -> impl Iterator<Item = Kind> {
    let mut rest = bitmap;
    std::iter::from_fn(move || {
        let ([window, length], more) = rest.split_first_chunk::<2>()?;
        let (bits, more) = more.split_at_checked(usize::from(*length))?;
        rest = more;
        Some((*window, bits))
    })
    .flat_map(|(window, bits)| {
        (0u16..).zip(bits).flat_map(move |(byte, bits)| {
            (0u16..8)
                .filter(move |bit| bits & (0x80 >> bit) != 0)
                .map(move |bit| Kind(u16::from(window) << 8 | (byte << 3 & 0xFF) | bit))
        })
    })
}

/// The NSEC bitmap of types below 256, the only ones that mDNS tells about (RFC 6762 §6.1).
pub fn bitmap(kinds: &[Kind]) -> Vec<u8> {
    let mut bitmap = vec![0, 0];
    for kind in kinds {
        let [high, low] = kind.0.to_be_bytes();
        let at = usize::from(low >> 3).saturating_add(2);
        if high != 0 {
            continue;
        }
        if bitmap.len() <= at {
            bitmap.resize(at.saturating_add(1), 0);
        }
        if let Some(byte) = bitmap.get_mut(at) {
            *byte |= 0x80 >> (low & 7);
        }
    }
    let length = bitmap.len().saturating_sub(2) as u8;
    match bitmap.get_mut(1) {
        Some(place) if length > 0 => *place = length,
        _ => bitmap.clear(),
    }
    bitmap
}

/// As zone files have it (RFC 1035 §5.1), what is not known by RFC 3597 §5.
impl fmt::Display for Data<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(address) => write!(f, "{address}"),
            Self::Aaaa(address) => write!(f, "{address}"),
            Self::Cname(name) | Self::Ns(name) | Self::Ptr(name) => write!(f, "{name}"),
            Self::Mx { preference, exchange } => write!(f, "{preference} {exchange}"),
            Self::Srv { priority, weight, port, target } => write!(f, "{priority} {weight} {port} {target}"),
            Self::Soa(soa) => {
                write!(f, "{} {}", soa.mname, soa.rname)?;
                for number in [soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum] {
                    write!(f, " {number}")?;
                }
                Ok(())
            }
            Self::Txt(data) => {
                let mut space = "";
                for text in texts(data) {
                    write!(f, "{space}\"")?;
                    space = " ";
                    for byte in text {
                        match byte {
                            b'"' | b'\\' => write!(f, "\\{}", char::from(*byte))?,
                            b' '..=b'~' => write!(f, "{}", char::from(*byte))?,
                            _ => write!(f, "\\{byte:03}")?,
                        }
                    }
                    f.write_str("\"")?;
                }
                Ok(())
            }
            Self::Nsec { next, types: bitmap } => {
                write!(f, "{next}")?;
                types(bitmap).try_for_each(|kind| write!(f, " {kind}"))
            }
            Self::Opt(data) | Self::Other(data) => {
                write!(f, "\\# {}", data.len())?;
                let mut space = " ";
                for byte in *data {
                    write!(f, "{space}{byte:02x}")?;
                    space = "";
                }
                Ok(())
            }
        }
    }
}
