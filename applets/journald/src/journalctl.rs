//! `journalctl`: asks the daemon and prints.

use crate::journal::now;
use crate::output::{Format, full_time};
use crate::time;
use minke_applet::Args;
use minke_control::journal::{Entry, Item, Query, SOCKET, query};
use std::fmt;
use std::path::Path;

/// Bytes that are collected before they are written.
const BUFFER: usize = 32 << 10;

/// Why it failed.
#[derive(Debug)]
pub enum Error {
    /// The command line makes no sense.
    Usage(String),
    /// The daemon did not answer as it should.
    Query(minke_control::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(why) => f.write_str(why),
            Self::Query(error @ minke_control::Error::Transport(_)) => {
                write!(f, "{error}; see 'systemctl status systemd-journald'")
            }
            Self::Query(error) => error.fmt(f),
        }
    }
}

/// Runs the program.
pub fn run(args: &Args) -> Result<u8, Error> {
    let socket = Path::new(args.value("socket").unwrap_or(SOCKET));
    if args.has("list-boots") {
        return list_boots(socket);
    }
    let format = args.value("output").unwrap_or("short");
    let format = Format::by_name(format).ok_or_else(|| usage("output format", format))?;
    let mut question = Query::default();
    ask(args, &mut question)?;
    let mut printer = Printer { format, all: args.has("all"), out: Vec::new(), unbuffered: question.follow };
    let mut last = None;
    for item in query(socket, &question).map_err(Error::Query)? {
        let written = match item.map_err(Error::Query)? {
            Item::Entry(entry) => {
                let written = printer.entry(&entry);
                last = Some(entry);
                written
            }
            Item::Lost(count) => printer.line(&format!("-- {count} entries lost --")),
        };
        if written.is_err() {
            // The reader of the output has gone: nobody wants the rest.
            return Ok(0);
        }
    }
    let silent = args.has("quiet") || question.follow || matches!(format, Format::Json | Format::Export);
    if last.is_none() && !silent {
        let _ = printer.line("-- No entries --");
    }
    if let Some(entry) = last.filter(|_| args.has("show-cursor")) {
        let _ = printer.line(&format!("-- cursor: {}", entry.cursor()));
    }
    let _ = printer.flush();
    Ok(0)
}

struct Printer {
    format: Format,
    all: bool,
    out: Vec<u8>,
    unbuffered: bool,
}

impl Printer {
    fn entry(&mut self, entry: &Entry) -> std::io::Result<()> {
        self.format.write(&mut self.out, entry, self.all);
        self.added()
    }

    fn line(&mut self, text: &str) -> std::io::Result<()> {
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(b'\n');
        self.added()
    }

    fn added(&mut self) -> std::io::Result<()> {
        if self.unbuffered || self.out.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        minke_sys::stdio::output(&self.out)?;
        self.out.clear();
        Ok(())
    }
}

fn usage(what: &str, value: &str) -> Error {
    Error::Usage(format!("'{value}' is no {what}; see 'journalctl --help'"))
}

/// Fills in the query that the command line means.
fn ask(args: &Args, query: &mut Query) -> Result<(), Error> {
    for name in args.values("unit") {
        query.units.push(unit_name(name));
    }
    for name in args.values("identifier") {
        query.identifiers.push(name.to_owned());
    }
    query.since = moment(args, "since")?;
    query.until = moment(args, "until")?;
    query.follow = args.has("follow");
    query.reverse = args.has("reverse");
    query.after_cursor = args.value("after-cursor").map(str::to_owned);
    if query.follow && query.reverse {
        return Err(Error::Usage("please specify either --reverse or --follow, not both".to_owned()));
    }
    if args.has("boot") || args.has("dmesg") {
        query.boot = Some("0".to_owned());
    }
    if args.has("dmesg") {
        query.matches.push(("_TRANSPORT".to_owned(), "kernel".to_owned()));
    }
    for operand in args.operands() {
        let text = operand.to_str().unwrap_or_default();
        let (field, value) = text.split_once('=').ok_or_else(|| usage("match FIELD=VALUE", text))?;
        query.matches.push((field.to_owned(), value.to_owned()));
    }
    if let Some(range) = args.value("priority") {
        query.priority = Some(priority_range(range)?);
    }
    query.lines = match args.value("lines") {
        Some("all") => None,
        Some(number) => {
            Some(minke_wire::text::in_base(number, 10).ok_or_else(|| usage("number of lines", number))?)
        }
        None if args.has("pager-end") => Some(1_000),
        None => (query.follow && query.since.is_none() && query.after_cursor.is_none()).then_some(10),
    };
    Ok(())
}

fn moment(args: &Args, name: &str) -> Result<Option<u64>, Error> {
    let Some(text) = args.value(name) else { return Ok(None) };
    Ok(Some(time::parse(text, now().realtime).ok_or_else(|| usage("time", text))?))
}

/// A name without a unit type means a service.
fn unit_name(name: &str) -> String {
    let kinds = "service socket mount target timer path scope slice swap device";
    let has_kind = name.rsplit_once('.').is_some_and(|(_, kind)| kinds.split(' ').any(|known| known == kind));
    if has_kind { name.to_owned() } else { format!("{name}.service") }
}

fn priority_range(text: &str) -> Result<(u8, u8), Error> {
    let level =
        |name: &str| minke_wire::journal::priority_number(name).ok_or_else(|| usage("priority", text));
    match minke_wire::text::split_once(text, "..") {
        Some((one, other)) => {
            let (one, other) = (level(one)?, level(other)?);
            Ok((one.min(other), one.max(other)))
        }
        None => Ok((0, level(text)?)),
    }
}

fn list_boots(socket: &Path) -> Result<u8, Error> {
    let first = |question: &Query| -> Result<Option<Entry>, Error> {
        match query(socket, question).map_err(Error::Query)?.next() {
            Some(Ok(Item::Entry(entry))) => Ok(Some(entry)),
            Some(Err(error)) => Err(Error::Query(error)),
            _ => Ok(None),
        }
    };
    let oldest = first(&Query::default())?;
    let newest = first(&Query { lines: Some(1), ..Query::default() })?;
    if let (Some(oldest), Some(newest)) = (oldest, newest) {
        let boot = newest.text("_BOOT_ID").unwrap_or_default();
        let (from, to) = (full_time(oldest.realtime()), full_time(newest.realtime()));
        minke_applet::print(&format!(" 0 {boot} {from}\u{2014}{to}\n"));
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_names_and_priorities() {
        assert_eq!(unit_name("balena"), "balena.service");
        assert_eq!(unit_name("a.b"), "a.b.service");
        assert_eq!(unit_name("boot.mount"), "boot.mount");
        assert_eq!(priority_range("err").unwrap(), (0, 3));
        assert_eq!(priority_range("4").unwrap(), (0, 4));
        assert_eq!(priority_range("info..err").unwrap(), (3, 6));
        assert!(priority_range("loud").is_err());
    }
}
