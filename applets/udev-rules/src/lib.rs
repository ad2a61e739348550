//! The owner's device rules: `os.udevRules` of `config.json` as files in `/etc/udev/rules.d` (spec os §9). The folder
//! lies on the state partition and is the owner's alone: what is not configured is removed from it.

#![forbid(unsafe_code)]

mod apply;
mod rules;

use minke_applet::{Applet, Args, EXIT_USAGE, Flag, Parsing, Program, errln, outln, report};
use minke_config::{Paths, Store};
use minke_sys::file;
use std::path::Path;

/// The applet.
pub static APPLET: Applet = Applet {
    name: "udev-rules",
    programs: &[Program {
        name: "udev-rules",
        about: "Device rules from config.json",
        usage: "[OPTIONS] COMMAND",
        commands: &[
            ("apply", "Make the rule files those of os.udevRules, and let udev read them if any changed"),
            ("list", "Print each rule file with whether it is as configured"),
            ("check", "Say what is wrong with os.udevRules, one finding a line; exit 1 if anything is"),
        ],
        flags: &[Flag {
            short: None,
            long: "root",
            value: Some("DIR"),
            help: "Work on the system below DIR; udev is not told",
        }],
        examples: &[(
            "config-json set os.udevRules '{\"56\":\"ENV{ID_FS_LABEL_ENC}==\\\"disk\\\", SYMLINK+=\\\"disk/test\\\"\"}'",
            "Make a rule file 56.rules; takes effect at once",
        )],
        parsing: Parsing::Gnu,
        run,
    }],
};

/// Where the files lie.
const FOLDER: &str = "etc/udev/rules.d";

fn run(args: &Args) -> u8 {
    let root = Path::new(args.value("root").unwrap_or("/"));
    let store = Store::new(Paths::below(root));
    match (args.operand(0), args.operands().len()) {
        (Some("apply"), 1) => report(apply::run(&store, root)),
        (Some("list"), 1) => list(&store, &root.join(FOLDER)),
        (Some("check"), 1) => check(&store),
        _ => {
            errln!("udev-rules: expected apply, list or check; see 'udev-rules --help'");
            EXIT_USAGE
        }
    }
}

fn list(store: &Store, folder: &Path) -> u8 {
    let config = store.load().config;
    let wanted = rules::wanted(&config);
    for rule in &wanted.rules {
        let state = match file::read_optional(&folder.join(&rule.file), rules::LIMIT) {
            Ok(Some(content)) if content == rule.content() => "in effect",
            Ok(Some(_)) => "differs from config.json",
            _ => "not written yet",
        };
        outln!("{:30} {state}", rule.file);
    }
    u8::from(!wanted.problems.is_empty())
}

fn check(store: &Store) -> u8 {
    let loaded = store.load();
    let problems = match loaded.message() {
        Some(message) => vec![message],
        None => rules::wanted(&loaded.config).problems,
    };
    for problem in &problems {
        outln!("{problem}");
    }
    u8::from(!problems.is_empty())
}
