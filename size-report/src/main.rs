//! Measures what the system weighs: bytes of the binary, per crate and per applet, of the images, and the
//! memory of the running processes. Compares with the committed budget, and keeps the history.

#![forbid(unsafe_code)]

mod budget;
mod build;
mod history;
mod memory;
mod plot;
mod symbols;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The four release targets, smallest machine first.
const TARGETS: [&str; 4] = ["armv6", "armv7", "aarch64", "x86_64"];

const HELP: &str = "Measure what minke weighs and hold it to its budget

Usage: size-report/run [OPTIONS] [ARCH]...

Prints the report and writes size-report/current.tsv (target, item, bytes). Exits 1 when an item is over
size-report/budget.tsv, naming the crates that grew since the last record.

Options:
  --no-images    Leave out the root and disk images (they are measured when they have been built)
  --memory ARCH  Boot ARCH's development image and measure the memory of each process, too
  --features     Rebuild without each applet to see what each feature adds (minutes per applet)
  --record       Append to size-report/history.csv, renew recorded.tsv and draw history.svg
  --help         Print this help

Examples:
  size-report/run armv6
  size-report/run --memory x86_64 --record
";

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    target: String,
    name: String,
    bytes: u64,
}

impl Item {
    fn new(target: &str, name: impl Into<String>, bytes: u64) -> Self {
        Self { target: target.to_owned(), name: name.into(), bytes }
    }
}

/// Why the report could not be made.
#[derive(Debug)]
enum Error {
    /// A file could not be read or written.
    File(PathBuf, std::io::Error),
    /// A command failed.
    Command(String),
    /// A file has another form than expected.
    Format(PathBuf, String),
    /// The command line is wrong.
    Usage(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Command(text) => f.write_str(text),
            Self::Format(path, text) => write!(f, "{}: {text}", path.display()),
            Self::Usage(text) => write!(f, "{text}; see size-report/run --help"),
        }
    }
}

/// What the command line asks for.
#[derive(Debug, Default)]
struct Request {
    targets: Vec<String>,
    no_images: bool,
    memory: Option<String>,
    features: bool,
    record: bool,
    help: bool,
}

fn main() -> ExitCode {
    match request().and_then(|request| run(&request)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("size-report: {error}");
            ExitCode::from(2)
        }
    }
}

fn request() -> Result<Request, Error> {
    let usage = |error: lexopt::Error| Error::Usage(error.to_string());
    let mut request = Request::default();
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next().map_err(usage)? {
        match argument {
            lexopt::Arg::Long("no-images") => request.no_images = true,
            lexopt::Arg::Long("memory") => {
                let value = parser.value().map_err(usage)?;
                request.memory = Some(known_target(&value.to_string_lossy())?);
            }
            lexopt::Arg::Long("features") => request.features = true,
            lexopt::Arg::Long("record") => request.record = true,
            lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => request.help = true,
            lexopt::Arg::Value(word) => request.targets.push(known_target(&word.to_string_lossy())?),
            other => return Err(usage(other.unexpected())),
        }
    }
    if request.targets.is_empty() {
        request.targets = TARGETS.map(str::to_owned).to_vec();
    }
    Ok(request)
}

fn known_target(name: &str) -> Result<String, Error> {
    match TARGETS.contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(Error::Usage(format!("no architecture '{name}'; there are {}", TARGETS.join(", ")))),
    }
}

/// Measures, prints, writes and judges; whether everything is within the budget.
fn run(request: &Request) -> Result<bool, Error> {
    if request.help {
        print!("{HELP}");
        return Ok(true);
    }
    let folder = Path::new("size-report");
    // At once: most of the time goes into packing the images, each of which one processor packs.
    let weigh = |target: &str| {
        eprintln!("measuring {target}");
        let mut items = build::measure(target, request.features)?;
        if !request.no_images {
            items.extend(build::images(target)?);
        }
        Ok(items)
    };
    let found: Result<Vec<Vec<Item>>, Error> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            request.targets.iter().map(|target| scope.spawn(|| weigh(target.as_str()))).collect();
        let ended = |_| Err(Error::Command("a measurement has panicked".to_owned()));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(ended)).collect()
    });
    let mut items: Vec<Item> = found?.into_iter().flatten().collect();
    if let Some(target) = &request.memory {
        items.extend(memory::measure(target)?);
    }
    print_report(&items);
    history::write_table(&folder.join("current.tsv"), &items)?;
    let recorded = history::read_table(&folder.join("recorded.tsv"))?;
    let over = budget::check(&folder.join("budget.tsv"), &items, &recorded)?;
    for line in &over {
        eprintln!("{line}");
    }
    if request.record {
        history::record(folder, &items)?;
        plot::draw(folder)?;
    }
    Ok(over.is_empty())
}

fn print_report(items: &[Item]) {
    for item in items {
        println!("{:8} {:28} {:>12}", item.target, item.name, item.bytes);
    }
}
