//! A TLS 1.3 server (RFC 8446) that says what it is told to, in whatever order: for one client, with X25519,
//! TLS_AES_128_GCM_SHA256 and a key of P-256.

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use ring::{hkdf, hmac};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::time::Duration;

/// Kinds of records (RFC 8446 §5.1).
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const DATA: u8 = 23;
/// Kinds of messages (§4).
pub(crate) const SERVER_HELLO: u8 = 2;
pub(crate) const ENCRYPTED_EXTENSIONS: u8 = 8;
const CERTIFICATE: u8 = 11;
const CERTIFICATE_VERIFY: u8 = 15;
const FINISHED: u8 = 20;

/// What the server is: its chain and its key in DER.
pub(crate) struct Identity {
    chain: Vec<Vec<u8>>,
    key: Vec<u8>,
}

impl Identity {
    /// What `FOLDER/NAME.der`, its issuer's `FOLDER/ISSUER.der` and `FOLDER/NAME.pk8` hold.
    pub(crate) fn read(folder: &Path, name: &str, issuer: &str) -> Self {
        let read = |file: String| std::fs::read(folder.join(file)).unwrap();
        Self {
            chain: vec![read(format!("{name}.der")), read(format!("{issuer}.der"))],
            key: read(format!("{name}.pk8")),
        }
    }
}

struct Keys {
    key: LessSafeKey,
    nonce: [u8; 12],
    sequence: u64,
}

/// The server's end of one session.
pub(crate) struct Liar<'a> {
    stream: TcpStream,
    identity: &'a Identity,
    /// All messages so far (§4.4.1).
    said: Vec<u8>,
    client_random: Vec<u8>,
    session_id: Vec<u8>,
    client_share: Vec<u8>,
    /// The secret of the handshake, and the server's own.
    secrets: Option<([u8; 32], [u8; 32])>,
    keys: Option<Keys>,
}

/// A message with its head.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &long(body)].concat()
}

/// A list or text behind its length in three bytes.
pub(crate) fn long(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes()[1..], body].concat()
}

/// The same, two bytes.
pub(crate) fn short(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u16).to_be_bytes()[..], body].concat()
}

/// An extension (§4.2).
pub(crate) fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &short(body)].concat()
}

/// The extension by which the server speaks our protocol (RFC 7301).
pub(crate) fn protocol() -> Vec<u8> {
    extension(16, &short(&[&[7][..], b"ntske/1"].concat()))
}

fn mac(key: &[u8], data: &[u8]) -> [u8; 32] {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref().try_into().unwrap()
}

/// HKDF-Expand-Label (§7.1) of at most 32 bytes.
fn expand(secret: &[u8], label: &str, context: &[u8], length: u8) -> Vec<u8> {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let label = [b"tls13 ", label.as_bytes()].concat();
    let info: [&[u8]; 5] = [&[0, length, label.len() as u8], &label, &[context.len() as u8], context, &[]];
    let secret = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, secret);
    let mut made = vec![0; length.into()];
    secret.expand(&info, Length(length.into())).unwrap().fill(&mut made).unwrap();
    made
}

/// Derive-Secret (§7.1).
fn derive(secret: &[u8], label: &str, messages: &[u8]) -> [u8; 32] {
    expand(secret, label, digest(&SHA256, messages).as_ref(), 32).try_into().unwrap()
}

fn keys(secret: &[u8]) -> Option<Keys> {
    let key = UnboundKey::new(&AES_128_GCM, &expand(secret, "key", &[], 16)).unwrap();
    let nonce = expand(secret, "iv", &[], 12).try_into().unwrap();
    Some(Keys { key: LessSafeKey::new(key), nonce, sequence: 0 })
}

impl<'a> Liar<'a> {
    /// Hears a client's first words; `None`: there are none.
    pub(crate) fn hears(stream: TcpStream, identity: &'a Identity) -> Option<Self> {
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut liar = Self {
            stream,
            identity,
            said: Vec::new(),
            client_random: Vec::new(),
            session_id: Vec::new(),
            client_share: Vec::new(),
            secrets: None,
            keys: None,
        };
        let (_, hello) = liar.hear()?;
        liar.client_random = hello[6..38].to_vec();
        let mut at = 39 + usize::from(hello[38]);
        liar.session_id = hello[39..at].to_vec();
        let length = |at: usize| usize::from(hello[at]) << 8 | usize::from(hello[at + 1]);
        // The ciphers, the one compression that there is, the length of the extensions.
        at += 2 + length(at) + 2 + 2;
        while length(at) != 51 {
            at += 4 + length(at + 2);
        }
        // One share alone.
        assert_eq!((length(at + 4), length(at + 6), length(at + 8)), (36, 29, 32));
        liar.client_share = hello[at + 10..at + 42].to_vec();
        liar.said = hello;
        Some(liar)
    }

    /// A record of the client: its kind and its text; `None`: there is none, or none in time.
    pub(crate) fn hear(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).ok()?;
        let mut text = vec![0; usize::from(head[3]) << 8 | usize::from(head[4])];
        self.stream.read_exact(&mut text).ok()?;
        Some((head[0], text))
    }

    /// A record as it is. That the client has gone is no matter.
    pub(crate) fn record(&mut self, kind: u8, text: &[u8]) {
        let _ = self.stream.write_all(&[&[kind, 3, 3][..], &short(text)].concat());
    }

    /// A record of this kind, encrypted if there are keys.
    pub(crate) fn say(&mut self, kind: u8, text: &[u8]) {
        let Some(keys) = &mut self.keys else { return self.record(kind, text) };
        let mut nonce = keys.nonce;
        nonce[4..].iter_mut().zip(keys.sequence.to_be_bytes()).for_each(|(byte, with)| *byte ^= with);
        keys.sequence += 1;
        let mut sealed = [text, &[kind]].concat();
        let head = [&[DATA, 3, 3][..], &(sealed.len() as u16 + 16).to_be_bytes()].concat();
        let nonce = Nonce::assume_unique_for_key(nonce);
        keys.key.seal_in_place_append_tag(nonce, Aad::from(head), &mut sealed).unwrap();
        self.record(DATA, &sealed);
    }

    /// Messages of the handshake, which both sides remember.
    pub(crate) fn tell(&mut self, messages: &[u8]) {
        self.said.extend_from_slice(messages);
        messages.chunks(16_000).for_each(|piece| self.say(HANDSHAKE, piece));
    }

    /// The body of a ServerHello with these extensions.
    pub(crate) fn hello_with(&self, random: &[u8], suite: u16, extensions: &[u8]) -> Vec<u8> {
        let id = &self.session_id;
        let body =
            [&[3, 3][..], random, &[id.len() as u8], id, &suite.to_be_bytes(), &[0], &short(extensions)];
        message(SERVER_HELLO, &body.concat())
    }

    /// A proper ServerHello, and the secrets that follow from it and the client's; the caller says it.
    pub(crate) fn hello(&mut self) -> Vec<u8> {
        let random = SystemRandom::new();
        let own = EphemeralPrivateKey::generate(&X25519, &random).unwrap();
        let share = [&[0, 29][..], &short(own.compute_public_key().unwrap().as_ref())].concat();
        let hello =
            self.hello_with(&[7; 32], 0x1301, &[extension(43, &[3, 4]), extension(51, &share)].concat());
        let theirs = UnparsedPublicKey::new(&X25519, &self.client_share);
        let early = derive(&mac(&[0; 32], &[0; 32]), "derived", &[]);
        let secret = agree_ephemeral(own, &theirs, |shared| mac(&early, shared)).unwrap();
        self.secrets = Some((secret, [0; 32]));
        hello
    }

    /// From here on all is encrypted. The client reads it if the hello that was said last was a proper one.
    pub(crate) fn encrypt(&mut self) {
        let (secret, own) = self.secrets.as_mut().unwrap();
        *own = derive(&secret[..], "s hs traffic", &self.said);
        self.keys = keys(&own[..]);
    }

    /// Says a proper hello; all that follows is encrypted.
    pub(crate) fn begin(&mut self) {
        let hello = self.hello();
        self.tell(&hello);
        self.encrypt();
    }

    /// Proper extensions, with others behind them.
    pub(crate) fn extensions(&self, others: &[u8]) -> Vec<u8> {
        message(ENCRYPTED_EXTENSIONS, &short(&[&protocol(), others].concat()))
    }

    /// The server's certificates, each with these extensions.
    pub(crate) fn certificates(&self, extensions: &[u8]) -> Vec<u8> {
        let entries = self.identity.chain.iter();
        let list: Vec<u8> = entries.flat_map(|entry| [long(entry), short(extensions)].concat()).collect();
        message(CERTIFICATE, &[&[0][..], &long(&list)].concat())
    }

    /// The proof that the server has the certificate's key, for what was said so far (§4.4.3).
    pub(crate) fn proof(&self) -> Vec<u8> {
        let random = SystemRandom::new();
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.identity.key, &random).unwrap();
        let heard = digest(&SHA256, &self.said);
        let signed = [&[32; 64][..], b"TLS 1.3, server CertificateVerify\0", heard.as_ref()].concat();
        let signature = key.sign(&random, &signed).unwrap();
        message(CERTIFICATE_VERIFY, &[&[4, 3][..], &short(signature.as_ref())].concat())
    }

    /// The end of the handshake, for what was said so far (§4.4.4).
    pub(crate) fn finished(&self) -> Vec<u8> {
        let (_, own) = self.secrets.as_ref().unwrap();
        message(FINISHED, &mac(&expand(own, "finished", &[], 32), digest(&SHA256, &self.said).as_ref()))
    }

    /// All that follows on the hello; what is said next is said in the session itself.
    pub(crate) fn prove(&mut self) {
        let (extensions, certificates) = (self.extensions(&[]), self.certificates(&[]));
        self.tell(&extensions);
        self.tell(&certificates);
        self.prove_only();
    }

    /// The proof and the end.
    pub(crate) fn prove_only(&mut self) {
        let proof = self.proof();
        self.tell(&proof);
        self.finish();
    }

    /// The end of the handshake, and the keys of the session itself.
    pub(crate) fn finish(&mut self) {
        let finished = self.finished();
        self.tell(&finished);
        let (secret, _) = self.secrets.as_ref().unwrap();
        let main = mac(&derive(secret, "derived", &[]), &[0; 32]);
        self.keys = keys(&derive(&main, "s ap traffic", &self.said));
    }

    /// Waits for the client's Finished and its request.
    pub(crate) fn hear_request(&mut self) {
        let mut heard = 0;
        while heard < 2 {
            let Some((kind, _)) = self.hear() else { return };
            heard += u8::from(kind == DATA);
        }
    }

    /// Says no more, and hears the client to its end.
    pub(crate) fn end(mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        while self.hear().is_some() {}
    }
}
