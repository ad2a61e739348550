//! The multicall binary: finds the program that is meant, by the name it was called with or by its first
//! argument, and runs it. Nothing else lives here.

#![forbid(unsafe_code)]
#![cfg_attr(all(target_env = "musl", not(test)), no_main)]

mod install;

use minke_applet::{Applet, Build, Program};
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::path::Path;

include!(concat!(env!("OUT_DIR"), "/applets.rs"));

/// Exit status of a shell that finds no such command (POSIX, XCU 2.8.2).
const EXIT_NOT_FOUND: u8 = 127;

const USAGE: &str = "minke: the host operating system of a container device as one binary

Usage: minke APPLET [ARGUMENT]...
       APPLET [ARGUMENT]...          through a link of that name
       minke --list | --install DIR | --help | --version

Options:
  --list         Print the programs, one a line, with what they do
  --install DIR  Make a relative symbolic link in DIR for each program
  --help         Print this help
  --version      Print the version and the build time (seconds since 1970)

Examples:
  minke --install /usr/bin
  minke journalctl -u balena -n 20
";

#[global_allocator]
static MEMORY: minke_sys::memory::Memory = minke_sys::memory::Memory;

// As it is on the device; elsewhere std's own start serves.
#[cfg(all(target_env = "musl", not(test)))]
minke_sys::entry!(dispatch);

#[cfg(not(all(target_env = "musl", not(test))))]
fn main() -> std::process::ExitCode {
    dispatch(std::env::args_os().collect()).into()
}

/// Runs the program that `arguments` names; its exit status.
fn dispatch(mut arguments: Vec<OsString>) -> u8 {
    let called_as = if arguments.is_empty() { OsString::new() } else { arguments.remove(0) };
    let name = Path::new(&called_as).file_name().unwrap_or_default();
    if let Some(program) = find(name) {
        return minke_applet::run(program, arguments, BUILD);
    }
    if arguments.is_empty() {
        return minke_applet::print(USAGE);
    }
    let first = arguments.remove(0);
    match first.to_str() {
        Some("--help" | "-h") => minke_applet::print(USAGE),
        Some("--version") => minke_applet::print(&format!("minke {} {}\n", BUILD.version, BUILD.time)),
        Some("--list") => minke_applet::print(&list()),
        Some("--install") => install::install(arguments.first().map(OsString::as_os_str), programs()),
        _ => match find(&first) {
            Some(program) => minke_applet::run(program, arguments, BUILD),
            None => {
                minke_applet::errln!("minke: no applet '{}'; see 'minke --list'", first.display());
                EXIT_NOT_FOUND
            }
        },
    }
}

fn programs() -> impl Iterator<Item = &'static Program> {
    APPLETS.iter().flat_map(|applet| applet.programs)
}

fn find(name: &OsStr) -> Option<&'static Program> {
    programs().find(|program| OsStr::new(program.name) == name)
}

fn list() -> String {
    let mut text = String::new();
    for program in programs() {
        let _ = writeln!(text, "{:16} {}", program.name, program.about);
    }
    text
}
