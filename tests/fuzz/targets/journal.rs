//! What programs and the kernel write to the log.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    use minke_wire::journal;
    for field in journal::Fields::new(bytes) {
        let _ = format!("{field:?}");
    }
    let _ = format!("{:?} {:?}", journal::Syslog::decode(bytes), journal::Kmsg::decode(bytes));
    let (_, rest) = journal::take_level(bytes);
    assert!(bytes.ends_with(rest));
});
