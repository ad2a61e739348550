//! `config.json`: what a person or a script asks of it, and what the boot makes of it (identity, host name,
//! development features). `fatrw` is the power-safe file tool of the boot partition.

#![forbid(unsafe_code)]

mod boot;
mod boot_copies;
mod command;
mod consumers;
mod dispatch;
mod fatrw;
mod firmware;
mod os_config;
mod root_ca;

use minke_applet::{Applet, Flag, Parsing, Program};

/// The applet.
pub static APPLET: Applet = Applet {
    name: "config-json",
    programs: &[
        Program {
            name: "config-json",
            about: "Read, change and apply the device's config.json",
            usage: "[OPTIONS] COMMAND [ARGUMENT]...",
            commands: &[
                (
                    "get KEY",
                    "Print the value of a dotted key: text as it is, the rest as JSON; exit 1 if absent",
                ),
                ("set KEY VALUE", "Change a key power-safely; unknown keys take text unless --json is given"),
                ("unset KEY", "Remove a key power-safely"),
                (
                    "check [FILE]",
                    "Say what is wrong with a config.json, one finding a line; exit 1 if anything is",
                ),
                ("show", "Print the configuration that is in effect, also when the file is broken"),
                (
                    "explain [KEY]",
                    "Say what a key does, its default, which units a change restarts; or list all",
                ),
                (
                    "status",
                    "Print which file is in effect, what is wrong with it, and the settings of each unit",
                ),
                ("dispatch", "Hand changed settings to their units and restart these"),
                ("boot", "Do what the boot asks of all units that config.json feeds"),
                ("apply UNIT", "Do the work of one of the units that config.json feeds"),
                ("uuid", "Make sure that the device has a uuid, keep the last good copy, print the uuid"),
                ("generate-api-key", "Make the device's API key, if the device is managed and has none"),
                (
                    "root-ca",
                    "Believe the certificate authority of balenaRootCA, and no longer one that is gone",
                ),
                ("hostname", "Set the host name by config.json"),
                ("development-features", "Write or remove the development mode's flag file"),
            ],
            flags: &[
                Flag {
                    short: None,
                    long: "config-path",
                    value: Some("FILE"),
                    help: "Use this config.json (also CONFIG_PATH in the environment)",
                },
                Flag { short: None, long: "json", value: None, help: "VALUE of 'set' is JSON" },
                Flag { short: None, long: "seed", value: None, help: "dispatch: restart nothing" },
                Flag {
                    short: None,
                    long: "root",
                    value: Some("DIR"),
                    help: "Work on the system below DIR; the kernel's host name stays",
                },
            ],
            examples: &[
                ("config-json get os.network.connectivity.uri", "Print one key"),
                ("config-json set hostname kitchen", "Name the device"),
                ("config-json explain dnsServers", "What may stand there, and what it does"),
                ("config-json check /mnt/boot/config.json", "Look for mistakes before a reboot"),
            ],
            parsing: Parsing::Gnu,
            run: command::run,
        },
        Program {
            name: "os-config",
            about: "Get from the cloud what it decides about this device; change clouds and fleets",
            usage: "[OPTIONS] COMMAND [JSON]",
            commands: &[
                ("generate-api-key", "Make the device's API key, if the device is managed and has none"),
                (
                    "update",
                    "Get the configuration of the cloud's services; what differs is written, and its units restart",
                ),
                ("join JSON", "Become a member of the fleet whose config.json this is"),
                ("leave", "Leave the cloud; the device stays as it is otherwise, and remembers its key"),
            ],
            flags: &[
                Flag {
                    short: None,
                    long: "config-path",
                    value: Some("FILE"),
                    help: "Use this config.json (also CONFIG_PATH in the environment)",
                },
                Flag { short: None, long: "root", value: Some("DIR"), help: "Work on the system below DIR" },
            ],
            examples: &[
                ("os-config update", "Ask the cloud now"),
                ("os-config join \"$(cat fleet.json)\"", "Move the device to another fleet"),
            ],
            parsing: Parsing::Gnu,
            run: os_config::run,
        },
        Program {
            name: "fatrw",
            about: "Read, write or copy a file on FAT so that a power cut leaves the old or the new content",
            usage: "[OPTIONS] COMMAND FILE [TARGET]",
            commands: &[
                ("read FILE", "Finish an interrupted write of FILE and print its content"),
                ("write FILE", "Replace FILE by standard input"),
                ("copy FILE TARGET", "Replace TARGET by FILE, with its mode"),
            ],
            flags: &[
                Flag {
                    short: Some('m'),
                    long: "mode",
                    value: Some("OCTAL"),
                    help: "Permission bits of the file",
                },
                Flag {
                    short: Some('u'),
                    long: "unsafe",
                    value: None,
                    help: "On a full disk write all the same, without protection against a power cut",
                },
            ],
            examples: &[("fatrw read /mnt/boot/config.json", "Print the configuration")],
            parsing: Parsing::Gnu,
            run: fatrw::run,
        },
    ],
};
