//! Members of tar archives, in pieces of any size.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((step, bytes)) = bytes.split_first() else { return };
    let mut decoder = minke_wire::tar::Decoder::new();
    for piece in bytes.chunks(usize::from(*step).max(1)) {
        let mut rest = piece;
        loop {
            let before = rest.len();
            match decoder.next(&mut rest) {
                Ok(event) => {
                    let _ = format!("{event:?}");
                }
                Err(_) => return,
            }
            if rest.is_empty() || rest.len() == before {
                break;
            }
        }
    }
    let _ = decoder.finish();
});
