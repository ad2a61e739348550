//! What is mounted where (spec os §1.5, §3.1). Paths are relative to the root.

/// A partition and its place.
pub struct Partition {
    /// The file system's label.
    pub label: &'static str,
    /// The mount point.
    pub target: &'static str,
}

pub const BOOT: Partition = Partition { label: "resin-boot", target: "mnt/boot" };
pub const STATE: Partition = Partition { label: "resin-state", target: "mnt/state" };
pub const DATA: Partition = Partition { label: "resin-data", target: "mnt/data" };

/// In the order in which they are wanted.
pub const PARTITIONS: [Partition; 3] = [STATE, BOOT, DATA];

/// What a bind mount shows.
pub struct Bind {
    /// Where it is seen.
    pub target: &'static str,
    /// The folder or file that is shown.
    pub source: Source,
    /// Whether the root image ships content there that the bind hides on purpose.
    pub shadows: bool,
}

/// Where a bind mount's content lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Below `mnt/state/root-overlay`, at the target's own path.
    Overlay,
    /// At this path.
    Path(&'static str),
}

/// The part of the state partition that stands over the root image.
pub const OVERLAY: &str = "mnt/state/root-overlay";
/// The supervisor's settings, which a state reset takes from the root image.
pub const SUPERVISOR_CONF: &str = "etc/balena-supervisor/supervisor.conf";

const fn overlay(target: &'static str) -> Bind {
    Bind { target, source: Source::Overlay, shadows: false }
}

/// All bind mounts, in the order in which they are made. `var/log/journal` is not among them: the journal
/// mounts it when it is to be persistent. Nor is `etc/ssl/certs`: a bundle kept on the state partition would hide a newer
/// system's authorities (a DEFECT of spec os §4.7.3), so `config-json root-ca` makes one at each boot.
pub const BINDS: [Bind; 21] = [
    overlay("etc/ssh/hostkeys"),
    overlay("etc/hostname"),
    overlay("etc/openvpn"),
    overlay("etc/udev/rules.d"),
    overlay("usr/share/ca-certificates/balena"),
    overlay("etc/NetworkManager/conf.d"),
    overlay("etc/NetworkManager/system-connections"),
    overlay("etc/NetworkManager/dispatcher.d"),
    overlay("etc/docker"),
    Bind { target: "etc/balena-supervisor", source: Source::Overlay, shadows: true },
    overlay("etc/fake-hwclock"),
    overlay("home/root/.rnd"),
    overlay("home/root/.ssh"),
    overlay("home/root/.docker"),
    overlay("var/lib/bluetooth"),
    overlay("var/lib/NetworkManager"),
    overlay("var/lib/systemd"),
    overlay("var/lib/chrony"),
    Bind { target: "etc/machine-id", source: Source::Path("mnt/state/machine-id"), shadows: false },
    Bind { target: "resin-data", source: Source::Path("mnt/data/resin-data"), shadows: false },
    Bind { target: "var/lib/docker", source: Source::Path("mnt/data/docker"), shadows: false },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_has_the_reference_s_name_of_each_bind() {
        let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../image/units/mount-state.service");
        let unit = std::fs::read_to_string(unit).unwrap();
        let aliases: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix("Alias=bind-")).collect();
        // The clock's mount has a mount unit's name in the reference, which no service can have.
        let binds = BINDS.iter().filter(|bind| bind.source == Source::Overlay);
        let wanted: Vec<String> = binds
            .filter(|bind| bind.target != "etc/fake-hwclock")
            .map(|bind| format!("{}.service", bind.target.replace('/', "-")))
            .collect();
        assert!(wanted.iter().all(|name| aliases.contains(&name.as_str())), "{wanted:?}");
        assert_eq!(aliases.len(), wanted.len());
    }
}
