//! DHCP replies and netlink messages.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    use minke_wire::{dhcp, netlink};
    let _ = dhcp::Reply::decode(bytes).map(|reply| format!("{reply:?}"));
    let _ = dhcp::decapsulate(bytes);
    for message in netlink::Messages::new(bytes) {
        let _ = format!("{message:?}");
    }
    let _ = netlink::Uevent::parse(bytes).map(|event| format!("{event:?}"));
});
