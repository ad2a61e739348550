//! The programs of this applet without the multicall binary: `journal-programs PROGRAM [ARGUMENT]...`. The
//! integration tests run it.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let name = arguments.next().unwrap_or_default();
    let program = minke_journald::APPLET.programs.iter().find(|program| name == *program.name);
    let build = minke_applet::Build { version: "0", time: 0 };
    match program {
        Some(program) => ExitCode::from(minke_applet::run(program, arguments.collect(), build)),
        None => ExitCode::from(127),
    }
}
