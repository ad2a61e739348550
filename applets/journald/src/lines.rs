//! Cuts a byte stream into lines of bounded length.

/// The longest line; a longer one becomes several messages (journald.conf(5), `LineMax=`).
pub const LINE_LIMIT: usize = 48 << 10;

/// Why a message ends where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// A line end or a zero byte.
    End,
    /// [`LINE_LIMIT`].
    TooLong,
    /// The stream was closed within a line.
    Closed,
    /// Another process went on writing.
    PidChange,
}

/// What has come of a line that is not complete.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes in bytes and hands over each line that they complete. `emit` returns whether to go on; when it
    /// says no, the rest of the bytes is returned.
    pub fn feed<'a>(&mut self, bytes: &'a [u8], emit: &mut dyn FnMut(&[u8], Break) -> bool) -> &'a [u8] {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = LINE_LIMIT.saturating_sub(self.partial.len());
            let window = rest.get(..room).unwrap_or(rest);
            let end = window.iter().position(|byte| matches!(byte, b'\n' | 0));
            let (line, why, after) = match end {
                Some(at) => (window.get(..at), Break::End, rest.get(at.saturating_add(1)..)),
                None if window.len() == room => (Some(window), Break::TooLong, rest.get(room..)),
                None => break,
            };
            rest = after.unwrap_or_default();
            let line = line.unwrap_or_default();
            let go_on = if self.partial.is_empty() {
                emit(line, why)
            } else {
                // Freed at once: most streams are silent most of the time.
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                emit(&whole, why)
            };
            if !go_on {
                return rest;
            }
        }
        self.partial.extend_from_slice(rest);
        &[]
    }

    /// Hands over what has come of an incomplete line.
    pub fn flush(&mut self, why: Break, emit: impl FnOnce(&[u8], Break)) {
        let partial = std::mem::take(&mut self.partial);
        if !partial.is_empty() {
            emit(&partial, why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(lines: &mut Lines, bytes: &[u8]) -> Vec<(Vec<u8>, Break)> {
        let mut got = Vec::new();
        lines.feed(bytes, &mut |line, why| {
            got.push((line.to_vec(), why));
            true
        });
        got
    }

    #[test]
    fn lines_in_every_cut() {
        let text = b"one\n\ntwo\0three\nfour";
        let expected: Vec<(Vec<u8>, Break)> =
            ["one", "", "two", "three"].iter().map(|line| (line.as_bytes().to_vec(), Break::End)).collect();
        for cut in 0..text.len() {
            let mut lines = Lines::default();
            let mut got = feed(&mut lines, &text[..cut]);
            got.extend(feed(&mut lines, &text[cut..]));
            assert_eq!(got, expected);
            let mut rest = Vec::new();
            lines.flush(Break::Closed, |line, _| rest = line.to_vec());
            assert_eq!(rest, b"four");
        }
    }

    #[test]
    fn a_long_line_is_cut() {
        let mut lines = Lines::default();
        let long = vec![b'x'; LINE_LIMIT];
        assert!(feed(&mut lines, &long[1..]).is_empty());
        let got = feed(&mut lines, b"yz\n");
        assert_eq!((got[0].0.len(), got[0].1), (LINE_LIMIT, Break::TooLong));
        assert_eq!(got[1], (b"z".to_vec(), Break::End));
        let mut exact = long.clone();
        exact.extend_from_slice(&long);
        let got = feed(&mut lines, &exact);
        assert_eq!(got.len(), 2);
    }

    #[test]
    fn one_can_stop_in_between() {
        let mut lines = Lines::default();
        assert_eq!(lines.feed(b"a\nb\nc\n", &mut |_, _| false), b"b\nc\n");
    }
}
