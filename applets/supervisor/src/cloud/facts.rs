//! What the cloud is told of a device when it registers: versions and addresses (spec supervisor §2.1.2, §2.2.4, §2.9.6).

use minke_config::{Config, os_release};
use minke_sys::file;
use std::path::Path;

/// The version of the reference whose interfaces these are: clouds and their tools know by it what a device can do.
pub const VERSION: &str = "19.0.5";

/// The operating system's name and version, and its variant.
#[derive(Debug)]
pub struct System {
    /// `PRETTY_NAME` of os-release; may be empty.
    pub version: String,
    /// `VARIANT_ID` of os-release; else by the development mode.
    pub variant: String,
}

impl System {
    /// This one.
    pub fn here(config: &Config) -> Self {
        let os = os_release(Path::new("/etc/os-release"));
        let mode = if config.flag("developmentMode") { "dev" } else { "prod" };
        Self {
            version: os.get("PRETTY_NAME").unwrap_or_default().to_owned(),
            variant: os.get("VARIANT_ID").unwrap_or(mode).to_owned(),
        }
    }

    /// The value of `User-Agent`.
    pub fn agent(&self) -> String {
        match self.version.as_str() {
            "" => format!("Supervisor/{VERSION}"),
            version => format!("Supervisor/{VERSION} (Linux; {version}; {})", self.variant),
        }
    }
}

/// The Ethernet addresses of the machine's links, by a folder like `/sys/class/net`: in capital letters, separated by spaces.
/// Parts of another link, as of a bridge, are left out, and so is what has no address.
pub fn addresses(folder: &Path) -> String {
    let mut found = Vec::new();
    for link in file::list(folder).unwrap_or_default() {
        let read = |name| file::text(link.join(name)).trim().to_ascii_uppercase();
        let address = read("address");
        let is_blank = address.bytes().all(|byte| matches!(byte, b'0' | b':'));
        if read("type") == "1" && !minke_sys::status::exists(link.join("master")) && !is_blank {
            found.push(address);
        }
    }
    found.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_are_no_parts_have_addresses() {
        let folder = std::env::temp_dir().join(format!("minke-supervisor-links-{}", std::process::id()));
        for (link, kind, address, master) in [
            ("eth0", "1", "02:00:00:00:00:0a", false),
            ("wlan0", "1", "02:00:00:00:00:0b", false),
            ("lo", "772", "00:00:00:00:00:00", false),
            ("dummy", "1", "00:00:00:00:00:00", false),
            ("veth1", "1", "02:00:00:00:00:0c", true),
            ("resin-vpn", "65534", "", false),
        ] {
            let link = folder.join(link);
            std::fs::create_dir_all(&link).unwrap();
            std::fs::write(link.join("type"), format!("{kind}\n")).unwrap();
            std::fs::write(link.join("address"), format!("{address}\n")).unwrap();
            if master {
                std::fs::create_dir(link.join("master")).unwrap();
            }
        }
        assert_eq!(addresses(&folder), "02:00:00:00:00:0A 02:00:00:00:00:0B");
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(addresses(&folder), "");
    }

    #[test]
    fn the_agent_names_what_is_known() {
        let agent = |version: &str| System { version: version.into(), variant: "prod".into() }.agent();
        assert_eq!(agent("balenaOS 8.0.2"), format!("Supervisor/{VERSION} (Linux; balenaOS 8.0.2; prod)"));
        assert_eq!(agent(""), format!("Supervisor/{VERSION}"));
    }
}
