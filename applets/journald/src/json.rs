//! An entry as one line of JSON, with the members of `journalctl -o json`.

use crate::ring::{Entry, Field};
use crate::scan::{Host, cursor};

/// Appends the line. Values that are not UTF-8 become arrays of bytes; a field that occurs several times becomes
/// one array of its values.
pub fn write_entry(out: &mut Vec<u8>, entry: Entry<'_>, host: &Host, hostname: &str) {
    out.push(b'{');
    write_own(out, "__CURSOR", &cursor(entry, host));
    write_own(out, "__REALTIME_TIMESTAMP", &entry.stamp.realtime.to_string());
    write_own(out, "__MONOTONIC_TIMESTAMP", &entry.stamp.monotonic.to_string());
    write_own(out, "__SEQNUM", &entry.number.to_string());
    write_own(out, "__SEQNUM_ID", &host.run);
    write_own(out, "_BOOT_ID", &host.boot);
    write_own(out, "_HOSTNAME", hostname);
    let fields: Vec<Field<'_>> = entry.fields().collect();
    for (index, (name, _)) in fields.iter().enumerate() {
        if !fields.iter().take(index).any(|field| field.0 == *name) {
            write_member(out, name, &fields);
        }
    }
    out.pop();
    out.extend_from_slice(b"}\n");
}

/// A field of the journal's own.
fn write_own(out: &mut Vec<u8>, name: &str, value: &str) {
    write_text(out, name);
    out.push(b':');
    write_text(out, value);
    out.push(b',');
}

fn write_member(out: &mut Vec<u8>, name: &[u8], fields: &[Field<'_>]) {
    write_value(out, name);
    out.push(b':');
    let begin = out.len();
    let mut count = 0u32;
    for field in fields.iter().filter(|field| field.0 == name) {
        write_value(out, field.1);
        out.push(b',');
        count = count.saturating_add(1);
    }
    if count > 1 {
        out.pop();
        out.insert(begin, b'[');
        out.extend_from_slice(b"],");
    }
}

fn write_value(out: &mut Vec<u8>, value: &[u8]) {
    match std::str::from_utf8(value) {
        Ok(text) => write_text(out, text),
        Err(_) => {
            out.push(b'[');
            for byte in value {
                out.extend_from_slice(byte.to_string().as_bytes());
                out.push(b',');
            }
            out.pop();
            out.push(b']');
        }
    }
}

/// A JSON string (RFC 8259 section 7).
fn write_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0..=0x1F => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{ENTRY_LIMIT, Found, Ring, Stamp};

    fn line(fields: &[Field<'_>]) -> Vec<u8> {
        let mut ring = Ring::new(0);
        ring.append(Stamp { realtime: 17, monotonic: 3 }, fields);
        let Found::Entry(entry) = ring.advance(&mut ring.start()) else { panic!("no entry") };
        let mut out = Vec::new();
        let host = Host { boot: "b".into(), run: "r".into() };
        write_entry(&mut out, entry, &host, "name");
        out
    }

    #[test]
    fn a_reader_of_json_gets_the_fields_back() {
        let control: Vec<u8> = (0..128).collect();
        let text = "a\"\\\u{1F40B}";
        let out = line(&[
            (b"MESSAGE", text.as_bytes()),
            (b"C", &control),
            (b"B", &[255, 0]),
            (b"D", b"1"),
            (b"D", b"2"),
        ]);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        let value: minke_wire::json::Value = minke_wire::json::parse(&out).unwrap();
        assert_eq!(value["MESSAGE"], text);
        assert_eq!(value["C"].as_str().unwrap().as_bytes(), control);
        assert_eq!(value["B"], minke_wire::json::json!([255, 0]));
        assert_eq!(value["D"], minke_wire::json::json!(["1", "2"]));
        assert_eq!(value["__REALTIME_TIMESTAMP"], "17");
        assert_eq!(value["__CURSOR"], "s=r;i=1;b=b;m=3;t=11");
    }

    #[test]
    fn the_worst_entry_fits_into_a_line_of_the_control_protocol() {
        let worst = vec![1u8; ENTRY_LIMIT - 7];
        assert!(line(&[(b"MESSAGE", &worst)]).len() < minke_control::LINE_LIMIT);
        let worst = vec![255u8; ENTRY_LIMIT - 7];
        assert!(line(&[(b"MESSAGE", &worst)]).len() < minke_control::LINE_LIMIT);
    }
}
