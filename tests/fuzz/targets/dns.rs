//! DNS and mDNS messages, names, records and what they print.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    use minke_wire::dns::{Data, Message, Name, NameRef, Writer, lookup};
    let _ = (Name::from_wire(bytes), lookup::answer(bytes, bytes), minke_wire::dns::fit(bytes, bytes));
    let _ = NameRef::read(bytes, bytes.len() / 2).map(|(name, _)| name.to_name().to_string());
    if let Some(name) = std::str::from_utf8(bytes).ok().and_then(Name::parse) {
        assert_eq!(Name::parse(&name.to_string()), Some(name));
    }
    let Some(message) = Message::parse(bytes) else { return };
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, 4096, message.header.id, message.header.flags).compressing_all();
    for question in message.questions() {
        writer.question(question.name, question.kind, question.class);
    }
    for (section, records) in [
        (minke_wire::dns::Section::Answer, message.answers()),
        (minke_wire::dns::Section::Authority, message.authorities()),
        (minke_wire::dns::Section::Additional, message.additionals()),
    ] {
        for record in records {
            let plain = record.plain();
            let Some(data) = Data::of(record.kind, &plain) else { continue };
            let _ = data.to_string();
            writer.record(section, (record.name, record.kind, record.class), record.ttl, &data);
        }
    }
    let _ = message.opt().map(|opt| opt.options().count());
    assert!(Message::parse(&out).is_some(), "what is written can be read");
});
