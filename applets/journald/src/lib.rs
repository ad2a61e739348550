//! placeholder

use minke_applet::{Applet, Parsing, Program};

/// The applet.
pub static APPLET: Applet = Applet {
    name: "journald",
    programs: &[Program {
        name: "journald",
        about: "",
        usage: "",
        commands: &[],
        flags: &[],
        examples: &[],
        parsing: Parsing::Gnu,
        run: |_| 1,
    }],
};
