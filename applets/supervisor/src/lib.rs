//! placeholder

use minke_applet::{Applet, Parsing, Program};

/// The applet.
pub static APPLET: Applet = Applet {
    name: "supervisor",
    programs: &[Program {
        name: "supervisor",
        about: "",
        usage: "",
        commands: &[],
        flags: &[],
        examples: &[],
        parsing: Parsing::Gnu,
        run: |_| 1,
    }],
};
