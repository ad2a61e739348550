//! Superblocks and partition tables, of whatever is plugged in.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    use minke_wire::{partition, superblock};
    let _ = superblock::parse(bytes).map(|found| format!("{found:?}"));
    let _ = superblock::directory_label(bytes);
    let mut source = |place: u64, length: usize| {
        let start = usize::try_from(place).ok()?;
        bytes.get(start..start.checked_add(length)?).map(<[u8]>::to_vec)
    };
    for sector in [512, 4096] {
        let _ = partition::read(sector, &mut source).map(|table| format!("{table:?}"));
    }
});
