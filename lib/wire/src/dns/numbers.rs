//! The numbers of the protocol and their names (IANA, "Domain Name System Parameters").

use std::fmt;

/// A type of record (RFC 1035 §3.2.2). Types without a name here are as good as the others (RFC 3597).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u16);

/// A class (RFC 1035 §3.2.4). In mDNS its top bit is a flag of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class(pub u16);

/// A response code, the upper eight bits from OPT (RFC 6891 §6.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rcode(pub u16);

macro_rules! kinds {
    ($($name:ident = $number:literal),* $(,)?) => {
        /// What has a text.
        static KINDS: &[(u16, &str)] = &[$(($number, stringify!($name))),*];
        #[allow(missing_docs)]
        impl Kind {
            $(pub const $name: Self = Self($number);)*
        }
    };
}

kinds! {
    A = 1, NS = 2, CNAME = 5, SOA = 6, MB = 7, MG = 8, MR = 9, PTR = 12, HINFO = 13, MINFO = 14, MX = 15, TXT = 16,
    RP = 17, AFSDB = 18, RT = 21, SIG = 24, PX = 26, AAAA = 28, SRV = 33, NAPTR = 35, KX = 36, DNAME = 39, OPT = 41,
    DS = 43, SSHFP = 44, RRSIG = 46, NSEC = 47, DNSKEY = 48, NSEC3 = 50, TLSA = 52, SVCB = 64, HTTPS = 65,
    TSIG = 250, IXFR = 251, AXFR = 252, ANY = 255, CAA = 257,
}

static CLASSES: &[(u16, &str)] = &[(1, "IN"), (3, "CH"), (4, "HS"), (254, "NONE"), (255, "ANY")];
static RCODES: &[(u16, &str)] = &[
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SERVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
    (16, "BADVERS"),
    (23, "BADCOOKIE"),
];

impl Kind {
    /// A type by its name, or as `TYPE65280` (RFC 3597 §5).
    pub fn parse(text: &str) -> Option<Self> {
        number(KINDS, "TYPE", text).map(Self)
    }

    /// Whether records of this type cannot be held by a cache: those of a single message or of a transfer
    /// (RFC 6895 §3.1).
    pub fn is_meta(self) -> bool {
        matches!(self.0, 41 | 128..=254)
    }
}

impl Class {
    /// The Internet.
    pub const IN: Self = Self(1);
    /// Chaos, where servers tell about themselves.
    pub const CH: Self = Self(3);
    /// No class (RFC 2136).
    pub const NONE: Self = Self(254);
    /// Any class, in questions.
    pub const ANY: Self = Self(255);
    const TOP: u16 = 0x8000;

    /// A class by its name, or as `CLASS32` (RFC 3597 §5).
    pub fn parse(text: &str) -> Option<Self> {
        number(CLASSES, "CLASS", text).map(Self)
    }

    /// The class itself, without the top bit of mDNS.
    pub fn plain(self) -> Self {
        Self(self.0 & !Self::TOP)
    }

    /// The class with the top bit of mDNS: cache-flush in records, unicast-response in questions.
    pub fn with_top(self) -> Self {
        Self(self.0 | Self::TOP)
    }

    /// In a record of mDNS: whether the records that were known before are to be forgotten (RFC 6762 §10.2).
    pub fn cache_flush(self) -> bool {
        self.0 & Self::TOP != 0
    }

    /// In a question of mDNS: whether a response by unicast is welcome (RFC 6762 §5.4).
    pub fn unicast_response(self) -> bool {
        self.0 & Self::TOP != 0
    }
}

#[allow(missing_docs)]
impl Rcode {
    pub const NOERROR: Self = Self(0);
    pub const FORMERR: Self = Self(1);
    pub const SERVFAIL: Self = Self(2);
    pub const NXDOMAIN: Self = Self(3);
    pub const NOTIMP: Self = Self(4);
    pub const REFUSED: Self = Self(5);
    pub const BADVERS: Self = Self(16);
    pub const BADCOOKIE: Self = Self(23);
}

#[inline(never)]
fn number(table: &[(u16, &str)], prefix: &str, text: &str) -> Option<u16> {
    for (number, name) in table {
        if name.eq_ignore_ascii_case(text) {
            return Some(*number);
        }
    }
    let (start, digits) = text.split_at_checked(prefix.len())?;
    if !start.eq_ignore_ascii_case(prefix) {
        return None;
    }
    crate::number(digits.as_bytes(), 10)?.try_into().ok()
}

#[inline(never)]
fn write(f: &mut fmt::Formatter<'_>, table: &[(u16, &str)], prefix: &str, number: u16) -> fmt::Result {
    for (known, name) in table {
        if *known == number {
            return f.write_str(name);
        }
    }
    write!(f, "{prefix}{number}")
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, KINDS, "TYPE", self.0)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, CLASSES, "CLASS", self.0)
    }
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, RCODES, "RCODE", self.0)
    }
}
