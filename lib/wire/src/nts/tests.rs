use super::*;
use crate::journal::mutator::mutate;
use crate::ntp::{HEADER, Packet, Timestamp, put};

fn record(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes(), &(body.len() as u16).to_be_bytes()[..], body].concat()
}

/// The records of a usual answer, without its end.
fn answer() -> Vec<u8> {
    [record(0x8001, &[0, 0]), record(0x8004, &[0, 15]), record(5, &[1; 100]), record(5, &[2; 100])].concat()
}

fn parsed(more: &[Vec<u8>]) -> Result<Box<Established>, Refusal> {
    let message = [answer(), more.concat(), record(0x8000, &[])].concat();
    Established::parse(&message).map(|established| established.unwrap())
}

#[test]
fn a_request_asks_for_ntpv4_with_the_mandatory_algorithm() {
    assert_eq!(request(), [0x80, 1, 0, 2, 0, 0, 0x80, 4, 0, 2, 0, 15, 0x80, 0, 0, 0]);
    assert_eq!((context(false), context(true)), ([0, 0, 0, 15, 0], [0, 0, 0, 15, 1]));
}

#[test]
fn an_answer_and_its_parts() {
    let plain = parsed(&[]).unwrap();
    assert_eq!(plain.cookies, [vec![1; 100], vec![2; 100]]);
    assert_eq!((&plain.server, plain.port), (&None, None));
    let more = [record(0x8006, b"ntp.example"), record(7, &[0x10, 0x92]), record(0x4001, b"unknown")];
    let named = parsed(&more).unwrap();
    assert_eq!((named.server.as_deref(), named.port), (Some("ntp.example"), Some(4242)));
    let message = [answer(), record(0x8000, &[])].concat();
    for length in 0..message.len() {
        assert_eq!(Established::parse(&message[..length]), Ok(None), "{length}");
    }
    // Cookies beyond what is kept, and those that no request could carry.
    let many = vec![record(5, &[3; 100]); 20];
    assert_eq!(parsed(&many).unwrap().cookies.len(), COOKIES);
    assert_eq!(parsed(&[record(5, &[3; 1025])]).unwrap().cookies.len(), 2);
}

/// What chronyd 4.3 answered.
#[test]
fn a_captured_answer() {
    let digits: Vec<u8> = include_str!("chronyd.hex")
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    let message: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    let established = Established::parse(&message).unwrap().unwrap();
    assert_eq!((established.server, established.port), (None, Some(54862)));
    assert_eq!(established.cookies.len(), 8);
    assert!(established.cookies.iter().all(|cookie| cookie.len() == 100));
    mutate(&[&message], 5000, |bytes| {
        let _ = Established::parse(bytes);
    });
}

#[test]
fn what_is_refused_and_why() {
    let text = |more: &[Vec<u8>]| parsed(more).unwrap_err().to_string();
    assert_eq!(parsed(&[record(0xC001, &[])]), Err(Refusal::Critical(0x4001)));
    assert_eq!(text(&[record(0x8002, &[0, 1])]), "the server finds our request bad (NTS-KE error 1)");
    assert_eq!(text(&[record(0x8002, &[1, 0])]), "the server answers with NTS-KE error 256");
    assert_eq!(text(&[record(0x8003, &[0, 7])]), "the server answers with NTS-KE warning 7");
    for bad in [
        record(0x8001, &[0, 0]),
        record(0x8004, &[0, 15]),
        record(0x8002, &[]),
        record(0x8003, &[1]),
        record(5, &[]),
        record(6, &[]),
        record(6, b"a b"),
        record(6, &[b'a'; 254]),
        record(7, &[0, 0]),
        record(7, &[1]),
        record(0x8000, &[1]),
        [record(7, &[0, 1]), record(7, &[0, 1])].concat(),
    ] {
        assert_eq!(parsed(&[bad]), Err(Refusal::Malformed));
    }
    let whole = |records: &[Vec<u8>]| Established::parse(&[records.concat(), record(0x8000, &[])].concat());
    let (protocol, algorithm) = (record(0x8001, &[0, 0]), record(0x8004, &[0, 15]));
    assert_eq!(whole(&[]), Err(Refusal::Protocol));
    assert_eq!(whole(&[record(0x8001, &[]), algorithm.clone()]), Err(Refusal::Protocol));
    assert_eq!(whole(std::slice::from_ref(&protocol)), Err(Refusal::Algorithm));
    assert_eq!(whole(&[protocol.clone(), record(0x8004, &[0, 17])]), Err(Refusal::Algorithm));
    assert_eq!(whole(&[protocol, algorithm]), Err(Refusal::NoCookie));
}

fn header() -> Vec<u8> {
    Packet::request(Timestamp(7)).encode().to_vec()
}

#[test]
fn a_request_reads_back() {
    let mut request = header();
    identify(&mut request, &[9; IDENTIFIER], &[5; 100], 2);
    let covered = request.clone();
    put_authenticator(&mut request, &[3; NONCE], &[4; 16]);
    assert_eq!(request.len(), HEADER + 36 + 3 * 104 + 40);
    let sealed = Sealed { covered: &covered, nonce: &[3; NONCE], ciphertext: &[4; 16] };
    assert_eq!(Answer::parse(&request), Answer { identifier: &[9; IDENTIFIER], sealed: Some(sealed) });
    // What stands behind the authenticator does not count, an identifier least of all.
    let mut late = header();
    put_authenticator(&mut late, &[3; NONCE], &[4; 16]);
    put(&mut late, 0x0104, &[9; IDENTIFIER], 16);
    assert!(Answer::parse(&late).identifier.is_empty());
    assert_eq!(Answer::parse(&header()), Answer::default());
    assert_eq!(Answer::parse(&[]), Answer::default());
}

#[test]
fn no_request_is_longer_than_a_datagram_may_be() {
    for length in [1, 16, 100, 300, LONGEST_COOKIE] {
        let mut request = header();
        identify(&mut request, &[9; IDENTIFIER], &vec![5; length], COOKIES);
        put_authenticator(&mut request, &[3; NONCE], &[4; 16]);
        assert!(request.len() <= 1232, "{length}: {}", request.len());
        assert_eq!(request.len() % 4, 0);
    }
}

#[test]
fn encrypted_cookies() {
    let mut text = Vec::new();
    for (kind, length) in [(0x0204, 100), (0x0204, 12), (0x0304, 100), (0x0204, 1028)] {
        put(&mut text, kind, &vec![length as u8; length], 16);
    }
    assert_eq!(cookies(text), [vec![100; 100], vec![12; 12]]);
    assert!(cookies(Vec::new()).is_empty());
    let mut many = Vec::new();
    (0..20).for_each(|_| assert!(put(&mut many, 0x0204, &[1; 32], 16)));
    assert_eq!(cookies(many).len(), COOKIES);
}

#[test]
fn decoders_never_panic_on_mutated_input() {
    let message =
        [answer(), record(0x8006, b"ntp.example"), record(7, &[1, 2]), record(0x8000, &[])].concat();
    let mut good = 0;
    mutate(&[&message, &request()], 50_000, |bytes| {
        if let Ok(Some(established)) = Established::parse(bytes) {
            assert!((1..=COOKIES).contains(&established.cookies.len()));
            good += 1;
        }
    });
    assert!(good > 1000, "{good}");
    let mut packet = header();
    identify(&mut packet, &[9; IDENTIFIER], &[5; 100], 2);
    put_authenticator(&mut packet, &[3; NONCE], &[4; 80]);
    mutate(&[&packet, &packet[..HEADER]], 50_000, |bytes| {
        if let Some(sealed) = Answer::parse(bytes).sealed {
            assert!(sealed.covered.len() + sealed.nonce.len() + sealed.ciphertext.len() + 8 <= bytes.len());
        }
        cookies(bytes.get(HEADER..).unwrap_or_default().to_vec());
    });
}
