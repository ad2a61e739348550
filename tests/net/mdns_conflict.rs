//! Two hosts that want the same name, and fifty.

use minke_tests::mdns_lab::{Background, Host, Lab, Minke, until_has, until_or, until_within};
use std::time::Duration;

/// The names in use, in order.
fn names(ours: &[&Minke<'_>]) -> Vec<String> {
    let mut names: Vec<String> = ours.iter().map(|ours| ours.name()).collect();
    names.sort();
    names
}

#[test]
fn who_was_there_first_keeps_the_name_and_a_goodbye_gives_it_back() {
    let lab = Lab::new("first");
    let (a, b) = (lab.host(1), lab.host(2));
    // Avahi first: we give way, with the service's name too.
    let avahi = a.avahi("board");
    avahi.until_named("board");
    let words = ["-s", "board", "_ssh._tcp", "22"];
    let published = Background::start(&lab, "publish", &mut avahi.command("avahi-publish", &words));
    published.until("Established");
    let ours = b.minke("board");
    ours.until_named("board-2");
    assert!(ours.text(&["status"]).contains("board-2.local, as somebody else is board.local"));
    let ours_too = ["-rptk", "_resin-device._sub._ssh._tcp"];
    until_has(|| avahi.text("avahi-browse", &ours_too), &[";board-2.local;"]);
    let instances = || {
        let found = avahi.text("avahi-browse", &["-ptk", "_ssh._tcp"]);
        let mut names: Vec<String> =
            found.lines().filter_map(|line| line.split(';').nth(3)).map(str::to_owned).collect();
        names.sort();
        names.dedup();
        names
    };
    until_or("two services", || instances().len() == 2, || instances().join(" "));
    for (name, address) in [("board.local", "10.77.0.1"), ("board-2.local", "10.77.0.2")] {
        until_has(|| avahi.text("avahi-resolve", &["-4n", name]), &[address]);
    }
    // The other one goes: after a while (two minutes and a half at most) the name is tried again, and is ours.
    drop(published);
    avahi.stop();
    until_within(Duration::from_secs(240), "the name is back", || ours.name() == "board", || ours.log());
    ours.until_named("board");
}

#[test]
fn a_name_that_is_ours_stays_ours() {
    let lab = Lab::new("ours-first");
    let (a, b) = (lab.host(1), lab.host(2));
    let ours = a.minke("board");
    ours.until_named("board");
    let avahi = b.avahi("board");
    avahi.until_named("board-2");
    let words = ["-s", "board", "_ssh._tcp", "22"];
    let published = Background::start(&lab, "publish", &mut avahi.command("avahi-publish", &words));
    published.until("Name collision");
    ours.until_named("board");
    until_has(|| ours.text(&["resolve", "board-2"]), &["10.77.0.2"]);
    until_has(|| avahi.text("avahi-resolve", &["-4n", "board.local"]), &["10.77.0.1"]);
}

/// Services alone: python-zeroconf neither probes for a host's name nor answers who does.
#[test]
fn zeroconf_and_ours_leave_each_other_their_names() {
    let lab = Lab::new("zeroconf");
    let (a, b) = (lab.host(1), lab.host(2));
    let ours = a.minke("ours");
    ours.until_named("ours");
    let script = |mode: &str, name: &str| {
        let mut command = b.command("/usr/bin/python3");
        command.arg(minke_tests::project().join("tests/net/zeroconf_peer.py")).args([
            mode,
            "10.77.0.2",
            name,
        ]);
        Background::start(&lab, &format!("{mode}-{name}"), &mut command)
    };
    let publish = |name: &str| {
        let words = ["publish", name, "_http._tcp", "81"];
        Background::start(&lab, &format!("ours-{name}"), &mut ours.command(&words))
    };
    // It was first.
    let theirs = script("publish", "desk");
    theirs.until("published desk._http._tcp.local.");
    let second = publish("desk");
    second.until("published: desk #2");
    until_has(|| ours.text(&["resolve", "desk #2._http._tcp"]), &["SRV 0 0 81 ours.local"]);
    until_has(|| ours.text(&["resolve", "desk._http._tcp"]), &["SRV 0 0 8080 zero.local"]);
    // We were.
    let first = publish("lamp");
    first.until("published: lamp\n");
    let refused = script("publish", "lamp");
    refused.until("taken lamp._http._tcp.local.");
    let renamed = script("rename", "lamp");
    renamed.until("published lamp-2._http._tcp.local.");
    until_has(|| ours.text(&["resolve", "lamp-2._http._tcp"]), &["SRV 0 0 8080 zero.local"]);
    until_has(|| ours.text(&["resolve", "lamp._http._tcp"]), &["SRV 0 0 81 ours.local"]);
    assert_eq!(first.text().matches("published").count(), 1, "{}", first.text());
}

#[test]
fn at_the_same_moment_one_of_two_wins() {
    let lab = Lab::new("same");
    let (a, b, c) = (lab.host(1), lab.host(2), lab.host(3));
    let (first, second) = (a.minke("board"), b.minke("board"));
    let settled = || names(&[&first, &second]) == ["board", "board-2"];
    until_or("two names", settled, || first.log() + &second.log());
    // With Avahi as the third, who starts while the others are told to start anew.
    let third = c.minke("board");
    let settled = || names(&[&first, &second, &third]) == ["board", "board-2", "board-3"];
    until_or("three names", settled, || third.log());
    let avahi = lab.host(4);
    let avahi = avahi.avahi("board");
    // A busy machine may defend a name too late, and then takes the next; four have four names.
    let settled = || {
        let log = avahi.log();
        let its = log.rsplit("Host name is ").next().and_then(|rest| rest.split_once(".local."));
        let mut all = names(&[&first, &second, &third]);
        all.extend(its.map(|(name, _)| name.to_owned()));
        all.sort();
        all == ["board", "board-2", "board-3", "board-4"]
    };
    until_or("four names", settled, || avahi.log() + &third.log());
}

#[test]
fn networks_that_join_settle_it_again() {
    let lab = Lab::new("join");
    let (a, b) = (lab.host(1), lab.host(2));
    b.cable(false);
    let (first, second) = (a.minke("board"), b.minke("board"));
    first.until_named("board");
    b.cable(true);
    let settled = || names(&[&first, &second]) == ["board", "board-2"];
    until_or("two names", settled, || first.log() + &second.log());
}

#[test]
fn fifty_hosts_with_one_name_end_with_fifty() {
    let lab = Lab::large("fifty");
    let hosts: Vec<Host<'_>> = (1..=50).map(|number| lab.host(number)).collect();
    let all: Vec<Minke<'_>> = hosts.iter().map(|host| host.minke("board")).collect();
    let distinct = || {
        let mut names: Vec<String> = all.iter().map(|ours| ours.name()).collect();
        names.sort();
        names.dedup();
        names.len() == 50 && names.iter().all(|name| !name.is_empty())
    };
    until_within(Duration::from_secs(240), "fifty names", distinct, || all[0].log() + &all[49].log());
    let observer = lab.host(51);
    let observer = observer.minke("observer");
    observer.until_named("observer");
    // Everybody is found, by the name that he says is his.
    let browser = Background::start(
        &lab,
        "browse",
        &mut observer.command(&["browse", "_resin-device._sub._ssh._tcp", "--resolve"]),
    );
    let complete = || {
        let text = browser.text();
        all.iter().all(|ours| text.contains(&format!(" {}.local 22222 ", ours.name())))
    };
    until_within(Duration::from_secs(120), "all are found", complete, || browser.text());
    // And nobody is renamed any more.
    assert!(distinct());
}

#[test]
fn over_a_path_that_loses_doubles_and_reorders_names_and_services_are_found() {
    for seed in [1, 2, 3] {
        let lab = Lab::new("lossy");
        let (a, b) = (lab.host(1), lab.host(2));
        b.ip("link delete eth0");
        b.connect_to("br1", "eth0");
        b.ip("address add 10.77.0.2/24 dev eth0");
        b.ip("address add fd77::2/64 dev eth0 nodad");
        let _path = lab.join_badly(seed);
        let (first, second) = (a.minke("board"), b.minke("board"));
        let settled = || names(&[&first, &second]) == ["board", "board-2"];
        until_or(&format!("two names, seed {seed}"), settled, || first.log() + &second.log());
        let words = ["browse", "_resin-device._sub._ssh._tcp", "--resolve"];
        let browser = Background::start(&lab, "browse", &mut first.command(&words));
        browser.until(&format!("{}.local 22222 10.77.0.2", second.name()));
        browser.until(&format!("{}.local 22222 10.77.0.1", first.name()));
        // One question is asked again once, so a fifth of a fifth goes without an answer; both ways.
        let found = || second.text(&["resolve", &first.name()]).contains("10.77.0.1");
        until_or("an address", found, || second.text(&["status"]));
        assert_eq!(names(&[&first, &second]), ["board", "board-2"]);
    }
}
