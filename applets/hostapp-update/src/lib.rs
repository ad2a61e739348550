//! Another version of the host OS: its installation into the other slot, the hooks around it, the trial, and the way
//! back (spec os §15).

#![forbid(unsafe_code)]

mod boot_files;
mod child;
mod cloud;
mod devices;
mod hooks;
mod reboot;
mod rollback;
mod update;

use minke_applet::{Applet, Flag, Parsing, Program};

/// Where the boot partition is mounted, below the root.
const BOOT: &str = "mnt/boot";
/// Where the slot that runs is mounted.
const ACTIVE: &str = "mnt/sysroot/active";
/// Where the other one is mounted, on first access.
const INACTIVE: &str = "mnt/sysroot/inactive";

/// The option of all programs that work on files.
const ROOT: Flag = Flag { short: None, long: "root", value: Some("DIR"), help: "Use the files below DIR" };

/// The options of the updater; the short ones are the reference's (spec os §15.1).
const UPDATE_FLAGS: [Flag; 13] = [
    Flag {
        short: Some('i'),
        long: "image",
        value: Some("REFERENCE"),
        help: "Take the release from a registry",
    },
    Flag {
        short: Some('f'),
        long: "file",
        value: Some("FILE"),
        help: "Take the release from an archive; - is standard input",
    },
    Flag {
        short: Some('r'),
        long: "reboot",
        value: None,
        help: "Reboot afterwards, when applications allow it",
    },
    Flag {
        short: Some('n'),
        long: "no-hooks",
        value: None,
        help: "Run no hooks: fill the slot, do not select it",
    },
    Flag {
        short: Some('x'),
        long: "no-restore",
        value: None,
        help: "When a hook fails, leave everything as it is then",
    },
    Flag {
        short: None,
        long: "delta",
        value: Some("REFERENCE"),
        help: "Try this delta first, then the whole release",
    },
    Flag {
        short: None,
        long: "dry-run",
        value: None,
        help: "Check all that can be checked, and change nothing",
    },
    Flag {
        short: None,
        long: "allow-downgrade",
        value: None,
        help: "Take an older release than the one that runs",
    },
    Flag {
        short: None,
        long: "allow-unsigned",
        value: None,
        help: "Take a release without a signature; refused where keys are installed",
    },
    Flag {
        short: None,
        long: "insecure-registry",
        value: None,
        help: "Speak to the registry without TLS; digests and signatures are checked all the same",
    },
    Flag { short: None, long: "json", value: None, help: "Print progress or status as JSON" },
    Flag {
        short: None,
        long: "devices",
        value: Some("DIR"),
        help: "Find the slots by the links active and inactive in DIR",
    },
    ROOT,
];

/// The options of the hook runner, which has two names.
const HOOK_FLAGS: [Flag; 7] = [
    Flag {
        short: None,
        long: "before",
        value: None,
        help: "Run the parts for the old system, before the others",
    },
    Flag {
        short: None,
        long: "after",
        value: None,
        help: "Run the parts for the old system, after the others",
    },
    Flag { short: None, long: "commit", value: None, help: "Run the parts for a system that was found well" },
    Flag {
        short: None,
        long: "full",
        value: None,
        help: "Run before, forward and after, one after the other",
    },
    Flag { short: None, long: "dir", value: Some("DIR"), help: "Take the hooks of DIR alone" },
    Flag {
        short: None,
        long: "chroot",
        value: Some("DIR"),
        help: "Run the hooks of the system mounted at DIR, in a chroot of it",
    },
    ROOT,
];

const HOOK_EXAMPLES: [(&str, &str); 2] = [
    ("DURING_UPDATE=0 hostapp-update-hooks", "Put the running system's boot files back and select its slot"),
    ("hostapp-update-hooks --commit", "Run what a successful trial calls for"),
];

const fn hook_runner(name: &'static str) -> Program {
    Program {
        name,
        about: "Run the hooks of an update: boot files, breadcrumbs, slot selection",
        usage: "[OPTIONS]",
        commands: &[],
        flags: &HOOK_FLAGS,
        examples: &HOOK_EXAMPLES,
        parsing: Parsing::Gnu,
        run: hooks::run_program,
    }
}

/// The applet.
pub static APPLET: Applet = Applet {
    name: "hostapp-update",
    programs: &[
        Program {
            name: "hostapp-update",
            about: "Install another version of the host OS into the slot that does not run, and start it for a trial",
            usage: "[OPTIONS] (-i REFERENCE | -f FILE | COMMAND)",
            commands: &[
                ("status", "Print what each slot holds, which one starts next, and the last rollback"),
                ("rollback", "Start the system in the other slot next, for a trial"),
            ],
            flags: &UPDATE_FLAGS,
            examples: &[
                ("hostapp-update -i registry.example.com/os:8.1.0 -r", "Update from a registry, and reboot"),
                ("hostapp-update -f /mnt/data/os.tar --dry-run", "Could this file be installed?"),
                ("ssh host hostapp-update -r -f - <os.tar", "Update from a file that is not on the device"),
                ("hostapp-update rollback -r", "Go back to what ran before the last update"),
            ],
            parsing: Parsing::Gnu,
            run: update::run,
        },
        hook_runner("hostapp-update-hooks"),
        hook_runner("hostapp-update-hooks-v2"),
        Program {
            name: "rollback-health",
            about: "Judge a system on trial, and go back to the old one if it is not well",
            usage: "[OPTIONS] [COMMAND]",
            commands: &[
                ("check", "Make one attempt now, print what each check says; exit 1 if one fails"),
                ("stop", "End the trial: the running system stays"),
                ("pause", "Clear the boot count, as a shutdown in order does"),
                ("report", "Tell the cloud of the last rollback, unless that was done"),
            ],
            flags: &[ROOT],
            examples: &[("rollback-health check", "Would this system be kept?")],
            parsing: Parsing::Gnu,
            run: rollback::run_health,
        },
        Program {
            name: "rollback-altboot",
            about: "Make the slot that the boot loader fell back to the selected one",
            usage: "[OPTIONS]",
            commands: &[],
            flags: &[ROOT],
            examples: &[],
            parsing: Parsing::Gnu,
            run: rollback::run_altboot,
        },
    ],
};
