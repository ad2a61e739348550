//! Heads of requests and responses, targets.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    use minke_wire::http::{parse_request, parse_response, parse_target, response_framing};
    if let Ok(Some((head, length))) = parse_request(bytes) {
        assert!(length <= bytes.len());
        let _ = parse_target(&head.target);
    }
    if let Ok(Some((head, length))) = parse_response(bytes) {
        assert!(length <= bytes.len());
        let _ = response_framing("GET", &head);
    }
});
