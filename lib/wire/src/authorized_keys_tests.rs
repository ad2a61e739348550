use super::*;

/// A key of this type with these fields, as a line.
fn line(kind: &str, fields: &[&[u8]]) -> String {
    let mut blob = Vec::new();
    for field in [&[kind.as_bytes()], fields].concat() {
        blob.extend_from_slice(&u32::try_from(field.len()).unwrap().to_be_bytes());
        blob.extend_from_slice(field);
    }
    let mut text = base64::encode_unpadded(&blob);
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    format!("{kind} {text}")
}

fn ed25519() -> String {
    line("ssh-ed25519", &[&[7; 32]])
}

fn wrong(line: &str) -> &'static str {
    parse(line).unwrap_err()
}

#[test]
fn each_type_is_read() {
    let point = |length: usize| [&[4][..], &vec![9; length - 1]].concat();
    let (p256, p384, p521) = (point(65), point(97), point(133));
    for text in [
        ed25519(),
        line("ssh-rsa", &[&[1, 0, 1], &[0x7f; 256]]),
        line("ssh-dss", &[&[1], &[2], &[3], &[4]]),
        line("ecdsa-sha2-nistp256", &[b"nistp256", &p256]),
        line("ecdsa-sha2-nistp384", &[b"nistp384", &p384]),
        line("ecdsa-sha2-nistp521", &[b"nistp521", &p521]),
        line("sk-ssh-ed25519@openssh.com", &[&[1; 32], b"ssh:"]),
        line("sk-ecdsa-sha2-nistp256@openssh.com", &[b"nistp256", &p256, b"ssh:"]),
    ] {
        let key = parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(key.options.is_empty() && key.comment.is_empty() && text.starts_with(key.kind));
        let with = format!("  {text}\tjane doe@host \t");
        assert_eq!(parse(&with).unwrap().comment, "jane doe@host");
        let with = format!("from=\"*.example.com,!b \\\" x\",no-pty,X11-Forwarding\t {text} c");
        let key = parse(&with).unwrap();
        assert_eq!(key.options, "from=\"*.example.com,!b \\\" x\",no-pty,X11-Forwarding");
        assert_eq!((key.comment, key.blob.is_empty()), ("c", false));
    }
}

#[test]
fn what_is_wrong_is_said() {
    let good = ed25519();
    let (kind, blob) = good.split_once(' ').unwrap();
    for (text, expected) in [
        (String::new(), "is empty"),
        (" \t ".into(), "is empty"),
        ("# comment".into(), "is a comment"),
        (format!("{good}\n{good}"), "has a line feed"),
        (format!("{good}\0"), "control character"),
        (format!("{good} {}", "x".repeat(LINE_LIMIT)), "too long"),
        ("no key at all".into(), "no known type"),
        (blob.into(), "no known type"),
        (kind.into(), "nothing after its type"),
        (format!("{kind} {}", &blob[..blob.len() - 1]), "base64 is broken"),
        (format!("{kind} {}", &blob[..blob.len() - 4]), "cut off"),
        (format!("ssh-rsa {blob}"), "another type inside"),
        (format!("ssh-ed448 {blob}"), "no known type"),
        (line("ssh-ed25519", &[&[7; 31]]), "does not fit"),
        (line("ssh-ed25519", &[&[7; 32], b"x"]), "after its last field"),
        (line("ssh-rsa", &[&[1, 0, 1], &[0x7f; 64]]), "less than 1024"),
        (line("ssh-rsa", &[&[1, 0, 1], &[0x80; 256]]), "does not fit"),
        (line("ecdsa-sha2-nistp256", &[b"nistp384", &[4; 65]]), "does not fit"),
        (line("ecdsa-sha2-nistp256", &[b"nistp256", &[3; 65]]), "does not fit"),
        (format!("no-pty {kind}"), "nothing after its type"),
        (format!("no-pty,nonsense {good}"), "does not know"),
        (format!("nonsense {good}"), "no known type"),
        (format!("from=x {good}"), "no quotes"),
        (format!("from=\"x {good}"), "no closing quote"),
        (format!("from=\"x\"y {good}"), "text after its value"),
        (format!("no-pty=\"x\" {good}"), "no known type"),
        ("no-pty".into(), "no type"),
        (format!("no-pty, {good}"), "does not know"),
    ] {
        assert!(wrong(&text).contains(expected), "{text}: {}", wrong(&text));
    }
}

#[test]
fn never_panics_on_mutated_lines() {
    let seeds = [
        format!("command=\"a\\\"b\",no-pty {} me@x", ed25519()),
        line("ecdsa-sha2-nistp256", &[b"nistp256", &[4; 65]]),
        line("ssh-rsa", &[&[1, 0, 1], &[1; 128]]),
    ];
    let mut state = 0x0123_4567_89AB_CDEFu64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 20).unwrap()
    };
    let mut good = 0;
    for round in 0..60_000 {
        let mut text = seeds[round % 3].clone().into_bytes();
        for _ in 0..random() % 3 {
            let at = random() % text.len();
            match random() % 4 {
                0 => text[at] = b"\",=\\ \tAz0+/#\xC3\xA4\0\n"[random() % 16],
                1 => drop(text.remove(at)),
                2 => text.insert(at, b"\", =A"[random() % 5]),
                _ => text.truncate(at.max(1)),
            }
        }
        if let Ok(key) = parse(&String::from_utf8_lossy(&text)) {
            good += 1;
            // What is accepted is one line whose parts are what they claim to be.
            assert!(fields_of(key.kind).is_some() && field(&key.blob).unwrap().0 == key.kind.as_bytes());
            assert!(!key.options.contains('\n') && !key.comment.contains('\n'));
        }
    }
    assert!(good > 1000, "{good}");
}
