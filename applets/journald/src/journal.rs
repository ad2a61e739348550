//! What happens to a message: rate limit, the journal's own fields, the log in memory, the console.

use crate::console::Console;
use crate::limiter::{Limiter, Verdict};
use crate::process::Processes;
use crate::ring::{Field, Ring, Stamp};
use crate::scan::Host;
use minke_sys::clock;
use minke_sys::event::Poller;
use minke_wire::journal::{Fields, Kmsg, Syslog, is_client_name};

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
    pub fn say(&mut self, message: &str, unit: Option<&[u8]>, poller: &Poller) {
        let mut fields: Vec<Field<'_>> =
            vec![(b"MESSAGE", message.as_bytes()), (b"PRIORITY", b"5"), (b"SYSLOG_IDENTIFIER", b"journald")];
        fields.extend(unit.map(|unit| (&b"OBJECT_SYSTEMD_UNIT"[..], unit)));
        self.store(Origin::driver(), now(), &fields, poller);
    }

    /// A datagram of the native protocol. Fields that a client may not set are left out.
    pub fn native(&mut self, datagram: &[u8], origin: Origin<'_>, poller: &Poller) {
        let cut = |value| <[u8]>::get(value, ..VALUE_LIMIT).unwrap_or(value);
        let fields: Vec<Field<'_>> = Fields::new(datagram)
            .filter_map(Result::ok)
            .filter(|(name, _)| is_client_name(name))
            .map(|(name, value)| (name, cut(value)))
            .take(crate::ring::FIELDS_LIMIT)
            .collect();
        if !fields.is_empty() {
            self.accept(origin, &fields, poller);
        }
    }

    /// A datagram of `/dev/log`.
    pub fn syslog(&mut self, datagram: &[u8], origin: Origin<'_>, poller: &Poller) {
        let syslog = Syslog::decode(datagram);
        let message = syslog.message.get(..VALUE_LIMIT).unwrap_or(syslog.message);
        let (priority, facility) = (syslog.priority.to_string(), syslog.facility.to_string());
        let mut fields: Vec<Field<'_>> = vec![
            (b"MESSAGE", message),
            (b"PRIORITY", priority.as_bytes()),
            (b"SYSLOG_FACILITY", facility.as_bytes()),
        ];
        let optional: [(&[u8], Option<&[u8]>); 3] = [
            (b"SYSLOG_IDENTIFIER", syslog.identifier),
            (b"SYSLOG_PID", syslog.pid),
            (b"SYSLOG_TIMESTAMP", syslog.timestamp),
        ];
        fields.extend(optional.iter().filter_map(|(name, value)| Some((*name, (*value)?))));
        self.accept(origin, &fields, poller);
    }

    /// A record of `/dev/kmsg`. It is stamped with the kernel's time, which may be long ago.
    pub fn kernel(&mut self, kmsg: &Kmsg<'_>, poller: &Poller) {
        let now = now();
        let age = now.monotonic.saturating_sub(kmsg.microseconds);
        let stamp = Stamp { realtime: now.realtime.saturating_sub(age), monotonic: kmsg.microseconds };
        let (priority, facility) = (kmsg.priority.to_string(), kmsg.facility.to_string());
        let mut fields: Vec<Field<'_>> = vec![
            (b"MESSAGE", &kmsg.message),
            (b"PRIORITY", priority.as_bytes()),
            (b"SYSLOG_FACILITY", facility.as_bytes()),
        ];
        let kernel = (kmsg.facility == 0).then_some(&b"kernel"[..]);
        let optional: [(&[u8], Option<&[u8]>); 4] = [
            (b"SYSLOG_IDENTIFIER", kernel.or(kmsg.identifier)),
            (b"SYSLOG_PID", kmsg.pid),
            (b"_KERNEL_DEVICE", kmsg.property("DEVICE")),
            (b"_KERNEL_SUBSYSTEM", kmsg.property("SUBSYSTEM")),
        ];
        fields.extend(optional.iter().filter_map(|(name, value)| Some((*name, (*value)?))));
        let origin = Origin { transport: "kernel", pid: None, uid: None, unit: None };
        self.store(origin, stamp, &fields, poller);
    }

    /// A message of a client: within the rate limit of its source it is stored.
    pub fn accept(&mut self, origin: Origin<'_>, fields: &[Field<'_>], poller: &Poller) {
        self.accept_at(now(), origin, fields, poller);
    }

    fn accept_at(&mut self, now: Stamp, origin: Origin<'_>, fields: &[Field<'_>], poller: &Poller) {
        let process = origin.pid.map(|pid| self.processes.get(pid, now.monotonic)).unwrap_or_default();
        let unit = origin.unit.or(process.unit.as_deref());
        let field = |wanted: &[u8]| fields.iter().find(|field| field.0 == wanted).map(|field| field.1);
        // All containers speak through one unit: each has a limit of its own.
        let source =
            field(b"CONTAINER_ID_FULL").or(unit).or_else(|| field(b"SYSLOG_IDENTIFIER")).unwrap_or_default();
        match self.limiter.judge(source.get(..256).unwrap_or(source), now.monotonic) {
            Verdict::Drop => return,
            Verdict::Pass => {}
            Verdict::PassAfter(count) => {
                let text = format!("Suppressed {count} messages from {}", String::from_utf8_lossy(source));
                self.say(&text, unit, poller);
            }
        }
        self.store(origin, now, fields, poller);
    }

    fn store(&mut self, origin: Origin<'_>, stamp: Stamp, fields: &[Field<'_>], poller: &Poller) {
        let process = origin.pid.map(|pid| self.processes.get(pid, stamp.monotonic)).unwrap_or_default();
        let (pid, uid) = (origin.pid.map(|pid| pid.to_string()), origin.uid.map(|uid| uid.to_string()));
        let trusted: [(&[u8], Option<&[u8]>); 5] = [
            (b"_TRANSPORT", Some(origin.transport.as_bytes())),
            (b"_PID", pid.as_deref().map(str::as_bytes)),
            (b"_UID", uid.as_deref().map(str::as_bytes)),
            (b"_COMM", process.name.as_deref()),
            (b"_SYSTEMD_UNIT", origin.unit.or(process.unit.as_deref())),
        ];
        // In front, so that a client that fills an entry cannot push them out.
        let mut all: Vec<Field<'_>> =
            trusted.iter().filter_map(|(name, value)| Some((*name, (*value)?))).collect();
        all.extend_from_slice(fields);
        self.ring.append(stamp, &all);
        if let Some(console) = self.console.as_mut().filter(|_| origin.transport != "kernel") {
            print(console, origin.pid, &all, poller);
        }
    }
}

fn print(console: &mut Console, pid: Option<i32>, fields: &[Field<'_>], poller: &Poller) {
    let field = |wanted: &[u8]| fields.iter().find(|field| field.0 == wanted).map(|field| field.1);
    let quiet = field(b"PRIORITY").is_some_and(|value| value > &[b'0'.wrapping_add(CONSOLE_PRIORITY)][..]);
    if let (Some(message), false) = (field(b"MESSAGE"), quiet) {
        let identifier = field(b"SYSLOG_IDENTIFIER").or_else(|| field(b"_COMM")).unwrap_or(b"unknown");
        console.line(identifier, pid, message, poller);
    }
}

/// The clocks now.
pub fn now() -> Stamp {
    let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    Stamp { realtime: micros(clock::realtime()), monotonic: micros(clock::monotonic()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::{BURST, INTERVAL};
    use crate::ring::Found;

    #[test]
    fn a_source_over_its_limit_is_reported_under_its_unit() {
        let (mut journal, poller) = (Journal::new(0, Host::default(), None), Poller::new().unwrap());
        let origin = Origin { transport: "stdout", pid: None, uid: None, unit: Some(b"a.service") };
        let fields: [Field<'_>; 1] = [(b"MESSAGE", b"again")];
        for _ in 0..BURST + 3 {
            journal.accept_at(Stamp::default(), origin, &fields, &poller);
        }
        assert_eq!(journal.ring.next_number(), u64::from(BURST) + 1);
        let later = Stamp { realtime: 0, monotonic: INTERVAL };
        journal.accept_at(later, origin, &fields, &poller);
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
        let (mut journal, poller) = (Journal::new(0, Host::default(), None), Poller::new().unwrap());
        let origin = Origin { transport: "journal", pid: None, uid: Some(7), unit: None };
        journal.native(b"_UID=0\nMESSAGE=x\n_TRANSPORT=kernel\nbad name=1\n", origin, &poller);
        journal.native(b"_UID=0\n", origin, &poller);
        let Found::Entry(entry) = journal.ring.advance(&mut journal.ring.start()) else { panic!("no entry") };
        let expected: [Field<'_>; 3] = [(b"_TRANSPORT", b"journal"), (b"_UID", b"7"), (b"MESSAGE", b"x")];
        assert_eq!(entry.fields().collect::<Vec<_>>(), expected);
        assert_eq!(journal.ring.next_number(), 2);
    }
}
