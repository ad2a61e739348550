//! RFC 6763: services come, change and go.

use super::*;

#[test]
fn rfc6763_host_and_service_are_probed_together() {
    let mut case = Case::starting(1);
    case.mdns.set_service(case.now, 0, ssh()).unwrap();
    let sent = case.sent_within(700);
    let together = sent.iter().find(|sent| sent.questions.len() == 2).or(sent.last()).unwrap();
    assert!(together.authorities.iter().any(|record| record.starts_with("box")), "{sent:?}");
    case.run(10_000);
    assert!(case.mdns.services()[0].established);
}

#[test]
fn rfc6763_9_the_types_are_listed_once() {
    let mut case = Case::with_ssh();
    let other = Service { instance: "other".into(), wildcards: false, ..ssh() };
    let web = Service { kind: "_http._tcp".into(), subtypes: Vec::new(), ..ssh() };
    case.mdns.set_service(case.now, 1, other).unwrap();
    case.mdns.set_service(case.now, 2, web).unwrap();
    case.run(30_000);
    case.sent.clear();
    case.receive(PEER, &query(&["_services._dns-sd._udp.local PTR"]));
    let sent = case.sent_within(1000);
    let expected = ["_ssh._tcp.local", "_http._tcp.local"]
        .map(|kind| format!("_services._dns-sd._udp.local PTR 4500 {kind}"));
    assert_eq!((sent.len(), sent[0].answers.as_slice()), (1, &expected[..]));
}

#[test]
fn a_service_that_goes_gets_its_farewell_and_others_of_its_type_stay() {
    let mut case = Case::with_ssh();
    let other = Service { instance: "other".into(), wildcards: false, ..ssh() };
    case.mdns.set_service(case.now, 1, other).unwrap();
    case.run(30_000);
    case.sent.clear();
    case.mdns.drop_service(case.now, 1);
    let sent = case.sent_within(5000);
    assert_eq!(sent.len(), 1, "{sent:?}");
    let expected = [
        "other._ssh._tcp.local SRV 0 0 0 22222 box.local",
        "other._ssh._tcp.local TXT 0 \"\"",
        "_ssh._tcp.local PTR 0 other._ssh._tcp.local",
        "_resin-device._sub._ssh._tcp.local PTR 0 other._ssh._tcp.local",
    ];
    assert_eq!(sent[0].answers, expected);
    assert_eq!(case.mdns.services().len(), 1);
}

#[test]
fn rfc6762_8_4_another_text_or_port_is_told_without_probing() {
    let mut case = Case::with_ssh();
    case.mdns.set_service(case.now, 0, Service { port: 22, txt: vec![b"a=1".to_vec()], ..ssh() }).unwrap();
    let sent = case.sent_within(10_000);
    assert!(sent.iter().all(Sent::is_response), "{sent:?}");
    assert!(sent[0].says("box._ssh._tcp.local SRV 120! 0 0 22 box.local"));
    assert!(sent[0].says("box._ssh._tcp.local TXT 4500! \"a=1\""));
    assert!(sent.iter().all(|sent| sent.answers.iter().all(|record| !record.contains(" 0 0 0 22222"))));
}

#[test]
fn another_name_is_probed_and_the_old_one_gets_its_farewell() {
    let mut case = Case::with_ssh();
    case.mdns.set_service(case.now, 0, Service { instance: "SSH on %h".into(), ..ssh() }).unwrap();
    let sent = case.sent_within(10_000);
    assert!(sent[0].says("box._ssh._tcp.local SRV 0 "), "{sent:?}");
    assert_eq!(sent.iter().filter(|sent| !sent.is_response()).count(), 3);
    assert_eq!(case.mdns.services()[0].instance, "SSH on box");
}

#[test]
fn services_follow_the_host_when_it_gets_another_name() {
    let mut case = Case::with_ssh();
    let fixed = Service { instance: "fixed".into(), wildcards: false, ..ssh() };
    case.mdns.set_service(case.now, 1, fixed).unwrap();
    case.run(10_000);
    case.sent.clear();
    case.mdns.set_host(case.now, "kiosk");
    let sent = case.sent_within(10_000);
    let probed =
        |question: &str| sent.iter().any(|sent| sent.questions.iter().any(|asked| asked == question));
    assert!(probed("kiosk.local ANY") && probed("kiosk._ssh._tcp.local ANY"), "{sent:?}");
    assert!(!probed("fixed._ssh._tcp.local ANY"), "its name is the same");
    assert!(sent.iter().any(|sent| sent.says("fixed._ssh._tcp.local SRV 120! 0 0 22222 kiosk.local")));
    assert!(sent.iter().all(|sent| !sent.says("fixed._ssh._tcp.local SRV 0")), "replaced, not taken back");
}

#[test]
fn a_service_of_another_host_points_there() {
    let mut case = Case::settled();
    let service = Service { target: Some("printer.local".into()), ..ssh() };
    case.mdns.set_service(case.now, 1, service).unwrap();
    case.run(10_000);
    case.sent.clear();
    let sent = case.react(&query(&["box._ssh._tcp.local SRV"]));
    assert_eq!(sent[0].answers, ["box._ssh._tcp.local SRV 120! 0 0 22222 printer.local"]);
    assert!(sent[0].additionals.is_empty());
}

#[test]
fn a_service_of_one_family_is_told_over_that_alone() {
    let mut case = Case::new(1);
    case.mdns.set_host(case.now, "box");
    case.link(1, &["10.0.0.5/24", "fe80::5/64"]);
    case.mdns.set_service(case.now, 0, Service { ipv6: false, ..ssh() }).unwrap();
    case.run(30_000);
    case.sent.clear();
    case.receive_at(1, "[fe80::9]:5353", true, &query(&["_ssh._tcp.local PTR"]));
    assert_eq!(case.sent_within(1000), []);
    case.receive(PEER, &query(&["_ssh._tcp.local PTR"]));
    assert_eq!(case.sent_within(1000).len(), 1);
}

#[test]
fn wrong_services_change_nothing() {
    let mut case = Case::with_ssh();
    assert!(case.mdns.set_service(case.now, 0, Service { kind: "ssh".into(), ..ssh() }).is_err());
    assert!(case.mdns.set_service(case.now, 9, Service { instance: String::new(), ..ssh() }).is_err());
    assert!(case.mdns.set_service(case.now, 9, ssh()).is_err(), "the name is another's of ours");
    assert_eq!(case.sent_within(5000), []);
    assert_eq!(case.mdns.services().len(), 1);
}
