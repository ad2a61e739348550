//! What happens to a message: rate limit, the journal's own fields, the log in memory, the console.

use crate::console::Console;
use crate::limiter::{Limiter, Verdict};
use crate::process::{Process, Processes};
use crate::ring::{Field, Ring, Stamp};
use crate::scan::Host;
use minke_sys::clock;
use minke_wire::journal::{Fields, Kmsg, Syslog, is_client_name};
use std::rc::Rc;
use std::time::Duration;

/// The longest value of a field; a longer one is cut.
const VALUE_LIMIT: usize = 64 << 10;
/// The least urgent priority that goes to the console (journald.conf(5), `MaxLevelConsole=`).
const CONSOLE_PRIORITY: u8 = 6;

/// The log and what stands in front of it.
#[derive(Debug)]
pub struct Journal {
    /// The log in memory.
    pub ring: Ring,
    /// The daemon's names for this boot and this run.
    pub host: Host,
    /// Where a copy goes.
    pub console: Option<Console>,
    limiter: Limiter,
    processes: Processes,
}

/// Where a message comes from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// `_TRANSPORT`.
    pub transport: &'static str,
    /// The process that wrote it, if the kernel told.
    pub pid: Option<i32>,
    /// Its user.
    pub uid: Option<u32>,
    /// Its unit, if it is known better than by its control group.
    pub unit: Option<&'a [u8]>,
}

impl Origin<'_> {
    fn driver() -> Self {
        let pid = i32::try_from(std::process::id()).ok();
        Self { transport: "driver", pid, uid: None, unit: None }
    }
}

impl Journal {
    /// An empty log of at most `limit` bytes.
    pub fn new(limit: usize, host: Host, console: Option<Console>) -> Self {
        let (limiter, processes) = (Limiter::default(), Processes::default());
        Self { ring: Ring::new(limit), host, console, limiter, processes }
    }

    /// A message of the journal itself, about a unit perhaps.
    pub fn say(&mut self, message: &str, unit: Option<&[u8]>) {
        let fields = gather(&[
            ("MESSAGE", Some(message.as_bytes())),
            ("PRIORITY", Some(b"5")),
            ("SYSLOG_IDENTIFIER", Some(b"journald")),
            ("OBJECT_SYSTEMD_UNIT", unit),
        ]);
        self.store(Origin::driver(), now(), &fields);
    }

    /// A datagram of the native protocol. Fields that a client may not set are left out.
    pub fn native(&mut self, datagram: &[u8], origin: Origin<'_>) {
        let mut fields = Vec::new();
        for (name, value) in Fields::new(datagram).flatten() {
            if is_client_name(name) && fields.len() < crate::ring::FIELDS_LIMIT {
                fields.push((name, cut(value, VALUE_LIMIT)));
            }
        }
        if !fields.is_empty() {
            self.accept(origin, &fields);
        }
    }

    /// A datagram of `/dev/log`.
    pub fn syslog(&mut self, datagram: &[u8], origin: Origin<'_>) {
        let syslog = Syslog::decode(datagram);
        let facility = syslog.facility.to_string();
        let fields = gather(&[
            ("MESSAGE", Some(cut(syslog.message, VALUE_LIMIT))),
            ("PRIORITY", Some(digit(syslog.priority))),
            ("SYSLOG_FACILITY", Some(facility.as_bytes())),
            ("SYSLOG_IDENTIFIER", syslog.identifier),
            ("SYSLOG_PID", syslog.pid),
            ("SYSLOG_TIMESTAMP", syslog.timestamp),
        ]);
        self.accept(origin, &fields);
    }

    /// A record of `/dev/kmsg`. It is stamped with the kernel's time, which may be long ago.
    pub fn kernel(&mut self, kmsg: &Kmsg<'_>) {
        let now = now();
        let age = now.monotonic.saturating_sub(kmsg.microseconds);
        let stamp = Stamp { realtime: now.realtime.saturating_sub(age), monotonic: kmsg.microseconds };
        let facility = kmsg.facility.to_string();
        let kernel = (kmsg.facility == 0).then_some(&b"kernel"[..]);
        let fields = gather(&[
            ("MESSAGE", Some(&kmsg.message)),
            ("PRIORITY", Some(digit(kmsg.priority))),
            ("SYSLOG_FACILITY", Some(facility.as_bytes())),
            ("SYSLOG_IDENTIFIER", kernel.or(kmsg.identifier)),
            ("SYSLOG_PID", kmsg.pid),
            ("_KERNEL_DEVICE", kmsg.property("DEVICE")),
            ("_KERNEL_SUBSYSTEM", kmsg.property("SUBSYSTEM")),
        ]);
        let origin = Origin { transport: "kernel", pid: None, uid: None, unit: None };
        self.store(origin, stamp, &fields);
    }

    /// A message of a client: within the rate limit of its source it is stored.
    pub fn accept(&mut self, origin: Origin<'_>, fields: &[Field<'_>]) {
        self.accept_at(now(), origin, fields);
    }

    fn accept_at(&mut self, now: Stamp, origin: Origin<'_>, fields: &[Field<'_>]) {
        let process = self.process(origin, now);
        let unit = origin.unit.or(process.unit.as_deref());
        // All containers speak through one unit: each has a limit of its own.
        let source = field(fields, "CONTAINER_ID_FULL").or(unit);
        let source = source.or_else(|| field(fields, "SYSLOG_IDENTIFIER")).unwrap_or_default();
        match self.limiter.judge(cut(source, 256), now.monotonic) {
            Verdict::Drop => return,
            Verdict::Pass => {}
            Verdict::PassAfter(count) => {
                let text = format!("Suppressed {count} messages from {}", String::from_utf8_lossy(source));
                self.say(&text, unit);
            }
        }
        self.store(origin, now, fields);
    }

    fn process(&mut self, origin: Origin<'_>, stamp: Stamp) -> Rc<Process> {
        origin.pid.map(|pid| self.processes.get(pid, stamp.monotonic)).unwrap_or_default()
    }

    fn store(&mut self, origin: Origin<'_>, stamp: Stamp, fields: &[Field<'_>]) {
        let process = self.process(origin, stamp);
        let (pid, uid) = (origin.pid.map(|pid| pid.to_string()), origin.uid.map(|uid| uid.to_string()));
        // In front, so that a client that fills an entry cannot push them out.
        let mut all = gather(&[
            ("_TRANSPORT", Some(origin.transport.as_bytes())),
            ("_PID", pid.as_ref().map(String::as_bytes)),
            ("_UID", uid.as_ref().map(String::as_bytes)),
            ("_COMM", process.name.as_deref()),
            ("_SYSTEMD_UNIT", origin.unit.or(process.unit.as_deref())),
        ]);
        all.extend_from_slice(fields);
        self.ring.append(stamp, &all);
        if let Some(console) = &mut self.console
            && origin.transport != "kernel"
        {
            print(console, origin.pid, &all);
        }
    }
}

fn print(console: &mut Console, pid: Option<i32>, fields: &[Field<'_>]) {
    let quiet = field(fields, "PRIORITY").is_some_and(|value| value > digit(CONSOLE_PRIORITY));
    if let (Some(message), false) = (field(fields, "MESSAGE"), quiet) {
        let identifier = field(fields, "SYSLOG_IDENTIFIER").or_else(|| field(fields, "_COMM"));
        console.line(identifier.unwrap_or(b"unknown"), pid, message);
    }
}

/// The fields that have a value.
pub fn gather<'a>(fields: &[(&'static str, Option<&'a [u8]>)]) -> Vec<Field<'a>> {
    let mut present = Vec::new();
    for (name, value) in fields {
        if let Some(value) = value {
            present.push((name.as_bytes(), *value));
        }
    }
    present
}

fn field<'a>(fields: &[Field<'a>], wanted: &str) -> Option<&'a [u8]> {
    fields.iter().find(|field| field.0 == wanted.as_bytes()).map(|field| field.1)
}

fn cut(value: &[u8], limit: usize) -> &[u8] {
    value.get(..limit).unwrap_or(value)
}

/// A priority, 0 to 7, as text.
pub fn digit(priority: u8) -> &'static [u8] {
    let at = usize::from(priority & 7);
    b"01234567".get(at..=at).unwrap_or_default()
}

/// The clocks now.
pub fn now() -> Stamp {
    Stamp { realtime: microseconds(clock::realtime()), monotonic: microseconds(clock::monotonic()) }
}

/// A span in whole microseconds. `Duration::as_micros` is 128 bits wide.
fn microseconds(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(span.subsec_micros()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::{BURST, INTERVAL};
    use crate::ring::Found;

    #[test]
    fn a_source_over_its_limit_is_reported_under_its_unit() {
        let mut journal = Journal::new(0, Host::default(), None);
        let origin = Origin { transport: "stdout", pid: None, uid: None, unit: Some(b"a.service") };
        let fields: [Field<'_>; 1] = [(b"MESSAGE", b"again")];
        for _ in 0..BURST + 3 {
            journal.accept_at(Stamp::default(), origin, &fields);
        }
        assert_eq!(journal.ring.next_number(), u64::from(BURST) + 1);
        let later = Stamp { realtime: 0, monotonic: INTERVAL };
        journal.accept_at(later, origin, &fields);
        let mut place = journal.ring.near(u64::from(BURST) + 1);
        let entry = loop {
            match journal.ring.advance(&mut place) {
                Found::Entry(entry) if entry.number == u64::from(BURST) + 1 => break entry,
                Found::Entry(_) => {}
                _ => panic!("no entry"),
            }
        };
        assert_eq!(entry.field("MESSAGE"), Some(&b"Suppressed 3 messages from a.service"[..]));
        assert_eq!(entry.field("OBJECT_SYSTEMD_UNIT"), Some(&b"a.service"[..]));
        assert_eq!(journal.ring.next_number(), u64::from(BURST) + 3);
    }

    #[test]
    fn a_client_cannot_set_the_journals_own_fields() {
        let mut journal = Journal::new(0, Host::default(), None);
        let origin = Origin { transport: "journal", pid: None, uid: Some(7), unit: None };
        journal.native(b"_UID=0\nMESSAGE=x\n_TRANSPORT=kernel\nbad name=1\n", origin);
        journal.native(b"_UID=0\n", origin);
        let Found::Entry(entry) = journal.ring.advance(&mut journal.ring.start()) else { panic!("no entry") };
        let expected: [Field<'_>; 3] = [(b"_TRANSPORT", b"journal"), (b"_UID", b"7"), (b"MESSAGE", b"x")];
        assert_eq!(entry.fields().collect::<Vec<_>>(), expected);
        assert_eq!(journal.ring.next_number(), 2);
    }
}
