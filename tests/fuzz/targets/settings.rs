//! Texts that people and other programs write: units, keyfiles, calendars, XML, references of images, keys, mounts.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    use minke_wire::{authorized_keys, base64, calendar, keyfile, mountinfo, oci, unit, xml};
    let _ = keyfile::Keyfile::parse(bytes).map(|file| format!("{file:?}"));
    let _ = (mountinfo::parse(bytes), base64::decode(bytes), oci::Compression::sniff(bytes));
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = (unit::parse(text), unit::words(text), unit::Name::parse(text).is_ok());
    let _ = (unit::span_micros(text), unit::bytes(text), unit::signal_number(text));
    let _ = (calendar::Calendar::parse(text), oci::Reference::parse(text).is_ok(), oci::Digest::parse(text));
    let _ = authorized_keys::parse(text).is_ok();
    let mut reader = xml::Reader::new(text);
    while let Ok(Some(_)) = reader.read() {}
});
