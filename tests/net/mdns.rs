//! The responder beside Avahi, python-zeroconf, dig and itself, on networks of the test's own.

use minke_tests::mdns_lab::{Background, Families, Lab, until_has};
use minke_tests::{Daemon, release, run, text};
use std::os::unix::fs::symlink;
use std::process::Command;

const PUBLIC: &str = "_resin-device._sub._ssh._tcp";

#[test]
fn ours_and_avahi_find_each_other() {
    let lab = Lab::new("both");
    let (a, b) = (lab.host(1), lab.host(2));
    let (ours, avahi) = (a.minke("ours"), b.avahi("theirs"));
    ours.until_named("ours");
    avahi.until_named("theirs");
    // They find us: name, address, service, subtype.
    for (option, what, answer) in [
        ("-4n", "ours.local", "ours.local\t10.77.0.1"),
        ("-6n", "ours.local", "ours.local\tfd77::1"),
        ("-a", "10.77.0.1", "10.77.0.1\tours.local"),
    ] {
        until_has(|| avahi.text("avahi-resolve", &[option, what]), &[answer]);
    }
    let both = ["=;eth0;IPv4;ours;_ssh._tcp;", "=;eth0;IPv6;ours;_ssh._tcp;"];
    let found = until_has(|| avahi.text("avahi-browse", &["-rptk", PUBLIC]), &both);
    for family in ["IPv4", "IPv6"] {
        // Avahi asks for any address, whatever the family that it browses over.
        let line = format!("=;eth0;{family};ours;_ssh._tcp;local;ours.local;");
        let line = found.lines().find(|found| found.starts_with(&line)).unwrap_or_else(|| panic!("{found}"));
        let right = line.contains(";10.77.0.1;22222;") || line.contains(";fd77::1;22222;");
        assert!(right, "{line}");
    }
    until_has(|| avahi.text("avahi-browse", &["-aptk"]), &["+;eth0;IPv4;ours;_ssh._tcp;local"]);
    // We find them, and what comes and goes there.
    let addresses = ["theirs.local A 10.77.0.2", "theirs.local AAAA fd77::2"];
    until_has(|| ours.text(&["resolve", "theirs"]), &addresses);
    until_has(|| ours.text(&["resolve", "10.77.0.2"]), &["PTR theirs.local"]);
    let browser =
        Background::start(&lab, "browse", &mut ours.command(&["browse", "_http._tcp", "--resolve"]));
    {
        let words = ["-s", "The \u{e4} shop", "_http._tcp", "8080", "path=/", "empty="];
        let _published = Background::start(&lab, "publish", &mut avahi.command("avahi-publish", &words));
        browser.until("= eth0 'The \u{e4} shop' _http._tcp theirs.local 8080 10.77.0.2");
        browser.until("\"path=/\" \"empty=\"");
    }
    browser.until("- eth0 'The \u{e4} shop' _http._tcp");
}

#[test]
fn families_and_nothing_else() {
    for (families, has, lacks) in [(Families::V4, "10.77.0.1", "fd77"), (Families::V6, "fd77::1", "10.77")] {
        let lab = Lab::new("family");
        let (a, b) = (lab.host_with(1, families), lab.host_with(2, families));
        let (ours, other) = (a.minke("ours"), b.minke("other"));
        ours.until_named("ours");
        other.until_named("other");
        let resolved = until_has(|| other.text(&["resolve", "ours"]), &[has]);
        assert!(!resolved.contains(lacks), "{resolved}");
        until_has(|| ours.text(&["status"]), &[has]);
    }
}

#[test]
fn who_knows_no_mdns_finds_hosts_by_the_forwarder() {
    let lab = Lab::new("forwarder");
    let (a, b, client) = (lab.host(1), lab.host(2), lab.host(3));
    let (ours, avahi) = (a.minke("ours"), b.avahi("theirs"));
    ours.until_named("ours");
    avahi.until_named("theirs");
    // The forwarder's /run has the responder's socket.
    let folder = lab.folder.join("run");
    std::fs::create_dir_all(folder.join("minke/mdns")).unwrap();
    symlink(lab.folder.join("1.sock"), folder.join("minke/mdns/mdns.sock")).unwrap();
    let mut forwarder = a.command("unshare");
    forwarder.args(["--mount", "sh", "-ec", "mount --bind \"$0\" /run; exec \"$@\""]).arg(&folder);
    forwarder.arg(release("x86_64")).args(["dns", "serve", "--listen", "10.77.0.1:53"]);
    let _forwarder = Daemon::start(forwarder.args(["--upstream", "10.77.0.9"]));
    // A container has a plain resolver alone.
    let ask = |words: &str| {
        let mut dig = client.command("dig");
        text(&dig.args(["@10.77.0.1", "+time=5", "+tries=2"]).args(words.split(' ')).output().unwrap())
    };
    until_has(|| ask("theirs.local A"), &["status: NOERROR", "10.77.0.2"]);
    until_has(|| ask("Theirs.Local AAAA +tcp"), &["status: NOERROR", "fd77::2"]);
    until_has(|| ask("ours.local A"), &["10.77.0.1"]);
    // Nobody can say that a name has no records of any type.
    until_has(|| ask("nobody.local A"), &["status: NOERROR", "ANSWER: 0"]);
    avahi.stop();
    until_has(|| ask("theirs.local A"), &["ANSWER: 0"]);
}

#[test]
fn who_has_gone_without_a_word_is_forgotten_when_somebody_finds_out() {
    let lab = Lab::new("reconfirm");
    let (a, b, c) = (lab.host(1), lab.host(2), lab.host(3));
    let (ours, lost, other) = (a.minke("ours"), b.minke("lost"), c.minke("other"));
    lost.until_named("lost");
    other.until_named("other");
    let browser = Background::start(&lab, "browse", &mut ours.command(&["browse", "_ssh._tcp"]));
    browser.until("+ eth0 'lost' _ssh._tcp");
    browser.until("+ eth0 'other' _ssh._tcp");
    run(Command::new("kill").args(["-9", &lost.daemon.id().to_string()]));
    assert!(ours.output(&["reconfirm", "_ssh._tcp", "PTR"]).status.success());
    browser.until("- eth0 'lost' _ssh._tcp");
    assert!(!browser.text().contains("- eth0 'other'"), "who answers stays: {}", browser.text());
    let wrong = ours.output(&["reconfirm", "a..b", "A"]);
    assert_eq!(wrong.status.code(), Some(1));
}
