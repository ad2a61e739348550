//! What a release is made of: deltas, in pieces as they come, and minisign's files.

#![no_main]

use libfuzzer_sys::fuzz_target;
use minke_wire::delta::{Decoder, Event};
use minke_wire::minisign::{PublicKey, Signature};

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = PublicKey::parse(text);
        if let Some(signature) = Signature::parse(text) {
            assert!(signature.global_message().len() >= 64);
        }
    }
    let [piece, data @ ..] = data else { return };
    let mut decoder = Decoder::default();
    let mut told = 0;
    for mut input in data.chunks(usize::from(*piece) + 1) {
        loop {
            match decoder.next(&mut input) {
                Ok(Event::More) => break,
                Ok(Event::Add(bytes) | Event::Copy(bytes)) => told += bytes.len(),
                Ok(Event::Seek(_)) => {}
                Err(_) => return,
            }
        }
        assert!(input.is_empty());
    }
    // A delta makes no bytes of its own.
    assert!(told <= data.len());
    let _ = decoder.finish();
});
