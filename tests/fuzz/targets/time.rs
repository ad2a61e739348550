//! NTP packets with their extensions, and the key exchange of NTS.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    use minke_wire::ntp::{Extensions, Packet};
    if let Some((packet, rest)) = Packet::decode(bytes) {
        let _ = format!("{packet:?}");
        assert!(Extensions::new(rest).count() <= rest.len());
    }
    let _ = format!("{:?}", minke_wire::nts::Answer::parse(bytes));
    let _ = minke_wire::nts::cookies(bytes.to_vec());
    let _ = format!("{:?}", minke_wire::nts::Established::parse(bytes));
});
