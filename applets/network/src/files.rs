//! The files by which other programs learn of the network (spec os §5.6.4, §7.4, §7.5), and the address that
//! is remembered over a reboot.

use crate::lease::Lease;
use crate::profile::Names;
use minke_applet::log;
use minke_control::ntp;
use minke_sys::file;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The largest file of ours that is read back.
const READ_LIMIT: usize = 4096;

/// Where the files are.
#[derive(Debug, Clone)]
pub struct Places {
    /// `/run`.
    pub run: PathBuf,
    /// `/var/lib/NetworkManager`.
    pub state: PathBuf,
    /// `/etc/NetworkManager/system-connections`.
    pub profiles: PathBuf,
}

impl Places {
    /// The folder that belongs to this program alone.
    pub fn own(&self) -> PathBuf {
        self.run.join("minke/network")
    }

    /// The control socket, where it really is.
    pub fn socket(&self) -> PathBuf {
        self.own().join("control.sock")
    }

    /// The folder of the time client: server lists and its socket.
    pub fn sources(&self) -> PathBuf {
        self.run.join("chrony")
    }

    /// The folders that this program writes into.
    pub fn folders(&self) -> [PathBuf; 4] {
        [self.own(), self.run.join("resolvconf/interface"), self.sources(), self.state.clone()]
    }

    /// Names in folders that belong to root, and what they lead to: so a program without rights there can
    /// replace the files whole.
    pub fn links(&self) -> [(PathBuf, &'static str); 1] {
        [(self.run.join("minke/network.sock"), "network/control.sock")]
    }

    /// Writes what the forwarder needs: servers and search domains of all links, those with the lowest priority first,
    /// then the best link's; a negative priority makes all higher ones void. Whom it asks while there are none, it knows
    /// itself.
    pub fn write_resolver(&self, names: &[Names]) {
        let mut sorted: Vec<&Names> = Vec::new();
        for one in names {
            let place = sorted.partition_point(|other| other.priority <= one.priority);
            sorted.insert(place, one);
        }
        if let Some(Names { priority: lowest @ ..0, .. }) = sorted.first().copied() {
            sorted.retain(|one| one.priority == *lowest);
        }
        let mut text = search_line(&sorted);
        let mut servers: Vec<&String> = Vec::new();
        for server in sorted.iter().flat_map(|names| &names.servers) {
            if !servers.contains(&server) {
                servers.push(server);
                let _ = writeln!(text, "nameserver {server}");
            }
        }
        write(&self.run.join("resolvconf/interface/NetworkManager"), &text);
    }

    /// Writes or removes the time servers of a link.
    pub fn write_time_servers(&self, link: &str, servers: &[Ipv4Addr]) {
        let path = self.sources().join(format!("added_dhcp_{link}.sources"));
        if servers.is_empty() {
            return complain(file::remove_durable(&path));
        }
        let mut text = String::new();
        for server in servers {
            let _ = writeln!(text, "pool {server} iburst minpoll 14 maxpoll 14 maxsources 1");
        }
        write(&path, &text);
    }

    /// Tells the time client, if it runs, that there are other servers or addresses: it asks no one while it need not,
    /// and would notice late.
    pub fn tell_clock(&self, command: ntp::Command) {
        let socket = self.sources().join("ntp.sock");
        let _ = minke_control::tell(&socket, &command.to_value());
    }

    /// The address that the link had when this program last ran: first that of this boot, which may still be
    /// on the link, then that of an earlier one.
    pub fn remembered(&self, link: &str) -> Remembered {
        Remembered {
            on_link: self.read_lease(&self.runtime_lease(link)),
            known: self.read_lease(&self.durable_lease(link)).map(|(address, _)| address),
        }
    }

    /// Remembers a lease: for this boot always, durably when the address is another one (flash wears out).
    ///
    /// Power cut: the durable file is the old or the new one, whole; it is a wish to the server, no more.
    pub fn remember(&self, link: &str, lease: &Lease) {
        let text =
            format!("ADDRESS={}\nPREFIX={}\nSERVER_ADDRESS={}\n", lease.address, lease.prefix, lease.server);
        write(&self.runtime_lease(link), &text);
        // No server is asked for an address that a profile has.
        if !lease.is_fixed() {
            write(&self.durable_lease(link), &text);
        }
    }

    /// The link has no address of ours any more. The durable file stays: the server may give it again.
    pub fn forget(&self, link: &str) {
        complain(file::remove_durable(&self.runtime_lease(link)));
    }

    fn runtime_lease(&self, link: &str) -> PathBuf {
        self.own().join(format!("{link}.lease"))
    }

    fn durable_lease(&self, link: &str) -> PathBuf {
        self.state.join(format!("internal-{link}.lease"))
    }

    fn read_lease(&self, path: &Path) -> Option<(Ipv4Addr, u8)> {
        let bytes = file::read_optional(path, READ_LIMIT).ok().flatten()?;
        let text = std::str::from_utf8(&bytes).ok()?;
        let value = |key| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        Some((
            value("ADDRESS")?.parse().ok()?,
            minke_wire::text::number(value("PREFIX")?).filter(|prefix| *prefix <= 32)?,
        ))
    }
}

/// What is known of a link from earlier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// The address that an earlier run in this boot put on the link.
    pub on_link: Option<(Ipv4Addr, u8)>,
    /// The address of the last lease of any boot.
    pub known: Option<Ipv4Addr>,
}

fn search_line(names: &[&Names]) -> String {
    let mut domains: Vec<&str> = Vec::new();
    for domain in names.iter().flat_map(|names| &names.search) {
        if !domains.contains(&domain.as_str()) {
            domains.push(domain);
        }
    }
    if domains.is_empty() { String::new() } else { format!("search {}\n", domains.join(" ")) }
}

/// Writes a file whole, if its content is another one.
fn write(path: &Path, text: &str) {
    if file::read_optional(path, READ_LIMIT).is_ok_and(|old| old.is_some_and(|old| old == text.as_bytes())) {
        return;
    }
    complain(file::write_durable(path, text.as_bytes(), 0o644));
}

/// A file that cannot be written is no reason to go without a network.
fn complain(result: minke_sys::Result<()>) {
    if let Err(error) = result {
        log::warn(format_args!("{error}"));
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
