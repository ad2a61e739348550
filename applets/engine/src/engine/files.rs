//! Files that the engine makes for containers, and odds and ends of the host.

use super::Engine;
use crate::container::Container;
use crate::error::{ApiError, Result};
use crate::fields::Fields;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The longest of these files that is read from the host.
const FILE_LIMIT: usize = 256 * 1024;

impl Engine {
    /// Writes `hostname`, `hosts` and `resolv.conf` of a container; they are bound into it.
    pub fn write_files(&mut self, id: &str) -> Result<()> {
        let folder = self.folder(id);
        let hosts = self.hosts_text(id);
        let dns = self.options.dns.clone();
        let Some(container) = self.get(id) else { return Ok(()) };
        let hostname = match container.config.text("Hostname") {
            "" => host_name(),
            name => name.to_owned(),
        };
        let resolv = resolv_conf(container, &dns);
        for (name, text) in [("hostname", format!("{hostname}\n")), ("hosts", hosts), ("resolv.conf", resolv)]
        {
            // In place: a container that runs has the file bound, and sees the same inode only.
            let path = folder.join(name);
            std::fs::write(&path, text)
                .map_err(|error| ApiError::internal(format!("write {}: {error}", path.display())))?;
        }
        Ok(())
    }

    /// Containers that share a network know each other by name: there is no resolver for them yet, so their
    /// `hosts` files are kept up to date.
    pub fn refresh_hosts(&mut self) {
        let ids: Vec<String> = self
            .containers
            .iter()
            .filter(|container| container.is_running())
            .map(|container| container.id.clone())
            .collect();
        for id in ids {
            let path = self.folder(&id).join("hosts");
            let text = self.hosts_text(&id);
            if std::fs::read(&path).is_ok_and(|old| old != text.as_bytes()) {
                let _ = std::fs::write(&path, text);
            }
        }
    }

    fn hosts_text(&self, id: &str) -> String {
        let Some(container) = self.containers.iter().find(|container| container.id == id) else {
            return String::new();
        };
        let mut text = String::from(
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
        );
        let host_network = container.host.text("NetworkMode") == "host";
        if host_network {
            text = minke_sys::file::read_optional(Path::new("/etc/hosts"), FILE_LIMIT)
                .ok()
                .flatten()
                .map_or(text, |bytes| String::from_utf8_lossy(&bytes).into_owned());
        }
        for entry in container.host.texts("ExtraHosts") {
            if let Some((name, address)) = entry.split_once([':', '=']) {
                let address =
                    if address == "host-gateway" { self.gateway(container) } else { address.to_owned() };
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
            for other in self.containers.iter().filter(|other| other.is_active() && other.id != id) {
                let Some(endpoint) =
                    other.networks.get(name).filter(|endpoint| !endpoint.text("IPAddress").is_empty())
                else {
                    continue;
                };
                let mut names = vec![other.name.clone()];
                names.extend(
                    endpoint
                        .texts("Aliases")
                        .into_iter()
                        .filter(|alias| *alias != other.name && crate::container::name::is_valid(alias)),
                );
                let _ = writeln!(text, "{}\t{}", endpoint.text("IPAddress"), names.join(" "));
            }
        }
        text
    }

    fn gateway(&self, container: &Container) -> String {
        let gateway = container
            .networks
            .values()
            .map(|endpoint| endpoint.text("Gateway"))
            .find(|gateway| !gateway.is_empty());
        gateway.map_or_else(|| self.options.bridge.0.to_string(), str::to_owned)
    }
}

fn resolv_conf(container: &Container, default: &[String]) -> String {
    let host_network = container.host.text("NetworkMode") == "host";
    let wanted = container.host.texts("Dns");
    let servers = if wanted.is_empty() { default } else { &wanted };
    let mut text = String::new();
    if servers.is_empty() {
        let bytes = minke_sys::file::read_optional(Path::new("/etc/resolv.conf"), FILE_LIMIT)
            .ok()
            .flatten()
            .unwrap_or_default();
        for line in String::from_utf8_lossy(&bytes).lines() {
            // The host's own loopback is not the container's.
            let address = line.strip_prefix("nameserver").map(str::trim);
            if host_network || !address.is_some_and(|address| address.starts_with("127.") || address == "::1")
            {
                let _ = writeln!(text, "{line}");
            }
        }
    }
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    for (word, key) in [("search", "DnsSearch"), ("options", "DnsOptions")] {
        let values = container.host.texts(key);
        if !values.is_empty() {
            let _ = writeln!(text, "{word} {}", values.join(" "));
        }
    }
    text
}

/// The host's name.
pub fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// The group id of a group name, by the host's `/etc/group`.
pub fn group_id(name: &str) -> Option<u32> {
    let bytes = minke_sys::file::read_optional(Path::new("/etc/group"), FILE_LIMIT).ok().flatten()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

/// Makes the control group that holds all containers, and passes the controllers on to it: the group `name`
/// below the root, or `containers` below the group that the service manager delegated to this unit.
///
/// A group whose controllers are passed on may hold no process (cgroup-v2.rst, "No Internal Process
/// Constraint"). So the engine itself moves one down, into `main`; a later start finds itself there.
///
/// No two engines may share a group, as each removes what is not its own: outside a service, the name comes from
/// the folder of the run state (`run`).
pub fn container_group(name: Option<&str>, run: &Path) -> PathBuf {
    let roots = [minke_sys::cgroup::ROOT.to_owned(), format!("{}/unified", minke_sys::cgroup::ROOT)];
    let Some(root) = roots.iter().map(Path::new).find(|root| super::exists(&root.join("cgroup.controllers")))
    else {
        return PathBuf::new();
    };
    let made = match name {
        Some(name) => below_root(root, name),
        None => match own_group() {
            own if own.as_os_str().is_empty() => {
                below_root(root, &format!("balena{}", run.to_string_lossy().replace('/', "-")))
            }
            own => delegated(&root.join(own)),
        },
    };
    made.unwrap_or_else(|error| {
        minke_applet::log::warn(format_args!("containers run without control groups: {error}"));
        PathBuf::new()
    })
}

fn below_root(root: &Path, name: &str) -> minke_sys::Result<PathBuf> {
    let _ = minke_sys::cgroup::delegate_all(root);
    let group = root.join(name);
    minke_sys::cgroup::create(&group)?;
    let _ = minke_sys::cgroup::delegate_all(&group);
    Ok(group)
}

fn delegated(unit: &Path) -> minke_sys::Result<PathBuf> {
    let main = unit.join("main");
    minke_sys::cgroup::create(&main)?;
    for pid in minke_sys::cgroup::processes(unit, false) {
        minke_sys::cgroup::attach(&main, pid)?;
    }
    let _ = minke_sys::cgroup::delegate_all(unit);
    let group = unit.join("containers");
    minke_sys::cgroup::create(&group)?;
    let _ = minke_sys::cgroup::delegate_all(&group);
    Ok(group)
}

/// This process's group, relative to the root; the one above it when that is called `main`.
fn own_group() -> PathBuf {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
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
        let removal = move || drop(std::fs::remove_dir_all(doomed));
        // Without a thread the folder stays until the next start, which empties `tmp`.
        let _ = minke_sys::thread::spawn("remove", Box::new(removal));
    }
}
