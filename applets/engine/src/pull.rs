//! `POST /images/create`: pulls from registries, each in a thread.
//!
//! Several clients who want the same image share one pull; it ends when the last of them has gone. Whatever was
//! complete by then stays in the store, and the next pull goes on from there.

use crate::api::Call;
use crate::engine::{Done, Engine};
use crate::error::{ApiError, Result};
use crate::fields::json;
use minke_applet::log;
use minke_config::{Paths, Store};
use minke_control::time::{self, Woken};
use minke_http::Conn;
use minke_oci::registry::{Access, Credentials};
use minke_oci::{Digest, Error, Platform, PullStep, Pulled, Reference};
use minke_sys::event::Waker;
use minke_wire::base64;
use minke_wire::json::Value;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Most pulls at a time. Each has one layer in work and needs some 200 kB.
const LIMIT: usize = 8;
/// How often progress is told, at most.
const INTERVAL: Duration = Duration::from_millis(250);

/// A pull under way.
#[derive(Debug)]
pub struct Pull {
    number: u64,
    /// What is pulled, for which platform, by whom: equal for clients who can share it.
    key: String,
    /// Who waits for it, and whether the answer has begun.
    clients: Vec<(Conn, bool)>,
    end: Arc<End>,
}

/// By which a pull learns that nobody wants it any more.
#[derive(Debug)]
struct End {
    unwanted: Arc<AtomicBool>,
    waker: Waker,
}

/// What a pull tells the loop.
#[derive(Debug)]
pub enum News {
    /// A line for the clients.
    Line(Value),
    /// It has ended: the reference in familiar form, and what came of it.
    Ended(String, Result<Pulled>),
}

/// Begins a pull, or joins one.
pub fn begin(engine: &mut Engine, call: &Call<'_>) -> Result<()> {
    let (image, tag) = (call.query("fromImage"), call.query("tag"));
    if image.is_empty() {
        return Err(ApiError::new(501, format_args!("only pulls are supported: fromImage is missing")));
    }
    let text = match tag {
        "" => image.to_owned(),
        _ if minke_wire::text::contains(tag, ":") => format!("{image}@{tag}"),
        _ => format!("{image}:{tag}"),
    };
    let reference = Reference::parse(&text).map_err(|error| ApiError::bad(format_args!("{error}")))?;
    let platform = platform_of(call.query("platform"))?;
    let login = call.request.headers.get("X-Registry-Auth").unwrap_or_default();
    let key = format!("{reference} {platform} {login}");
    if let Some(pull) = engine.pulls.iter_mut().find(|pull| pull.key == key && pull.end.is_wanted()) {
        pull.clients.push((call.conn, false));
        return Ok(());
    }
    if engine.pulls.len() >= LIMIT {
        return Err(ApiError::new(503, format_args!("{LIMIT} pulls are under way; try again later")));
    }
    let end = Arc::new(End { unwanted: Arc::default(), waker: Waker::new()? });
    let number = engine.next_serial();
    let mut work = Work {
        number,
        reference,
        platform,
        access: Access { unwanted: Some(end.unwanted.clone()), ..access(engine, login)? },
        engine: (engine.images, engine.results),
        end: end.clone(),
        told: Duration::ZERO,
        begun: false,
    };
    engine.pulls.push(Pull { number, key, clients: vec![(call.conn, false)], end });
    let spawned = minke_sys::thread::spawn("pull", Box::new(move || work.run()));
    if spawned.is_err() {
        engine.pulls.pop();
    }
    Ok(spawned?)
}

/// A client has gone; with the last one the pull ends.
pub fn forget(engine: &mut Engine, conn: Conn) {
    for pull in &mut engine.pulls {
        let before = pull.clients.len();
        pull.clients.retain(|(client, _)| *client != conn);
        if pull.clients.is_empty() && before > 0 {
            pull.end.unwanted.store(true, Ordering::Relaxed);
            pull.end.waker.wake();
        }
    }
}

/// Tells the clients of a pull.
pub fn take_news(engine: &mut Engine, number: u64, news: &News) {
    let Some(index) = engine.pulls.iter().position(|pull| pull.number == number) else { return };
    match news {
        News::Line(line) => tell(engine, index, std::slice::from_ref(line)),
        News::Ended(name, Ok(pulled)) => {
            let happened =
                if pulled.is_new { "Downloaded newer image for" } else { "Image is up to date for" };
            let lines = [
                json!({ "status": format!("Digest: {}", pulled.digest) }),
                json!({ "status": format!("Status: {happened} {name}") }),
            ];
            tell(engine, index, &lines);
            for (conn, _) in engine.pulls.remove(index).clients {
                engine.server.finish(conn);
            }
            engine.publish("image", "pull", name, &json!({ "name": name.as_str() }));
        }
        News::Ended(_, Err(error)) => {
            let text = error.message.as_str();
            for (conn, has_begun) in engine.pulls.remove(index).clients {
                // A status says more than a line, as long as there is one to give.
                if has_begun {
                    let line = json!({ "errorDetail": { "message": text }, "error": text });
                    let _ = engine.server.send(conn, format!("{line}\n").as_bytes());
                    engine.server.finish(conn);
                } else {
                    engine.fail(conn, error);
                }
            }
        }
    }
}

fn tell(engine: &mut Engine, index: usize, lines: &[Value]) {
    let Some(pull) = engine.pulls.get_mut(index) else { return };
    let mut clients = std::mem::take(&mut pull.clients);
    for (conn, has_begun) in &mut clients {
        if !std::mem::replace(has_begun, true) {
            crate::api::start_json_stream(engine, *conn);
        }
        for line in lines {
            // Who reads so slowly that four megabytes wait for him misses some progress.
            let _ = engine.server.send(*conn, format!("{line}\n").as_bytes());
        }
    }
    if let Some(pull) = engine.pulls.get_mut(index) {
        pull.clients = clients;
    }
}

/// `OS[/ARCHITECTURE[/VARIANT]]`; this machine when it is empty.
fn platform_of(text: &str) -> Result<Platform> {
    let mut parts = text.split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(""), None, ..) => Ok(Platform::host()),
        (Some("linux"), None, ..) => Ok(Platform::host()),
        (Some("linux"), Some(architecture), variant, None) => {
            Ok(Platform::linux(architecture, variant.unwrap_or_default()))
        }
        _ => Err(ApiError::bad(format_args!(
            "unknown platform '{text}'; expected linux/ARCHITECTURE[/VARIANT]"
        ))),
    }
}

/// How the registry is reached; `login` is the header `X-Registry-Auth`: JSON in base64, with the URL's alphabet.
fn access(engine: &Engine, login: &str) -> Result<Access> {
    let mut access = Access { insecure: engine.options.insecure.clone(), ..Access::default() };
    if !login.is_empty() {
        let document = base64::decode(&other_alphabet(login.trim_end_matches('=')))
            .and_then(|bytes| minke_wire::json::parse(&bytes).ok());
        let document = document.ok_or_else(|| ApiError::bad(format_args!("X-Registry-Auth is malformed")))?;
        access.credentials = Credentials::from_auth(&document);
    }
    access.trust.extra = Store::new(Paths::default()).load().config.authority();
    Ok(access)
}

/// Base64 with the URL's alphabet (RFC 4648 §5) in the usual one and padded, or the other way round.
pub fn other_alphabet(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in text.bytes() {
        out.push(match byte {
            b'-' => b'+',
            b'_' => b'/',
            b'+' => b'-',
            b'/' => b'_',
            other => other,
        });
    }
    while !out.len().is_multiple_of(4) {
        out.push(b'=');
    }
    out
}

impl End {
    fn is_wanted(&self) -> bool {
        !self.unwanted.load(Ordering::Relaxed)
    }
}

/// A pull in its thread.
struct Work {
    number: u64,
    reference: Reference,
    platform: Platform,
    access: Access,
    engine: (&'static minke_oci::ImageStore, &'static crate::engine::Results),
    end: Arc<End>,
    /// When progress was told last.
    told: Duration,
    /// Whether the first line was told.
    begun: bool,
}

impl Work {
    fn run(&mut self) {
        // Certificates have dates: without a clock that can be trusted, a good one may look bad.
        let is_doubtful = time::is_doubtful() && self.access.needs_clock(&self.reference);
        let until = minke_sys::clock::ahead(time::CLOCK_LIMIT);
        let has_gone = is_doubtful && self.wait_for_clock(time::is_sane, until) == Woken::Other;
        let mut pulled = if has_gone { Err(Error::Cancelled) } else { self.pull() };
        if is_doubtful && let Err(Error::Dates(why)) = &pulled {
            log::warn(format_args!("{why}; trying again when another clock has confirmed that"));
            if self.wait_for_clock(time::is_synchronized, until) == Woken::Holds {
                pulled = self.pull();
            }
        }
        if pulled.is_ok() {
            self.begin();
        }
        let ended = News::Ended(self.reference.familiar(), pulled.map_err(ApiError::from));
        self.engine.1.push(Done::Pull(self.number, ended));
    }

    fn pull(&mut self) -> minke_oci::Result<Pulled> {
        let (reference, platform, access) =
            (self.reference.clone(), self.platform.clone(), self.access.clone());
        self.engine.0.pull(&reference, &platform, &access, &mut |step| self.step(step))
    }

    /// Waits for a state of the clock, until a time since boot or until nobody wants the image any more.
    fn wait_for_clock(&self, state: fn() -> bool, until: Duration) -> Woken {
        use std::os::fd::AsFd;
        let left = until.saturating_sub(minke_sys::clock::boottime());
        time::wait(state, left, Some(self.end.waker.as_fd()))
    }

    /// The first line, once it is known that there is such an image.
    fn begin(&mut self) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let tag = self.reference.digest.as_ref().map(Digest::as_str).or(self.reference.tag.as_deref());
        let repository = self.reference.familiar_repository();
        self.line(json!({ "status": format!("Pulling from {repository}"), "id": tag.unwrap_or("latest") }));
    }

    fn step(&mut self, step: PullStep<'_>) -> ControlFlow<()> {
        self.begin();
        match step {
            PullStep::Layer(id) => self.layer(id, "Pulling fs layer", 0, 0),
            PullStep::Exists(id) => self.layer(id, "Already exists", 0, 0),
            PullStep::Fetch(id, current, total) => {
                let now = minke_sys::clock::boottime();
                if now.saturating_sub(self.told) >= INTERVAL {
                    self.told = now;
                    self.layer(id, "Downloading", current, total);
                }
                if current == total {
                    // It is unpacked as it comes; what remains is to bring it to the disk.
                    self.layer(id, "Download complete", 0, 0);
                    self.layer(id, "Extracting", current, total);
                }
            }
            PullStep::Done(id) => self.layer(id, "Pull complete", 0, 0),
        }
        if self.end.is_wanted() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    /// A line about a layer; with a total it has a detail, of which clients make their bar.
    fn layer(&self, id: &Digest, status: &str, current: u64, total: u64) {
        let id = id.short();
        self.line(if total == 0 {
            json!({ "status": status, "progressDetail": {}, "id": id })
        } else {
            json!({ "status": status, "progressDetail": { "current": current, "total": total }, "id": id })
        });
    }

    fn line(&self, line: Value) {
        self.engine.1.push(Done::Pull(self.number, News::Line(line)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_linux() {
        assert_eq!(platform_of("linux/arm/v6").unwrap(), Platform::linux("arm", "v6"));
        assert_eq!(platform_of("").unwrap(), Platform::host());
        assert!(platform_of("windows/amd64").is_err() && platform_of("linux/a/b/c").is_err());
    }
}
