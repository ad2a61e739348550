//! The header of `/run/systemd/journal/stdout`: seven lines in front of the log lines, as sd_journal_stream_fd(3)
//! and the service manager send them.

/// What a stream says about itself before its first line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// `SYSLOG_IDENTIFIER` of its lines; empty for none.
    pub identifier: Vec<u8>,
    /// The unit that writes; believed from root alone.
    pub unit: Vec<u8>,
    /// Priority of lines without a level of their own: facility times 8 plus 0 to 7.
    pub priority: u8,
    /// Lines may begin with `<N>`.
    pub level_prefix: bool,
    /// Lines also go to a syslog daemon.
    pub forward_to_syslog: bool,
    /// Lines also go to the kernel log.
    pub forward_to_kmsg: bool,
    /// Lines also go to the console.
    pub forward_to_console: bool,
}

/// A header line that makes no sense; the stream is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderError;

impl Header {
    /// How many lines the header has.
    pub const LINES: u8 = 7;

    /// Takes in line `index` (0 to 6), without its line end.
    pub fn line(&mut self, index: u8, line: &[u8]) -> Result<(), HeaderError> {
        match index {
            0 => self.identifier = line.to_vec(),
            1 => self.unit = line.to_vec(),
            2 => {
                let number = super::decimal(line).and_then(|number| u8::try_from(number).ok());
                self.priority = number.ok_or(HeaderError)?;
            }
            3 => self.level_prefix = flag(line)?,
            4 => self.forward_to_syslog = flag(line)?,
            5 => self.forward_to_kmsg = flag(line)?,
            6 => self.forward_to_console = flag(line)?,
            _ => return Err(HeaderError),
        }
        Ok(())
    }
}

fn flag(line: &[u8]) -> Result<bool, HeaderError> {
    match line {
        b"1" => Ok(true),
        b"0" => Ok(false),
        _ => Err(HeaderError),
    }
}

/// The header's bytes, for the one who opens a stream. Line ends in the names are left out.
pub fn encode_header(header: &Header) -> Vec<u8> {
    let mut bytes = Vec::new();
    for name in [&header.identifier, &header.unit] {
        bytes.extend(name.iter().filter(|byte| **byte != b'\n'));
        bytes.push(b'\n');
    }
    bytes.extend_from_slice(header.priority.to_string().as_bytes());
    let flags =
        [header.level_prefix, header.forward_to_syslog, header.forward_to_kmsg, header.forward_to_console];
    for flag in flags {
        bytes.extend_from_slice(if flag { b"\n1" } else { b"\n0" });
    }
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back() {
        let header = Header {
            identifier: b"echo".to_vec(),
            unit: b"echo.service".to_vec(),
            priority: 30,
            level_prefix: true,
            forward_to_console: true,
            ..Header::default()
        };
        let bytes = encode_header(&header);
        assert_eq!(bytes, b"echo\necho.service\n30\n1\n0\n0\n1\n");
        let mut read = Header::default();
        for (index, line) in (0u8..).zip(bytes.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n')) {
            read.line(index, line).unwrap();
        }
        assert_eq!(read, header);
    }

    #[test]
    fn nonsense_is_refused() {
        for (index, line) in [(2, &b"x"[..]), (2, b"256"), (2, b""), (3, b"2"), (6, b""), (7, b"1")] {
            assert_eq!(Header::default().line(index, line), Err(HeaderError), "{index}");
        }
    }
}
