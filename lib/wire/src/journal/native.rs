//! The native protocol (systemd: "Native Journal Protocol"): one entry per datagram, each field either
//! `NAME=value\n` or, for any bytes, `NAME\n`, the length as 64 bits little-endian, the value, `\n`.

/// The field names and values of one datagram, names not checked. Empty lines and lines that start with `.`
/// or `#` are passed over.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

/// The datagram ends within a field. What came before is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl<'a> Fields<'a> {
    /// Starts at the first field.
    pub fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let (line, rest) = split_line(self.rest);
            if line.is_empty() || line.starts_with(b".") || line.starts_with(b"#") {
                self.rest = rest;
                continue;
            }
            if let Some(at) = line.iter().position(|byte| *byte == b'=') {
                self.rest = rest;
                let (name, value) = line.split_at_checked(at)?;
                return Some(Ok((name, value.get(1..)?)));
            }
            return Some(match binary(rest) {
                Some((value, rest)) => {
                    self.rest = rest;
                    Ok((line, value))
                }
                None => {
                    self.rest = &[];
                    Err(Malformed)
                }
            });
        }
    }
}

fn binary(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (value, rest) = rest.split_at_checked(length)?;
    Some((value, rest.strip_prefix(b"\n")?))
}

/// The bytes up to the next line end, and what follows it.
fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (line, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
    (line, rest.get(1..).unwrap_or_default())
}

/// Appends one field to a datagram, in the text form where the value allows it. The export format of the
/// journal uses the same two forms.
pub fn encode_field(datagram: &mut Vec<u8>, name: &str, value: &[u8]) {
    datagram.extend_from_slice(name.as_bytes());
    // Control bytes travel in the binary form, so that an export file stays text for line tools.
    if value.iter().all(|byte| *byte >= b' ' || *byte == b'\t') {
        datagram.push(b'=');
    } else {
        datagram.push(b'\n');
        let length = u64::try_from(value.len()).unwrap_or(u64::MAX);
        datagram.extend_from_slice(&length.to_le_bytes());
    }
    datagram.extend_from_slice(value);
    datagram.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::super::mutator::mutate;
    use super::*;

    type Pairs<'a> = Vec<(&'a [u8], &'a [u8])>;

    fn all(datagram: &[u8]) -> Result<Pairs<'_>, Malformed> {
        Fields::new(datagram).collect()
    }

    #[test]
    fn both_forms_come_back() {
        let mut datagram = Vec::new();
        encode_field(&mut datagram, "MESSAGE", b"two\nlines");
        encode_field(&mut datagram, "PRIORITY", b"6");
        encode_field(&mut datagram, "BLOB", &[0, 255, b'=', b'\n']);
        encode_field(&mut datagram, "EMPTY", b"");
        let expected: [(&[u8], &[u8]); 4] = [
            (b"MESSAGE", b"two\nlines"),
            (b"PRIORITY", b"6"),
            (b"BLOB", &[0, 255, b'=', b'\n']),
            (b"EMPTY", b""),
        ];
        assert_eq!(all(&datagram).unwrap(), expected);
    }

    #[test]
    fn the_last_line_end_may_miss_and_comments_are_passed_over() {
        let fields = all(b"#c\n\n.x=1\nA=b=c\nB=2").unwrap();
        assert_eq!(fields, [(&b"A"[..], &b"b=c"[..]), (b"B", b"2")]);
    }

    #[test]
    fn a_length_that_lies_ends_the_entry() {
        for tail in
            [&b"MESSAGE"[..], b"M\n\x05\0\0\0\0\0\0\0abc\n", b"M\n\xff\xff\xff\xff\xff\xff\xff\xffabc"]
        {
            let datagram = [b"A=1\n", tail].concat();
            let mut fields = Fields::new(&datagram);
            assert_eq!(fields.next(), Some(Ok((&b"A"[..], &b"1"[..]))));
            assert_eq!(fields.next(), Some(Err(Malformed)));
            assert_eq!(fields.next(), None);
        }
    }

    #[test]
    fn no_damage_makes_the_decoder_panic() {
        let examples: [&[u8]; 3] =
            [b"A=1\nB=2\n", b"M\n\x05\0\0\0\0\0\0\0a\ncde\nX=1\n", b"#\n.\nA\n\0\0\0\0\0\0\0\0\n"];
        mutate(&examples, 50_000, |bytes| {
            let mut total = 0;
            for (name, value) in Fields::new(bytes).flatten() {
                total += name.len() + value.len();
            }
            assert!(total <= bytes.len());
        });
    }
}
