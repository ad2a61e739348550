//! The cloud that a device belongs to: how its API is reached and believed, as `config.json` says (spec supervisor §2.1,
//! os §4.6.3). Who asks, with which key and how patiently, is the caller's.

#![forbid(unsafe_code)]

use minke_config::{Config, Value};
use minke_http::client::Body;
use minke_http::{Client, Trust, Url};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most characters of what the cloud says of a refusal.
const REASON: usize = 200;

/// The cloud's API.
#[derive(Debug, Clone)]
pub struct Cloud {
    endpoint: String,
    trust: Trust,
    etc: PathBuf,
}

/// One request to the API.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// The path below the API's address, with its query.
    pub path: &'a str,
    /// The key that is sent as the bearer's (RFC 6750).
    pub key: &'a str,
    /// The value of `User-Agent`; empty: none.
    pub agent: &'a str,
    /// The document that is sent.
    pub document: Option<&'a Value>,
    /// How long the cloud may stay silent.
    pub silence: Duration,
    /// How long the request may take altogether.
    pub deadline: Duration,
    /// Most bytes of the answer.
    pub limit: usize,
}

/// Why the cloud did not do what it was asked.
#[derive(Debug)]
pub enum Error {
    /// `apiEndpoint` is no URL.
    Endpoint(minke_http::Error),
    /// There was no answer.
    Transport(minke_http::Error),
    /// It refused.
    Refused {
        /// What was asked.
        address: String,
        /// The answer's status.
        status: u16,
        /// The first line that it says about that.
        reason: String,
    },
}

impl Error {
    /// The status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Endpoint(_) | Self::Transport(_) => None,
        }
    }

    /// Whether nothing but the dates of the cloud's certificate is wrong, by this device's clock.
    pub fn is_by_dates(&self) -> bool {
        matches!(self, Self::Transport(minke_http::Error::Certificate(distrusted)) if distrusted.is_by_dates())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(error) => write!(f, "apiEndpoint: {error}"),
            Self::Transport(error) => error.fmt(f),
            Self::Refused { address, status, reason } => {
                let colon = if reason.is_empty() { "" } else { ": " };
                write!(f, "{address} answered with status {status}{colon}{reason}")
            }
        }
    }
}

impl std::error::Error for Error {}

/// What a program of the system below `root` believes: the system's authorities, and the one of the fleet's owner.
pub fn trust(config: &Config, root: &Path) -> Trust {
    Trust { bundle: root.join(minke_http::BUNDLE.trim_start_matches('/')), extra: config.authority() }
}

impl Cloud {
    /// The cloud of a configuration, for the system below `root`. `None`: the device belongs to none.
    pub fn of(config: &Config, root: &Path) -> Option<Self> {
        let endpoint = config.string("apiEndpoint")?.trim_end_matches('/').to_owned();
        Some(Self { endpoint, trust: trust(config, root), etc: root.join("etc") })
    }

    /// Where a path of the API is.
    pub fn address(&self, path: &str) -> String {
        format!("{}/{path}", self.endpoint)
    }

    /// Asks, and returns the answer's body. A status other than 2xx is an error.
    pub fn ask(&self, request: &Request<'_>) -> Result<Vec<u8>, Error> {
        let address = self.address(request.path);
        let url = Url::parse(&address).map_err(Error::Endpoint)?;
        let bearer = format!("Bearer {}", request.key);
        let text = request.document.map(Value::to_text);
        let mut headers = vec![("Authorization", bearer.as_str())];
        if !request.agent.is_empty() {
            headers.push(("User-Agent", request.agent));
        }
        if text.is_some() {
            headers.push(("Content-Type", "application/json"));
        }
        let answer = Client::web(&url)
            .with_trust(self.trust.clone())
            .with_names_of(&self.etc)
            .with_timeout(Some(request.silence))
            .with_deadline(request.deadline)
            .with_limit(request.limit)
            .request(
                request.method,
                url.target,
                &headers,
                text.as_ref().map_or(Body::None, |text| Body::Bytes(text.as_bytes())),
            )
            .map_err(Error::Transport)?;
        match answer.status {
            200..=299 => Ok(answer.body),
            status => Err(Error::Refused { address, status, reason: reason(&answer.body) }),
        }
    }
}

/// The first line of a refusal's body, fit for a log; nothing where that is a page or a document.
fn reason(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..REASON).unwrap_or(body)).into_owned();
    let line = text.trim().lines().next().unwrap_or_default();
    match line.as_bytes().first() {
        Some(b'<' | b'{' | b'[') => String::new(),
        _ => line.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_why_where_the_cloud_does() {
        assert_eq!(reason(b"Unauthorized"), "Unauthorized");
        assert_eq!(reason(b" \"Invalid device type\"\r\nmore"), "\"Invalid device type\"");
        assert_eq!(reason(b"\x1b[31mred hat"), "?[31mred hat");
        assert_eq!(reason("ü".repeat(150).as_bytes()).chars().count(), 100);
        for page in ["", "<html>", "{\"a\":1}", "[]", "\n\n"] {
            assert_eq!(reason(page.as_bytes()), "");
        }
        let refused = |reason: &str| {
            let (address, reason) = ("https://a/b".to_owned(), reason.to_owned());
            Error::Refused { address, status: 401, reason }.to_string()
        };
        assert_eq!(refused(""), "https://a/b answered with status 401");
        assert_eq!(refused("No"), "https://a/b answered with status 401: No");
    }

    #[test]
    fn a_device_without_an_endpoint_has_no_cloud() {
        let cloud = |text: &str| Cloud::of(&Config::parse(text.as_bytes()).unwrap(), Path::new("/x"));
        assert!(cloud("{}").is_none());
        let cloud = cloud(r#"{"apiEndpoint":"ftp://c/"}"#).unwrap();
        assert_eq!(cloud.address("a/b"), "ftp://c/a/b");
        let request = Request {
            method: "GET",
            path: "a",
            key: "k",
            agent: "",
            document: None,
            silence: Duration::from_secs(1),
            deadline: Duration::from_secs(1),
            limit: 1,
        };
        let error = cloud.ask(&request).unwrap_err().to_string();
        assert!(error.starts_with("apiEndpoint: URL \"ftp://c/a\" does not begin with https"), "{error}");
    }
}
