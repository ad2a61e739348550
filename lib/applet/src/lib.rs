//! What every applet is made of: its descriptor, its arguments, its log lines, its exit codes, and how it
//! tells the service manager that it is ready.
//!
//! One table defines a program: name, flags, help, examples. The parser, `--help` and `minke --list` derive
//! from it. Their texts are taken out and compressed when the binary is built.

#![forbid(unsafe_code)]

mod args;
mod help;
pub mod log;
pub mod notify;

pub use args::{Args, UsageError};
pub use help::{help, options};
#[doc(hidden)]
pub use minke_sys::stdio;

/// One crate below `applets/`: the programs that a single Cargo feature adds to the binary.
#[derive(Debug)]
pub struct Applet {
    /// The feature and folder name, for instance `journald`.
    pub name: &'static str,
    /// The programs, each reachable by a link of its name; the first has the applet's own name.
    pub programs: &'static [Program],
}

/// What one link name runs.
#[derive(Debug)]
pub struct Program {
    /// The name by which it is called, for instance `journalctl`.
    pub name: &'static str,
    /// One line for `minke --list` and the head of `--help`.
    pub about: &'static str,
    /// What follows the name in the usage line, for instance `[OPTIONS] COMMAND [UNIT]...`.
    pub usage: &'static str,
    /// Subcommands with their one-line help; empty when there are none. Only `--help` reads this.
    pub commands: &'static [(&'static str, &'static str)],
    /// The options, besides `--help` and `--version`, which every program has.
    pub flags: &'static [Flag],
    /// Example command lines with what they do.
    pub examples: &'static [(&'static str, &'static str)],
    /// How the command line is read.
    pub parsing: Parsing,
    /// Runs the program and returns its exit status.
    pub run: fn(&Args) -> u8,
}

/// What is left of a [`Program`] in the binary.
#[derive(Debug)]
pub struct Entry {
    /// The name by which it is called.
    pub name: &'static str,
    /// Its options, as [`options`] writes them.
    pub options: &'static str,
    /// How the command line is read.
    pub parsing: Parsing,
    /// Runs the program and returns its exit status.
    pub run: fn(&Args) -> u8,
}

/// One option.
#[derive(Debug)]
pub struct Flag {
    /// The short form without the dash.
    pub short: Option<char>,
    /// The long form without the dashes; also the name that [`Args`] knows it by.
    pub long: &'static str,
    /// The placeholder of its value, or `None` for a switch.
    pub value: Option<&'static str>,
    /// One line of help.
    pub help: &'static str,
}

/// How a program's command line is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsing {
    /// Options and operands in any order; `--` ends the options.
    Gnu,
    /// Options end at the first operand: what follows belongs to another command.
    StopAtOperand,
    /// Nothing is an option: the kernel or a script wrote these words.
    Raw,
}

/// Exit status of a command line that cannot be understood, as in the sysexits and GNU tradition.
pub const EXIT_USAGE: u8 = 2;

/// The version and the build stamp of the binary, set once by `main`.
#[derive(Debug, Clone, Copy)]
pub struct Build {
    /// Semantic version.
    pub version: &'static str,
    /// Seconds since 1970 of the commit or of `SOURCE_DATE_EPOCH`; the clock is never earlier than this.
    pub time: u64,
}

static BUILD: std::sync::OnceLock<Build> = std::sync::OnceLock::new();

/// The build stamp.
pub fn build() -> Build {
    BUILD.get().copied().unwrap_or(Build { version: "0", time: 0 })
}

/// Runs a program by its whole table, as tests and examples do.
pub fn run(program: &'static Program, arguments: Vec<std::ffi::OsString>, build: Build) -> u8 {
    let Program { name, parsing, run, .. } = *program;
    let entry = Entry { name, options: options(program).leak(), parsing, run };
    start(Box::leak(Box::new(entry)), arguments, build, &|| help(program))
}

/// Runs `program` with `arguments` (without the program's name): answers `--help` and `--version`, refuses what the
/// table does not know, and calls the program.
pub fn start(
    program: &'static Entry,
    arguments: Vec<std::ffi::OsString>,
    build: Build,
    help: &dyn Fn() -> String,
) -> u8 {
    let _ = BUILD.set(build);
    log::set_program(program.name);
    match args::parse(program, arguments) {
        Ok(args) if args.has("help") => print(&help()),
        Ok(args) if args.has("version") => print(&format!("{} (minke) {}\n", program.name, build.version)),
        Ok(args) => (program.run)(&args),
        Err(error) => {
            errln!("{}: {error}; see '{} --help'", program.name, program.name);
            EXIT_USAGE
        }
    }
}

/// Writes to standard output; a reader that went away is no error.
pub fn print(text: &str) -> u8 {
    let _ = stdio::output(text.as_bytes());
    0
}

/// Writes a line to standard output, as `println!` does, with one system call and no panic.
#[macro_export]
macro_rules! outln {
    () => { $crate::outln!("") };
    ($($text:tt)*) => { $crate::print_line($crate::stdio::output, format_args!($($text)*)) };
}

/// Writes a line to standard error, as `eprintln!` does, with one system call and no panic.
#[macro_export]
macro_rules! errln {
    ($($text:tt)*) => { $crate::print_line($crate::stdio::error, format_args!($($text)*)) };
}

#[doc(hidden)]
pub fn print_line(write: fn(&[u8]) -> minke_sys::Result<()>, text: std::fmt::Arguments<'_>) {
    // Nobody could be told of a failure.
    let _ = write(format!("{text}\n").as_bytes());
}

/// Turns a program's result into its exit status, with the one error line that a person sees.
pub fn report<E: std::fmt::Display>(result: Result<u8, E>) -> u8 {
    match result {
        Ok(status) => status,
        Err(error) => {
            log::error(format_args!("{error}"));
            1
        }
    }
}
