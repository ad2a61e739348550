//! Where the settings come from, and when they are read again.

use super::parse::Reader;
use super::{Settings, Subnet, parse};
use minke_applet::{Args, Flag, log};
use minke_sys::netlink::Route;
use minke_sys::{Result as Outcome, file};
use minke_wire::text;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// `--listen ADDR:PORT`, which may stand several times.
pub(crate) const LISTEN_FLAG: Flag = Flag {
    short: None,
    long: "listen",
    value: Some("ADDR:PORT"),
    help: "serve: where clients ask, instead of where the system's do (repeatable)",
};
/// `--upstream SERVER`, likewise.
pub(crate) const UPSTREAM_FLAG: Flag = Flag {
    short: None,
    long: "upstream",
    value: Some("SERVER"),
    help: "serve: ask this server, likewise: ADDR[:PORT], tls://ADDR[:PORT][#NAME], /DOMAIN/ADDR (repeatable)",
};
/// `--conf FILE`, likewise.
pub(crate) const CONF_FLAG: Flag = Flag {
    short: None,
    long: "conf",
    value: Some("FILE"),
    help: "serve: a file of dnsmasq's options, instead of the system's files unless --root is given (repeatable)",
};
/// `--root DIR`.
pub(crate) const ROOT_FLAG: Flag = Flag {
    short: None,
    long: "root",
    value: Some("DIR"),
    help: "serve: look for the system's files below DIR",
};

/// Servers of `dnsServers` in `config.json` (spec os §7.4).
const SERVERS: &str = "run/dnsmasq.servers";
/// What is known of each network: servers and search domains (spec os §7.5).
pub(super) const INTERFACES: &str = "run/resolvconf/interface";
/// Options of the image (spec os §7.2), which is read-only, and the owner's own, which outlast reboots and updates.
pub(super) const OPTIONS: [&str; 2] = ["etc/dnsmasq.d", "mnt/state/root-overlay/etc/dnsmasq.d"];
const HOSTS: &str = "etc/hosts";
/// Names of containers.
pub(super) const NAMES: &str = "run/minke/names";
/// The kernel's host name.
pub(super) const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// The longest file that is read, in bytes.
const LONGEST: usize = 256 << 10;
/// The most files of a folder.
const MOST_FILES: usize = 64;

/// Where the settings come from.
#[derive(Debug)]
pub(crate) struct Source {
    /// The system's files are below it; `None`: by hand, from the command line alone.
    pub(super) root: Option<PathBuf>,
    listen: Vec<SocketAddr>,
    upstreams: Vec<String>,
    conf: Vec<String>,
    /// What was wrong the last time, so that nothing is told twice.
    told: Vec<String>,
}

impl Source {
    /// By the command line; the error says what is wrong with it.
    pub(crate) fn from_args(args: &Args) -> Result<Self, String> {
        let all = |flag: &Flag| args.values(flag.long).map(str::to_owned).collect::<Vec<String>>();
        let mut listen = Vec::new();
        for word in args.values(LISTEN_FLAG.long) {
            let address = word.parse::<SocketAddr>();
            listen.push(address.map_err(|_| {
                format!("--listen '{}' is not ADDR:PORT, as in 127.0.0.2:53", text::shown(word))
            })?);
        }
        let (upstreams, conf) = (all(&UPSTREAM_FLAG), all(&CONF_FLAG));
        for word in &upstreams {
            let checked =
                Reader::new(Settings { listen: listen.clone(), ..Settings::default() }).server(word);
            checked.map_err(|problem| format!("--upstream '{}': {problem}", text::shown(word)))?;
        }
        let of_the_system = args.has(ROOT_FLAG.long) || upstreams.is_empty() && conf.is_empty();
        let root = PathBuf::from(args.value(ROOT_FLAG.long).unwrap_or("/"));
        Ok(Self { root: of_the_system.then_some(root), listen, upstreams, conf, told: Vec::new() })
    }

    /// The system's files below `root`.
    #[cfg(test)]
    pub(crate) fn below(root: &Path) -> Self {
        let root = Some(root.to_owned());
        Self { root, listen: Vec::new(), upstreams: Vec::new(), conf: Vec::new(), told: Vec::new() }
    }

    /// Reads everything. What is wrong is logged, once.
    pub(crate) fn read(&mut self) -> Settings {
        let reader = self.read_all();
        for line in &reader.complaints {
            if !self.told.contains(line) {
                log::warn(format_args!("{line}"));
            }
        }
        self.told = reader.complaints;
        reader.settings
    }

    fn read_all(&self) -> Reader {
        let mut settings = Settings::default();
        if !self.listen.is_empty() {
            settings.listen.clone_from(&self.listen);
        }
        if self.root.is_none() {
            settings.fallback = Vec::new();
        }
        let mut reader = Reader::new(settings);
        reader.options("--upstream", &self.as_options());
        if let Some(root) = &self.root {
            read_system(&mut reader, root);
        }
        for path in &self.conf {
            take(&mut reader, Path::new(path), Reader::options);
        }
        for path in std::mem::take(&mut reader.more_hosts) {
            let path = Path::new(&path);
            if minke_sys::status::is_dir(path) {
                take_folder(&mut reader, path, Reader::hosts);
            } else {
                take(&mut reader, path, Reader::hosts);
            }
        }
        reader
    }

    /// The servers of the command line as lines of options.
    fn as_options(&self) -> String {
        let mut text = String::new();
        for word in &self.upstreams {
            text.push_str("server=");
            text.push_str(word);
            text.push('\n');
        }
        text
    }
}

/// The system's files below `root`.
fn read_system(reader: &mut Reader, root: &Path) {
    for folder in OPTIONS {
        take_folder(reader, &root.join(folder), |reader, path, content| {
            // As in the reference, which takes no other names from there.
            if path.ends_with(".conf") {
                reader.options(path, content);
            }
        });
    }
    let servers = root.join(SERVERS);
    if minke_sys::status::exists(&servers) {
        // It names those for want of others itself, or that there are none.
        reader.settings.fallback = Vec::new();
        take(reader, &servers, Reader::options);
    }
    if reader.resolv {
        take_folder(reader, &root.join(INTERFACES), Reader::resolv_conf);
    }
    take(reader, &root.join(HOSTS), Reader::hosts);
    take_folder(reader, &root.join(NAMES), Reader::networks);
    let name = file::text(HOST_NAME);
    // The kernel's own default is nobody's name.
    reader.settings.host_name = parse::host_name(name.trim_ascii()).filter(|_| name.trim_ascii() != "(none)");
    reader.settings.interfaces = interfaces();
}

/// The addresses by which others reach this host.
pub(super) fn interfaces() -> Vec<Subnet> {
    /// `RT_SCOPE_UNIVERSE` and `RT_SCOPE_SITE`: others are of one link or of this host alone.
    const SITE: u8 = 200;
    let mut subnets = Vec::new();
    for found in Route::new().and_then(|mut route| route.addresses()).unwrap_or_default() {
        if found.scope <= SITE && !found.address.is_loopback() {
            subnets.push(Subnet { address: found.address, bits: found.prefix });
        }
    }
    subnets
}

/// Where containers are, and this host itself: the subnets of its bridges, and each of its addresses alone.
pub(crate) fn near() -> Outcome<Vec<Subnet>> {
    let mut route = Route::new()?;
    let links = route.links()?;
    let mut subnets = Vec::new();
    for found in route.addresses()? {
        let bridge =
            links.iter().any(|link| link.index == found.interface && link.kind.as_deref() == Some("bridge"));
        subnets.push(Subnet { address: found.address, bits: if bridge { found.prefix } else { u8::MAX } });
    }
    Ok(subnets)
}

/// The index of an interface.
pub(super) fn index_of(name: &str) -> Option<u32> {
    let index = Route::new().and_then(|mut route| route.index_of(name));
    index.ok()
}

type Take = fn(&mut Reader, &str, &str);

/// Reads a file, if it is there.
fn take(reader: &mut Reader, path: &Path, read: Take) {
    let shown = path.display().to_string();
    match file::read_optional(path, LONGEST) {
        Ok(Some(content)) => read(reader, &shown, &String::from_utf8_lossy(&content)),
        Ok(None) => {}
        Err(error) => reader.complaints.push(format!("{error}; the file is left out")),
    }
}

/// Reads the files of a folder in the order of their names; those that begin with a dot or end with a tilde are on
/// their way, or an editor's copies.
fn take_folder(reader: &mut Reader, folder: &Path, read: Take) {
    let mut taken = 0usize;
    for path in file::list(folder).unwrap_or_default() {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if name.starts_with(b".") || name.ends_with(b"~") {
            continue;
        }
        taken = taken.saturating_add(1);
        if taken > MOST_FILES {
            reader.complaints.push(format!("{}: only the first {MOST_FILES} files count", folder.display()));
            return;
        }
        take(reader, &path, read);
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
