//! `mdns browse`: services as they come and go.

use crate::show::{graphic, instance, local, socket, unanswered, wrong};
use minke_applet::{Args, Flag, log, outln};
use minke_control::Error;
use minke_control::mdns::{Browse, Event, Question, Record, browse};
use minke_sys::{Errno, clock};
use minke_wire::dns::{Data, Kind, Name, texts};
use minke_wire::json::json;
use minke_wire::text;
use std::fmt::Write;
use std::time::Duration;

pub(crate) const TIMEOUT_FLAG: Flag = Flag {
    short: Some('t'),
    long: "timeout",
    value: Some("SECONDS"),
    help: "browse: end after this time; without it, when interrupted",
};

/// Under this name all types of services are (RFC 6763 §9).
const TYPES: &str = "_services._dns-sd._udp.local";
/// What belongs together comes in one packet, or soon after: so long it is waited before something is shown.
const TOGETHER: Duration = Duration::from_millis(150);
/// The longest `--timeout`, in seconds.
const LONGEST: u64 = 1_000_000;
/// The most records that are remembered.
const MOST: usize = 4096;

/// `mdns browse [TYPE]`.
pub(crate) fn run(args: &Args) -> u8 {
    let end = match args.value(TIMEOUT_FLAG.long) {
        None => None,
        Some(word) => match text::number::<u64>(word) {
            Some(seconds) => {
                Some(clock::monotonic().saturating_add(Duration::from_secs(seconds.min(LONGEST))))
            }
            None => return wrong("number of seconds", word),
        },
    };
    let name = args.operand(1).map_or_else(|| TYPES.to_owned(), local);
    let question = Question { name, kind: Kind::PTR.0 };
    let request = Browse { question, types: args.has("all"), details: args.has("resolve") };
    let mut view = View { json: args.has("json"), details: request.details, ..View::default() };
    let mut stream = match browse(&socket(args), request) {
        Ok(stream) => stream,
        Err(error) => return unanswered(&error),
    };
    loop {
        let left = end.map(|end| end.saturating_sub(clock::monotonic()));
        if left.is_some_and(|left| left.is_zero()) {
            view.show();
            return 0;
        }
        let wait = if view.is_new { Some(left.map_or(TOGETHER, |left| left.min(TOGETHER))) } else { left };
        let _ = stream.socket().set_read_timeout(wait);
        match stream.next() {
            Some(Ok(line)) => {
                if let Some(event) = Event::from_value(&line) {
                    view.take(event);
                }
            }
            Some(Err(Error::Transport(error))) if error.errno == Errno::AGAIN => view.show(),
            Some(Err(error)) => return unanswered(&error),
            None => {
                view.show();
                log::error(format_args!("the responder has ended"));
                return 1;
            }
        }
    }
}

/// What is there, and what was shown of it.
#[derive(Debug, Default)]
struct View {
    json: bool,
    details: bool,
    records: Vec<Record>,
    /// Instances that have been shown, as they were shown.
    shown: Vec<Found>,
    /// Something came since the last time.
    is_new: bool,
}

/// A service or a type of them on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    interface: String,
    /// The whole name.
    name: String,
    /// Where it is: the line that tells it.
    place: Option<String>,
}

impl View {
    fn take(&mut self, event: Event) {
        let Event { gone, record } = event;
        let same = |known: &Record| {
            (&known.interface, &known.name, known.kind, &known.data)
                == (&record.interface, &record.name, record.kind, &record.data)
        };
        self.records.retain(|known| !same(known));
        // Where an instance that is gone was is not told any more; should it come back, it may be elsewhere.
        if let Some(Data::Ptr(target)) = Data::of(Kind(record.kind), &record.data)
            && gone
        {
            let target = target.to_string();
            self.records.retain(|known| known.interface != record.interface || known.name != target);
        }
        if !gone && self.records.len() < MOST {
            self.records.push(record);
        }
        self.is_new = true;
    }

    /// Prints what has come, changed or gone.
    fn show(&mut self) {
        self.is_new = false;
        let mut now = Vec::new();
        for record in self.records.iter().filter(|record| record.kind == Kind::PTR.0) {
            let Some(Data::Ptr(target)) = Data::of(Kind::PTR, &record.data) else { continue };
            let is_type = target.labels().next().is_some_and(|label| label.starts_with(b"_"));
            let interface = record.interface.clone();
            let mut found = Found { interface, name: target.to_string(), place: None };
            if self.details && !is_type {
                found.place = self.place(&found);
            }
            if !now.contains(&found) {
                now.push(found);
            }
        }
        for found in &now {
            let before =
                self.shown.iter().find(|old| (&old.interface, &old.name) == (&found.interface, &found.name));
            if before.is_none() {
                self.print("+", "added", found);
            }
            if let Some(place) = &found.place
                && before.is_none_or(|before| before.place != found.place)
            {
                outln!("{place}");
            }
        }
        for old in &self.shown {
            if !now.iter().any(|found| (&old.interface, &old.name) == (&found.interface, &found.name)) {
                self.print("-", "removed", old);
            }
        }
        self.shown = now;
    }

    /// Where it is, when its host, its texts and an address are known.
    fn place(&self, found: &Found) -> Option<String> {
        let name = Name::parse(&found.name)?;
        let srv = self.find(&found.interface, &name, Kind::SRV).next()?;
        let Some(Data::Srv { port, target, .. }) = Data::of(Kind::SRV, &srv.data) else { return None };
        let txt = self.find(&found.interface, &name, Kind::TXT).next()?;
        let host = target.to_name();
        let mut addresses = Vec::new();
        for kind in [Kind::A, Kind::AAAA] {
            for record in self.find(&found.interface, &host, kind) {
                addresses.extend(Data::of(kind, &record.data).map(|data| data.to_string()));
            }
        }
        if addresses.is_empty() {
            return None;
        }
        let mut strings: Vec<String> = Vec::new();
        for string in texts(&txt.data).filter(|text| !text.is_empty()) {
            strings.push(graphic(string));
        }
        let (name, kind) = instance(&found.name);
        let Found { interface, .. } = found;
        if self.json {
            let value = json!({
                "event": "resolved",
                "interface": interface,
                "name": name,
                "type": kind,
                "host": host.to_string(),
                "port": port,
                "addresses": addresses,
                "txt": strings,
            });
            return Some(value.to_text());
        }
        let mut line = format!("= {interface} '{name}' {kind} {host} {port}");
        for address in addresses {
            let _ = write!(line, " {address}");
        }
        for string in &strings {
            let _ = write!(line, " \"{string}\"");
        }
        if strings.is_empty() {
            line.push(' ');
        }
        Some(line)
    }

    fn find<'a>(
        &'a self,
        interface: &'a str,
        name: &'a Name,
        kind: Kind,
    ) -> impl Iterator<Item = &'a Record> {
        self.records.iter().filter(move |record| {
            record.kind == kind.0
                && record.interface == interface
                && Name::parse(&record.name).is_some_and(|found| found == *name)
        })
    }

    fn print(&self, sign: &str, word: &str, found: &Found) {
        let (name, kind) = instance(&found.name);
        let Found { interface, .. } = found;
        if self.json {
            let value = json!({ "event": word, "interface": interface, "name": name, "type": kind });
            outln!("{value}");
        } else if name.starts_with('_') {
            outln!("{sign} {interface} {name}.{kind}");
        } else {
            outln!("{sign} {interface} '{name}' {kind}");
        }
    }
}
