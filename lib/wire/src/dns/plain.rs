//! Data of records on its own, outside of a message: names in it are not compressed.

use super::data::{Data, layout};
use super::{Kind, NameRef, Record};

impl Record<'_> {
    /// The data with its names written out: the form in which it can be kept and compared.
    pub fn plain(&self) -> Vec<u8> {
        let (message, start, end) = self.place();
        let layout = layout(self.kind);
        let mut plain = Vec::new();
        let mut at = start;
        if layout.names > 0 {
            at = at.saturating_add(layout.skip);
            plain.extend_from_slice(message.get(start..at).unwrap_or_default());
            for _ in 0..layout.names {
                // The message was checked: the names are there.
                let Some((name, next)) = NameRef::read(message, at) else { break };
                name.write(&mut plain);
                at = next;
            }
        }
        plain.extend_from_slice(message.get(at..end).unwrap_or_default());
        plain
    }
}

impl<'a> Data<'a> {
    /// What plain data of a type means; `None` where it is not as the type wants it.
    pub fn of(kind: Kind, plain: &'a [u8]) -> Option<Self> {
        Self::read(kind, plain, 0, plain.len())
    }
}
