use super::*;
use std::time::Duration;

#[test]
fn lines_sections_comments_and_continuations() {
    let file = parse(
        "# a\n[Unit]\nDescription= A unit \n; b\n[Service]\nExecStart=/bin/a \\\n# between\n  b \\\n;and\n  c\nX=\n",
    );
    let entries: Vec<_> =
        file.entries.iter().map(|e| (e.section.as_str(), e.key.as_str(), e.value.as_str(), e.line)).collect();
    assert_eq!(
        entries,
        [
            ("Unit", "Description", "A unit", 3),
            ("Service", "ExecStart", "/bin/a  b  c", 6),
            ("Service", "X", "", 11)
        ]
    );
    assert!(file.errors.is_empty());
}

#[test]
fn bad_lines_are_told_with_their_number_and_the_others_count() {
    let file = parse("A=1\n[Unit\n[Unit]\nnonsense\n=x\nAfter=a.service\nE=\\");
    let lines: Vec<u32> = file.errors.iter().map(|error| error.line).collect();
    assert_eq!(lines, [1, 2, 4, 5]);
    assert_eq!(file.entries.len(), 2);
}

#[test]
fn words_with_quotes_and_escapes() {
    assert_eq!(words(r#"a "b c"  'd "e' f"#).unwrap(), ["a", "b c", "d \"e", "f"]);
    assert_eq!(words(r#"x\x20y "\n" \\ "" "#).unwrap(), ["x y", "\n", "\\", ""]);
    assert_eq!(words(r#""VAR=a b" C=d"#).unwrap(), ["VAR=a b", "C=d"]);
    for bad in ["\"a", "a'", "\\q", "\\x1", "\\"] {
        assert_eq!(words(bad), None, "{bad}");
    }
    assert!(words("").unwrap().is_empty());
}

#[test]
fn names_and_specifiers() {
    let name = Name::parse("serial-getty@ttyS0.service").unwrap();
    assert_eq!((name.prefix(), name.instance(), name.kind()), ("serial-getty", Some("ttyS0"), "service"));
    assert_eq!(name.template().unwrap(), "serial-getty@.service");
    assert_eq!(
        name.expand("%n|%N|%p|%i|%j|%%|%t").unwrap(),
        "serial-getty@ttyS0.service|serial-getty@ttyS0|serial-getty|ttyS0|getty|%|/run"
    );
    assert_eq!(name.expand("%q"), Err(NameError::Specifier('q')));
    assert!(Name::parse("a@.service").unwrap().is_template());
    assert_eq!(Name::parse("a@.service").unwrap().instantiate("b"), "a@b.service");
    assert_eq!(Name::parse("x@dev-sda\\x2d1.service").unwrap().expand("%I").unwrap(), "dev/sda-1");
    for bad in ["", "a", ".service", "@x.service", "a b.service", "a/b.service", "a."] {
        assert!(Name::parse(bad).is_err(), "{bad}");
    }
    assert_eq!(Name::complete("balena").unwrap().full(), "balena.service");
    assert_eq!(Name::complete("a.b").unwrap().full(), "a.b.service");
    assert_eq!(Name::complete("basic.target").unwrap().full(), "basic.target");
}

#[test]
fn values() {
    let seconds = |value| time_span(value).and_then(Span::limit);
    assert_eq!(seconds("20"), Some(Duration::from_secs(20)));
    assert_eq!(seconds("5min 20s"), Some(Duration::from_secs(320)));
    assert_eq!(seconds("1h30m"), Some(Duration::from_secs(5400)));
    assert_eq!(seconds("500 ms"), Some(Duration::from_millis(500)));
    assert_eq!(time_span("infinity"), Some(Span::Infinite));
    for bad in ["", "x", "-1", "5 parsecs", "99999999999999999999", "18446744073709551615w"] {
        assert_eq!(time_span(bad), None, "{bad}");
    }
    assert_eq!((boolean("Yes"), boolean("off"), boolean("2")), (Some(true), Some(false), None));
    assert_eq!(
        (bytes("4K"), bytes("infinity"), bytes("7"), bytes("K")),
        (Some(Some(4096)), Some(None), Some(Some(7)), None)
    );
    assert_eq!(
        (signal_number("SIGTERM"), signal_number("HUP"), signal_number("9")),
        (Some(15), Some(1), Some(9))
    );
    assert_eq!(
        (signal_number("SIGRTMIN+4"), signal_number("65"), signal_number("X")),
        (Some(38), None, None)
    );
    assert_eq!(signal_name(15), Some("TERM"));
}

#[test]
fn never_panics_on_mutated_input() {
    let seed = "[Unit]\nDescription=x %n %\nExecStart=-/bin/a \"b \\x41 c\" \\\n d\nTimeoutStopSec=5min 3s\n# c\n[Service]\nUser=é\n";
    let mut random = 0x1234_5678_9ABC_DEF1_u64;
    for _ in 0..30_000 {
        let mut bytes = seed.as_bytes().to_vec();
        for _ in 0..5 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let index = usize::try_from(random >> 33).unwrap() % bytes.len();
            bytes[index] = b"\\\"'[]=%#;\n x9@.-\0\xff"[usize::try_from(random & 15).unwrap()];
        }
        let text = String::from_utf8_lossy(&bytes);
        for entry in parse(&text).entries {
            words(&entry.value);
            time_span(&entry.value);
            super::bytes(&entry.value);
            signal_number(&entry.value);
            if let Ok(name) = Name::complete(&entry.value) {
                let _ = name.expand(&text);
            }
        }
    }
}
