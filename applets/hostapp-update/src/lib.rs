//! Another version of the host OS: its installation into the other slot, the hooks around it, the trial, and the way
//! back (spec os §15).

#![forbid(unsafe_code)]

mod boot_files;
mod hooks;
mod reboot;
mod rollback;
mod update;

use minke_applet::{Applet, Flag, Parsing, Program};

/// The option of all programs that work on files.
const ROOT: Flag = Flag { short: None, long: "root", value: Some("DIR"), help: "Use the files below DIR" };

/// The options of the hook runner, which has two names.
const HOOK_FLAGS: [Flag; 6] = [
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
    Flag { short: None, long: "dir", value: Some("DIR"), help: "Take the hooks of DIR" },
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
            about: "Install another version of the host OS",
            usage: "[OPTIONS]",
            commands: &[],
            flags: &[],
            examples: &[],
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
