//! Handshakes that no server should speak: each ends with an error in a line. A program that runs into what
//! `release/rustc` has left out of it would end by a signal.

use super::tls::{ANSWER, HEARD, PORT, UNCHECKED, certificates, client, none, wrong};
use super::tls_liar::{
    ALERT, DATA, ENCRYPTED_EXTENSIONS, HANDSHAKE, Identity, Liar, extension, long, message, protocol, short,
};
use minke_tests::time_net::Scratch;
use minke_tests::{Random, in_namespace, run};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

const NO_TLS: &str = "what answers does not speak TLS";
/// Of a message that is out of place: what a release does not know it does not read, either, well-formed or not.
const FAILED: &str = "TLS failed";
const INCOMPATIBLE: &str = "the server cannot speak TLS 1.3 with our ciphers";
const CUT: &str = "the peer closed the connection in the middle of a message";
/// The random number of a ServerHello that is a HelloRetryRequest (RFC 8446 §4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// A server's play, and what the client says to it.
type Play = (&'static str, fn(&mut Liar<'_>), &'static str);

/// Says in plain text what nobody says before the hello.
fn plain(liar: &mut Liar<'_>, kind: u8, body: &[u8]) {
    liar.record(HANDSHAKE, &message(kind, body));
}

/// Says something in the place of the extensions.
fn first(liar: &mut Liar<'_>, kind: u8, body: &[u8]) {
    liar.begin();
    liar.tell(&message(kind, body));
}

/// Says something in the place of the certificates, then goes on properly.
fn second(liar: &mut Liar<'_>, kind: u8, body: &[u8]) {
    liar.begin();
    let extensions = liar.extensions(&[]);
    liar.tell(&extensions);
    liar.tell(&message(kind, body));
    let certificates = liar.certificates(&[]);
    liar.tell(&certificates);
    liar.prove_only();
}

/// An extension besides the proper ones, then all as it should be.
fn extended(liar: &mut Liar<'_>, kind: u16, body: &[u8]) {
    liar.begin();
    let extensions = liar.extensions(&extension(kind, body));
    liar.tell(&extensions);
    let certificates = liar.certificates(&[]);
    liar.tell(&certificates);
    liar.prove_only();
    liar.hear_request();
    liar.say(DATA, &ANSWER);
}

/// A handshake up to the certificates.
fn certified(liar: &mut Liar<'_>) {
    liar.begin();
    let messages = [liar.extensions(&[]), liar.certificates(&[])].concat();
    liar.tell(&messages);
}

/// A whole handshake; then, in the session, something else before the answer.
fn after(liar: &mut Liar<'_>, kind: u8, text: &[u8]) {
    liar.begin();
    liar.prove();
    liar.hear_request();
    liar.say(kind, text);
    liar.say(DATA, &ANSWER);
}

/// A retry with the group P-256, which the client has.
fn retry(liar: &mut Liar<'_>, more: &[u8]) {
    let extensions = [&extension(43, &[3, 4]), &extension(51, &[0, 23]), more].concat();
    let retry = liar.hello_with(&RETRY, 0x1301, &extensions);
    liar.record(HANDSHAKE, &retry);
}

/// Lists of signatures (RFC 8446 §4.2.3), as a CertificateRequest has them in TLS 1.3 and before.
fn request(of_tls_1_3: bool) -> Vec<u8> {
    let signatures = short(&[4, 3, 8, 4]);
    if of_tls_1_3 {
        [vec![0], short(&extension(13, &signatures))].concat()
    } else {
        [vec![2, 1, 64], signatures, short(&[])].concat()
    }
}

fn ticket(more: &[u8]) -> Vec<u8> {
    [&[0, 0, 14, 16, 1, 2, 3, 4, 1, 0][..], &short(&[9; 32]), &short(more)].concat()
}

const PLAYS: &[Play] = &[
    // That the liar could be believed is what makes the others worth something.
    ("all as it should be", |liar| after(liar, HANDSHAKE, &message(4, &ticket(&[]))), HEARD),
    ("silence", |_| {}, CUT),
    ("no TLS", |liar| liar.record(b'S', b"SH-2.0-no TLS here\r\n"), NO_TLS),
    ("data at once", |liar| liar.record(DATA, &[1; 40]), NO_TLS),
    ("a closing alert", |liar| liar.record(ALERT, &[1, 0]), CUT),
    (
        "an alert that nobody knows",
        |liar| liar.record(ALERT, &[2, 222]),
        "the server broke the TLS session off",
    ),
    ("an empty record", |liar| liar.record(HANDSHAKE, &[]), NO_TLS),
    ("a HelloRequest", |liar| plain(liar, 0, &[]), FAILED),
    ("a ClientHello", |liar| plain(liar, 1, &[3; 60]), FAILED),
    ("a ServerHello of nothing", |liar| plain(liar, 2, &[]), NO_TLS),
    ("a ServerHello of rubbish", |liar| plain(liar, 2, &[3; 90]), NO_TLS),
    (
        "the ServerHello of TLS 1.2",
        |liar| {
            let hello = liar.hello_with(&[7; 32], 0xc02f, &extension(0xff01, &[0]));
            liar.record(HANDSHAKE, &hello);
            plain(liar, 11, &long(&long(&[48; 99])));
            plain(liar, 14, &[]);
        },
        INCOMPATIBLE,
    ),
    (
        "a cipher of TLS 1.2",
        |liar| {
            let hello = liar.hello_with(&[7; 32], 0xc02f, &extension(43, &[3, 4]));
            liar.record(HANDSHAKE, &hello);
        },
        FAILED,
    ),
    (
        "a ServerHello without a share",
        |liar| {
            let hello = liar.hello_with(&[7; 32], 0x1301, &extension(43, &[3, 4]));
            liar.record(HANDSHAKE, &hello);
        },
        FAILED,
    ),
    (
        "a share of zeros",
        |liar| {
            let share = [&[0, 29, 0, 32][..], &[0; 32]].concat();
            let hello =
                liar.hello_with(&[7; 32], 0x1301, &[extension(43, &[3, 4]), extension(51, &share)].concat());
            liar.record(HANDSHAKE, &hello);
        },
        FAILED,
    ),
    (
        "a ServerHello with a name and an encrypted hello",
        |liar| {
            let odd =
                [extension(43, &[3, 4]), extension(0xfe0d, &[0, 4, 1, 2, 3, 4]), extension(0, &[])].concat();
            let hello = liar.hello_with(&[7; 32], 0x1301, &odd);
            liar.record(HANDSHAKE, &hello);
        },
        NO_TLS,
    ),
    (
        "a session resumed that there never was",
        |liar| {
            let odd = [extension(43, &[3, 4]), extension(41, &[0, 0])].concat();
            let hello = liar.hello_with(&[7; 32], 0x1301, &odd);
            liar.record(HANDSHAKE, &hello);
        },
        FAILED,
    ),
    ("a NewSessionTicket in plain text", |liar| plain(liar, 4, &ticket(&[])), FAILED),
    ("EndOfEarlyData", |liar| plain(liar, 5, &[]), FAILED),
    ("EncryptedExtensions in plain text", |liar| plain(liar, 8, &short(&protocol())), FAILED),
    ("a certificate in plain text", |liar| plain(liar, 11, &long(&long(&[48; 99]))), FAILED),
    ("a ServerKeyExchange", |liar| plain(liar, 12, &[3; 60]), FAILED),
    ("the CertificateRequest of TLS 1.2", |liar| plain(liar, 13, &request(false)), FAILED),
    ("a ServerHelloDone", |liar| plain(liar, 14, &[]), FAILED),
    ("a ServerHelloDone that is too long", |liar| plain(liar, 14, &[1, 2, 3]), FAILED),
    ("a ClientKeyExchange", |liar| plain(liar, 16, &[3; 33]), FAILED),
    ("a CertificateStatus", |liar| plain(liar, 22, &[1, 0, 0, 1, 9]), FAILED),
    ("a CompressedCertificate in plain text", |liar| plain(liar, 25, &[0, 1, 0, 0, 9, 0, 0, 1, 7]), FAILED),
    ("a MessageHash", |liar| plain(liar, 254, &[3; 32]), NO_TLS),
    (
        "two retries",
        |liar| {
            retry(liar, &[]);
            liar.hear();
            retry(liar, &[]);
        },
        FAILED,
    ),
    ("a retry with an encrypted hello", |liar| retry(liar, &extension(0xfe0d, &[7; 8])), FAILED),
    (
        "a retry for nothing",
        |liar| {
            let retry = liar.hello_with(&RETRY, 0x1301, &extension(43, &[3, 4]));
            liar.record(HANDSHAKE, &retry);
        },
        FAILED,
    ),
    (
        "another ServerHello",
        |liar| {
            liar.begin();
            let hello = liar.hello();
            liar.tell(&hello);
        },
        FAILED,
    ),
    (
        "no protocol",
        |liar| {
            liar.begin();
            liar.tell(&message(ENCRYPTED_EXTENSIONS, &short(&[])));
            let certificates = liar.certificates(&[]);
            liar.tell(&certificates);
            liar.prove_only();
        },
        "the server has TLS for another protocol",
    ),
    (
        "a protocol that was not asked for",
        |liar| {
            first(liar, ENCRYPTED_EXTENSIONS, &short(&extension(16, &[0, 3, 2, b'h', b'2'])));
        },
        FAILED,
    ),
    ("parameters of QUIC", |liar| extended(liar, 0x39, &[1, 2, 3]), FAILED),
    ("parameters of an early QUIC", |liar| extended(liar, 0xffa5, &[1, 2, 3]), FAILED),
    (
        "configurations of encrypted hellos",
        |liar| extended(liar, 0xfe0d, &short(&[0xfe, 0x0d, 0, 1, 9])),
        NO_TLS,
    ),
    ("early data", |liar| extended(liar, 42, &[]), FAILED),
    ("a ticket of TLS 1.2", |liar| extended(liar, 35, &[]), FAILED),
    ("names of compressions", |liar| extended(liar, 27, &[2, 0, 1]), FAILED),
    ("a client's kind of certificate", |liar| extended(liar, 19, &[2]), FAILED),
    ("a server's kind of certificate", |liar| extended(liar, 20, &[2]), FAILED),
    ("an extension that nobody knows", |liar| extended(liar, 0xabcd, &[1]), FAILED),
    ("a ClientHello, encrypted", |liar| first(liar, 1, &[3; 60]), FAILED),
    ("a NewSessionTicket before the extensions", |liar| first(liar, 4, &ticket(&[])), FAILED),
    ("a ServerKeyExchange, encrypted", |liar| second(liar, 12, &[3; 60]), FAILED),
    ("a CompressedCertificate", |liar| second(liar, 25, &[0, 1, 0, 0, 9, 0, 0, 1, 7]), FAILED),
    ("a CompressedCertificate cut short", |liar| second(liar, 25, &[0, 1]), FAILED),
    ("a CertificateStatus, encrypted", |liar| second(liar, 22, &[1, 0, 0, 1, 9]), FAILED),
    ("the CertificateRequest of TLS 1.2, encrypted", |liar| second(liar, 13, &request(false)), NO_TLS),
    ("a NewSessionTicket in the place of the certificate", |liar| second(liar, 4, &ticket(&[])), FAILED),
    ("no certificate at all", |liar| second(liar, 11, &[0, 0, 0, 0]), FAILED),
    (
        "a certificate of rubbish",
        |liar| {
            liar.begin();
            let extensions = liar.extensions(&[]);
            liar.tell(&extensions);
            let entry = [long(&[48; 99]), short(&[])].concat();
            liar.tell(&message(11, &[vec![0], long(&entry)].concat()));
            liar.prove_only();
        },
        UNCHECKED,
    ),
    (
        "certificates with odd extensions",
        |liar| {
            liar.begin();
            let extensions = liar.extensions(&[]);
            liar.tell(&extensions);
            let certificates = liar
                .certificates(&[extension(18, &[0, 3, 0, 1, 7]), extension(5, &[1, 0, 0, 1, 7])].concat());
            liar.tell(&certificates);
            liar.prove_only();
        },
        NO_TLS,
    ),
    (
        "no proof of the key",
        |liar| {
            certified(liar);
            liar.finish();
        },
        FAILED,
    ),
    (
        "a proof by a signature of TLS 1.2",
        |liar| {
            liar.begin();
            let messages =
                [liar.extensions(&[]), liar.certificates(&[]), message(15, &[2, 1, 0, 4, 1, 2, 3, 4])]
                    .concat();
            liar.tell(&messages);
        },
        FAILED,
    ),
    (
        "a proof that is none",
        |liar| {
            certified(liar);
            let mut proof = liar.proof();
            *proof.last_mut().unwrap() ^= 1;
            liar.tell(&proof);
            liar.finish();
        },
        UNCHECKED,
    ),
    (
        "a NewSessionTicket before the end",
        |liar| {
            certified(liar);
            let proof = liar.proof();
            liar.tell(&proof);
            liar.tell(&message(4, &ticket(&[])));
            liar.finish();
        },
        FAILED,
    ),
    (
        "a wrong end",
        |liar| {
            certified(liar);
            let proof = liar.proof();
            liar.tell(&proof);
            liar.tell(&message(20, &[7; 32]));
        },
        "somebody has changed the encrypted data",
    ),
    (
        "a CertificateRequest in the session",
        |liar| after(liar, HANDSHAKE, &message(13, &request(true))),
        FAILED,
    ),
    ("a HelloRequest in the session", |liar| after(liar, HANDSHAKE, &message(0, &[])), FAILED),
    (
        "a ServerHello in the session",
        |liar| {
            let hello = liar.hello_with(&[7; 32], 0x1301, &[]);
            after(liar, HANDSHAKE, &hello);
        },
        FAILED,
    ),
    ("a ticket of nothing", |liar| after(liar, HANDSHAKE, &message(4, &[])), NO_TLS),
    (
        "a ticket of TLS 1.2 in the session",
        |liar| after(liar, HANDSHAKE, &message(4, &[0, 0, 1, 0, 0, 1, 7])),
        NO_TLS,
    ),
    (
        "a ticket with early data",
        |liar| {
            after(liar, HANDSHAKE, &message(4, &ticket(&extension(42, &[0, 0, 64, 0]))));
        },
        HEARD,
    ),
    ("other keys of no known kind", |liar| after(liar, HANDSHAKE, &message(24, &[9])), NO_TLS),
    (
        "half a message and an alert",
        |liar| {
            liar.begin();
            liar.prove();
            liar.hear_request();
            liar.say(HANDSHAKE, &[4, 0]);
            liar.say(ALERT, &[1, 0]);
        },
        FAILED,
    ),
    ("an alert of one byte in the session", |liar| after(liar, ALERT, &[1]), NO_TLS),
    (
        "a record that nobody could have encrypted",
        |liar| {
            liar.begin();
            liar.prove();
            liar.record(DATA, &[7; 60]);
        },
        "somebody has changed the encrypted data",
    ),
];

/// A proper handshake up to its end, changed at one place.
fn mutated(liar: &mut Liar<'_>, random: &mut Random) {
    let place = random.below(5);
    for number in 0..5 {
        let mut said = match number {
            0 => liar.hello(),
            1 => liar.extensions(&[]),
            2 => liar.certificates(&[]),
            3 => liar.proof(),
            _ => liar.finished(),
        };
        if number == place {
            for _ in 0..=random.below(3) {
                change(&mut said, random);
            }
        }
        liar.tell(&said);
        if number == 0 {
            liar.encrypt();
        }
    }
}

fn change(said: &mut Vec<u8>, random: &mut Random) {
    // Heads and the first fields matter most.
    let most = if random.below(2) == 0 { said.len() } else { said.len().min(60) };
    let at = random.below(most);
    match random.below(6) {
        0 => said.truncate(at),
        1 => said.insert(at, random.below(256) as u8),
        2 if !said.is_empty() => drop(said.remove(at)),
        // A message of another kind.
        3 if !said.is_empty() => said[0] = random.below(26) as u8,
        4 => said.extend_from_within(at..),
        _ if !said.is_empty() => said[at] ^= 1 << random.below(8),
        _ => {}
    }
}

/// What is wrong with how the client of `target` takes a server's play.
fn meet(
    target: &str,
    folder: &Path,
    listener: &TcpListener,
    identity: &Identity,
    what: &str,
    play: impl FnOnce(&mut Liar<'_>),
    says: &str,
) -> Option<String> {
    let mut client = client(target, folder).spawn().unwrap();
    // A client that has ended comes no more.
    let stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break Some(stream),
            Err(_) if client.try_wait().unwrap().is_some() => break None,
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(5)),
        }
    };
    if let Some(mut liar) = stream.and_then(|stream| Liar::hears(stream, identity)) {
        play(&mut liar);
        liar.end();
    }
    wrong(&format!("{target}, {what}"), &client.wait_with_output().unwrap(), says)
}

fn meet_all(target: &str, mutations: u64) {
    in_namespace(|| {
        let scratch = Scratch::new(&format!("tls-wrong-{target}"));
        let folder = &scratch.0;
        certificates(folder);
        let der =
            "for name in P-256 inter-P-256; do openssl x509 -in $name.pem -outform DER -out $name.der; done
            openssl pkcs8 -topk8 -nocrypt -in P-256.key -outform DER -out P-256.pk8";
        run(Command::new("sh").args(["-ec", der]).current_dir(folder));
        let listener = TcpListener::bind(("127.0.0.1", PORT)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let identity = Identity::read(folder, "P-256", "inter-P-256");
        let plays = PLAYS
            .iter()
            .filter_map(|(what, play, says)| meet(target, folder, &listener, &identity, what, play, says));
        let seeds = (1..=mutations).filter_map(|seed| {
            let play = |liar: &mut Liar<'_>| mutated(liar, &mut Random::new(seed * 0x9e37_79b9));
            meet(
                target,
                folder,
                &listener,
                &identity,
                &format!("a handshake changed by seed {seed}"),
                play,
                "",
            )
        });
        none(&plays.chain(seeds).collect::<Vec<_>>());
    });
}

#[test]
fn wrong_handshakes_end_with_an_error() {
    meet_all("x86_64", 300);
}

#[test]
fn wrong_handshakes_end_with_an_error_on_armv6() {
    meet_all("armv6", 100);
}
