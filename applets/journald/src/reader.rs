//! A query under way. It takes entries from the log as fast as its peer reads, and holds no more than one buffer of
//! them: a slow reader falls back in the log, and is told when it lost entries.

use crate::journal::Journal;
use crate::json;
use crate::scan::{Scan, Step};
use minke_control::Server;

/// Entries are gathered until they have so many bytes.
const OUTPUT_TARGET: usize = 16 << 10;
/// Entries that are looked at before others have their turn.
const STEPS: u32 = 2_000;

/// One query.
#[derive(Debug)]
pub struct Reader {
    /// The connection that asked.
    pub conn: u64,
    scan: Scan,
    /// The number of the next entry when it had read everything.
    waits_for: Option<u64>,
}

/// What a reader does after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It has more to read.
    More,
    /// It waits for its peer or for new entries.
    Waits,
    /// It is through, or its peer is gone.
    Done,
}

impl Reader {
    /// A query of the connection `conn`.
    pub fn new(conn: u64, scan: Scan) -> Self {
        Self { conn, scan, waits_for: None }
    }

    /// Reads entries, a bounded number, and sends them.
    pub fn turn(&mut self, server: &mut Server, journal: &Journal, hostname: &str) -> Turn {
        match server.queued(self.conn) {
            None => return Turn::Done,
            Some(0) if self.waits_for != Some(journal.ring.next_number()) => {}
            Some(_) => return Turn::Waits,
        }
        let mut lines = Vec::new();
        let turn = self.gather(&mut lines, journal, hostname);
        if !lines.is_empty() {
            server.send_lines(self.conn, &lines);
        }
        if turn == Turn::Done {
            server.close(self.conn);
        }
        turn
    }

    fn gather(&mut self, lines: &mut Vec<u8>, journal: &Journal, hostname: &str) -> Turn {
        for _ in 0..STEPS {
            match self.scan.step(&journal.ring) {
                Step::Entry(entry) => json::write_entry(lines, entry, &journal.host, hostname),
                Step::Lost(count) => lines.extend_from_slice(format!("{{\"lost\":{count}}}\n").as_bytes()),
                Step::Busy => {}
                Step::Idle => {
                    self.waits_for = Some(journal.ring.next_number());
                    return Turn::Waits;
                }
                Step::Done => return Turn::Done,
            }
            if lines.len() >= OUTPUT_TARGET {
                break;
            }
        }
        Turn::More
    }
}
