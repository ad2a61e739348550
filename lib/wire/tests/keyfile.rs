//! Key files beside GLib's own reader, and profiles beside NetworkManager's `nmcli --offline`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use minke_wire::keyfile::profile::{Family, Profile};
use minke_wire::keyfile::{Keyfile, value};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

fn piped(command: &mut Command, input: &[u8]) -> Output {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join();
    output
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

/// What we make of a file, in the peer's words.
fn ours(bytes: &[u8]) -> String {
    let Ok(file) = Keyfile::parse(bytes) else { return "refused".to_owned() };
    let text =
        |text: Result<String, &str>| text.map_or("!".to_owned(), |text| format!("={}", hex(text.as_bytes())));
    let mut out = Vec::new();
    for group in file.groups() {
        out.push(format!("[{}", hex(group.as_bytes())));
        for key in file.keys(group) {
            let raw = file.raw(group, key).unwrap();
            let items = value::list(raw, b';').map_or("!".to_owned(), |items| {
                format!("={}", items.iter().map(|item| hex(item.as_bytes())).collect::<Vec<_>>().join(","))
            });
            let flag = value::boolean(raw).map_or("!".to_owned(), |flag| u8::from(flag).to_string());
            let number = value::integer::<i32>(raw).map_or("!".to_owned(), |number| number.to_string());
            let local = match key.contains('[') {
                true => "!".to_owned(),
                false
                    if file.keys(group).iter().any(|other| {
                        (*other == key || other.starts_with(&format!("{key}[")))
                            && file.text(group, other).is_err()
                    }) =>
                {
                    "!".to_owned()
                }
                false => text(file.localized(group, key, "de_AT.UTF-8@euro").map(Option::unwrap)),
            };
            let shown =
                [hex(key.as_bytes()), hex(raw) + ".", text(value::text(raw)), items, flag, number, local];
            out.push(shown.join(" "));
        }
    }
    out.join("|")
}

/// Random files, from the pieces that grammar and escapes are made of.
#[test]
fn glib_reads_the_same() {
    const PIECES: [&str; 42] = [
        "[a]\n",
        "[b]\n",
        "[ c d ]\n",
        "[a",
        "]",
        "[",
        "\n",
        "\r\n",
        "=",
        " = ",
        "k",
        "key",
        "k[de]",
        "k[de_AT]",
        "k[x",
        "k=",
        "k= v ",
        "k2=\\s\\n\\t\\r\\\\",
        "\\",
        "\\;",
        ";",
        ";;",
        "# comment",
        " #c",
        "\t",
        " ",
        "true",
        "1",
        "0",
        "false ",
        "12",
        "-7",
        "+3",
        "99999999999",
        "ä",
        "🐋",
        "x=a;b;c;\n",
        "x=a\\;b;c\n",
        "y=\u{b}\n",
        "[]\n",
        "=v\n",
        "\u{c}",
    ];
    let mut random = Random(1);
    let mut files: Vec<Vec<u8>> = Vec::new();
    for _ in 0..4_000 {
        let mut text = if random.below(5) > 0 { "[a]\n".to_owned() } else { String::new() };
        for _ in 0..random.below(14) {
            text.push_str(random.of(&PIECES));
        }
        files.push(text.into_bytes());
    }
    let input: String = files.iter().map(|file| hex(file) + "\n").collect();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keyfile.py");
    let output = piped(Command::new("python3").arg(script), input.as_bytes());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs = String::from_utf8(output.stdout).unwrap();
    let theirs: Vec<&str> = theirs.lines().collect();
    assert_eq!(theirs.len(), files.len());
    let (mut read, mut differences) = (0, Vec::new());
    for (file, theirs) in files.iter().zip(theirs) {
        let ours = ours(file);
        read += usize::from(theirs != "refused");
        if ours != theirs {
            differences.push(format!("{:?}\nGLib {theirs}\nours {ours}", String::from_utf8_lossy(file)));
        }
    }
    assert!(
        differences.is_empty(),
        "{} of {}:\n{}",
        differences.len(),
        files.len(),
        differences[..differences.len().min(5)].join("\n")
    );
    assert!(read > 500, "{read}");
}

/// What a profile means, for a comparison.
fn meaning(profile: Profile<'_>) -> String {
    let mut out = String::new();
    let _ = write!(out, "{:?} {:?} {:?}", profile.kind(), profile.autoconnect(), profile.ssid());
    for family in [Family::V4, Family::V6] {
        let gateway = profile.gateway(family);
        let addresses = profile.addresses(family).map(|mut addresses| {
            // NetworkManager writes the one gateway to the first address.
            addresses.iter_mut().for_each(|address| address.gateway = None);
            addresses
        });
        let mut routes = profile.routes(family);
        for route in routes.iter_mut().flatten() {
            route.options.sort();
        }
        let names = profile.name_servers(family);
        let never = profile.flag(family.group(), "never-default").map(|flag| flag.unwrap_or(false));
        let metric: Result<Option<i64>, _> = profile.number(family.group(), "route-metric");
        let method = profile.method(family);
        let _ =
            write!(out, "\n{method:?} {addresses:?} {gateway:?} {routes:?} {names:?} {never:?} {metric:?}");
    }
    out
}

/// A profile in one of the ways in which people have written them.
fn profile(random: &mut Random) -> String {
    let kind = random.of(&["ethernet", "802-3-ethernet", "wifi", "802-11-wireless"]);
    let mut text = format!(
        "[connection]\nid=test\nuuid=2f5ae0a7-6b3e-4b0a-9f6e-00000000000{}\ntype={kind}\n",
        random.below(10)
    );
    text.push_str(random.of(&["", "autoconnect=false\n", "autoconnect=true\n", "autoconnect=0\n"]));
    if kind.contains("wi") {
        let group = random.of(&["wifi", "802-11-wireless"]);
        let ssid = random.of(&[
            "net", "a b", "\\sx", "72;105;", "1;2", "1\\;2\\;", "ä;b", "a\\;b", "300;1;", " x ", "72;105",
            "7", "7;", "a\\\\b", "0;255;", "12 ;13;", "a\\tb", "a;b;",
        ]);
        let _ = write!(text, "[{group}]\nssid={ssid}\n");
    }
    let v4 = ["10.0.0.2", "192.168.7.1", "172.16.0.9"];
    let v6 = ["fe80::5", "2001:db8::1", "fd00::2"];
    for (group, own, lengths) in [("ipv4", v4, ["8", "24", "32"]), ("ipv6", v6, ["64", "128", "48"])] {
        let _ = writeln!(text, "[{group}]");
        let count = random.below(3);
        let _ = writeln!(text, "method={}", if count > 0 { "manual" } else { "auto" });
        for number in 1..=count {
            let (address, length) = (random.of(&own), random.of(&lengths));
            let gateway = format!("{}{}", &own[0][..own[0].len() - 1], number + 6);
            match random.below(5) {
                0 => writeln!(text, "address{number}={address}/{length}"),
                1 => writeln!(text, "address{number}={address}/{length},{gateway}"),
                2 => writeln!(text, "addresses{number}={address};{length};{gateway};"),
                3 => writeln!(
                    text,
                    "address{number}={address}/{length},{}",
                    if group == "ipv4" { "0.0.0.0" } else { "::" }
                ),
                _ => writeln!(text, "address{number}={address}"),
            }
            .unwrap();
        }
        if count > 0 && random.below(3) == 0 {
            let _ = writeln!(text, "gateway={}9", &own[0][..own[0].len() - 1]);
        }
        for number in 1..=random.below(3) {
            let destination = if group == "ipv4" { "10.9.0.0/16" } else { "2001:db8:9::/48" };
            let hop = random.of(&["", ",HOP", ",HOP,7", ",,9", ";HOP;8;"]).replace("HOP", own[1]);
            let _ = writeln!(text, "route{number}={destination}{hop}");
            if random.below(2) == 0 {
                let _ = writeln!(
                    text,
                    "route{number}_options={}",
                    random.of(&["mtu=1400", "table=100,onlink=true", "cwnd=10"])
                );
            }
        }
        text.push_str(random.of(&["", "never-default=true\n", "route-metric=55\n"]));
        let _ = match (random.below(3), group) {
            (0, "ipv4") => writeln!(text, "dns=1.1.1.1;8.8.8.8;"),
            (0, _) => writeln!(text, "dns=2001:db8::53;"),
            _ => Ok(()),
        };
    }
    text
}

/// What NetworkManager makes of a profile and writes out means the same to us as the profile itself.
#[test]
fn networkmanager_means_the_same() {
    let mut random = Random(3);
    let (mut same, mut differences) = (0, Vec::new());
    for _ in 0..150 {
        let text = profile(&mut random);
        let command = ["--offline", "connection", "modify", "connection.id", "test"];
        let output = piped(Command::new("nmcli").args(command), text.as_bytes());
        let file = Keyfile::parse(text.as_bytes()).unwrap();
        let ours = meaning(Profile::new(&file));
        if !output.status.success() {
            differences
                .push(format!("{text}\nrefused: {}\nours {ours}", String::from_utf8_lossy(&output.stderr)));
            continue;
        }
        let theirs = Keyfile::parse(&output.stdout).unwrap();
        let theirs = meaning(Profile::new(&theirs));
        if ours == theirs {
            same += 1;
        } else {
            differences.push(format!(
                "{text}\nNetworkManager\n{theirs}\nours\n{ours}\n{}",
                String::from_utf8_lossy(&output.stdout)
            ));
        }
    }
    assert!(
        differences.is_empty(),
        "{} of 150:\n{}",
        differences.len(),
        differences[..differences.len().min(3)].join("\n")
    );
    assert_eq!(same, 150);
}
