//! Which certificates are believed: the system's bundle of certificate authorities, and others by the caller's choice.

use crate::Error;
use minke_sys::file;
use minke_wire::civil::Civil;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error as Failure, SignatureScheme};
use std::fmt;
use std::path::PathBuf;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, ring as algorithm};

/// Where the bundle is.
pub const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Most bytes of the bundle; Debian's has 220,000.
const MOST_BUNDLE: usize = 4 << 20;

/// Ed25519 is missing, as it is from browsers and public authorities: it would be 10,000 bytes on ARMv6.
pub(crate) static ALGORITHMS: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        algorithm::ECDSA_P256_SHA256,
        algorithm::ECDSA_P256_SHA384,
        algorithm::ECDSA_P384_SHA256,
        algorithm::ECDSA_P384_SHA384,
        algorithm::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        algorithm::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        algorithm::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        algorithm::RSA_PKCS1_2048_8192_SHA256,
        algorithm::RSA_PKCS1_2048_8192_SHA384,
        algorithm::RSA_PKCS1_2048_8192_SHA512,
    ],
    mapping: &[
        (SignatureScheme::ECDSA_NISTP256_SHA256, &[algorithm::ECDSA_P256_SHA256]),
        (SignatureScheme::ECDSA_NISTP384_SHA384, &[algorithm::ECDSA_P384_SHA384]),
        (SignatureScheme::RSA_PSS_SHA256, &[algorithm::RSA_PSS_2048_8192_SHA256_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA384, &[algorithm::RSA_PSS_2048_8192_SHA384_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA512, &[algorithm::RSA_PSS_2048_8192_SHA512_LEGACY_KEY]),
        // In certificates only (RFC 8446 §4.2.3).
        (SignatureScheme::RSA_PKCS1_SHA256, &[algorithm::RSA_PKCS1_2048_8192_SHA256]),
        (SignatureScheme::RSA_PKCS1_SHA384, &[algorithm::RSA_PKCS1_2048_8192_SHA384]),
        (SignatureScheme::RSA_PKCS1_SHA512, &[algorithm::RSA_PKCS1_2048_8192_SHA512]),
    ],
};

/// The certificate authorities that a client believes.
#[derive(Debug, Clone)]
pub struct Trust {
    /// A file of PEM certificates. That it is missing is no error before a certificate needs it.
    pub bundle: PathBuf,
    /// Further certificates in PEM, for instance `balenaRootCA`.
    pub extra: Vec<u8>,
}

impl Default for Trust {
    fn default() -> Self {
        Self { bundle: BUNDLE.into(), extra: Vec::new() }
    }
}

/// The number of certificates in a PEM text that can be used as certificate authorities; 0 for anything else.
pub fn count_authorities(pem: &[u8]) -> usize {
    let mut count = 0usize;
    each_authority(pem, &mut |certificate| {
        count = count.saturating_add(usize::from(anchor_from_trusted_cert(&certificate).is_ok()));
    });
    count
}

/// Calls `take` with each certificate of a PEM text (RFC 7468).
fn each_authority(pem: &[u8], take: &mut dyn FnMut(CertificateDer<'static>)) {
    let mut text = None;
    for line in pem.split(|byte| *byte == b'\n') {
        match (line.trim_ascii(), &mut text) {
            (b"-----BEGIN CERTIFICATE-----", _) => text = Some(Vec::new()),
            (b"-----END CERTIFICATE-----", _) => {
                // One that cannot be read does not spoil the others.
                if let Some(der) = text.take().and_then(|text| minke_wire::base64::decode(&text)) {
                    take(der.into());
                }
            }
            (line, Some(text)) => text.extend_from_slice(line),
            (_, None) => {}
        }
    }
}

/// Checks what a server shows, in the course of a handshake; without a trust anything is believed.
#[derive(Debug)]
pub(crate) struct Verifier(pub(crate) Option<Trust>);

impl Verifier {
    /// The authorities that may have issued one of `shown`: a few of the bundle's 140. It is read at each handshake, and
    /// nothing of it stays.
    fn authorities(trust: &Trust, shown: &[&CertificateDer<'_>]) -> Vec<CertificateDer<'static>> {
        let mut issuers = Vec::new();
        for certificate in shown {
            if let Ok(certificate) = EndEntityCert::try_from(*certificate) {
                issuers.push(certificate.issuer().to_vec());
            }
        }
        let mut found = Vec::new();
        let mut consider = |certificate: CertificateDer<'static>| {
            let subject = anchor_from_trusted_cert(&certificate).map(|anchor| anchor.subject);
            if subject.is_ok_and(|subject| issuers.iter().any(|issuer| **issuer == *subject)) {
                found.push(certificate);
            }
        };
        each_authority(&trust.extra, &mut consider);
        each_authority(&file::read_bounded(&trust.bundle, MOST_BUNDLE).unwrap_or_default(), &mut consider);
        found
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Failure> {
        let Some(trust) = &self.0 else { return Ok(ServerCertVerified::assertion()) };
        let mut shown = vec![end_entity];
        shown.extend(intermediates);
        let authorities = Self::authorities(trust, &shown);
        let mut anchors = Vec::with_capacity(authorities.len());
        for authority in &authorities {
            anchors.extend(anchor_from_trusted_cert(authority));
        }
        let usage = KeyUsage::server_auth();
        EndEntityCert::try_from(end_entity)
            .and_then(|certificate| {
                certificate.verify_for_usage(
                    ALGORITHMS.all,
                    &anchors,
                    intermediates,
                    now,
                    usage,
                    None,
                    None,
                )?;
                certificate.verify_is_valid_for_subject_name(server_name)
            })
            .map(|()| ServerCertVerified::assertion())
            .map_err(|error| Failure::InvalidCertificate(problem(&error)))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Failure> {
        Err(Failure::InvalidCertificate(CertificateError::BadSignature))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Failure> {
        if self.0.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, certificate, signature, &ALGORITHMS)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ALGORITHMS.supported_schemes()
    }
}

fn problem(error: &webpki::Error) -> CertificateError {
    match error {
        webpki::Error::CertExpired { time, not_after } => {
            CertificateError::ExpiredContext { time: *time, not_after: *not_after }
        }
        webpki::Error::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time: *time, not_before: *not_before }
        }
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::CertNotValidForName(_) => CertificateError::NotValidForName,
        webpki::Error::CaUsedAsEndEntity => CertificateError::InvalidPurpose,
        _ => CertificateError::BadEncoding,
    }
}

/// Why a certificate is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distrust {
    /// By this device's clock it has expired, at this time since 1970 in seconds.
    Expired(u64),
    /// By this device's clock it is not valid yet, before this time since 1970 in seconds.
    NotValidYet(u64),
    /// Nobody we know has issued it.
    UnknownIssuer,
    /// It is another name's.
    WrongName,
    /// It is an authority's, and no server's.
    Authority,
    /// It is broken, forged, or of a kind that we cannot check.
    Unusable,
}

/// A certificate that is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distrusted {
    /// Whose it should be.
    pub host: Box<str>,
    /// Why.
    pub reason: Distrust,
    /// What this device's clock said, in seconds since 1970, where it mattered; else 0.
    pub clock: u64,
}

impl Distrusted {
    /// When the clock is all that stands between this certificate and belief: a moment at which its dates would hold.
    ///
    /// The rule for a clock that nothing has confirmed yet (SPECIFICATION.md, "Sane time at boot"): a peer may be spoken
    /// to with this moment as the clock ([`crate::Client::with_clock`]), only to learn the time from it. What it says is a
    /// candidate: the certificate must be believed at that very time as well. `earliest` is the build time, `latest` the
    /// end of what is plausible, both in seconds since 1970: a certificate that holds at no time between them never was a
    /// matter of the clock, and the answer is `None`.
    pub fn clock_to_try(&self, earliest: u64, latest: u64) -> Option<u64> {
        match self.reason {
            Distrust::Expired(end) => (end >= earliest).then_some(end.min(latest)),
            Distrust::NotValidYet(start) => (start <= latest).then_some(start.max(earliest)),
            _ => None,
        }
    }
}

impl Distrusted {
    /// Whether this device's clock contradicts its dates.
    pub fn is_by_dates(&self) -> bool {
        matches!(self.reason, Distrust::Expired(_) | Distrust::NotValidYet(_))
    }
}

impl fmt::Display for Distrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = |seconds: u64| Civil::from_unix(i64::try_from(seconds).unwrap_or(i64::MAX));
        let (clock, host) = (date(self.clock), &self.host);
        match self.reason {
            Distrust::Expired(end) => {
                write!(
                    f,
                    "{host}: the certificate expired at {}, and this device's clock says {clock}",
                    date(end)
                )
            }
            Distrust::NotValidYet(start) => {
                write!(
                    f,
                    "{host}: the certificate is valid from {}, and this device's clock says {clock}",
                    date(start)
                )
            }
            Distrust::UnknownIssuer => {
                write!(f, "{host}: the certificate's issuer is unknown; see balenaRootCA")
            }
            Distrust::WrongName => write!(f, "{host}: the certificate is for another name"),
            Distrust::Authority => write!(f, "{host}: the certificate is an authority's and no server's"),
            Distrust::Unusable => write!(f, "{host}: the certificate cannot be checked"),
        }
    }
}

pub(crate) fn certificate_error(host: &str, problem: &CertificateError) -> Error {
    let (reason, clock) = match problem {
        CertificateError::ExpiredContext { time, not_after } => {
            (Distrust::Expired(not_after.as_secs()), time.as_secs())
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            (Distrust::NotValidYet(not_before.as_secs()), time.as_secs())
        }
        CertificateError::UnknownIssuer => (Distrust::UnknownIssuer, 0),
        CertificateError::NotValidForName => (Distrust::WrongName, 0),
        CertificateError::InvalidPurpose => (Distrust::Authority, 0),
        _ => (Distrust::Unusable, 0),
    };
    Error::Certificate(Box::new(Distrusted { host: host.into(), reason, clock }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_found_among_other_texts_and_broken_ones() {
        let pem = b"# Root\r\n-----BEGIN CERTIFICATE-----\r\nAQID\r\nBA==\r\n-----END CERTIFICATE-----\r\n\
            -----BEGIN CERTIFICATE-----\nA*ID\n-----END CERTIFICATE-----\n-----END CERTIFICATE-----\n\
            -----BEGIN PRIVATE KEY-----\nBQ==\n-----END PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----\nBQ==\n\
            -----BEGIN CERTIFICATE-----\nBg==\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nBw==\n";
        let mut found = Vec::new();
        each_authority(pem, &mut |certificate| found.push(certificate.to_vec()));
        assert_eq!(found, [vec![1, 2, 3, 4], vec![6]]);
    }

    #[test]
    fn another_clock_is_tried_only_where_the_clock_alone_is_wrong() {
        let tried = |reason| Distrusted { host: "h".into(), reason, clock: 0 }.clock_to_try(1000, 2000);
        assert_eq!(tried(Distrust::Expired(999)), None);
        assert_eq!(tried(Distrust::Expired(1500)), Some(1500));
        assert_eq!(tried(Distrust::Expired(9999)), Some(2000));
        assert_eq!(tried(Distrust::NotValidYet(1500)), Some(1500));
        assert_eq!(tried(Distrust::NotValidYet(1)), Some(1000));
        assert_eq!(tried(Distrust::NotValidYet(2001)), None);
        for other in [Distrust::UnknownIssuer, Distrust::WrongName, Distrust::Authority, Distrust::Unusable] {
            assert_eq!(tried(other), None);
        }
    }
}
