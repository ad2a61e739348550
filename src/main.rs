//! The multicall binary: finds the program that is meant, by the name it was called with or by its first
//! argument, and runs it. Nothing else lives here.

#![forbid(unsafe_code)]
#![cfg_attr(all(target_env = "musl", not(test)), no_main)]

mod install;

use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use minke_applet::{Build, Entry};
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::path::Path;

include!(concat!(env!("OUT_DIR"), "/applets.rs"));

/// Where [`help`] finds no program, it has this one's text.
const USAGE: &str = "";

/// Exit status of a shell that finds no such command (POSIX, XCU 2.8.2).
const EXIT_NOT_FOUND: u8 = 127;

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
        return minke_applet::start(program, arguments, BUILD, &|| help(program.name));
    }
    if arguments.is_empty() {
        return minke_applet::print(&help(USAGE));
    }
    let first = arguments.remove(0);
    match first.to_str() {
        Some("--help" | "-h") => minke_applet::print(&help(USAGE)),
        Some("--version") => minke_applet::print(&format!("minke {} {}\n", BUILD.version, BUILD.time)),
        Some("--list") => minke_applet::print(&list()),
        Some("--install") => install::install(arguments.first().map(OsString::as_os_str), PROGRAMS),
        _ => match find(&first) {
            Some(program) => minke_applet::start(program, arguments, BUILD, &|| help(program.name)),
            None => {
                minke_applet::errln!("minke: no applet '{}'; see 'minke --list'", first.display());
                EXIT_NOT_FOUND
            }
        },
    }
}

fn find(name: &OsStr) -> Option<&'static Entry> {
    PROGRAMS.iter().find(|program| OsStr::new(program.name) == name)
}

fn list() -> String {
    let mut text = String::new();
    for (program, help) in PROGRAMS.iter().zip(texts().split('\0')) {
        let _ = writeln!(text, "{:16} {}", program.name, help.lines().next().unwrap_or_default());
    }
    text
}

/// The help of the program with this name, or this one's own.
fn help(name: &str) -> String {
    let index = PROGRAMS.iter().position(|program| program.name == name).unwrap_or(PROGRAMS.len());
    texts().split('\0').nth(index).unwrap_or_default().to_owned()
}

/// What all programs say when asked for help, in their order, and this one last.
fn texts() -> String {
    let mut texts = vec![0; TEXTS_SIZE];
    let mut inflate = Box::<DecompressorOxide>::default();
    // All of it fits, as it was measured when it was compressed.
    decompress(&mut inflate, TEXTS, &mut texts, 0, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF);
    String::from_utf8(texts).unwrap_or_default()
}
