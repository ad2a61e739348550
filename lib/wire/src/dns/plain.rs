//! Data of records on its own, outside of a message: names in it are not compressed.

use super::data::{Data, layout};
use super::{Kind, NameRef, Record};

impl Record<'_> {
    /// The data with its names written out: the form in which it can be kept and compared.
    pub fn plain(&self) -> Vec<u8> {
        let (message, start, end) = self.place();
        let layout = layout(self.meant());
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

#[cfg(test)]
mod tests {
    use super::super::{Class, Flags, Message, Name, Section, Writer, bitmap};
    use super::*;

    #[test]
    fn plain_data_means_what_it_meant_in_the_message() {
        let name = |text| Name::parse(text).unwrap();
        let (host, service) = (name("box.local"), name("box._ssh._tcp.local"));
        let types = bitmap(&[Kind::A]);
        let (target, next) = (host.as_ref(), host.as_ref());
        let all = [
            Data::Srv { priority: 1, weight: 2, port: 22, target },
            Data::Ptr(service.as_ref()),
            Data::Nsec { next, types: &types },
            Data::Txt(b"\x03a=b"),
            Data::A([10, 0, 0, 5].into()),
        ];
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, 9000, 0, Flags::QR).compressing_all();
        for data in &all {
            let front = (service.as_ref(), Kind::A, Class::IN);
            assert!(writer.record(Section::Answer, front, 120, data));
        }
        let message = Message::parse(&bytes).unwrap();
        for (record, data) in message.answers().zip(all) {
            let plain = record.plain();
            assert_eq!(Data::of(record.kind, &plain), Some(data), "{}", record.kind);
            assert_eq!(record.data(), Some(data));
            let shorter = plain.get(..plain.len() - 1).unwrap();
            assert_eq!(
                Data::of(record.kind, shorter).is_some(),
                record.kind == Kind::NSEC,
                "{}",
                record.kind
            );
        }
        let first = message.answers().next().unwrap();
        assert!(first.raw().len() < first.plain().len(), "it was compressed");
    }
}
