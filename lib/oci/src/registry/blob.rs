//! A layer as it comes from a registry, taken up where it breaks off.

use super::Registry;
use super::access::Patience;
use super::request::{Failure, failed};
use crate::{Error, Result};
use minke_http::client::Stream;
use minke_wire::text;

/// Reads a blob. Its bytes are not verified here.
#[derive(Debug)]
pub struct BlobReader {
    target: String,
    size: Option<u64>,
    /// The place of the next byte.
    place: u64,
    stream: Option<Box<Stream>>,
    /// What came and was not taken yet, from `taken` on.
    piece: Vec<u8>,
    taken: usize,
    /// Bytes that come again, as the server does not start in the middle.
    again: u64,
    fresh: Patience,
    patience: Patience,
}

impl BlobReader {
    pub(super) fn new(target: String, size: Option<u64>, place: u64, patience: Patience) -> Self {
        let fresh = patience;
        Self { target, size, place, stream: None, piece: Vec::new(), taken: 0, again: 0, fresh, patience }
    }

    /// Reads the next bytes; 0 at the end.
    pub fn read(&mut self, registry: &mut Registry<'_>, buffer: &mut [u8]) -> Result<usize> {
        loop {
            let rest = self.piece.get(self.taken..).unwrap_or_default();
            if !rest.is_empty() {
                let count = crate::pipe::put(rest, buffer);
                self.taken = self.taken.saturating_add(count);
                self.place = self.place.saturating_add(u64::try_from(count).unwrap_or(0));
                return Ok(count);
            }
            if self.size == Some(self.place) {
                return Ok(0);
            }
            match self.more(registry) {
                Ok(true) => {}
                Ok(false) => return Ok(0),
                Err(failure) => {
                    self.stream = None;
                    self.patience.wait(failure, registry.access)?;
                }
            }
        }
    }

    /// Waits for the next piece. `false`: there is none.
    fn more(&mut self, registry: &mut Registry<'_>) -> std::result::Result<bool, Failure> {
        if self.stream.is_none() {
            let stream = registry.ask(&self.target, self.place)?;
            self.again = match stream.status {
                206 => {
                    self.check_range(registry, &stream)?;
                    0
                }
                _ => self.place,
            };
            self.stream = Some(stream);
        }
        let Some(stream) = &mut self.stream else { return Ok(false) };
        let mut piece =
            stream.next_piece().map_err(|error| failed(&registry.host, &error))?.unwrap_or_default();
        if piece.is_empty() {
            // The end; too early when the size is known, as it was not reached.
            return match self.size {
                Some(size) if self.place < size => {
                    Err(Failure::again(&registry.host, &"the layer ends too early"))
                }
                _ => Ok(false),
            };
        }
        let skip = usize::try_from(self.again).map_or(piece.len(), |again| again.min(piece.len()));
        piece.drain(..skip);
        self.again = self.again.saturating_sub(u64::try_from(skip).unwrap_or(0));
        if !piece.is_empty() {
            // Something came, so the next failure is the first one.
            self.patience = self.fresh;
        }
        (self.piece, self.taken) = (piece, 0);
        Ok(true)
    }

    /// Whether the part that comes begins where it was asked for (RFC 9110 §14.4).
    fn check_range(&self, registry: &Registry<'_>, stream: &Stream) -> std::result::Result<(), Failure> {
        let range = stream.headers.get("Content-Range").unwrap_or_default();
        let start = range.strip_prefix("bytes ").and_then(|rest| rest.split('-').next());
        if start.and_then(text::number) == Some(self.place) {
            return Ok(());
        }
        let error = Error::Malformed {
            what: registry.host.as_str().into(),
            reason: format!("asked for the bytes from {} on, it sends '{}'", self.place, text::shown(range))
                .into(),
        };
        Err(Failure { error, is_final: true, after: None })
    }
}
