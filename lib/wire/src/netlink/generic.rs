//! Generic netlink (linux/genetlink.h): families of commands that are found by name; and nl80211's for the country, by whose
//! rules wireless links send (linux/nl80211.h).

use super::message::NLM_F_ACK;
use super::{Attributes, Builder, Message};

/// The family that knows the families.
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NL80211_CMD_REQ_SET_REG: u8 = 27;
const NL80211_ATTR_REG_ALPHA2: u16 = 33;
/// `struct genlmsghdr`.
const HEADER: usize = 4;

/// Asks for the number of a family; the kernel loads the module that has it.
pub fn get_family(name: &str) -> Builder {
    command(GENL_ID_CTRL, CTRL_CMD_GETFAMILY).text(CTRL_ATTR_FAMILY_NAME, name)
}

/// The number in the answer to [`get_family`].
pub fn family(message: Message<'_>) -> Option<u16> {
    let attributes = Attributes::new(message.payload.get(HEADER..)?);
    let id = attributes.find(CTRL_ATTR_FAMILY_ID)?.value.first_chunk()?;
    Some(u16::from_ne_bytes(*id))
}

/// Says by which country's rules wireless links may send: two letters of ISO 3166, `00` for the world's. `nl80211` is the
/// number of that family.
pub fn set_country(nl80211: u16, country: &str) -> Builder {
    command(nl80211, NL80211_CMD_REQ_SET_REG).text(NL80211_ATTR_REG_ALPHA2, country)
}

fn command(family: u16, command: u8) -> Builder {
    const VERSION: u8 = 1;
    Builder::new(family, NLM_F_ACK).head(&[command, VERSION, 0, 0])
}
