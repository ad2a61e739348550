//! The responder beside Avahi, python-zeroconf, dig and itself, on networks of the test's own.

use minke_tests::mdns_lab::{Background, Families, Lab, until_has};

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
