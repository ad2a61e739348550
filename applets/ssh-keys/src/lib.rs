//! Who may log in as root (spec os §8.3): the keys of `os.sshKeys`, each checked on its own, merged with those that
//! an older cloud configuration has left.

#![forbid(unsafe_code)]

mod apply;
mod cloud;
mod keep;

use minke_applet::{Applet, Args, EXIT_USAGE, Flag, Parsing, Program, errln, outln, report};
use minke_config::{Paths, Store};
use minke_sys::file;
use minke_wire::authorized_keys::{self, Key};
use minke_wire::base64::encode_unpadded;
use ring::digest::{SHA256, digest};
use std::path::Path;

/// The applet.
pub static APPLET: Applet = Applet {
    name: "ssh-keys",
    programs: &[Program {
        name: "ssh-keys",
        about: "SSH keys that may log in as root",
        usage: "[OPTIONS] COMMAND [ARGUMENT]",
        commands: &[
            ("apply", "Put the keys of os.sshKeys where the SSH server looks for them"),
            ("list", "Print the keys that may log in: type, fingerprint, comment"),
            (
                "check FILE",
                "Say what is wrong with the lines of an authorized_keys file; exit 1 if anything is",
            ),
            ("authorized NAME", "Print the keys that the cloud has for a user; for the SSH server"),
        ],
        flags: &[Flag {
            short: None,
            long: "root",
            value: Some("DIR"),
            help: "Work on the system below DIR",
        }],
        examples: &[
            (
                "config-json set os.sshKeys '[\"ssh-ed25519 AAAA… me@home\"]'",
                "Let a key in; takes effect at once",
            ),
            ("ssh-keys list", "Who may log in"),
            ("ssh-keys check ~/.ssh/authorized_keys", "Look for lines that the SSH server would ignore"),
        ],
        parsing: Parsing::Gnu,
        run,
    }],
};

/// The longest file that is read, in bytes: a thousand keys and more.
const LIMIT: usize = 4 << 20;

fn run(args: &Args) -> u8 {
    let root = Path::new(args.value("root").unwrap_or("/"));
    let words = [args.operand(0), args.operand(1), args.operand(2)];
    match words {
        [Some("apply"), None, None] => apply::run(&Store::new(Paths::below(root)), root),
        [Some("list"), None, None] => list(&root.join(apply::FOLDER).join("authorized_keys")),
        [Some("check"), Some(path), None] => check(Path::new(path)),
        [Some("authorized"), Some(name), None] => {
            cloud::authorized(&Store::new(Paths::below(root)), root, name)
        }
        _ => {
            errln!("ssh-keys: expected apply, list, check FILE or authorized NAME; see 'ssh-keys --help'");
            EXIT_USAGE
        }
    }
}

fn list(path: &Path) -> u8 {
    report(file::read_optional(path, LIMIT).map(|content| {
        for line in String::from_utf8_lossy(&content.unwrap_or_default()).lines() {
            if let Ok(Key { options, kind, blob, comment }) = authorized_keys::parse(line) {
                let fingerprint = encode_unpadded(digest(&SHA256, &blob).as_ref());
                let restricted = if options.is_empty() { "" } else { " (restricted)" };
                outln!("{kind} SHA256:{fingerprint} {comment}{restricted}");
            }
        }
        0
    }))
}

fn check(path: &Path) -> u8 {
    report(file::read_bounded(path, LIMIT).map(|content| {
        let mut bad = false;
        for (number, line) in String::from_utf8_lossy(&content).lines().enumerate() {
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            if let Err(problem) = authorized_keys::parse(line) {
                outln!("{}:{}: the key {problem}", path.display(), number.saturating_add(1));
                bad = true;
            }
        }
        u8::from(bad)
    }))
}
