//! Attributes: length, type, value, padded to four bytes (`struct nlattr`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The bits of an attribute's type that are flags: `NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`.
const FLAGS: u16 = 0xc000;
const HEADER: usize = 4;

/// One attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// The type, without its flags.
    pub kind: u16,
    /// The value, without padding.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The value as a number of 32 bits.
    pub fn u32(&self) -> Option<u32> {
        self.value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
    }

    /// The value as one byte.
    pub fn u8(&self) -> Option<u8> {
        self.value.first().copied()
    }

    /// The value as text up to its first zero byte.
    pub fn text(&self) -> Option<&'a str> {
        let text = self.value.split(|byte| *byte == 0).next()?;
        std::str::from_utf8(text).ok()
    }

    /// The value as an address: four bytes are IPv4, sixteen IPv6.
    pub fn address(&self) -> Option<IpAddr> {
        match self.value.len() {
            4 => <[u8; 4]>::try_from(self.value).ok().map(|bytes| Ipv4Addr::from(bytes).into()),
            16 => <[u8; 16]>::try_from(self.value).ok().map(|bytes| Ipv6Addr::from(bytes).into()),
            _ => None,
        }
    }

    /// The attributes inside this one.
    pub fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.value)
    }
}

/// The attributes in a run of bytes. What follows a damaged one is not looked at.
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Reads attributes from `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The first attribute of this type.
    pub fn find(&self, kind: u16) -> Option<Attribute<'a>> {
        self.clone().find_kind(kind)
    }

    fn find_kind(mut self, kind: u16) -> Option<Attribute<'a>> {
        self.by_ref().find(|attribute| attribute.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let whole = std::mem::take(&mut self.rest);
        let [l0, l1, k0, k1] = *whole.first_chunk::<HEADER>()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = whole.get(HEADER..length)?;
        self.rest = whole.get(super::aligned(length)..).unwrap_or_default();
        Some(Attribute { kind: u16::from_ne_bytes([k0, k1]) & !FLAGS, value })
    }
}
