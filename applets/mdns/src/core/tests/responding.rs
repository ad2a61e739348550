//! RFC 6762 §5 to §7: who is answered, when, where and how often.

use super::*;

#[test]
fn rfc6762_6_unique_records_are_answered_at_once() {
    let mut case = Case::settled();
    let sent = case.react(&query(&["BOX.local A"]));
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].answers, ["box.local A 120! 10.0.0.5"]);
    assert_eq!(sent[0].additionals, ["box.local NSEC 120! box.local A"], "RFC 6762 §6.2: no AAAA");
    assert_eq!((sent[0].to.as_str(), sent[0].header.id, sent[0].questions.len()), (EVERYBODY, 0, 0));
    assert_eq!(sent[0].header.flags, Flags(0x8400));
}

#[test]
fn rfc6762_6_shared_records_after_20_to_120_ms() {
    let mut times = Vec::new();
    for seed in 0..200 {
        let mut case = Case::starting(seed);
        case.mdns.set_service(case.now, 0, ssh()).unwrap();
        case.run(30_000);
        case.sent.clear();
        case.receive(PEER, &query(&["_ssh._tcp.local PTR"]));
        let begin = case.now;
        times.push(case.sent_within(500)[0].at - begin);
    }
    let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert!((20..40).contains(least) && (100..=120).contains(most), "{least} {most}");
}

#[test]
fn rfc6762_6_3_several_questions_are_answered_together_after_20_to_120_ms() {
    let mut case = Case::settled();
    case.receive(PEER, &query(&["box.local A", "5.0.0.10.in-addr.arpa PTR", "other.local A"]));
    let begin = case.now;
    let sent = case.sent_within(500);
    assert_eq!(sent.len(), 1);
    assert!((20..=120).contains(&(sent[0].at - begin)));
    assert_eq!(sent[0].answers, ["box.local A 120! 10.0.0.5", "5.0.0.10.in-addr.arpa PTR 120! box.local"]);
}

#[test]
fn rfc6762_6_3_questions_of_several_hosts_are_answered_together() {
    let mut case = Case::with_ssh();
    for host in 10..20 {
        case.receive(&format!("10.0.0.{host}:5353"), &query(&["_ssh._tcp.local PTR"]));
        case.receive(&format!("10.0.0.{host}:5353"), &query(&["_services._dns-sd._udp.local PTR"]));
    }
    let sent = case.sent_within(500);
    assert!(sent.len() <= 2, "{sent:?}");
}

#[test]
fn rfc6762_6_1_what_does_not_exist_is_denied() {
    let mut case = Case::with_ssh();
    for (question, denial) in [
        ("box.local AAAA", "box.local NSEC 120! box.local A"),
        ("box.local TXT", "box.local NSEC 120! box.local A"),
        ("box._ssh._tcp.local A", "box._ssh._tcp.local NSEC 120! box._ssh._tcp.local TXT SRV"),
        ("5.0.0.10.in-addr.arpa A", "5.0.0.10.in-addr.arpa NSEC 120! 5.0.0.10.in-addr.arpa PTR"),
    ] {
        let sent = case.react(&query(&[question]));
        assert_eq!(sent[0].answers, [denial]);
        case.run(2000);
    }
    // Shared names and those of others are not ours to deny.
    for question in ["_ssh._tcp.local TXT", "other.local A", "local A", "x.box.local A"] {
        case.receive(PEER, &query(&[question]));
        assert_eq!(case.sent_within(1000), [], "{question}");
    }
}

#[test]
fn rfc6762_6_other_classes_are_not_ours() {
    let mut case = Case::settled();
    let mut bytes = query(&["box.local A"]);
    let last = bytes.len() - 1;
    bytes[last] = 3;
    case.receive(PEER, &bytes);
    assert_eq!(case.sent_within(1000), []);
    bytes[last] = 255;
    assert_eq!(case.react(&bytes).len(), 1, "any class");
}

#[test]
fn rfc6762_6_a_record_is_multicast_once_a_second_at_most() {
    let mut case = Case::settled();
    for round in 0..300 {
        case.receive(&format!("10.0.0.{}:5353", 10 + round % 100), &query(&["box.local A"]));
        case.run(10);
    }
    let times: Vec<_> = case.sent.iter().map(|sent| sent.at).collect();
    assert!((3..=4).contains(&times.len()), "{times:?}");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 1000), "{times:?}");
}

#[test]
fn rfc6762_6_who_probes_among_the_pointers_of_a_type_hears_them_in_time() {
    // As python-zeroconf does, thrice within 350 ms; another program at his port 5353 may get what is sent to him alone.
    let mut case = Case::with_ssh();
    let pointer = "_ssh._tcp.local PTR 4500 box._ssh._tcp.local";
    let probe = message(Flags::default(), &["_ssh._tcp.local PTR?"], &[], &[pointer]);
    let mut told = Vec::new();
    for _ in 0..3 {
        case.receive(PEER, &probe);
        told.extend(
            case.sent_within(175).into_iter().filter(|sent| sent.to == EVERYBODY && sent.says(pointer)),
        );
    }
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].at - told[0].at >= 250);
}

#[test]
fn rfc6762_7_1_known_answers_are_not_told() {
    let mut case = Case::with_ssh();
    for (known, told) in [
        ("_ssh._tcp.local PTR 4500 box._ssh._tcp.local", false),
        ("_ssh._tcp.local PTR 2250 BOX._ssh._tcp.local", false),
        ("_ssh._tcp.local PTR 2249 box._ssh._tcp.local", true),
        ("_ssh._tcp.local PTR 4500 other._ssh._tcp.local", true),
    ] {
        case.receive(PEER, &knowing(&["_ssh._tcp.local PTR"], &[known]));
        assert_eq!(!case.sent_within(2000).is_empty(), told, "{known}");
    }
}

#[test]
fn rfc6762_7_2_more_known_answers_are_waited_for() {
    let question = "_ssh._tcp.local PTR";
    let mut times = Vec::new();
    for seed in 0..100 {
        let mut case = Case::starting(seed);
        case.mdns.set_service(case.now, 0, ssh()).unwrap();
        case.run(30_000);
        case.sent.clear();
        let first = message(Flags::TC, &[question], &["_ssh._tcp.local PTR 4500 a._ssh._tcp.local"], &[]);
        case.receive(PEER, &first);
        let begin = case.now;
        if seed % 3 == 0 {
            case.run(200);
            // The rest of somebody else's list is not of this question.
            let from = if seed % 2 == 0 { PEER } else { "10.0.0.10:5353" };
            case.receive(from, &knowing(&[], &["_ssh._tcp.local PTR 4500 box._ssh._tcp.local"]));
            assert_eq!(case.sent_within(1000).is_empty(), seed % 2 == 0);
            continue;
        }
        times.push(case.sent_within(1000)[0].at - begin);
    }
    let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert!((400..420).contains(least) && (480..=500).contains(most), "{least} {most}");
}

#[test]
fn rfc6762_7_2_what_two_asked_for_one_cannot_take_back() {
    let mut case = Case::with_ssh();
    let bytes = message(Flags::TC, &["_ssh._tcp.local PTR"], &[], &[]);
    case.receive(PEER, &bytes);
    case.receive("10.0.0.10:5353", &bytes);
    case.run(100);
    for one in [PEER, "10.0.0.10:5353"] {
        case.receive(one, &knowing(&[], &["_ssh._tcp.local PTR 4500 box._ssh._tcp.local"]));
    }
    assert_eq!(case.sent_within(1000).len(), 1);
}

#[test]
fn rfc6762_7_4_what_another_has_just_told_is_not_told_again() {
    for (ttl, told) in [(4500, false), (4499, true)] {
        let mut case = Case::with_ssh();
        case.receive(PEER, &query(&["_services._dns-sd._udp.local PTR"]));
        let same = format!("_services._dns-sd._udp.local PTR {ttl} _ssh._tcp.local");
        case.receive("10.0.0.10:5353", &response(&[&same]));
        assert_eq!(!case.sent_within(1000).is_empty(), told, "{ttl}");
    }
}

#[test]
fn rfc6762_5_4_answers_by_unicast_when_they_were_told_to_all_lately() {
    let mut case = Case::settled();
    // A quarter of 120 s has not gone by since the last announcement.
    let sent = case.react(&query(&["box.local A?"]));
    assert_eq!((sent.len(), sent[0].to.as_str()), (1, PEER));
    assert_eq!(sent[0].answers, ["box.local A 120! 10.0.0.5"]);
    case.run(31_000);
    let sent = case.react(&query(&["box.local A?"]));
    assert_eq!((sent.len(), sent[0].to.as_str()), (1, EVERYBODY));
    case.run(2000);
    let sent = case.react(&query(&["box.local A?"]));
    assert_eq!(sent[0].to, PEER);
}

#[test]
fn rfc6762_5_5_a_question_to_us_alone_is_answered_alone_on_the_link() {
    let mut case = Case::settled();
    case.run(60_000);
    case.receive_at(1, PEER, false, &query(&["box.local A"]));
    assert_eq!((case.sent.len(), case.sent[0].to.as_str()), (1, PEER));
    case.sent.clear();
    case.receive_at(1, "10.0.1.9:5353", false, &query(&["box.local A"]));
    assert_eq!(case.sent_within(1000), [], "from beyond the link");
}

#[test]
fn rfc6762_11_multicast_comes_from_the_link_whatever_its_source() {
    let mut case = Case::settled();
    case.receive("192.168.77.1:5353", &query(&["box.local A?"]));
    let sent = case.sent_within(100);
    assert_eq!((sent.len(), sent[0].to.as_str()), (1, EVERYBODY), "never by unicast to where no link is");
}

#[test]
fn what_comes_along_was_not_told_to_all_within_a_second() {
    let mut case = Case::with_ssh();
    case.receive(PEER, &query(&["box._ssh._tcp.local SRV"]));
    assert_eq!(
        std::mem::take(&mut case.sent)[0].additionals.len(),
        2,
        "the address, and that there is no other"
    );
    case.run(300);
    let sent = case.react(&query(&["box._ssh._tcp.local TXT"]));
    assert_eq!(sent[0].additionals.len(), 0);
    case.receive(PEER, &query(&["_ssh._tcp.local PTR"]));
    let sent = case.sent_within(200);
    assert_eq!((sent[0].answers.len(), sent[0].additionals.len()), (1, 0), "{sent:?}");
}

#[test]
fn rfc6762_6_7_legacy_questions_are_answered_as_by_a_server() {
    let mut case = Case::with_ssh();
    let mut bytes = query(&["box.local A?", "_ssh._tcp.local PTR"]);
    bytes[..2].copy_from_slice(&[0x12, 0x34]);
    case.receive("10.0.0.9:40000", &bytes);
    assert_eq!(case.sent.len(), 1, "at once");
    let sent = &case.sent[0];
    assert_eq!((sent.to.as_str(), sent.header.id), ("10.0.0.9:40000", 0x1234));
    assert_eq!(sent.questions, ["box.local A", "_ssh._tcp.local PTR"], "repeated, without the unicast bit");
    assert_eq!(sent.answers, ["box.local A 10 10.0.0.5", "_ssh._tcp.local PTR 10 box._ssh._tcp.local"]);
    assert!(sent.additionals.contains(&"box._ssh._tcp.local SRV 10 0 0 22222 box.local".into()));
    assert!(sent.additionals.iter().all(|record| !record.contains('!')), "no bit that flushes caches");
    case.sent.clear();
    case.receive("8.8.8.8:40000", &bytes);
    assert_eq!(case.sent_within(1000), [], "who is not on the link cannot make us send to him");
}

#[test]
fn rfc6762_6_7_a_legacy_answer_fits_what_the_resolver_takes() {
    let mut case = Case::settled();
    for id in 1..60 {
        let service =
            Service { instance: format!("A service with a long name, {id:02}"), wildcards: false, ..ssh() };
        case.mdns.set_service(case.now, id, service).unwrap();
    }
    case.run(10_000);
    case.sent.clear();
    case.receive("10.0.0.9:40000", &query(&["_ssh._tcp.local PTR"]));
    let sent = &case.sent[0];
    assert!(sent.bytes.len() <= 512 && sent.header.flags.has(Flags::TC));
}

#[test]
fn rfc6762_17_long_answers_are_several_packets_that_fit() {
    let mut case = Case::settled();
    for id in 1..200 {
        let service =
            Service { instance: format!("A service with a long name, {id:03}"), wildcards: false, ..ssh() };
        case.mdns.set_service(case.now, id, service).unwrap();
    }
    case.run(30_000);
    case.sent.clear();
    case.receive(PEER, &query(&["_ssh._tcp.local PTR"]));
    let sent = case.sent_within(1000);
    assert!(sent.len() > 2 && sent.iter().all(|sent| sent.bytes.len() <= 1472));
    let told: usize = sent.iter().map(|sent| sent.answers.len()).sum();
    assert_eq!(told, 199);
}

#[test]
fn rfc6762_17_a_record_longer_than_the_link_goes_alone_up_to_9000_bytes() {
    let mut case = Case::settled();
    let service = Service { txt: vec![vec![b'x'; 255]; 20], ..ssh() };
    case.mdns.set_service(case.now, 1, service).unwrap();
    case.run(30_000);
    case.sent.clear();
    let sent = case.react(&query(&["box._ssh._tcp.local TXT"]));
    assert_eq!((sent.len(), sent[0].answers.len(), sent[0].bytes.len() > 5000), (1, 1, true));
}

#[test]
fn rfc6762_18_what_is_no_ordinary_query_is_ignored() {
    let mut case = Case::settled();
    let good = query(&["box.local A"]);
    // An opcode, a response code, a response, a cut.
    for (place, value) in [(2, 0x08), (2, 0x78), (3, 0x03), (2, 0x80), (5, 2)] {
        let mut bytes = good.clone();
        bytes[place] = value;
        case.receive(PEER, &bytes);
        assert_eq!(case.sent_within(1000), [], "{place} {value}");
    }
    for id in [0, 0xffff] {
        let mut bytes = good.clone();
        bytes[..2].copy_from_slice(&u16::to_be_bytes(id));
        assert_eq!(case.react(&bytes).len(), 1, "§18.1: ids mean nothing");
        case.run(2000);
    }
}

#[test]
fn rfc6762_10_1_a_farewell_for_what_we_still_have_is_contradicted() {
    let mut case = Case::with_ssh();
    case.receive(PEER, &response(&["_services._dns-sd._udp.local PTR 0 _ssh._tcp.local"]));
    let sent = case.sent_within(1000);
    assert_eq!(sent.len(), 1, "within the second that caches wait");
    assert!(sent[0].says("_services._dns-sd._udp.local PTR 4500 _ssh._tcp.local"));
}

#[test]
fn rfc6763_12_what_will_be_asked_next_comes_along() {
    let mut case = Case::new(1);
    case.mdns.set_host(case.now, "box");
    case.link(1, &["10.0.0.5/24", "fe80::5/64"]);
    case.mdns.set_service(case.now, 0, ssh()).unwrap();
    case.run(30_000);
    case.sent.clear();
    case.receive(PEER, &query(&["_resin-device._sub._ssh._tcp.local PTR"]));
    let sent = case.sent_within(1000);
    assert_eq!(sent[0].answers, ["_resin-device._sub._ssh._tcp.local PTR 4500 box._ssh._tcp.local"]);
    let expected = [
        "box._ssh._tcp.local SRV 120! 0 0 22222 box.local",
        "box._ssh._tcp.local TXT 4500! \"\"",
        "box.local A 120! 10.0.0.5",
        "box.local AAAA 120! fe80::5",
    ];
    assert_eq!(sent[0].additionals, expected);
    let sent = case.sent_within(1000);
    assert_eq!(sent, []);
    let sent = case.react(&query(&["box.local AAAA"]));
    assert_eq!(
        sent[0].additionals,
        ["box.local A 120! 10.0.0.5"],
        "RFC 6762 §6.2: each family with the other"
    );
}
