//! The resolvers of C libraries, a validating one, and the servers of others.

use minke_tests::dns_lab::{Dig, Lab, dig, kdig, server, server6};
use minke_tests::{in_namespace, project, run, text};
use std::collections::BTreeSet;
use std::process::Command;

const ZONE: &str = "$ORIGIN kinds.test.
$TTL 300
@ SOA ns hostmaster 1 3600 600 86400 300
@ NS ns
@ MX 10 mail
@ TXT \"v=spf1 -all\" \"second \\\"string\\\"\"
@ CAA 0 issue \"ca.test\"
ns A 10.77.1.1
mail A 192.0.2.25
mail AAAA 2001:db8::25
www CNAME web.kinds.test.
web A 192.0.2.80
_ssh._tcp SRV 0 5 22222 web
naptr NAPTR 100 10 \"u\" \"sip+E2U\" \"!^.*$!sip:info@kinds.test!\" .
https HTTPS 1 . alpn=h2,h3 ipv4hint=192.0.2.80
tlsa TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
sshfp SSHFP 4 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
unknown TYPE65280 \\# 4 C00CFFFF
dname DNAME web
loc LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m
hinfo HINFO \"ARM\" \"minke\"
* A 192.0.2.99
";

/// Compiles `resolve.c` with the library named.
fn resolver(lab: &Lab, library: &str) -> String {
    let source = project().join("tests/net/dns/resolve.c");
    let out = lab.path(library);
    let script = match library {
        "musl" => {
            "top=$PWD; . release/toolchain; \"$zig/bin/python3\" -m ziglang cc -target x86_64-linux-musl -O1 -o \"$2\" \"$1\""
        }
        _ => "cc -O1 -o \"$2\" \"$1\"",
    };
    let mut command = Command::new("bash");
    run(command.args(["-ec", script, "sh"]).args([&source, &out]).current_dir(project()));
    out.display().to_string()
}

#[test]
fn the_resolvers_of_glibc_and_musl() {
    in_namespace(|| {
        let lab = Lab::new("libc");
        let mut records =
            vec!["--local=/test/".to_owned(), "--host-record=both.test,198.18.0.7,2001:db8::7".to_owned()];
        records.push("--cname=alias.test,both.test".to_owned());
        // More than 512 bytes: both libraries go on over TCP.
        records.extend((1..=40).map(|number| format!("--host-record=many.test,192.0.2.{number}")));
        let records: Vec<&str> = records.iter().map(String::as_str).collect();
        let _dnsmasq = lab.dnsmasq(server(1), &records);
        // The same by unbound, which has it of knot.
        let mut zone =
            "$ORIGIN test.\n$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 300\n@ NS ns\nns A 10.77.1.3\n\
                        both A 198.18.0.7\nboth AAAA 2001:db8::7\nalias CNAME both\n"
                .to_owned();
        zone.extend((1..=40).map(|number| format!("many A 192.0.2.{number}\n")));
        let _knot = lab.knot(server(3), "test", &zone, false);
        let lines = " local-zone: \"test.\" nodefault\n local-data-ptr: \"198.18.0.7 300 both.test.\"\n";
        let stub = "stub-zone:\n name: \"test\"\n stub-addr: 10.77.1.3@53\n";
        let _unbound = lab.unbound(server(2), lines, stub);
        lab.write("etc/nsswitch.conf", "hosts: files dns\n");
        let programs = ["glibc", "musl"].map(|library| (library, resolver(&lab, library)));
        for (library, program, upstream) in
            programs.iter().flat_map(|(library, program)| [1, 2].map(|number| (library, program, number)))
        {
            let _forwarder = lab.by_hand(&[server(upstream)]);
            for nameserver in ["10.77.0.53", "fd77::53"] {
                lab.write("etc/resolv.conf", format!("nameserver {nameserver}\noptions timeout:15\n"));
                for _ in 0..2 {
                    let words =
                        [program, "both.test", "alias.test", "nobody.test", "198.18.0.7", "many.test"];
                    assert!(lab.inside("resolve", &words).status().unwrap().success());
                    let said = std::fs::read_to_string(lab.path("resolve.log")).unwrap();
                    let lines: Vec<&str> = said.lines().collect();
                    let set = |line: &str| line.split(' ').map(str::to_owned).collect::<BTreeSet<String>>();
                    assert_eq!(
                        set(lines[0]),
                        set("both.test 198.18.0.7 2001:db8::7"),
                        "{library} {nameserver} {upstream}"
                    );
                    assert_eq!(set(lines[1]), set("alias.test 198.18.0.7 2001:db8::7"), "{library}");
                    assert_eq!(lines[2], "nobody.test none", "{library}");
                    assert_eq!(lines[3], "198.18.0.7 = both.test", "{library}");
                    assert_eq!(set(lines[4]).len(), 41, "{library} {said}");
                }
            }
        }
        let _forwarder = lab.by_hand(&[server(1)]);
        let mut busybox = Command::new("busybox");
        let said = text(&run(busybox.args(["nslookup", "both.test", "10.77.0.53"])));
        assert!(said.contains("198.18.0.7") && said.contains("2001:db8::7"), "{said}");
    });
}

fn records(dig: &Dig, section: &str) -> BTreeSet<String> {
    dig.section(section)
        .iter()
        .map(|fields| format!("{} {} {} {}", fields[0], fields[2], fields[3], fields[4]))
        .collect()
}

#[test]
fn what_unbound_and_knot_say_is_what_we_say() {
    in_namespace(|| {
        let lab = Lab::new("same");
        let _knot = lab.knot(server(1), "kinds.test", ZONE, false);
        let stub = "stub-zone:\n name: \"kinds.test\"\n stub-addr: 10.77.1.1@53\n";
        let _unbound = lab.unbound(server6(2), " local-zone: \"test.\" nodefault\n", stub);
        for upstream in [server(1), server6(2)] {
            let _forwarder = lab.by_hand(&[upstream]);
            for name in [
                "@ SOA",
                "@ NS",
                "@ MX",
                "@ TXT",
                "@ CAA",
                "@ ANY",
                "@ DNSKEY",
                "mail A",
                "mail AAAA",
                "www A",
                "www CNAME",
                "web AAAA",
                "_ssh._tcp SRV",
                "naptr NAPTR",
                "https HTTPS",
                "https TYPE65",
                "tlsa TLSA",
                "sshfp SSHFP",
                "unknown TYPE65280",
                "dname DNAME",
                "loc LOC",
                "hinfo HINFO",
                "anything A",
                "Any.Thing A",
                "a.www A",
                "deep.web A",
                "mail TXT",
            ] {
                let question = match name.strip_prefix("@ ") {
                    Some(kind) => format!("kinds.test {kind}"),
                    None => name.replacen(' ', ".kinds.test ", 1),
                };
                for (client, way) in [
                    (dig as fn(&str) -> Dig, ""),
                    (dig, " +tcp"),
                    (dig, " +dnssec"),
                    (dig, " +noedns"),
                    (kdig, ""),
                ] {
                    let theirs = client(&format!("@{} {question}{way}", upstream.ip()));
                    let ours = client(&format!("{question}{way}"));
                    assert_eq!(ours.status(), theirs.status(), "{upstream} {question}{way}");
                    assert_eq!(
                        records(&ours, "ANSWER"),
                        records(&theirs, "ANSWER"),
                        "{upstream} {question}{way}"
                    );
                    if theirs.section("ANSWER").is_empty() && way != " +noedns" {
                        assert_eq!(
                            records(&ours, "AUTHORITY"),
                            records(&theirs, "AUTHORITY"),
                            "{upstream} {question}{way}"
                        );
                    }
                }
            }
        }
    });
}

#[test]
fn delv_validates_what_comes_through_us() {
    in_namespace(|| {
        let lab = Lab::new("delv");
        let _knot = lab.knot(server(1), "kinds.test", ZONE, true);
        // It passes on what knot has signed, and validates nothing itself.
        let stub = "stub-zone:\n name: \"kinds.test\"\n stub-addr: 10.77.1.1@53\n";
        let _unbound = lab.unbound(server(2), " local-zone: \"test.\" nodefault\n", stub);
        let keys = dig("@10.77.1.1 kinds.test DNSKEY");
        let key = keys.section("ANSWER").first().unwrap_or_else(|| panic!("{keys:?}"))[4].to_owned();
        let fields: Vec<&str> = key.splitn(4, ' ').collect();
        let anchor = format!(
            "trust-anchors {{ \"kinds.test.\" static-key {} {} {} \"{}\"; }};\n",
            fields[0],
            fields[1],
            fields[2],
            fields[3].replace(' ', "")
        );
        lab.write("anchor", anchor);
        let mut forwarder = None;
        let delv = |words: &str| {
            let mut command = Command::new("delv");
            command
                .args(["@10.77.0.53", "+root=kinds.test", "-a"])
                .arg(lab.path("anchor"))
                .args(words.split(' '));
            let output = command.output().unwrap();
            format!("{}{}", text(&output), String::from_utf8_lossy(&output.stderr))
        };
        // Twice each: the second time from the cache.
        for upstream in [1, 1, 2, 2] {
            if forwarder.as_ref().is_none_or(|(of, _)| *of != upstream) {
                // The address is free before it is taken anew.
                drop(forwarder.take());
                forwarder = Some((upstream, lab.by_hand(&[server(upstream)])));
            }
            for question in [
                "web.kinds.test A",
                "mail.kinds.test AAAA",
                "kinds.test MX",
                "wild.card.kinds.test A",
                "www.kinds.test A",
                "unknown.kinds.test TYPE65280",
            ] {
                let said = delv(question);
                assert!(said.contains("; fully validated"), "{upstream} {question}: {said}");
            }
            for question in ["web.kinds.test AAAA", "below.web.kinds.test A"] {
                let said = delv(question);
                assert!(
                    said.contains("fully validated") && said.contains("negative response"),
                    "{upstream} {question}: {said}"
                );
            }
        }
        // Not by an answer of ours that says so: without the signatures it is nothing.
        let said = dig("web.kinds.test A");
        assert!(said.section("ANSWER").iter().all(|fields| fields[3] != "RRSIG"), "{said:?}");
        assert!(dig("web.kinds.test A +dnssec").section("ANSWER").iter().any(|fields| fields[3] == "RRSIG"));
    });
}
