//! The boot, state and data partitions and all that is bound from them: waiting for the devices, growth of the data
//! file system, state and data reset, reserves of space, bind mounts, machine-id.
//!
//! One program does what the reference does with some twenty units. Each step repeats safely: an interrupted
//! run is simply run again. A step that fails is logged, and the next ones go on, because a device that is
//! reachable can be repaired.

#![forbid(unsafe_code)]

mod bind;
mod devices;
mod mount;
mod plan;
mod recovery;
mod reserve;
mod reset;
mod run;
mod status;

use minke_applet::{Applet, Flag, Parsing, Program};

/// The applet.
pub static APPLET: Applet = Applet {
    name: "mount-state",
    programs: &[Program {
        name: "mount-state",
        about: "Mount the boot, state and data partitions and what is bound from them",
        usage: "[OPTIONS] COMMAND",
        commands: &[
            ("start", "Mount everything; what is mounted already stays"),
            ("stop", "Unmount everything that start mounts, in reverse order"),
            (
                "mount NAME",
                "Mount boot, state, data, active or inactive (the other slot, /mnt/sysroot/inactive)",
            ),
            ("umount NAME", "Unmount one of them; one that is not mounted is fine"),
            ("grow", "Let the data file system fill its partition; start leaves it what is beyond 64 GiB"),
            ("status", "Print what is mounted, with UUIDs, sizes in MiB and what the check at boot said"),
            (
                "check",
                "As status, and exit 1 if anything is missing, read-only, volatile or was not repaired",
            ),
        ],
        flags: &[
            Flag { short: None, long: "json", value: None, help: "Print the status as JSON" },
            Flag {
                short: None,
                long: "wait",
                value: Some("SECONDS"),
                help: "Wait so long for the partitions' devices (default 30)",
            },
            Flag { short: None, long: "root", value: Some("DIR"), help: "Work on the system below DIR" },
            Flag {
                short: None,
                long: "devices",
                value: Some("DIR"),
                help: "Find devices by the links below DIR (by-state, by-label, by-partlabel) and make none",
            },
        ],
        examples: &[
            ("mount-state status", "What is mounted, from where"),
            ("mount-state mount inactive", "Look into the slot that does not run"),
            ("rm /mnt/state/remove_me_to_reset && reboot", "Reset the state partition at the next boot"),
            ("rm /mnt/data/remove_me_to_reset && reboot", "Delete all applications at the next boot"),
        ],
        parsing: Parsing::Gnu,
        run: run::run,
    }],
};
