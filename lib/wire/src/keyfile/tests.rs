use super::profile::{Address, Family, Profile};
use super::value::{Escape, boolean, integer, list, text, variants, written};
use super::*;

fn file(text: &str) -> Keyfile {
    Keyfile::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

const SAMPLE: &str =
    "# head\n\n[a]\nx=1\n# in a\nx=2\nName=plain\nName[de]=deutsch\n[b]\ny = \\sz\\n\n\n[a]\nz=3\n";

#[test]
fn groups_of_one_name_are_one_and_the_last_of_equal_keys_counts() {
    let file = file(SAMPLE);
    assert_eq!(file.groups().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(file.keys("a"), ["x", "Name", "Name[de]", "z"]);
    assert_eq!((file.raw("a", "x"), file.raw("a", "z")), (Some(&b"2"[..]), Some(&b"3"[..])));
    assert_eq!(file.text("b", "y").unwrap().unwrap(), " z\n");
    assert_eq!(file.text("b", "none"), Ok(None));
    assert_eq!(file.localized("a", "Name", "de_AT.UTF-8").unwrap().unwrap(), "deutsch");
    assert_eq!(file.localized("a", "Name", "fr").unwrap().unwrap(), "plain");
}

#[test]
fn a_change_leaves_the_rest_as_it_is() {
    let mut file = file(SAMPLE);
    assert!(file.set("a", "x", " 5"));
    assert!(file.set("b", "new", "line\nfeed"));
    assert!(file.set_list("c", "list", &["a;b", "", " "]));
    assert!(file.remove("a", "z") && !file.remove("a", "z") && !file.remove("d", "z"));
    file.comment("c", "two\nlines");
    let expected = "# head\n\n[a]\nx=1\n# in a\nx=\\s5\nName=plain\nName[de]=deutsch\n\n[b]\ny=\\sz\\n\nnew=line\\nfeed\n\n\
                    [c]\nlist=a\\;b;;\\s;\n# two\n# lines\n";
    assert_eq!(String::from_utf8(file.to_bytes()).unwrap(), expected);
    for (group, key, value) in [
        ("[", "k", ""),
        ("", "k", ""),
        ("g", "", ""),
        ("g", "a=b", ""),
        ("g", " k", ""),
        ("g", "#", ""),
        ("g", "a[", ""),
    ] {
        assert!(!file.set(group, key, value), "{group:?} {key:?}");
    }
    assert!(
        !file.set_raw("g", "k", b"a\nb") && !file.set_raw("g", "k", b" a") && !file.set_raw("g", "k", b"\0")
    );
    assert_eq!(file.list("c", "list").unwrap().unwrap(), ["a;b", "", " "]);
}

#[test]
fn what_is_broken_is_named_with_its_line() {
    for (text, line) in [
        ("x=1\n", 1),
        ("[a]\nx\n", 2),
        ("[a]\n=1\n", 2),
        ("[a\n", 1),
        ("[a] b\n", 1),
        ("[]\n", 1),
        ("[a[b]\n", 1),
        ("[a]\nk[=1\n", 2),
        ("[a]\nk]=1\n", 2),
        ("\n\n[a]\n\0=1\n", 4),
    ] {
        assert_eq!(Keyfile::parse(text.as_bytes()).unwrap_err().line, line, "{text:?}");
    }
    assert_eq!(Keyfile::parse(b"x=1").unwrap_err().to_string(), "line 1: a key before the first group");
    let crlf = file("[a]\r\nx=1\r\n\r\n");
    assert_eq!(crlf.raw("a", "x").unwrap(), b"1");
}

#[test]
fn values() {
    assert_eq!(text(b"a\\s\\t\\\\").unwrap(), "a \t\\");
    assert!(text(b"\\").is_err() && text(b"\\;").is_err() && text(b"\xff").is_err());
    assert_eq!(list(b"a;b\\;c;;d", b';').unwrap(), ["a", "b;c", "", "d"]);
    assert_eq!(list(b"a;", b';').unwrap(), ["a"]);
    assert!(list(b"", b';').unwrap().is_empty());
    assert_eq!((boolean(b"true "), boolean(b"0"), boolean(b"yes").is_err()), (Ok(true), Ok(false), true));
    assert_eq!(
        (integer::<u8>(b"255"), integer::<u8>(b"256").is_err(), integer::<i32>(b"-1")),
        (Ok(255), true, Ok(-1))
    );
    for text_of in ["", " a b ", "\t x", "a\\b\n\r", ";a;"] {
        assert_eq!(text(&written(text_of, Escape::Text)).unwrap(), text_of);
        let item = [written(text_of, Escape::Item(b';')), b";".to_vec()].concat();
        assert_eq!(list(&item, b';').unwrap(), [text_of]);
    }
    assert_eq!(variants("de_AT.UTF-8@euro").len(), 8);
    assert_eq!(variants("de_AT"), ["de_AT", "de"]);
}

#[test]
fn a_profile_says_what_the_network_needs() {
    let file = file(
        "[connection]\nid=My net\ntype=802-11-wireless\nautoconnect=false\ninterface-name=wlan0\n\
         [802-11-wireless]\nssid=72;105;\nhidden=true\n[wifi-security]\nkey-mgmt=wpa-psk\npsk=pass word\n\
         [ipv4]\nmethod=manual\naddress2=10.0.0.3/8\naddress1=10.0.0.2/24,10.0.0.1\naddresses=192.168.1.1;16;\n\
         dns=1.1.1.1;8.8.8.8;\ndns-search=a.b;\nroute1=10.1.0.0/16,10.0.0.9,5\nroute1_options=mtu=1400,onlink=true\n\
         route2=10.2.0.0/16\nroute-metric=7\nnever-default=0\n\
         [ipv6]\nmethod=auto\naddress1=fe80::1/64\ngateway=fe80::2\nmay-fail=perhaps\n[gsm]\napn=internet\n",
    );
    let profile = Profile::new(&file);
    assert_eq!(profile.kind().unwrap().unwrap(), "wifi");
    assert!(!profile.autoconnect().unwrap());
    assert_eq!(profile.ssid().unwrap().unwrap(), b"Hi");
    assert_eq!(profile.text("wifi-security", "psk").unwrap().unwrap(), "pass word");
    let addresses = profile.addresses(Family::V4).unwrap();
    let shown: Vec<String> = addresses.iter().map(|one| format!("{}/{}", one.address, one.prefix)).collect();
    assert_eq!(shown, ["192.168.1.1/16", "10.0.0.2/24", "10.0.0.3/8"]);
    assert_eq!(profile.first_address_v4(), Some(([192, 168, 1, 1].into(), 16, None)));
    assert_eq!(profile.gateway(Family::V4).unwrap().unwrap().to_string(), "10.0.0.1");
    assert_eq!(profile.gateway(Family::V6).unwrap().unwrap().to_string(), "fe80::2");
    let routes = profile.routes(Family::V4).unwrap();
    assert_eq!((routes[0].metric, routes[0].options.len(), routes[1].gateway), (Some(5), 2, None));
    assert_eq!(profile.name_servers(Family::V4).unwrap(), ["1.1.1.1", "8.8.8.8"]);
    assert_eq!(profile.number::<u32>("ipv4", "route-metric"), Ok(Some(7)));
    assert_eq!(profile.flag("ipv4", "never-default"), Ok(Some(false)));
    assert_eq!(profile.text("gsm", "apn").unwrap().unwrap(), "internet");
    let wrong = profile.flag("ipv6", "may-fail").unwrap_err();
    assert_eq!(wrong.to_string(), "ipv6.may-fail should be true or false");
}

#[test]
fn wrong_addresses_and_names_are_errors_of_their_own() {
    for (group, line) in [
        ("ipv4", "address1=10.0.0.256/8"),
        ("ipv4", "address1=10.0.0.2/33"),
        ("ipv4", "address1=fe80::1/64"),
        ("ipv4", "address1=10.0.0.2/8,nowhere"),
        ("ipv4", "address1=10.0.0.2/8,10.0.0.1,5"),
        ("ipv4", "address1="),
        ("ipv4", "route1=10.0.0.0/8,10.0.0.1,-1"),
        ("ipv4", "route1=10.0.0.0/8,10.0.0.1,5,6"),
        ("ipv6", "address1=10.0.0.1/8"),
        ("ipv4", "dns=1.1.1.1;x;"),
        ("ipv4", "gateway=::1"),
        ("wifi", "ssid="),
        ("wifi", "ssid=abcdefghijklmnopqrstuvwxyz0123456"),
    ] {
        let file = file(&format!("[{group}]\n{line}\n"));
        let profile = Profile::new(&file);
        let family = if group == "ipv6" { Family::V6 } else { Family::V4 };
        let wrong = [
            profile.addresses(family).err(),
            profile.routes(family).err(),
            profile.name_servers(family).err(),
            profile.gateway(family).err(),
            profile.ssid().err(),
        ];
        assert!(wrong.iter().flatten().count() >= 1, "{line}");
        assert_eq!(profile.first_address_v4(), None, "{line}");
    }
    for (value, name) in
        [("a b", "a b"), ("1;2", "1;2"), ("1\\;2\\;", "1;2;"), ("\\sx", " x"), ("300;1;", "300;1;")]
    {
        let file = file(&format!("[wifi]\nssid={value}\n"));
        assert_eq!(Profile::new(&file).ssid().unwrap().unwrap(), name.as_bytes(), "{value}");
    }
}

/// Whatever the bytes: no panic, what was read is read again as the same, and every view ends.
#[test]
fn damaged_files() {
    const PIECES: [&[u8]; 24] = [
        b"[",
        b"]",
        b"=",
        b"\n",
        b"\r\n",
        b"\\",
        b";",
        b"#",
        b" ",
        b"a",
        b"ipv4",
        b"wifi",
        b"ssid",
        b"address1",
        b"route1",
        b"_options",
        b"10.0.0.1",
        b"/24",
        b",",
        b"::1",
        b"\0",
        b"\xff",
        b"99999999999999999999",
        b"[ipv4]\naddress1=",
    ];
    let mut seed = 7u64;
    let mut random = |limit: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % limit
    };
    let mut good = 0;
    for _ in 0..60_000 {
        let mut bytes = if random(2) == 0 { SAMPLE.as_bytes().to_vec() } else { b"[ipv4]\n".to_vec() };
        for _ in 0..random(12) {
            let place = random(bytes.len() + 1);
            let piece = PIECES[random(PIECES.len())];
            bytes.splice(place..(place + random(3)).min(bytes.len()), piece.iter().copied());
        }
        let Ok(file) = Keyfile::parse(&bytes) else { continue };
        good += 1;
        let written = file.to_bytes();
        let again =
            Keyfile::parse(&written).unwrap_or_else(|error| panic!("{error} of {written:?} from {bytes:?}"));
        assert_eq!(again.to_bytes(), written, "{bytes:?}");
        let profile = Profile::new(&again);
        for group in file.groups() {
            assert_eq!(file.keys(group), again.keys(group));
            for key in file.keys(group) {
                assert_eq!(file.raw(group, key), again.raw(group, key));
                let _ =
                    (file.text(group, key), file.list(group, key), file.localized(group, key, "de_AT.x@y"));
            }
        }
        for family in [Family::V4, Family::V6] {
            let _ = (
                profile.addresses(family),
                profile.routes(family),
                profile.name_servers(family),
                profile.gateway(family),
            );
        }
        let _ = (profile.ssid(), profile.kind());
        // Where the short way finds an address, the long one has it too.
        if let (Some((address, prefix, gateway)), Ok(all)) =
            (profile.first_address_v4(), profile.addresses(Family::V4))
        {
            let is_it = |one: &Address| {
                (one.address, one.prefix, one.gateway) == (address.into(), prefix, gateway.map(Into::into))
            };
            assert!(all.iter().any(is_it), "{bytes:?}");
        }
    }
    assert!(good > 5_000, "{good}");
}
