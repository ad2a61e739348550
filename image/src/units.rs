//! Installs unit files and makes the links that `systemctl enable` would make from their `[Install]` sections.

use crate::error::{Context, Error, Result};
use crate::tree::{Root, walk};
use std::fs;
use std::path::{Path, PathBuf};

/// Where units live in the image.
const UNITS: &str = "usr/lib/systemd/system";

/// File name endings that are units.
const KINDS: &[&str] = &[
    ".service",
    ".socket",
    ".target",
    ".timer",
    ".path",
    ".mount",
    ".automount",
    ".slice",
    ".scope",
    ".swap",
];

/// The folder with the unit sources.
pub fn folder() -> PathBuf {
    crate::build::project().join("image/units")
}

/// Copies every unit (and drop-in folder) below `from` and makes wants, requires and alias links.
pub fn install(from: &Path, root: &Root) -> Result<()> {
    for (name, path) in walk(from)? {
        if path.is_dir() {
            continue;
        }
        let drop_in = name.contains(".d/") && name.ends_with(".conf");
        if !drop_in && !is_unit(&name) {
            return Err(Error::Invalid(format!("{} is neither a unit nor a drop-in", path.display())));
        }
        root.copy(&path, &format!("{UNITS}/{name}"), false)?;
        if !drop_in {
            let text = fs::read_to_string(&path).on("reading", &path)?;
            check_accounts(&path, &text)?;
            enable(&name, &text, root)?;
        }
    }
    let target = format!("{UNITS}/default.target");
    if root.has(&target) { Ok(()) } else { root.link("multi-user.target", &target) }
}

fn enable(name: &str, text: &str, root: &Root) -> Result<()> {
    for link in links(name, text) {
        // An alias never hides a unit of its own.
        if root.has(&format!("{UNITS}/{}", link.place)) {
            continue;
        }
        root.link(&link.target, &format!("{UNITS}/{}", link.place))?;
    }
    Ok(())
}

/// Lets a serial port have a shell in development mode, where it is not the kernel's console.
pub fn enable_serial_console(port: &str, root: &Root) -> Result<()> {
    let place = format!("{UNITS}/development-features.target.wants/serial-getty@{port}.service");
    root.link("../serial-getty@.service", &place)
}

/// A unit that names an account which the image lacks would fail on the device only.
fn check_accounts(path: &Path, text: &str) -> Result<()> {
    for line in text.lines() {
        let (list, names) = match line.split_once('=') {
            Some(("User", name)) => (include_str!("../files/passwd"), name),
            Some(("Group" | "SupplementaryGroups", names)) => (include_str!("../files/group"), names),
            _ => continue,
        };
        for name in names.split_whitespace() {
            if !list.lines().any(|line| line.split(':').next() == Some(name)) {
                return Err(Error::Invalid(format!("{}: the image has no account '{name}'", path.display())));
            }
        }
    }
    Ok(())
}

fn is_unit(name: &str) -> bool {
    !name.contains('/') && KINDS.iter().any(|kind| name.ends_with(kind))
}

#[derive(Debug, PartialEq, Eq)]
struct Link {
    target: String,
    place: String,
}

/// The links that the `[Install]` section of unit `name` asks for (systemd.unit(5)).
fn links(name: &str, text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    let mut section = "";
    // A template is pulled in as its default instance.
    let instance = text.lines().find_map(|line| line.strip_prefix("DefaultInstance=")).unwrap_or_default();
    let pulled = name.replacen("@.", &format!("@{instance}."), 1);
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| section == "[Install]") else { continue };
        for word in value.split_whitespace() {
            let (target, place) = match key.trim() {
                "WantedBy" => (format!("../{name}"), format!("{word}.wants/{pulled}")),
                "RequiredBy" => (format!("../{name}"), format!("{word}.requires/{pulled}")),
                "Alias" => (name.to_owned(), word.to_owned()),
                _ => continue,
            };
            links.push(Link { target, place });
        }
    }
    links
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const UNIT: &str = "[Unit]\nWantedBy=no.target\n[Service]\nExecStart=/x a=b\n[Install]\n# c\nWantedBy=a.target b.target\nRequiredBy=c.target\nAlias=y.service\n";

    #[test]
    fn install_section() {
        let places: Vec<String> = links("x.service", UNIT).into_iter().map(|link| link.place).collect();
        assert_eq!(
            places,
            [
                "a.target.wants/x.service",
                "b.target.wants/x.service",
                "c.target.requires/x.service",
                "y.service"
            ]
        );
    }

    #[test]
    fn a_template_is_pulled_in_as_its_default_instance() {
        let text = "[Service]\nExecStart=/x\n[Install]\nWantedBy=a.target\nDefaultInstance=tty1\n";
        let link = Link { target: "../g@.service".into(), place: "a.target.wants/g@tty1.service".into() };
        assert_eq!(links("g@.service", text), [link]);
    }

    #[test]
    fn links_resolve() {
        let scratch = crate::tree::Scratch::new("units").unwrap();
        let units = Root::new(&scratch.join("units")).unwrap();
        units.file("x.service", UNIT).unwrap();
        units.file("x.service.d/10.conf", "[Service]\n").unwrap();
        units.file("multi-user.target", "[Unit]\n").unwrap();
        let root = Root::new(&scratch.join("root")).unwrap();
        install(units.top(), &root).unwrap();
        for name in [
            "a.target.wants/x.service",
            "c.target.requires/x.service",
            "y.service",
            "x.service.d/10.conf",
            "default.target",
        ] {
            assert!(root.at(&format!("{UNITS}/{name}")).exists(), "{name}");
        }
        units.file("z.service", "[Service]\nUser=stranger\n").unwrap();
        assert!(install(units.top(), &root).is_err());
        units.file("z.service", "[Service]\nUser=ntp\nSupplementaryGroups=tty wheel\n").unwrap();
        install(units.top(), &root).unwrap();
        units.file("notes.txt", "").unwrap();
        assert!(install(units.top(), &root).is_err());
    }
}
