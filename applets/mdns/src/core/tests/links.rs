//! Interfaces come, change and go; the machine sleeps.

use super::*;

#[test]
fn rfc6762_14_each_link_is_told_its_own_addresses() {
    let mut case = Case::settled();
    case.link(2, &["192.168.7.5/24", "fe80::7/64"]);
    case.run(30_000);
    case.sent.clear();
    for (link, from, address) in
        [(1, PEER, "10.0.0.5"), (2, "192.168.7.9:5353", "192.168.7.5"), (2, "[fe80::9]:5353", "192.168.7.5")]
    {
        case.receive_at(link, from, true, &query(&["box.local A"]));
        let sent = std::mem::take(&mut case.sent);
        assert_eq!((sent.len(), sent[0].link), (1, link));
        assert_eq!(sent[0].answers, [format!("box.local A 120! {address}")]);
        assert_eq!(sent[0].to.starts_with('['), from.starts_with('['), "over the family of the question");
    }
}

#[test]
fn a_new_link_is_probed_without_disturbing_the_others() {
    let mut case = Case::settled();
    case.link(2, &["192.168.7.5/24"]);
    let sent = case.sent_within(30_000);
    assert!(sent.iter().all(|sent| sent.link == 2), "{sent:?}");
    assert_eq!(sent.iter().filter(|sent| !sent.is_response()).count(), 3);
}

#[test]
fn rfc6762_10_1_farewell_when_a_link_goes_and_at_the_end() {
    let mut case = Case::with_ssh();
    case.link(2, &["192.168.7.5/24"]);
    case.run(10_000);
    case.sent.clear();
    case.mdns.drop_link(case.now, 1);
    case.perform();
    assert_eq!(case.sent.len(), 1);
    assert_eq!(case.sent[0].link, 1);
    assert!(case.sent[0].answers.iter().all(|record| record.contains(" 0 ")));
    assert!(case.sent[0].says("box.local A 0 10.0.0.5"));
    assert!(case.sent[0].says("_resin-device._sub._ssh._tcp.local PTR 0 "));
    case.sent.clear();
    case.mdns.close(case.now);
    case.perform();
    assert!(case.sent.len() == 1 && case.sent[0].link == 2);
    case.receive_at(2, "192.168.7.9:5353", true, &query(&["box.local A"]));
    case.run(10_000);
    assert_eq!(case.sent.len(), 1, "and then silence");
    assert_eq!(case.mdns.deadline(), None);
}

#[test]
fn nothing_was_told_so_no_farewell() {
    let mut case = Case::starting(1);
    case.run(300);
    case.sent.clear();
    case.mdns.close(case.now);
    case.perform();
    assert_eq!(case.sent, []);
}

#[test]
fn one_family_goes_and_comes() {
    let mut case = Case::new(1);
    case.mdns.set_host(case.now, "box");
    case.link(1, &["10.0.0.5/24", "fe80::5/64"]);
    case.run(30_000);
    case.sent.clear();
    case.link(1, &["fe80::5/64"]);
    let sent = case.sent_within(10_000);
    assert!(sent[0].to == EVERYBODY && sent[0].says("box.local A 0 10.0.0.5"), "{sent:?}");
    assert!(sent[1..].iter().all(|sent| sent.to == "[ff02::fb]:5353"), "{sent:?}");
    assert!(sent.iter().any(|sent| sent.to != EVERYBODY && sent.says("box.local A 0 10.0.0.5")));
    let sent = {
        case.receive_at(1, "[fe80::9]:5353", true, &query(&["box.local A"]));
        std::mem::take(&mut case.sent)
    };
    assert_eq!(sent[0].answers, ["box.local NSEC 120! box.local AAAA"]);
}

#[test]
fn addresses_that_are_not_published_are_on_the_link_all_the_same() {
    let mut case = Case::new(1);
    case.mdns.set_host(case.now, "box");
    let mut link = link(1, &["10.0.0.5/24", "10.9.0.1/16"]);
    link.addresses[1].published = false;
    case.mdns.set_link(case.now, &link);
    case.run(30_000);
    case.sent.clear();
    case.receive_at(1, "10.9.3.3:5353", false, &query(&["box.local A"]));
    assert_eq!(case.sent[0].answers, ["box.local A 120! 10.0.0.5"]);
}

#[test]
fn the_same_link_again_is_no_news() {
    let mut case = Case::settled();
    case.link(1, &["10.0.0.5/24"]);
    assert_eq!(case.sent_within(10_000), []);
}

#[test]
fn rfc6762_8_after_a_sleep_names_are_probed_and_announced_again() {
    let mut case = Case::with_ssh();
    case.now += 8 * 3_600_000;
    case.mdns.resumed(case.now);
    let sent = case.sent_within(10_000);
    assert_eq!(sent.iter().filter(|sent| !sent.is_response()).count(), 3);
    assert!(sent.iter().any(|sent| sent.says("box.local A 120! 10.0.0.5")));
    assert!(sent.iter().any(|sent| sent.says("_ssh._tcp.local PTR 4500 box._ssh._tcp.local")));
}

#[test]
fn without_links_nothing_wakes() {
    let mut case = Case::new(1);
    case.mdns.set_host(case.now, "box");
    case.mdns.set_service(case.now, 0, ssh()).unwrap();
    let question = Question { name: name("x.local"), kind: Kind::A, link: None, once: false };
    case.mdns.ask(case.now, question).unwrap();
    assert_eq!(case.mdns.deadline(), None);
    // And once there is one, everything begins.
    case.link(1, &["10.0.0.5/24"]);
    let sent = case.sent_within(1000);
    assert!(sent.iter().any(|sent| sent.questions.contains(&"x.local A".into())));
    assert!(sent.iter().any(|sent| sent.questions.contains(&"box.local ANY?".into())));
}

/// `box` with 10.0.0.5 and 10.0.0.6 on the same network, long announced.
fn with_two_interfaces() -> Case {
    let mut case = Case::with_ssh();
    case.link(2, &["10.0.0.6/24"]);
    case.run(600_000);
    case.sent.clear();
    case
}

#[test]
fn rfc6762_10_2_what_one_interface_tells_does_not_flush_what_another_told() {
    let mut case = with_two_interfaces();
    // Of two addresses the asker knows one, so that one interface alone answers.
    let asked = knowing(&["box.local A"], &["box.local A 120 10.0.0.5"]);
    for link in [1, 2] {
        case.receive_at(link, PEER, true, &asked);
    }
    let sent = case.sent_within(10_000);
    let told: Vec<_> = sent.iter().map(|sent| (sent.link, &sent.answers[..])).collect();
    let [first, second] =
        ["box.local A 120! 10.0.0.6", "box.local A 120! 10.0.0.5"].map(|text| [text.to_owned()]);
    assert_eq!(told, [(2, &first[..]), (1, &second[..])]);
    assert_eq!(sent[0].at, sent[1].at, "and not a second later");
    // What both tell is the same, and needs no repetition.
    case.receive_at(2, PEER, true, &query(&["box._ssh._tcp.local SRV"]));
    case.run(10_000);
    assert!(
        case.sent.iter().filter(|sent| sent.says("box._ssh._tcp.local SRV")).count() == 1,
        "{:?}",
        case.sent
    );
}

#[test]
fn interfaces_of_other_networks_are_left_in_peace() {
    let mut case = Case::settled();
    case.link(2, &["192.168.7.5/24", "169.254.7.7/16"]);
    case.link(1, &["10.0.0.5/24", "169.254.7.8/16"]);
    case.run(600_000);
    case.sent.clear();
    case.receive(PEER, &query(&["box.local A"]));
    assert!(case.sent_within(10_000).iter().all(|sent| sent.link == 1));
}

#[test]
fn rfc6762_10_2_a_packet_of_the_other_interface_that_is_heard_shows_a_common_link() {
    let mut case = Case::new(1);
    case.mdns.set_host(case.now, "box");
    case.link(1, &["fe80::5/64"]);
    case.link(2, &["fe80::6/64", "192.168.7.5/24"]);
    case.run(600_000);
    case.sent.clear();
    case.receive_at(1, "[fe80::9]:5353", true, &query(&["box.local AAAA"]));
    let sent = std::mem::take(&mut case.sent);
    assert_eq!(sent[0].answers, ["box.local AAAA 120! fe80::5"]);
    // It comes back on the interface that sent it, and on the other.
    case.receive_at(1, "[fe80::5]:5353", true, &sent[0].bytes);
    assert_eq!(case.sent_within(10_000), []);
    case.receive_at(1, "[fe80::9]:5353", true, &query(&["box.local AAAA"]));
    let bytes = std::mem::take(&mut case.sent).remove(0).bytes;
    case.receive_at(2, "[fe80::5]:5353", true, &bytes);
    let sent = case.sent_within(10_000);
    assert!(sent.iter().all(|sent| sent.link == 2 && sent.says("box.local AAAA 120! fe80::6")), "{sent:?}");
    assert_eq!(sent.len(), 2, "over both families: {sent:?}");
}

#[test]
fn a_farewell_on_one_interface_is_none_on_another() {
    let mut case = with_two_interfaces();
    case.mdns.drop_link(case.now, 1);
    let sent = case.sent_within(10_000);
    assert!(sent[0].link == 1 && sent[0].says("_ssh._tcp.local PTR 0 "));
    let again: Vec<_> = sent[1..].iter().filter(|sent| sent.says("_ssh._tcp.local PTR 4500 ")).collect();
    assert!(again.len() == 1 && again[0].link == 2 && again[0].at < sent[0].at + 1000, "{sent:?}");
    assert!(!sent[1..].iter().any(|sent| sent.says("box.local A 120! 10.0.0.5")));
}
