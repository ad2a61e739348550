//! placeholder

use minke_applet::{Applet, Parsing, Program};

/// The applet.
pub static APPLET: Applet = Applet {
    name: "config-json",
    programs: &[Program {
        name: "config-json",
        about: "",
        usage: "",
        commands: &[],
        flags: &[],
        examples: &[],
        parsing: Parsing::Gnu,
        run: |_| 1,
    }],
};
