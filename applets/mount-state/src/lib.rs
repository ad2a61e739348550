//! placeholder

use minke_applet::{Applet, Parsing, Program};

/// The applet.
pub static APPLET: Applet = Applet {
    name: "mount-state",
    programs: &[Program {
        name: "mount-state",
        about: "",
        usage: "",
        commands: &[],
        flags: &[],
        examples: &[],
        parsing: Parsing::Gnu,
        run: |_| 1,
    }],
};
