//! One link over one family of addresses: what we have published there and what is to be sent.

use super::random::Budget;
use super::record::Record;
use super::{NEVER, PORT, Time, after, sooner};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Packets that are read per second, and answers to single hosts that are sent.
const PACKETS_PER_SECOND: u32 = 250;
const REPLIES_PER_SECOND: u32 = 50;
/// Most answers that wait to be sent to single hosts.
pub(crate) const MOST_REPLIES: usize = 32;
/// Most questions of others that are remembered for a second.
const MOST_HEARD: usize = 32;
/// Bytes of IP and UDP headers.
const HEADERS_V4: u16 = 28;
const HEADERS_V6: u16 = 48;
/// Bytes of the longest packet, its headers included (RFC 6762 §17).
pub(crate) const LONGEST_PACKET: u16 = 9000;

/// How far a group has come on a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// So many probes were sent.
    Probing(u8),
    /// The name is ours; so many announcements were sent.
    Announcing(u8),
    /// Nothing more to do.
    Settled,
}

/// A group's way to its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    pub(crate) group: u32,
    pub(crate) phase: Phase,
    /// When the next step is due.
    pub(crate) at: Time,
}

/// A record of ours.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    pub(crate) record: Record,
    /// Of the record's name.
    pub(crate) hash: u32,
    pub(crate) group: u32,
    /// When it was multicast last; 0: never.
    pub(crate) told: Time,
    /// When it shall be multicast.
    pub(crate) due: Time,
    /// Stands for the only one who asked: his known answers can take the answer back; 0: for none.
    pub(crate) asker: u32,
}

/// An answer to a single host.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) to: SocketAddr,
    pub(crate) due: Time,
    /// Places in the list of our records.
    pub(crate) places: Vec<usize>,
}

/// A link over one family.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) link: u32,
    pub(crate) v6: bool,
    /// Bytes of the longest message that need not be cut into fragments.
    pub(crate) limit: usize,
    pub(crate) own: Vec<Own>,
    pub(crate) progress: Vec<Progress>,
    pub(crate) replies: Vec<Reply>,
    /// Questions that others asked everybody.
    heard: Vec<(u32, Time)>,
    pub(crate) packets: Budget,
    pub(crate) unicasts: Budget,
    /// Until then unicast responses are welcome: we asked for them.
    pub(crate) unicast_until: Time,
}

impl Side {
    /// A side on which nothing was said.
    pub(crate) fn new(now: Time, link: u32, v6: bool) -> Self {
        Self {
            link,
            v6,
            limit: 0,
            own: Vec::new(),
            progress: Vec::new(),
            replies: Vec::new(),
            heard: Vec::new(),
            packets: Budget::new(now, PACKETS_PER_SECOND),
            unicasts: Budget::new(now, REPLIES_PER_SECOND),
            unicast_until: 0,
        }
    }

    /// Messages shall fit packets of `mtu` bytes.
    pub(crate) fn set_mtu(&mut self, mtu: u16) {
        let headers = if self.v6 { HEADERS_V6 } else { HEADERS_V4 };
        // Every link takes 576 bytes of IPv4 and 1280 of IPv6; what says less is not believed.
        self.limit = mtu.clamp(576, LONGEST_PACKET).saturating_sub(headers).into();
    }

    /// Where all hosts of the link listen.
    pub(crate) fn everybody(&self) -> SocketAddr {
        let ip = if self.v6 {
            IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb))
        } else {
            IpAddr::V4(Ipv4Addr::new(224, 0, 0, 251))
        };
        SocketAddr::new(ip, PORT)
    }

    pub(crate) fn progress_of(&mut self, group: u32) -> Option<&mut Progress> {
        self.progress.iter_mut().find(|progress| progress.group == group)
    }

    pub(crate) fn phase(&self, group: u32) -> Option<Phase> {
        self.progress.iter().find(|progress| progress.group == group).map(|progress| progress.phase)
    }

    /// Whether the name of a group is known to be ours here.
    pub(crate) fn is_live(&self, group: u32) -> bool {
        matches!(self.phase(group), Some(Phase::Announcing(_) | Phase::Settled))
    }

    /// Whether others are told a record here.
    pub(crate) fn publishes(&self, record: &Record) -> bool {
        self.own.iter().any(|own| own.record.says(record) && self.is_live(own.group))
    }

    /// When something is to be sent.
    pub(crate) fn deadline(&self, first: &mut Time) {
        for progress in &self.progress {
            if progress.phase != Phase::Settled {
                sooner(first, progress.at);
            }
        }
        for own in &self.own {
            sooner(first, own.due);
        }
        for reply in &self.replies {
            sooner(first, reply.due);
        }
    }

    /// Somebody asked everybody this question.
    pub(crate) fn heard(&mut self, now: Time, question: u32) {
        self.heard.retain(|(_, at)| after(*at, 1000) > now);
        if self.heard.len() < MOST_HEARD {
            self.heard.push((question, now));
        }
    }

    /// Whether somebody asked this question within a second, and after `since`.
    pub(crate) fn was_heard(&self, now: Time, question: u32, since: Time) -> bool {
        self.heard.iter().any(|(other, at)| *other == question && after(*at, 1000) > now && *at > since)
    }
}

impl Own {
    /// To be multicast at this time, if not sooner, but not sooner than `pause` after it was so last.
    pub(crate) fn schedule(&mut self, at: Time, pause: u32) {
        sooner(&mut self.due, after(self.told, pause).max(at));
    }

    /// Not to be multicast.
    pub(crate) fn rest(&mut self) {
        (self.due, self.asker) = (NEVER, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_ask_is_remembered_for_a_second_and_within_a_bound() {
        let mut side = Side::new(0, 1, false);
        for question in 0..1000 {
            side.heard(5000, question);
        }
        assert_eq!(side.heard.len(), MOST_HEARD);
        assert!(side.was_heard(5999, 3, 0) && !side.was_heard(5999, 3, 5000) && !side.was_heard(6000, 3, 0));
        side.heard(6000, 5000);
        assert_eq!(side.heard.len(), 1);
    }

    #[test]
    fn messages_fit_the_packets_of_the_link() {
        for (mtu, v6, limit) in
            [(1500, false, 1472), (1500, true, 1452), (65_535, false, 8972), (0, false, 548)]
        {
            let mut side = Side::new(0, 1, v6);
            side.set_mtu(mtu);
            assert_eq!(side.limit, limit);
        }
    }
}
