//! One request: authorization, redirections, and what its failure means.

use super::{Credentials, MANIFESTS, Registry};
use crate::{Error, documents};
use minke_http::client::{Body, Stream};
use minke_http::{Client, Url, escape};
use minke_wire::http::{Challenge, parse_challenges};
use minke_wire::json::Value;
use minke_wire::{base64, text};
use std::fmt::Display;
use std::time::Duration;

/// Most redirections that are followed.
const MAX_REDIRECTIONS: u32 = 5;
/// Most bytes of a token's document, and of one that explains an error.
const MAX_ANSWER: usize = 64 << 10;
/// How long a server may stay silent.
const SILENCE: Duration = Duration::from_secs(60);

/// Why a request has failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// Whether trying again is of no use.
    pub(super) is_final: bool,
    /// How long the server wants us to wait.
    pub(super) after: Option<Duration>,
}

type Attempt<T> = std::result::Result<T, Failure>;

impl Failure {
    #[cold]
    fn last(error: Error) -> Self {
        Self { error, is_final: true, after: None }
    }

    #[cold]
    pub(super) fn again(host: &str, reason: &dyn Display) -> Self {
        Self { error: Error::Registry(format!("{host}: {reason}").into()), is_final: false, after: None }
    }
}

/// What a failed connection means.
#[cold]
pub(super) fn failed(host: &str, error: &minke_http::Error) -> Failure {
    let certain = match error {
        minke_http::Error::Certificate(distrusted) if distrusted.is_by_dates() => {
            return Failure::last(Error::Dates(format!("{host}: {error}").into()));
        }
        minke_http::Error::Certificate(_) | minke_http::Error::Url(..) | minke_http::Error::TooLarge(_) => {
            true
        }
        // One that does not speak TLS will not learn it; what was changed on the way may come as it is the next time.
        minke_http::Error::Tls(text) => text.ends_with("not speak TLS"),
        _ => false,
    };
    Failure { is_final: certain, ..Failure::again(host, error) }
}

impl Registry<'_> {
    /// Asks the registry for something, from a byte on; the answer's status is 200 or 206.
    pub(super) fn ask(&mut self, target: &str, from: u64) -> Attempt<Box<Stream>> {
        let mut url = self.url(target);
        let (mut redirections, mut renewed) = (0, false);
        let range = format!("bytes={from}-");
        loop {
            // Who we are is for the registry alone.
            let own = url.strip_prefix(&self.url("")).is_some_and(|rest| rest.starts_with('/'));
            // Some web servers in front of registries turn those away who do not say what they are.
            let mut headers = vec![("User-Agent", "minke")];
            if text::contains(target, "/manifests/") {
                headers.push(("Accept", MANIFESTS));
            }
            if from > 0 {
                headers.push(("Range", &range));
            }
            if let Some(authorization) = self.authorization.as_deref().filter(|_| own) {
                headers.push(("Authorization", authorization));
            }
            let stream = match self.get(&url, &headers) {
                // One that does not speak TLS where none is needed.
                Err(minke_http::Error::Tls(_) | minke_http::Error::Truncated)
                    if own && self.tls && self.plain =>
                {
                    self.tls = false;
                    url = self.url(target);
                    continue;
                }
                other => other.map_err(|error| failed(&self.host, &error))?,
            };
            match stream.status {
                200 | 206 => return Ok(stream),
                301 | 302 | 303 | 307 | 308 => {
                    redirections += 1;
                    let location = stream.headers.get("Location").unwrap_or_default();
                    url = self
                        .redirected(&url, location)
                        .filter(|_| redirections <= MAX_REDIRECTIONS)
                        .ok_or_else(|| {
                            Failure::last(self.malformed(&format_args!(
                                "a redirection that is not followed: {}",
                                text::shown(location)
                            )))
                        })?;
                }
                401 if own && !renewed => {
                    renewed = true;
                    self.authorize(&stream)?;
                }
                _ => return Err(self.refused(*stream, target)),
            }
        }
    }

    fn url(&self, target: &str) -> String {
        format!("{}://{}{target}", if self.tls { "https" } else { "http" }, self.host)
    }

    fn get(
        &self,
        url: &str,
        headers: &[(&str, &str)],
    ) -> std::result::Result<Box<Stream>, minke_http::Error> {
        let url = Url::parse(url)?;
        let client =
            Client::web(&url).with_trust(self.access.trust.clone()).with_names_of(self.access.names.clone());
        client.with_timeout(Some(SILENCE)).stream("GET", url.target, headers, Body::None)
    }

    /// Where a redirection leads; `None` where it must not lead.
    fn redirected(&self, from: &str, location: &str) -> Option<String> {
        let whole = if location.starts_with('/') && !location.starts_with("//") {
            let (scheme, rest) = text::split_once(from, "://")?;
            format!("{scheme}://{}{location}", rest.split('/').next()?)
        } else {
            location.to_owned()
        };
        self.may_speak_to(&whole).then_some(whole)
    }

    /// Whether a URL is one with TLS, or of a host that goes without.
    fn may_speak_to(&self, url: &str) -> bool {
        let Ok(parsed) = Url::parse(url) else { return false };
        let rest = text::split_once(url, "://").map_or("", |(_, rest)| rest);
        parsed.tls || self.access.allows_plain(rest.split(['/', '?']).next().unwrap_or_default())
    }

    /// Does what a 401 asks for.
    fn authorize(&mut self, stream: &Stream) -> Attempt<()> {
        let mut challenges = Vec::new();
        for field in stream.headers.all("WWW-Authenticate") {
            challenges.extend(parse_challenges(field));
        }
        let basic = match &self.access.credentials {
            Some(Credentials::Basic { user, password }) => Some(basic(user, password)),
            _ => None,
        };
        if let Some(bearer) = challenges.iter().find(|challenge| challenge.is("Bearer")) {
            self.authorization = Some(format!("Bearer {}", self.token(bearer, basic.as_deref())?));
            return Ok(());
        }
        if basic.is_none() || !challenges.iter().any(|challenge| challenge.is("Basic")) {
            return Err(Failure::last(Error::Denied(format!("{} wants credentials", self.host).into())));
        }
        self.authorization = basic;
        Ok(())
    }

    /// Fetches a token.
    fn token(&self, bearer: &Challenge, basic: Option<&str>) -> Attempt<String> {
        let realm = bearer.get("realm");
        if !self.may_speak_to(realm) {
            let realm = text::shown(realm);
            return Err(Failure::last(
                self.malformed(&format_args!("tokens from {realm}, which is not asked")),
            ));
        }
        let asked = match bearer.get("scope") {
            "" => format!("repository:{}:pull", self.name),
            scope => scope.to_owned(),
        };
        let (mut url, mut separator) = (realm.to_owned(), if realm.contains('?') { '&' } else { '?' });
        for (name, value) in [("service", bearer.get("service")), ("scope", &asked)] {
            if !value.is_empty() {
                url.push(separator);
                url.push_str(name);
                url.push('=');
                url.push_str(&escape(value));
                separator = '&';
            }
        }
        let headers = basic.map(|basic| ("Authorization", basic));
        let stream = self.get(&url, headers.as_slice()).map_err(|error| failed(realm, &error))?;
        if stream.status != 200 {
            return Err(self.refused(*stream, realm));
        }
        let answer = stream.read_all(MAX_ANSWER).map_err(|error| failed(realm, &error))?;
        let document: Value = minke_wire::json::parse(&answer.body).unwrap_or_default();
        let token = |key| Some(documents::text(&document, key)).filter(|token| !token.is_empty());
        match token("token").or_else(|| token("access_token")) {
            // It goes into a header.
            Some(token) if token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(token.to_owned()),
            _ => Err(Failure::last(self.malformed(&"no token in what the token server answers"))),
        }
    }

    /// What an answer that is none means.
    #[cold]
    fn refused(&self, stream: Stream, target: &str) -> Failure {
        let status = stream.status;
        let after = stream.headers.get("Retry-After").and_then(text::number::<u32>);
        let after = after.map(|seconds| Duration::from_secs(seconds.into()));
        // Registries explain themselves in `{"errors":[{"code","message"}]}`.
        let body = stream.read_all(MAX_ANSWER).map(|answer| answer.body).unwrap_or_default();
        let document: Value = minke_wire::json::parse(&body).unwrap_or_default();
        let message = document.pointer("/errors/0/message").and_then(Value::as_str).unwrap_or_default();
        let mut reason = format!("{}: status {status} for {target}", self.host);
        if !message.is_empty() {
            reason.push_str(": ");
            reason.extend(message.chars().take(200).filter(|letter| !letter.is_control()));
        }
        match status {
            404 => Failure::last(Error::NotFound(reason.into())),
            401 | 403 => Failure::last(Error::Denied(reason.into())),
            408 | 425 | 429 | 500..=599 => {
                Failure { after, is_final: false, error: Error::Registry(reason.into()) }
            }
            _ => Failure::last(Error::Registry(reason.into())),
        }
    }
}

fn basic(user: &str, password: &str) -> String {
    let mut text = base64::encode_unpadded(format!("{user}:{password}").as_bytes());
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    format!("Basic {text}")
}
