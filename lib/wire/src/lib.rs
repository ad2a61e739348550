//! Formats and protocols as pure functions over bytes: no input or output, no clock, no panic on any input.

#![forbid(unsafe_code)]

pub mod arm64_image;
pub mod authorized_keys;
pub mod autofs;
pub mod base64;
pub mod bootenv;
pub mod calendar;
pub mod civil;
pub mod crc32;
pub mod delta;
pub mod dhcp;
pub mod dns;
pub mod fat;
pub mod fdt;
pub mod http;
pub mod journal;
pub mod json;
pub mod keyfile;
pub mod kmod;
pub mod micros;
pub mod minisign;
pub mod mountinfo;
pub mod netlink;
pub mod ntp;
pub mod nts;
pub mod oci;
pub mod partition;
pub mod superblock;
pub mod table;
pub mod tar;
pub mod text;
pub mod unit;
pub mod verity;
pub mod xml;

/// A number without sign in digits of this base, at most 16; `None` for anything else or one that does not fit.
#[inline(never)]
pub(crate) fn number(digits: &[u8], base: u8) -> Option<u64> {
    let mut number = 0u64;
    for digit in digits {
        let value = match digit {
            b'0'..=b'9' => digit & 15,
            _ => (digit | 0x20).checked_sub(b'a' - 10).filter(|value| *value > 9)?,
        };
        let digit = Some(value).filter(|digit| *digit < base)?;
        number = number.checked_mul(base.into())?.checked_add(digit.into())?;
    }
    (!digits.is_empty()).then_some(number)
}
