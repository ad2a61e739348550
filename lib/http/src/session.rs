//! A TLS session for another protocol than HTTP, with keys of its own.

use crate::Error;
use crate::client::connect;
use crate::socket::Socket;
use crate::tls::{Purpose, Tls, refused};
use crate::trust::{Trust, Verifier};
use crate::wire::Wire;
use minke_sys::clock;
use rustls::KeyLog;
use rustls::crypto::tls13::{HkdfExpander, OkmBlock};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The name of the secret that keys are exported from, in the format of key logs.
const EXPORTER_SECRET: &str = "EXPORTER_SECRET";

/// Whom to speak with, and how.
#[derive(Debug)]
pub struct Dial<'a> {
    /// The name or address that the server's certificate is for.
    pub host: &'a str,
    /// Where the server is; they are tried in turn. See [`crate::resolve`].
    pub addresses: &'a [IpAddr],
    /// Its TCP port.
    pub port: u16,
    /// The protocol, which the server must know by this name (ALPN, RFC 7301).
    pub protocol: &'a [u8],
    /// Which authorities' certificates are believed.
    pub trust: Trust,
    /// The time since 1970 that the certificate is checked against; without one the system's clock.
    pub clock: Option<Duration>,
    /// The time since boot at which the whole conversation must be over.
    pub until: Duration,
}

/// A session. It blocks, until the time that [`Dial::until`] said.
#[derive(Debug)]
pub struct Session {
    tls: Box<Tls>,
    exporter: Arc<Exporter>,
    address: IpAddr,
}

impl Session {
    /// Connects, and speaks the handshake. The errors are those of [`crate::Client`] with a web server.
    pub fn open(dial: &Dial<'_>) -> Result<Self, Error> {
        let (stream, address) = connect(dial.host, dial.addresses, dial.port, dial.until)?;
        let wire = Wire::new(Socket::Tcp(stream), None, Some(dial.until))?;
        let exporter = Arc::<Exporter>::default();
        let purpose = Purpose { protocol: dial.protocol, exporter: exporter.clone() };
        let clock = dial.clock.unwrap_or_else(clock::realtime);
        let tls = Tls::open(wire, dial.host, Verifier(Some(dial.trust.clone())), clock, Some(&purpose))?;
        Ok(Self { tls, exporter, address })
    }

    /// With which of the addresses it is.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Sends all of `data`.
    pub fn write_all(&mut self, data: &[u8]) -> Result<(), Error> {
        self.tls.write_all(data)
    }

    /// Appends what has come, at least a byte and at most what a few records hold. `false`: the server has ended the
    /// session.
    pub fn read_into(&mut self, input: &mut Vec<u8>) -> Result<bool, Error> {
        self.tls.read_into(input)
    }

    /// Fills `key` with what server and client alone can compute, for this label and context (RFC 8446 §7.5).
    pub fn export(&self, label: &[u8], context: &[u8], key: &mut [u8]) -> Result<(), Error> {
        self.exporter
            .export(&self.tls, label, context, key)
            .ok_or_else(|| refused("TLS", "no key can be had"))
    }
}

/// Takes the session's exporter secret from rustls, whose interface without sockets has no exporter, but hands out the
/// secret.
#[derive(Default)]
pub(crate) struct Exporter(OnceLock<Box<[u8]>>);

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exporter")
    }
}

impl KeyLog for Exporter {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        if self.will_log(label) {
            let _ = self.0.set(secret.into());
        }
    }

    fn will_log(&self, label: &str) -> bool {
        label == EXPORTER_SECRET
    }
}

impl Exporter {
    /// TLS-Exporter: two steps, each of HKDF-Expand-Label (RFC 8446 §7.1 and §7.5).
    fn export(&self, tls: &Tls, label: &[u8], context: &[u8], key: &mut [u8]) -> Option<()> {
        let suite = tls.suite()?;
        let (hash, hkdf) = (suite.common.hash_provider, suite.hkdf_provider);
        let mut secret = vec![0; hash.output_len()];
        let master = hkdf.expander_for_okm(&OkmBlock::new(self.0.get()?));
        expand_label(&*master, label, hash.hash(&[]).as_ref(), &mut secret)?;
        let derived = hkdf.expander_for_okm(&OkmBlock::new(&secret));
        expand_label(&*derived, b"exporter", hash.hash(context).as_ref(), key)
    }
}

fn expand_label(expander: &dyn HkdfExpander, label: &[u8], context: &[u8], out: &mut [u8]) -> Option<()> {
    const PREFIX: &[u8] = b"tls13 ";
    let length = u16::try_from(out.len()).ok()?.to_be_bytes();
    let label_length = [u8::try_from(PREFIX.len().checked_add(label.len())?).ok()?];
    let context_length = [u8::try_from(context.len()).ok()?];
    let info = [&length[..], &label_length, PREFIX, label, &context_length, context];
    expander.expand_slice(&info, out).ok()
}
