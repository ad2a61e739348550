//! The daemon's command line.

use minke_applet::Args;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// What the daemon was told.
#[derive(Debug)]
pub struct Options {
    /// Images, containers, volumes.
    pub data: PathBuf,
    /// Run state, on a tmpfs.
    pub run: PathBuf,
    /// Where the forwarder reads the names of containers.
    pub names: PathBuf,
    /// Unix sockets of the API.
    pub sockets: Vec<PathBuf>,
    /// TCP addresses of the API (development mode only).
    pub addresses: Vec<SocketAddr>,
    /// Archives to load before the first request.
    pub preload: PathBuf,
    /// Address and prefix of the default bridge.
    pub bridge: (Ipv4Addr, u8),
    /// What containers on the default bridge get of it.
    pub range: String,
    /// Name servers of containers; the host's when empty.
    pub dns: Vec<String>,
    /// Registries that may be spoken to without TLS.
    pub insecure: Vec<String>,
    /// The journal's native socket.
    pub journal: PathBuf,
    /// The journal's query socket.
    pub journal_query: PathBuf,
    /// The control group below the root that holds all containers; the service manager's delegated one when not
    /// given.
    pub group: Option<String>,
}

/// Where the host's forwarder looks (`dns`).
const NAMES: &str = "/run/minke/names/engine";

/// The group that may use the API sockets.
pub const GROUP: &str = "balena-engine";

impl Options {
    /// Reads the command line.
    pub fn from_args(args: &Args) -> Result<Box<Self>, String> {
        let path = |name: &str, default: &str| PathBuf::from(args.value(name).unwrap_or(default));
        let (sockets, addresses) = listeners(args)?;
        let bip = args.value("bip").unwrap_or("10.114.101.1/24");
        let bridge = bip
            .split_once('/')
            .and_then(|(address, prefix)| Some((address.parse().ok()?, minke_wire::text::number(prefix)?)))
            .ok_or_else(|| format!("'{bip}' is no address with prefix"))?;
        let mut dns = Vec::new();
        for server in args.values("dns") {
            dns.push(server.to_owned());
        }
        let mut insecure = Vec::new();
        for host in args.values("insecure-registry") {
            insecure.push(host.to_owned());
        }
        let default_range = if args.has("bip") { "" } else { "10.114.101.0/25" };
        Ok(Box::new(Self {
            data: path("data-root", "/var/lib/docker"),
            names: args
                .value("exec-root")
                .map_or(PathBuf::from(NAMES), |run| PathBuf::from(run).join("names")),
            run: path("exec-root", "/run/minke/engine"),
            sockets,
            addresses,
            preload: path("preload", "/mnt/data/preload"),
            bridge,
            range: args.value("fixed-cidr").unwrap_or(default_range).to_owned(),
            dns,
            insecure,
            journal: path("journal", "/run/systemd/journal/socket"),
            journal_query: path("journal-query", minke_control::journal::SOCKET),
            group: args.value("cgroup-parent").map(|name| name.trim_matches('/').to_owned()),
        }))
    }
}

/// Where the API is served: Unix sockets and TCP addresses.
fn listeners(args: &Args) -> Result<(Vec<PathBuf>, Vec<SocketAddr>), String> {
    let (mut sockets, mut addresses) = (Vec::new(), Vec::new());
    for host in args.values("host") {
        if let Some(path) = host.strip_prefix("unix://") {
            sockets.push(PathBuf::from(path));
        } else if let Some(address) = host.strip_prefix("tcp://") {
            let address = socket_address(address);
            addresses.push(address.ok_or_else(|| format!("'{host}' is no address: give tcp://IP:PORT"))?);
        } else if host != "fd://" {
            return Err(format!("'{host}' is no address: give unix://PATH or tcp://IP:PORT"));
        }
    }
    if sockets.is_empty() && addresses.is_empty() {
        for path in ["/run/balena-engine.sock", "/run/balena.sock"] {
            sockets.push(PathBuf::from(path));
        }
    }
    Ok((sockets, addresses))
}

/// `IP:PORT`, `[IP]:PORT`.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.rsplit_once(':')?;
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    Some(SocketAddr::new(ip.parse().ok()?, minke_wire::text::number(port)?))
}
