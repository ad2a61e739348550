//! Where the loop and NTS meet: sources of lines with `nts` are asked with keys, and heard when they have signed.

use super::Daemon;
use crate::client::Now;
use crate::nts::association::Judgement;
use minke_applet::build;
use minke_sys::clock;
use minke_wire::ntp::Packet;
use std::time::Duration;

impl Daemon {
    /// Where the server of a line is: as before a restart, or after a key exchange.
    pub(super) fn find_keys(&mut self, entry: u64, host: &str, port: u16) {
        if let Some((addresses, port)) = self.nts.find(entry, host, port) {
            self.client.keyed(entry, self.kernel.now(), addresses, port);
        }
        self.exchange_keys();
    }

    /// Begins the exchanges that are due.
    pub(super) fn exchange_keys(&mut self) {
        if self.nts.deadline().is_some_and(|due| due <= clock::boottime()) && self.client.online {
            // A real-time clock's word does not do: with a wrong one there would be no time, for ever.
            let confirmed = minke_control::time::is_synchronized() || self.kernel.is_synchronized();
            self.nts.begin(clock::boottime(), confirmed, build().time);
        }
    }

    /// Exchanges have ended.
    pub(super) fn keyed(&mut self) {
        for (entry, found) in self.nts.take() {
            let now = self.kernel.now();
            match found {
                Ok((addresses, port)) => self.client.keyed(entry, now, addresses, port),
                Err(problem) => self.client.resolved(entry, now, Err(problem)),
            }
        }
        self.exchange_keys();
    }

    /// The lists were read again.
    pub(super) fn keep_keys(&mut self) {
        let (mut entries, mut hosts) = (Vec::new(), Vec::new());
        for (entry, host, port) in self.client.nts_lines() {
            entries.push(entry);
            hosts.push((host, port));
        }
        self.nts.keep(&entries, &hosts);
    }

    /// The line of a source that is asked with NTS.
    fn sealed_entry(&self, id: u64) -> Option<u64> {
        let source = self.client.sources.iter().find(|source| source.id == id)?;
        source.options.nts.then_some(source.entry)
    }

    /// Seals a question where that is wanted; `false`: it cannot be.
    pub(super) fn seal(&mut self, id: u64, question: &mut Vec<u8>) -> bool {
        self.sealed_entry(id).is_none_or(|entry| self.nts.seal(entry, question))
    }

    pub(super) fn unsent(&mut self, id: u64) {
        if let Some(entry) = self.sealed_entry(id) {
            self.nts.unsent(entry);
        }
    }

    /// Hears a datagram that came when the clock showed `real` nanoseconds; of a source with NTS only what the server has
    /// signed. `true`: nothing else is expected at this socket.
    pub(super) fn hear(&mut self, id: u64, now: Now, bytes: &[u8], real: i64) -> bool {
        let Some(entry) = self.sealed_entry(id) else { return self.client.received(id, now, bytes, real) };
        let told = Packet::decode(bytes).map_or(0, |(packet, _)| {
            packet.xmt.to_nanos(now.real.max(super::nanos(Duration::from_secs(build().time))))
        });
        match self.nts.open(entry, bytes, Duration::from_nanos(u64::try_from(told).unwrap_or(0))) {
            Judgement::Foreign => false,
            Judgement::Nak => {
                self.exchange_keys();
                false
            }
            Judgement::Provisional => {
                self.client.was_refused(id, now, "its certificate's dates are being checked", false);
                self.exchange_keys();
                true
            }
            Judgement::Authentic => {
                let answered = self.client.received(id, now, bytes, real);
                let source = self.client.sources.iter_mut().find(|source| source.id == id);
                if let Some(last) = source.and_then(|source| source.last.as_mut()) {
                    last.authenticated = true;
                }
                answered
            }
        }
    }
}
