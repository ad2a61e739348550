//! Files that the engine makes for containers, and odds and ends of the host.

use super::Engine;
use crate::container::Container;
use crate::error::Result;
use crate::fields::Fields;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The longest of these files that is read from the host.
const FILE_LIMIT: usize = 256 * 1024;

impl Engine {
    /// Writes `hostname`, `hosts` and `resolv.conf` of a container; they are bound into it.
    pub fn write_files(&self, id: &str) -> Result<()> {
        let container = self.get(id)?;
        let folder = self.folder(id);
        let hostname = match container.config.text("Hostname") {
            "" => &kernel_setting("hostname"),
            name => name,
        };
        // In place: a container that runs has the file bound, and sees the same inode only.
        for (name, text) in &[
            ("hostname", format!("{hostname}\n")),
            ("hosts", self.hosts_text(container)),
            ("resolv.conf", resolv_conf(container, &self.options.dns)),
        ] {
            write_file(&folder.join(name), text)?;
        }
        Ok(())
    }

    /// Containers that share a network know each other by name: by their `hosts` files, which are kept up to date, and
    /// by the host's forwarder, which also has their aliases for clients that ask it.
    pub fn refresh_hosts(&self) {
        self.write_names();
        for container in self.containers.iter().filter(|container| container.is_running()) {
            let path = self.folder(&container.id).join("hosts");
            let text = self.hosts_text(container);
            if minke_sys::status::exists(&path) && minke_sys::file::text(&path) != text {
                let _ = minke_sys::file::write(&path, text);
            }
        }
    }

    /// Writes the names of containers for the forwarder: `SUBNET ADDRESS NAME…` per container and network. It lies below
    /// `/run`, so a power cut leaves nothing of it.
    fn write_names(&self) {
        let mut text = String::new();
        for network in self.networks.list() {
            let name = network.text("Name");
            let subnet = crate::network::addresses(network).map(|addresses| addresses.subnet);
            // The default bridge gives no names, as in the reference.
            let Some(subnet) = subnet.filter(|_| name != "bridge") else { continue };
            for container in self.containers.iter().filter(|container| container.is_active()) {
                let Some(endpoint) = container.networks.get(name) else { continue };
                let address = endpoint.text("IPAddress");
                if address.is_empty() {
                    continue;
                }
                let _ = write!(text, "{subnet} {address}");
                let mut names = vec![container.name.clone()];
                names.extend(endpoint.texts("Aliases"));
                names.push(container.config.text("Hostname").to_owned());
                names.push(container.id.get(..12).unwrap_or_default().to_owned());
                for (place, name) in names.iter().enumerate() {
                    let known = names.iter().take(place).any(|other| other == name);
                    if !known && crate::container::name::is_valid(name) {
                        let _ = write!(text, " {name}");
                    }
                }
                text.push('\n');
            }
        }
        let path = &self.options.names;
        if minke_sys::file::text(path) == text {
            return;
        }
        let folder = path.parent().unwrap_or(path);
        let written = minke_sys::file::make_folder(folder, 0o755)
            .and_then(|()| minke_sys::file::write_durable(path, text.as_bytes(), 0o644));
        if let Err(error) = written {
            minke_applet::log::warn(format_args!("containers are not found by name: {error}"));
        }
    }

    fn hosts_text(&self, container: &Container) -> String {
        let mut text = match container.host.text("NetworkMode") {
            "host" => read_text("/etc/hosts"),
            _ => None,
        }
        .unwrap_or_else(|| HOSTS.to_owned());
        for entry in &container.host.texts("ExtraHosts") {
            if let Some((name, address)) = entry.split_once([':', '=']) {
                let address = if address == "host-gateway" { &self.gateway(container) } else { address };
                let _ = writeln!(text, "{address}\t{name}");
            }
        }
        for (name, endpoint) in &container.networks {
            let own = endpoint.text("IPAddress");
            if !own.is_empty() {
                let _ = writeln!(text, "{own}\t{}", container.config.text("Hostname"));
            }
            // The default bridge gives no names, as in the reference.
            if name == "bridge" {
                continue;
            }
            for other in &self.containers {
                let Some(endpoint) = other.networks.get(name) else { continue };
                let address = endpoint.text("IPAddress");
                if address.is_empty() || !other.is_active() || other.id == container.id {
                    continue;
                }
                let _ = write!(text, "{address}\t{}", other.name);
                for alias in &endpoint.texts("Aliases") {
                    if *alias != other.name && crate::container::name::is_valid(alias) {
                        let _ = write!(text, " {alias}");
                    }
                }
                text.push('\n');
            }
        }
        text
    }

    fn gateway(&self, container: &Container) -> String {
        for (_, endpoint) in &container.networks {
            let gateway = endpoint.text("Gateway");
            if !gateway.is_empty() {
                return gateway.to_owned();
            }
        }
        self.options.bridge.0.to_string()
    }
}

/// The beginning of every container's `hosts` file.
const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/// Writes a file in place.
pub fn write_file(path: &Path, text: &str) -> Result<()> {
    Ok(minke_sys::file::write(path, text)?)
}

/// A small file of the host, if it is there.
fn read_text(path: &str) -> Option<String> {
    let bytes = minke_sys::file::read_optional(Path::new(path), FILE_LIMIT).ok().flatten()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn resolv_conf(container: &Container, default: &[String]) -> String {
    let host_network = container.host.text("NetworkMode") == "host";
    let wanted = container.host.texts("Dns");
    let servers = if wanted.is_empty() { default } else { &wanted };
    let mut text = String::new();
    if servers.is_empty() {
        for line in read_text("/etc/resolv.conf").unwrap_or_default().lines() {
            // The host's own loopback is not the container's.
            let address = line.strip_prefix("nameserver").unwrap_or("").trim();
            if host_network || !(address.starts_with("127.") || address == "::1") {
                let _ = writeln!(text, "{line}");
            }
        }
    }
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    for (word, key) in &[("search", "DnsSearch"), ("options", "DnsOptions")] {
        let values = container.host.texts(key);
        if !values.is_empty() {
            let _ = writeln!(text, "{word} {}", values.join(" "));
        }
    }
    text
}

/// A setting below `/proc/sys/kernel`: the host's name, the kernel's version.
pub fn kernel_setting(name: &str) -> String {
    minke_sys::file::text(format!("/proc/sys/kernel/{name}")).trim().to_owned()
}

/// The group id of a group name, by the host's `/etc/group`.
pub fn group_id(name: &str) -> Option<u32> {
    let text = read_text("/etc/group")?;
    let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
    minke_wire::text::number(line.split(':').nth(2)?)
}

/// Where cgroup v2 may be: alone, or beside v1.
const ROOTS: &[&str] = &[minke_sys::cgroup::ROOT, "/sys/fs/cgroup/unified"];

/// Makes the control group that holds all containers, and passes the controllers on to it: the group `name`
/// below the root, or `containers` below the group that the service manager delegated to this unit.
///
/// A group whose controllers are passed on may hold no process (cgroup-v2.rst, "No Internal Process
/// Constraint"). So the engine itself moves one down, into `main`; a later start finds itself there.
///
/// No two engines may share a group, as each removes what is not its own: outside a service, the name comes from
/// the folder of the run state (`run`).
pub fn container_group(name: Option<&str>, run: &Path) -> PathBuf {
    let has_controllers = |root: &&&str| super::exists(&Path::new(root).join("cgroup.controllers"));
    let Some(root) = ROOTS.iter().find(has_controllers) else { return PathBuf::new() };
    let root = Path::new(root);
    let own = own_group();
    let made = match name {
        Some(name) => named_group(root.join(name), root),
        None if own.as_os_str().is_empty() => {
            let name = run.display().to_string().replace('/', "-");
            named_group(root.join(format!("balena{name}")), root)
        }
        None => delegated(&root.join(own)),
    };
    made.unwrap_or_else(|error| {
        minke_applet::log::warn(format_args!("containers run without control groups: {error}"));
        PathBuf::new()
    })
}

/// Makes a group below one that gets the controllers too.
fn named_group(group: PathBuf, above: &Path) -> minke_sys::Result<PathBuf> {
    let _ = minke_sys::cgroup::delegate_all(above);
    minke_sys::cgroup::create(&group)?;
    let _ = minke_sys::cgroup::delegate_all(&group);
    Ok(group)
}

fn delegated(unit: &Path) -> minke_sys::Result<PathBuf> {
    let main = unit.join("main");
    minke_sys::cgroup::create(&main)?;
    for pid in &minke_sys::cgroup::processes(unit, false) {
        minke_sys::cgroup::attach(&main, *pid)?;
    }
    named_group(unit.join("containers"), unit)
}

/// This process's group, relative to the root; the one above it when that is called `main`.
fn own_group() -> PathBuf {
    let text = minke_sys::file::text("/proc/self/cgroup");
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or("");
    let path = Path::new(path);
    if path.ends_with("main") { path.parent().unwrap_or(Path::new("")).to_owned() } else { path.to_owned() }
}

/// Gives a folder a name outside the containers' at once, and removes it in a thread: an upper layer may hold
/// any number of files.
pub fn remove_in_background(folder: &Path, data: &Path) {
    let Some(name) = folder.file_name() else { return };
    let doomed = data.join("tmp").join(name);
    if std::fs::rename(folder, &doomed).is_ok() {
        let removal = move || drop(minke_sys::file::remove_all(&doomed));
        // Without a thread the folder stays until the next start, which empties `tmp`.
        let _ = minke_sys::thread::spawn("remove", Box::new(removal));
    }
}
