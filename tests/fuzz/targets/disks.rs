//! Superblocks and partition tables, of whatever is plugged in.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    use minke_wire::{partition, superblock};
    let _ = superblock::parse(bytes).map(|found| format!("{found:?}"));
    let _ = superblock::directory_label(bytes);
});
