//! JSON: what is read can be written and read again.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = minke_wire::json::parse(bytes) else { return };
    assert_eq!(minke_wire::json::parse(value.to_text().as_bytes()).as_ref(), Ok(&value));
    let _ = format!("{value:#}");
});
