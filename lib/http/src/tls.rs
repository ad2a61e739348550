//! TLS 1.3 of a client (RFC 8446), over a blocking socket or none: rustls with ring, through rustls's interface that has no
//! sockets and no caches.
//!
//! The cipher suites and groups are a list of our own, so that the linker drops the others; `trust` has the signature
//! algorithms. TLS 1.2 would be 18,400 bytes more on ARMv6.

use crate::Error;
use crate::session::Exporter;
use crate::trust::{Verifier, certificate_error};
use crate::wire::{Wire, append};
use minke_sys::Context;
use rustls::client::{ClientConfig, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom};
use rustls::pki_types::{PrivateKeyDer, ServerName, UnixTime};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError};
use rustls::{AlertDescription, Error as Failure, Tls13CipherSuite};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

/// Most bytes that wait to be understood. A handshake message has at most 64 kB (rustls's own limit), a record 16 kB.
pub(crate) const MOST_WAITING: usize = 128 * 1024;
/// Bytes of a request that go into one record.
const PIECE: usize = 16 * 1024;

const OTHER_PROTOCOL: &str = "the server has TLS for another protocol";

/// A client's end of a connection.
pub(crate) struct Tls {
    machine: Machine,
    pub(crate) wire: Wire,
}

/// A client's end of a session: bytes in, bytes out, and no socket.
pub(crate) struct Machine {
    session: UnbufferedClientConnection,
    host: Box<str>,
    /// What has come and is not understood yet.
    pub(crate) incoming: Vec<u8>,
    /// What is to be sent.
    pub(crate) outgoing: Vec<u8>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

/// Random numbers from the kernel, and no keys: no client has a certificate here.
#[derive(Debug)]
struct Kernel;

impl SecureRandom for Kernel {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        minke_sys::random::fill(buffer).map_err(|_| GetRandomFailed)
    }
}

impl KeyProvider for Kernel {
    fn load_private_key(
        &self,
        _: PrivateKeyDer<'static>,
    ) -> Result<Arc<dyn rustls::sign::SigningKey>, Failure> {
        Err(Failure::HandshakeNotComplete)
    }
}

/// The time that certificates are checked against.
#[derive(Debug)]
struct Clock(UnixTime);

impl rustls::time_provider::TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

/// What a session is for, if not for HTTP.
pub(crate) struct Purpose<'a> {
    /// What both sides must say that they speak (ALPN, RFC 7301).
    pub(crate) protocol: &'a [u8],
    /// What takes the secret of which keys are made.
    pub(crate) exporter: Arc<Exporter>,
}

fn config(
    verifier: Verifier,
    clock: Duration,
    purpose: Option<&Purpose<'_>>,
) -> Result<ClientConfig, Failure> {
    use rustls::crypto::ring::{cipher_suite, kx_group};
    let provider = CryptoProvider {
        // ChaCha20 first: small ARM processors have no instructions for AES.
        cipher_suites: vec![
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
        ],
        kx_groups: vec![kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        signature_verification_algorithms: crate::trust::ALGORITHMS,
        secure_random: &Kernel,
        key_provider: &Kernel,
    };
    let clock = Arc::new(Clock(UnixTime::since_unix_epoch(clock)));
    let mut config = ClientConfig::builder_with_details(Arc::new(provider), clock)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    if let Some(purpose) = purpose {
        config.alpn_protocols = vec![purpose.protocol.to_vec()];
        config.key_log = purpose.exporter.clone();
    }
    Ok(config)
}

/// What a turn of the session wants next.
pub(crate) enum Turn {
    /// Another turn.
    Again,
    /// More from the server.
    Read,
    /// Data may be sent, or read.
    Ready,
    /// Nothing: the server has ended the session.
    Ended,
}

impl Tls {
    /// Speaks the handshake with `host`, whose certificate is checked against `clock`, a time since 1970.
    pub(crate) fn open(
        wire: Wire,
        host: &str,
        verifier: Verifier,
        clock: Duration,
        purpose: Option<&Purpose<'_>>,
    ) -> Result<Box<Self>, Error> {
        let machine = Machine::new(host, verifier, clock, purpose)?;
        let mut tls = Box::new(Self { machine, wire });
        tls.write_all(&[])?;
        if purpose.is_some_and(|purpose| tls.machine.session.alpn_protocol() != Some(purpose.protocol)) {
            return Err(refused(host, OTHER_PROTOCOL));
        }
        Ok(tls)
    }

    /// The session's cipher suite, once the handshake is complete.
    pub(crate) fn suite(&self) -> Option<&'static Tls13CipherSuite> {
        self.machine.session.negotiated_cipher_suite()?.tls13()
    }

    /// Sends all of `data`, once the handshake is complete.
    pub(crate) fn write_all(&mut self, mut data: &[u8]) -> Result<(), Error> {
        loop {
            match self.turn(&mut data, None)? {
                Turn::Ready if data.is_empty() => return self.flush(),
                Turn::Again | Turn::Ready => {}
                Turn::Read if append(&mut self.wire, &mut self.machine.incoming)? => {}
                Turn::Read | Turn::Ended => return Err(Error::Truncated),
            }
        }
    }

    /// Appends what has come, at least a byte. `false`: the server has ended the session. A connection that ends without
    /// a word was perhaps cut by somebody else (RFC 8446 §6.1).
    pub(crate) fn read_into(&mut self, input: &mut Vec<u8>) -> Result<bool, Error> {
        let before = input.len();
        while input.len() == before {
            match self.turn(&mut &[][..], Some(input))? {
                Turn::Again => {}
                Turn::Ended => return Ok(false),
                _ if self.machine.incoming.len() > MOST_WAITING => {
                    return Err(Error::Protocol("a TLS record too large"));
                }
                Turn::Read | Turn::Ready => {
                    self.flush()?;
                    if !append(&mut self.wire, &mut self.machine.incoming)? {
                        return Err(Error::Truncated);
                    }
                }
            }
        }
        Ok(true)
    }

    fn flush(&mut self) -> Result<(), Error> {
        if !self.machine.outgoing.is_empty() {
            let sent = self.wire.write_all(&self.machine.outgoing).context("send to", "the server");
            self.machine.outgoing.clear();
            sent?;
        }
        Ok(())
    }

    fn turn(&mut self, data: &mut &[u8], input: Option<&mut Vec<u8>>) -> Result<Turn, Error> {
        let mut flush = false;
        let turn = self.machine.turn(data, input, &mut flush);
        if flush {
            self.flush()?;
        }
        turn
    }
}

impl Machine {
    /// A session with `host`, whose certificate is checked against `clock`, a time since 1970. Nothing is said yet.
    pub(crate) fn new(
        host: &str,
        verifier: Verifier,
        clock: Duration,
        purpose: Option<&Purpose<'_>>,
    ) -> Result<Self, Error> {
        let name =
            ServerName::try_from(host).map_err(|_| Error::Url("has no proper host name", host.into()))?;
        let opened = config(verifier, clock, purpose)
            .and_then(|config| UnbufferedClientConnection::new(Arc::new(config), name.to_owned()));
        let session = opened.map_err(|failure| explain(host, &failure))?;
        Ok(Self { session, host: host.into(), incoming: Vec::new(), outgoing: Vec::new() })
    }

    /// Takes a piece off `data` when it can be sent, and appends what has come to `input`. `flush`: what waits to be sent
    /// must go before the session goes on.
    pub(crate) fn turn(
        &mut self,
        data: &mut &[u8],
        input: Option<&mut Vec<u8>>,
        flush: &mut bool,
    ) -> Result<Turn, Error> {
        let status = self.session.process_tls_records(&mut self.incoming);
        let discard = status.discard;
        let outgoing = &mut self.outgoing;
        let turn = match status.state {
            Ok(ConnectionState::EncodeTlsData(mut state)) => {
                grow(outgoing, &mut |place| match state.encode(place) {
                    Ok(length) => Ok(length),
                    Err(EncodeError::InsufficientSize(size)) => Err(Some(size)),
                    Err(EncodeError::AlreadyEncoded) => Err(None),
                });
                Ok(Turn::Again)
            }
            Ok(ConnectionState::TransmitTlsData(state)) => {
                *flush = true;
                state.done();
                Ok(Turn::Again)
            }
            Ok(ConnectionState::ReadTraffic(mut state)) => {
                // A server that speaks before it was asked is not heard.
                let mut unwanted = Vec::new();
                let input = input.unwrap_or(&mut unwanted);
                while let Some(Ok(record)) = state.next_record() {
                    input.extend_from_slice(record.payload);
                }
                Ok(Turn::Again)
            }
            Ok(ConnectionState::WriteTraffic(mut state)) => {
                let (piece, rest) = data.split_at_checked(PIECE).unwrap_or((data, &[]));
                if !piece.is_empty() {
                    *flush = true;
                    grow(outgoing, &mut |place| match state.encrypt(piece, place) {
                        Ok(length) => Ok(length),
                        Err(EncryptError::InsufficientSize(size)) => Err(Some(size)),
                        Err(EncryptError::EncryptExhausted) => Err(None),
                    });
                    *data = rest;
                }
                Ok(Turn::Ready)
            }
            Ok(ConnectionState::BlockedHandshake) => Ok(Turn::Read),
            Ok(_) => Ok(Turn::Ended),
            Err(failure) => Err(explain(&self.host, &failure)),
        };
        self.incoming.drain(..discard.min(self.incoming.len()));
        turn
    }
}

/// The bytes that were written, or the room that is missing; `None`: nothing can be written any more.
type Encoded = Result<usize, Option<InsufficientSizeError>>;

/// Appends what `encode` writes, in as much room as it asks for.
fn grow(out: &mut Vec<u8>, encode: &mut dyn FnMut(&mut [u8]) -> Encoded) {
    let start = out.len();
    let mut room = 0usize;
    loop {
        out.resize(start.saturating_add(room), 0);
        match encode(out.get_mut(start..).unwrap_or_default()) {
            Err(Some(size)) if size.required_size > room => room = size.required_size,
            result => return out.truncate(start.saturating_add(result.unwrap_or(0))),
        }
    }
}

/// What a person can make of a failure.
fn explain(host: &str, failure: &Failure) -> Error {
    let text = match failure {
        Failure::InvalidCertificate(problem) => return certificate_error(host, problem),
        Failure::PeerIncompatible(_)
        | Failure::AlertReceived(AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure) => {
            "the server cannot speak TLS 1.3 with our ciphers"
        }
        Failure::NoApplicationProtocol | Failure::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            OTHER_PROTOCOL
        }
        Failure::AlertReceived(_) => "the server broke the TLS session off",
        Failure::InvalidMessage(_) | Failure::InappropriateMessage { .. } => {
            "what answers does not speak TLS"
        }
        Failure::DecryptError => "somebody has changed the encrypted data",
        _ => "TLS failed",
    };
    refused(host, text)
}

/// No session, for this reason.
pub(crate) fn refused(host: &str, text: &str) -> Error {
    Error::Tls(format!("{host}: {text}").into())
}
