use super::convert::is_template;
use super::{MAX_DEPTH, MAX_MEMBERS, Map, Value, json, parse, parse_str};

fn reason(text: &str) -> String {
    parse_str(text).unwrap_err().to_string()
}

#[test]
fn every_kind_of_value_is_read_and_written_as_it_was() {
    for text in [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "12345678901234567890123",
        "-1.50e+07",
        "1E400",
        "\"\"",
        "\"a\\\"b\\\\c\\n\\r\\t\\b\\f\\u0000\\u001f/é😀\"",
        "[]",
        "{}",
        "[[],{},[1,\"x\"]]",
        "{\"z\":1,\"a\":{\"b\":[null]},\"\":false}",
    ] {
        assert_eq!(parse_str(text).unwrap().to_text(), text);
    }
    let spaced = parse_str(" {\r\n\t\"a\" : [ 1 , 2 ] , \"b\" : { } } \n").unwrap();
    assert_eq!(spaced.to_text(), "{\"a\":[1,2],\"b\":{}}");
}

#[test]
fn escapes_become_their_characters() {
    let text = parse_str(r#""\/ \u0041\u00e9 \ud83d\ude00 \"""#).unwrap();
    assert_eq!(text, "/ Aé 😀 \"");
}

#[test]
fn the_indented_form_is_what_people_expect() {
    let value = json!({"name": "x", "list": [1, {"deep": true}], "none": [], "empty": {}});
    let expected = "{\n  \"name\": \"x\",\n  \"list\": [\n    1,\n    {\n      \"deep\": true\n    }\n  ],\n  \"none\": [],\n  \"empty\": {}\n}";
    assert_eq!(value.to_pretty(), expected);
    assert_eq!(format!("{value:#}"), expected);
    assert_eq!(format!("{value}"), value.to_text());
}

#[test]
fn a_mistake_is_told_with_its_place() {
    for (text, expected) in [
        ("", "EOF while parsing a value at line 1 column 1"),
        ("{\n  \"a\": x\n}", "expected value at line 2 column 8"),
        ("{\"a\" 1}", "expected `:` at line 1 column 6"),
        ("{\"a\":1 \"b\"}", "expected `,` or `}` at line 1 column 8"),
        ("[1 2]", "expected `,` or `]` at line 1 column 4"),
        ("[1,]", "trailing comma at line 1 column 4"),
        ("{\"a\":1,}", "trailing comma at line 1 column 8"),
        ("{a:1}", "key must be a string at line 1 column 2"),
        ("[1", "EOF while parsing a list or object at line 1 column 3"),
        ("\"abc", "EOF while parsing a string at line 1 column 5"),
        ("1 2", "trailing characters at line 1 column 3"),
    ] {
        assert_eq!(reason(text), expected, "{text}");
    }
    assert_eq!(parse(b"[\"\xff\"]").unwrap_err().to_string(), "invalid UTF-8 at line 1 column 3");
}

#[test]
fn what_rfc_8259_forbids_is_refused() {
    for text in [
        "01",
        "-",
        "+1",
        "1.",
        ".5",
        "1e",
        "1e+",
        "-01",
        "0x10",
        "NaN",
        "Infinity",
        "nul",
        "truefalse",
        "'a'",
        "\"\t\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u+123\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "[,1]",
        "{,}",
        "{\"a\"}",
        "]",
        "\u{feff}1",
        "\u{a0}1",
    ] {
        assert!(parse_str(text).is_err(), "{text}");
    }
}

#[test]
fn depth_and_members_are_limited() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse_str(&nested(MAX_DEPTH)).is_ok());
    assert!(reason(&nested(MAX_DEPTH + 1)).starts_with("recursion limit exceeded at line 1 column"));
    assert!(reason(&"[".repeat(100_000)).starts_with("recursion limit exceeded"));
    let wide = |members: usize| {
        let members: Vec<String> = (0..members).map(|number| format!("\"{number}\":0")).collect();
        format!("{{{}}}", members.join(","))
    };
    assert!(parse_str(&wide(MAX_MEMBERS)).is_ok());
    assert!(reason(&wide(MAX_MEMBERS + 1)).starts_with("too many members"));
}

#[test]
fn the_last_of_equal_names_counts_in_the_first_ones_place() {
    assert_eq!(parse_str("{\"a\":1,\"b\":2,\"a\":3}").unwrap().to_text(), "{\"a\":3,\"b\":2}");
    // Also of an object that is too long to look through at each member.
    let members = |range: std::ops::Range<usize>, value: &str| {
        range.map(|number| format!("\"k{number}\":{value}")).collect::<Vec<_>>().join(",")
    };
    let twice = format!("{{{},{}}}", members(0..1000, "1"), members(0..1000, "2"));
    assert_eq!(parse_str(&twice).unwrap().to_text(), format!("{{{}}}", members(0..1000, "2")));
}

#[test]
fn members_keep_their_order_and_compare_without_it() {
    let mut map: Map = [("b", 1), ("a", 2), ("c", 3)]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect();
    assert_eq!(map.remove("b"), Some(Value::from(1)));
    assert_eq!(map.remove("b"), None);
    assert_eq!(map.insert("a", "new".into()), Some(Value::from(2)));
    *map.entry("d").or_insert(Value::Null) = true.into();
    assert_eq!(map.entry("a").or_insert_with(|| unreachable!()), "new");
    assert_eq!(map.to_text(), "{\"a\":\"new\",\"c\":3,\"d\":true}");
    assert_eq!(Value::Object(map), json!({"d": true, "c": 3, "a": "new"}));
}

#[test]
fn values_are_reached_by_key_index_and_pointer() {
    let mut value = json!({"a": {"b": [10, {"c": "x"}]}, "n": -5, "big": u64::MAX});
    assert_eq!(value["a"]["b"][1]["c"], "x");
    assert_eq!(value.pointer("/a/b/1/c").and_then(Value::as_str), Some("x"));
    assert_eq!(value.pointer(""), Some(&value));
    for nowhere in ["/x", "/a/b/2", "/a/b/x", "/n/1"] {
        assert_eq!(value.pointer(nowhere), None);
    }
    assert!(value["x"]["y"][7].is_null());
    assert_eq!((value["n"].as_i64(), value["n"].as_u64()), (Some(-5), None));
    assert_eq!((value["big"].as_i64(), value["big"].as_u64()), (None, Some(u64::MAX)));
    assert_eq!(parse_str("1.0").unwrap().as_i64(), None);
    value["a"]["new"]["deep"] = 1.into();
    assert_eq!(value.pointer_mut("/a/b").map(Value::take), Some(json!([10, {"c": "x"}])));
    assert_eq!(value["a"].to_text(), "{\"b\":null,\"new\":{\"deep\":1}}");
}

#[test]
fn the_literal_form_takes_expressions_of_many_types() {
    let (name, list, none) = (String::from("n"), vec!["x"], None::<u16>);
    let value = json!({
        "text": name, "list": list, "none": none, "some": Some(3), "sum": 1 + 2, "null": null,
        "nested": {"a": [null, [1], {"b": name.len()}]}, "value": json!([]),
    });
    assert_eq!(
        value.to_text(),
        r#"{"text":"n","list":["x"],"none":null,"some":3,"sum":3,"null":null,"nested":{"a":[null,[1],{"b":1}]},"value":[]}"#
    );
    let flags = json!([{ name: "$", "on": true, "off": false, "in": { name: json!([]) } }, "{}"]);
    assert_eq!(flags.to_text(), r#"[{"n":"$","on":true,"off":false,"in":{"n":[]}},"{}"]"#);
}

#[test]
fn numbers_of_another_spelling_are_told_at_compile_time() {
    assert!(is_template(r#"{"a_1u8":-1,"b":"1_0","c":[true,null,$,1.5]}"#));
    assert!(!is_template("[1_000]") && !is_template("[5u64]"));
}

#[test]
fn what_only_a_template_may_say_is_no_json() {
    for text in ["$", "[$]", "{$:1}", "{\"a\":$}", "[1,]", "{\"a\":1,}"] {
        assert!(parse_str(text).is_err(), "{text}");
    }
}

#[test]
fn mutated_documents_never_panic_and_good_ones_read_back() {
    let seed =
        br#"{"a":[1,-2.5e+3,"x\n\ud83d\ude00\\",{"b":null,"c":[true,false,{}]}],"d":"\u00e9 /","a2":""}"#;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let (mut good, mut bad) = (0, 0);
    for _ in 0..200_000 {
        let mut text = seed.to_vec();
        for _ in 0..=random(4) {
            let place = random(text.len().max(1));
            if text.is_empty() {
                break;
            }
            match random(4) {
                0 => text[place] = u8::try_from(random(256)).unwrap(),
                1 => drop(text.remove(place)),
                2 => text.insert(place, b"{}[]\",:\\ue0-"[random(12)]),
                _ => text.truncate(place + 1),
            }
        }
        match parse(&text) {
            Ok(value) => {
                good += 1;
                assert_eq!(parse_str(&value.to_text()).as_ref(), Ok(&value));
                assert_eq!(parse_str(&value.to_pretty()).as_ref(), Ok(&value));
            }
            Err(error) => {
                bad += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert!(good > 1000 && bad > 1000, "{good} good, {bad} bad");
}
