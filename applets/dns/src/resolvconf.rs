//! `resolvconf`: by which VPNs and the like tell of name servers, as resolvconf(8) of Debian and openresolv do. What they
//! say about an interface is a file in the folder that the forwarder watches.

use crate::config::EXCLUSIVE_MARK;
use minke_applet::{Args, EXIT_USAGE, Flag, Parsing, Program, errln, log, report};
use minke_sys::{Result, file};
use std::path::{Path, PathBuf};

/// What may stand in a file.
const LONGEST: usize = 64 << 10;

/// The program.
pub(crate) const PROGRAM: Program = Program {
    name: "resolvconf",
    about: "Name servers of an interface",
    usage: "-a INTERFACE < FILE, or -d INTERFACE",
    commands: &[],
    flags: &[
        Flag {
            short: Some('a'),
            long: "add",
            value: Some("INTERFACE"),
            help: "Take name servers and search domains from standard input, as resolv.conf has them",
        },
        Flag {
            short: Some('d'),
            long: "delete",
            value: Some("INTERFACE"),
            help: "Forget those of an interface",
        },
        Flag { short: Some('l'), long: "list", value: None, help: "Print what is known" },
        Flag { short: Some('u'), long: "update", value: None, help: "Accepted: changes take effect at once" },
        Flag { short: Some('m'), long: "metric", value: Some("N"), help: "Accepted: all servers are equal" },
        Flag {
            short: Some('x'),
            long: "exclusive",
            value: None,
            help: "-a: ask these servers alone, and no others that the network or dnsServers names",
        },
        Flag {
            short: Some('f'),
            long: "force",
            value: None,
            help: "Accepted: to forget what is not known is no error",
        },
        Flag { short: None, long: "run", value: Some("DIR"), help: "Instead of /run" },
    ],
    examples: &[(
        "echo nameserver 10.8.0.1 | resolvconf -a tun0",
        "Ask 10.8.0.1 too, until 'resolvconf -d tun0'",
    )],
    parsing: Parsing::Gnu,
    run,
};

fn run(args: &Args) -> u8 {
    let folder = Path::new(args.value("run").unwrap_or("/run")).join("resolvconf/interface");
    if let Some(name) = args.value("add").or(args.value("delete")) {
        let Some(path) = place(&folder, name) else {
            errln!("resolvconf: '{}' is no name of an interface", minke_wire::text::shown(name));
            return EXIT_USAGE;
        };
        let done = match args.has("add") {
            true => add(&path, args.has("exclusive")),
            false => file::remove_durable(&path),
        };
        return report(done.map(|()| 0));
    }
    if args.has("list") {
        for path in file::list(&folder).unwrap_or_default() {
            minke_applet::print(&format!("# {}\n{}", path.display(), file::text(&path)));
        }
        return 0;
    }
    if args.has("update") {
        return 0;
    }
    errln!("resolvconf: expected -a INTERFACE or -d INTERFACE; see 'resolvconf --help'");
    EXIT_USAGE
}

/// The file of an interface. Scripts add what it is for, as in `tun0.openvpn`; a dot at the beginning hides a file.
fn place(folder: &Path, name: &str) -> Option<PathBuf> {
    let proper = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-:@+".contains(&byte);
    let is_name = !name.is_empty() && name.len() < 64 && !name.starts_with('.') && name.bytes().all(proper);
    is_name.then(|| folder.join(name))
}

/// Writes the file whole. Power cut: it lies on a tmpfs.
fn add(path: &Path, exclusive: bool) -> Result<()> {
    let mut content = if exclusive { EXCLUSIVE_MARK.as_bytes().to_vec() } else { Vec::new() };
    let input = minke_sys::stdio::input(LONGEST)?;
    content.extend_from_slice(&input);
    if input.is_empty() {
        log::warn(format_args!("{}: nothing on standard input, so there is no server", path.display()));
    }
    file::make_folder(path.parent().unwrap_or(path), 0o755)?;
    file::write_durable(path, &content, 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_folder() {
        let of = |name: &str| place(Path::new("/x"), name);
        for name in ["eth0", "tun0.openvpn", "wg-1", "NetworkManager", "eth0:1"] {
            assert_eq!(of(name), Some(Path::new("/x").join(name)));
        }
        for name in ["", ".", "..", ".hidden", "a/b", "../x", "a b", "a\n", &"a".repeat(64)] {
            assert_eq!(of(name), None, "{name}");
        }
    }
}
