//! Whether the running system is well: engine, supervisor, VPN and network as they were before, and the owner's own
//! checks. Each is one request or one look, with a limit of its own.

use super::breadcrumbs::VARIABLES;
use super::rule::Settings;
use crate::child::{self, text};
use minke_config::os_release;
use minke_control::init;
use minke_http::Client;
use minke_http::client::Body;
use minke_sys::process::Spawn;
use minke_sys::{Result, file, process, status};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// Where the engine answers.
const ENGINE: &str = "run/balena-engine.sock";
/// The supervisor's unit, and its port unless `config.json` names another.
const SUPERVISOR: &str = "balena-supervisor.service";
const PORT: u16 = 48484;
/// There while the VPN is up (spec os §14.3).
const VPN: &str = "run/openvpn/vpn_status/active";
/// Executables of the owner: of the image, and of the state partition.
const OWN: [&str; 2] = ["etc/rollback-health.d", "mnt/state/root-overlay/etc/rollback-health.d"];
/// The most time that a slow board gets for a request, and the least for an owner's check.
const REQUEST: Duration = Duration::from_secs(30);
const OWN_LEAST: Duration = Duration::from_secs(60);

/// The variables of the file.
const VPN_WAS: &str = "BALENAOS_ROLLBACK_VPNONLINE";
const NETWORK_WAS: &str = "BALENAOS_ROLLBACK_NETWORK";

/// What a check says.
#[derive(Debug)]
pub enum Outcome {
    /// It is well.
    Well,
    /// Nothing can be said, for this reason, and the system is not blamed.
    Ignored(&'static str),
    /// It is not well, for this reason.
    Failed(String),
}

/// A check that was made.
#[derive(Debug)]
pub struct Check {
    name: String,
    outcome: Outcome,
}

impl Check {
    /// Whether the system is to blame.
    pub fn failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_))
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Well => write!(f, "{}: well", self.name),
            Outcome::Ignored(why) => write!(f, "{}: not judged, {why}", self.name),
            Outcome::Failed(why) => write!(f, "{}: {why}", self.name),
        }
    }
}

/// Makes one attempt.
pub fn run(root: &Path, settings: &Settings) -> Vec<Check> {
    let limit = settings.timeout.clamp(Duration::from_secs(5), REQUEST);
    let mut checks = Vec::new();
    let mut add = |name: &str, outcome| checks.push(Check { name: name.to_owned(), outcome });
    add("engine", ask(&Client::unix(root.join(ENGINE)), "/_ping", limit));
    add("supervisor", supervisor(root, limit));
    let before = os_release(&VARIABLES.path(root));
    let was = |name: &str| before.get(name) == Some("1");
    add(
        "VPN",
        as_before(was(VPN_WAS), status::exists(root.join(VPN)), "it was up before the update and is down"),
    );
    let network = "there was a default route before the update and there is none";
    add("network", as_before(was(NETWORK_WAS), has_network(root), network));
    for folder in OWN {
        for path in file::list(&root.join(folder)).unwrap_or_default() {
            if status::of(&path).is_ok_and(|status| status.is_file() && status.mode() & 0o111 != 0) {
                add(&path.to_string_lossy(), own(&path, settings.timeout.max(OWN_LEAST)));
            }
        }
    }
    checks
}

/// Writes down how things are before an update, for [`run`] after it (spec os §15.2).
pub fn remember(root: &Path) -> Result<()> {
    let (vpn, network) = (u8::from(status::exists(root.join(VPN))), u8::from(has_network(root)));
    let text = format!("{VPN_WAS}={vpn}\n{NETWORK_WAS}={network}\n");
    file::write_durable(&VARIABLES.path(root), text.as_bytes(), 0o644)
}

fn as_before(was: bool, is: bool, why: &str) -> Outcome {
    match (was, is) {
        (_, true) => Outcome::Well,
        (false, false) => Outcome::Ignored("it was down before the update"),
        (true, false) => Outcome::Failed(why.to_owned()),
    }
}

fn ask(client: &Client, target: &str, limit: Duration) -> Outcome {
    let client = client.clone().with_timeout(Some(limit)).with_deadline(limit);
    match client.request("GET", target, &[], Body::None) {
        Ok(answer) if answer.status == 200 => Outcome::Well,
        Ok(answer) => Outcome::Failed(format!("{target} answers with status {}", answer.status)),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// A supervisor that its owner has stopped for good is no fault of the system.
fn supervisor(root: &Path, limit: Duration) -> Outcome {
    if root == Path::new("/") {
        let unit = init::show(SUPERVISOR).unwrap_or_default();
        let is =
            |name: &str, value: &str| unit.get(name).and_then(minke_wire::json::Value::as_str) == Some(value);
        if is("LoadState", "masked") || is("LoadState", "not-found") {
            return Outcome::Ignored("there is none");
        }
    }
    let config = minke_config::Store::new(minke_config::Paths::below(root)).load().config;
    let port = config.get("listenPort").map(minke_wire::json::Value::to_text);
    let port = port.as_deref().map(|text| text.trim_matches('"')).and_then(minke_wire::text::number);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(PORT)));
    ask(&Client::tcp(address), "/v1/healthy", limit)
}

/// Whether packets have a way out: a default route of either family.
fn has_network(root: &Path) -> bool {
    let words = |path: &str, wanted: &dyn Fn(&[&str]) -> bool| {
        let text = file::text(root.join(path));
        text.lines().any(|line| {
            let mut words = Vec::new();
            words.extend(line.split_ascii_whitespace());
            wanted(&words)
        })
    };
    words("proc/net/route", &|words| words.get(1) == Some(&"00000000") && words.get(7) == Some(&"00000000"))
        || words("proc/net/ipv6_route", &|words| {
            let to_all = words.first().is_some_and(|to| to.bytes().all(|byte| byte == b'0'));
            // The kernel's own entry for what has no route is on lo.
            to_all && words.get(1) == Some(&"00") && words.last().is_some_and(|name| *name != "lo")
        })
}

/// Runs an owner's check: its exit status is the answer.
fn own(path: &Path, limit: Duration) -> Outcome {
    let mut spawn = Spawn::new(&text(path));
    spawn.environment = process::environment();
    match child::run(&spawn, "it", limit) {
        Ok(exit) if exit.success() => Outcome::Well,
        Ok(exit) => Outcome::Failed(exit.to_string()),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}
