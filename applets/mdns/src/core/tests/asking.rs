//! RFC 6762 §5, §10: asking, caching, noticing what is gone.

use super::*;

fn ask(case: &mut Case, text: &str, once: bool) -> u32 {
    let (owner, kind) = text.split_once(' ').unwrap();
    let question = Question { name: name(owner), kind: Kind::parse(kind).unwrap(), link: None, once };
    let id = case.mdns.ask(case.now, question).unwrap();
    case.perform();
    id
}

/// When questions were asked, since `begin`.
fn asked(case: &Case, begin: Time) -> Vec<Time> {
    case.sent.iter().filter(|sent| !sent.questions.is_empty()).map(|sent| sent.at - begin).collect()
}

#[test]
fn rfc6762_5_2_questions_go_on_ever_more_slowly_up_to_an_hour() {
    let mut case = Case::settled();
    let begin = case.now;
    ask(&mut case, "_http._tcp.local PTR", false);
    case.run(6 * 3_600_000);
    let times = asked(&case, begin);
    assert!((20..=120).contains(&times[0]), "{times:?}");
    let gaps: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]) / 1000).collect();
    assert_eq!(gaps[..12], [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048]);
    assert!(gaps[12..].iter().all(|gap| *gap == 3600), "{gaps:?}");
}

#[test]
fn a_question_that_is_asked_once_is_asked_at_once_and_ends_after_a_second() {
    let mut case = Case::settled();
    let begin = case.now;
    ask(&mut case, "other.local A", true);
    case.run(1000);
    assert_eq!(asked(&case, begin), [0, 1000], "again, should the first have been lost");
    case.run(10_000);
    assert_eq!((case.found(), case.sent.len()), (vec!["done".into()], 2));
}

#[test]
fn the_first_unique_answer_ends_a_question_that_is_asked_once() {
    let mut case = Case::settled();
    ask(&mut case, "other.local ANY", true);
    case.run(5);
    case.receive(PEER, &response(&["other.local A 120! 10.0.0.9", "other.local AAAA 120! fe80::9"]));
    assert_eq!(case.found(), ["+other.local A 120! 10.0.0.9", "+other.local AAAA 120! fe80::9", "done"]);
    // And the next is answered from the cache, with the time that is left.
    case.told.clear();
    case.sent.clear();
    case.run(20_000);
    ask(&mut case, "OTHER.local A", true);
    assert_eq!(
        (case.found(), case.sent.len()),
        (vec!["+other.local A 100! 10.0.0.9".into(), "done".into()], 0)
    );
}

#[test]
fn with_its_unique_answer_a_question_of_one_link_rests_until_the_record_is_about_to_end() {
    let mut case = Case::settled();
    let begin = case.now;
    let question = Question { name: name("other.local"), kind: Kind::A, link: Some(1), once: false };
    case.mdns.ask(case.now, question.clone()).unwrap();
    case.perform();
    case.run(200);
    case.receive(PEER, &response(&["other.local A 120! 10.0.0.9"]));
    case.run(90_000);
    let times = asked(&case, begin);
    assert_eq!(times.len(), 1, "{times:?}");
    case.run(10_000);
    assert_eq!(asked(&case, begin).len(), 2, "at 80 % of its time");
    // A change is heard, and what is known already is not even asked once.
    case.receive(PEER, &response(&["other.local A 120! 10.0.0.10"]));
    assert!(case.found().contains(&"+other.local A 120! 10.0.0.10".into()), "{:?}", case.found());
    case.sent.clear();
    case.mdns.ask(case.now, question).unwrap();
    case.run(5000);
    assert!(case.sent.is_empty());
}

#[test]
fn shared_answers_are_collected_until_the_end() {
    let mut case = Case::settled();
    ask(&mut case, "_http._tcp.local PTR", true);
    for host in ["a", "b"] {
        case.run(100);
        case.receive(PEER, &response(&[&format!("_http._tcp.local PTR 4500 {host}._http._tcp.local")]));
    }
    assert_eq!(case.found().len(), 2);
    case.run(1200);
    assert_eq!(case.found().len(), 3, "{:?}", case.found());
}

#[test]
fn rfc6762_6_1_a_denial_ends_the_question() {
    let mut case = Case::settled();
    ask(&mut case, "other.local AAAA", true);
    case.receive(PEER, &response(&["other.local NSEC 120! other.local A"]));
    assert_eq!(case.found(), ["done"]);
    ask(&mut case, "other.local AAAA", true);
    assert_eq!(case.found(), ["done", "done"], "from the cache");
}

#[test]
fn our_own_records_answer_too() {
    let mut case = Case::with_ssh();
    ask(&mut case, "box.local A", true);
    ask(&mut case, "box.local AAAA", true);
    assert_eq!(case.found(), ["+box.local A 120! 10.0.0.5", "done", "done"]);
    assert_eq!(case.sent, []);
    case.told.clear();
    ask(&mut case, "_ssh._tcp.local PTR", false);
    let other = Service { instance: "other".into(), wildcards: false, ..ssh() };
    case.mdns.set_service(case.now, 1, other).unwrap();
    case.run(2000);
    case.mdns.drop_service(case.now, 1);
    case.perform();
    let expected = [
        "+_ssh._tcp.local PTR 4500 box",
        "+_ssh._tcp.local PTR 4500 other",
        "-_ssh._tcp.local PTR 4500 other",
    ];
    assert_eq!(case.found(), expected.map(|text| format!("{text}._ssh._tcp.local")));
}

#[test]
fn own_records_of_both_families_are_told_once() {
    let mut case = Case::new(1);
    case.mdns.set_host(case.now, "box");
    case.mdns.set_service(case.now, 0, ssh()).unwrap();
    ask(&mut case, "_ssh._tcp.local PTR", false);
    case.link(1, &["10.0.0.5/24", "fe80::5/64"]);
    case.run(5000);
    assert_eq!(case.found(), ["+_ssh._tcp.local PTR 4500 box._ssh._tcp.local"]);
    case.mdns.set_host(case.now, "kiosk");
    case.run(5000);
    let expected =
        ["-_ssh._tcp.local PTR 4500 box._ssh._tcp.local", "+_ssh._tcp.local PTR 4500 kiosk._ssh._tcp.local"];
    assert_eq!(case.found()[1..], expected);
    case.told.clear();
    case.link(1, &["10.0.0.5/24"]);
    assert_eq!(case.found().len(), 0);
    case.mdns.drop_link(case.now, 1);
    case.perform();
    assert_eq!(case.found(), ["-_ssh._tcp.local PTR 4500 kiosk._ssh._tcp.local"]);
}

#[test]
fn rfc6762_7_1_known_answers_go_along_while_half_their_time_is_left() {
    let mut case = Case::settled();
    ask(&mut case, "_http._tcp.local PTR", false);
    case.run(200);
    case.sent.clear();
    case.receive(PEER, &response(&["_http._tcp.local PTR 10 a._http._tcp.local"]));
    case.run(5200);
    // Asked 1 s, 3 s and 7 s after the first time; the record is known until 5 s.
    let known: Vec<_> = case.sent.iter().map(|sent| (sent.answers.len(), sent.at)).collect();
    assert_eq!(known.iter().map(|(count, _)| *count).collect::<Vec<_>>(), [1, 1], "{known:?}");
    assert!(case.sent[0].answers[0].starts_with("_http._tcp.local PTR 10 a."), "{:?}", case.sent[0]);
    case.sent.clear();
    case.run(2000);
    assert!(case.sent.iter().all(|sent| sent.answers.is_empty()), "{:?}", case.sent);
}

#[test]
fn rfc6762_7_2_many_known_answers_take_several_packets() {
    let mut case = Case::settled();
    ask(&mut case, "_http._tcp.local PTR", false);
    case.run(200);
    for chunk in 0..10 {
        let records: Vec<_> = (0..20)
            .map(|one| {
                format!("_http._tcp.local PTR 4500 a-service-with-a-long-name-{chunk}-{one}._http._tcp.local")
            })
            .collect();
        let records: Vec<&str> = records.iter().map(String::as_str).collect();
        case.receive(&format!("10.0.0.{}:5353", 10 + chunk), &response(&records));
    }
    case.sent.clear();
    case.run(1100);
    let sent = &case.sent;
    assert!(sent.len() > 3, "{}", sent.len());
    for (packet, place) in sent.iter().zip(1..) {
        assert_eq!(packet.header.flags.has(Flags::TC), place < sent.len(), "more follow");
        assert_eq!(packet.questions.len(), usize::from(place == 1));
        assert!(packet.bytes.len() <= 1472);
    }
    assert_eq!(sent.iter().map(|sent| sent.answers.len()).sum::<usize>(), 200);
}

#[test]
fn rfc6762_7_3_what_another_has_just_asked_is_not_asked_again() {
    for (known, spared) in [(&[][..], true), (&["_http._tcp.local PTR 4500 a._http._tcp.local"][..], false)] {
        let mut case = Case::settled();
        ask(&mut case, "_http._tcp.local PTR", false);
        case.run(5);
        case.receive(PEER, &knowing(&["_http._tcp.local PTR"], known));
        case.run(500);
        assert_eq!(case.sent.is_empty(), spared);
        case.run(1000);
        assert!(!case.sent.is_empty(), "the next one is asked");
    }
}

#[test]
fn what_was_asked_before_we_wanted_to_know_is_asked_again() {
    let mut case = Case::settled();
    let begin = case.now;
    case.receive(PEER, &query(&["other.local A"]));
    ask(&mut case, "other.local A", true);
    case.run(5);
    assert_eq!(asked(&case, begin), [0], "its answer was not kept");
}

#[test]
fn rfc6762_5_2_records_are_asked_for_again_at_80_85_90_and_95_percent() {
    let mut case = Case::settled();
    ask(&mut case, "other.local A", false);
    // Until the pauses are long.
    case.run(600_000);
    case.sent.clear();
    let begin = case.now;
    case.receive(PEER, &response(&["other.local A 120! 10.0.0.9"]));
    case.run(118_000);
    let parts: Vec<_> = asked(&case, begin).iter().map(|at| at / 1200).collect();
    assert_eq!(parts.len(), 4, "{parts:?}");
    for (part, least) in parts.iter().zip([80, 85, 90, 95]) {
        assert!((least..=least + 2).contains(part), "{parts:?}");
    }
    assert!(case.sent.iter().all(|sent| sent.answers.is_empty()), "or it would not be told");
    case.run(3000);
    assert_eq!(case.found(), ["+other.local A 120! 10.0.0.9", "-other.local A 120! 10.0.0.9"]);
}

#[test]
fn an_answer_to_that_keeps_the_record() {
    let mut case = Case::settled();
    ask(&mut case, "other.local A", false);
    case.run(600_000);
    for _ in 0..20 {
        case.receive(PEER, &response(&["other.local A 120! 10.0.0.9"]));
        case.run(100_000);
    }
    assert_eq!(case.found(), ["+other.local A 120! 10.0.0.9"]);
}

#[test]
fn what_nobody_waits_for_wakes_nobody() {
    let mut case = Case::settled();
    ask(&mut case, "other.local A", true);
    case.receive(PEER, &response(&["other.local A 120! 10.0.0.9"]));
    assert_eq!((case.mdns.cached().0, case.mdns.deadline()), (1, None));
    case.run(121_000);
    case.told.clear();
    ask(&mut case, "other.local A", true);
    assert_eq!((case.found(), case.mdns.cached().0), (vec![], 0), "and it is not told after its time");
}

#[test]
fn rfc6762_10_1_a_farewell_ends_a_record_after_a_second() {
    let mut case = Case::settled();
    ask(&mut case, "_http._tcp.local PTR", false);
    let record = "_http._tcp.local PTR 4500 a._http._tcp.local";
    let farewell = "_http._tcp.local PTR 0 a._http._tcp.local";
    case.receive(PEER, &response(&[record]));
    case.receive(PEER, &response(&[farewell]));
    case.run(900);
    assert_eq!(case.found().len(), 1);
    // Another responder may have the same record: it has this second to say so.
    case.receive("10.0.0.10:5353", &response(&[record]));
    case.run(2000);
    assert_eq!(case.found().len(), 1);
    case.receive(PEER, &response(&[farewell]));
    case.run(1001);
    assert_eq!(case.found().len(), 2);
    case.receive(PEER, &response(&["_http._tcp.local PTR 0 b._http._tcp.local"]));
    case.run(2000);
    assert_eq!(case.found().len(), 2, "what was never there does not go");
}

#[test]
fn rfc6762_10_2_the_bit_flushes_what_is_older_than_a_second() {
    let mut case = Case::settled();
    ask(&mut case, "other.local A", false);
    case.receive(PEER, &response(&["other.local A 120! 10.0.0.9"]));
    case.run(500);
    case.receive(PEER, &response(&["other.local A 120! 10.0.0.10"]));
    case.run(5000);
    assert_eq!(case.found().len(), 2, "half a second: both are");
    case.receive(PEER, &response(&["other.local A 120! 10.0.0.11", "other.local A 120! 10.0.0.12"]));
    case.run(900);
    assert_eq!(case.found().len(), 4, "a second of grace");
    case.run(200);
    let gone: Vec<_> = case.found().into_iter().filter(|text| text.starts_with('-')).collect();
    assert_eq!(gone.len(), 2, "{gone:?}");
    case.receive(PEER, &response(&["other.local AAAA 120! fe80::9"]));
    case.run(5000);
    assert_eq!(case.found().len(), 6, "another type flushes nothing");
}

#[test]
fn rfc6762_10_4_what_does_not_work_is_asked_for_and_forgotten_after_ten_seconds() {
    for answered in [false, true] {
        let mut case = Case::settled();
        ask(&mut case, "other.local A", false);
        case.run(600_000);
        case.receive(PEER, &response(&["other.local A 120! 10.0.0.9"]));
        case.run(2000);
        case.sent.clear();
        let begin = case.now;
        case.mdns.reconfirm(case.now, &name("other.local"), Kind::A);
        case.run(100);
        assert_eq!(asked(&case, begin), [0]);
        if answered {
            case.receive(PEER, &response(&["other.local A 120! 10.0.0.9"]));
        }
        case.run(10_000);
        assert_eq!(case.found().len(), if answered { 1 } else { 2 }, "{:?}", case.found());
        assert!(asked(&case, begin).len() >= 2);
    }
}

#[test]
fn rfc6762_10_5_questions_of_others_without_answer_say_that_a_record_is_gone() {
    let known = "other.local A 120 10.0.0.9";
    for (questions, answered, gone) in [(1, false, false), (2, false, true), (2, true, false)] {
        let mut case = Case::settled();
        ask(&mut case, "other.local A", false);
        case.run(600_000);
        case.receive(PEER, &response(&["other.local A 1200! 10.0.0.9"]));
        case.run(2000);
        for _ in 0..questions {
            case.receive("10.0.0.10:5353", &query(&["other.local A"]));
            case.run(1000);
        }
        if answered {
            case.receive(PEER, &response(&["other.local A 1200! 10.0.0.9"]));
        }
        case.run(20_000);
        assert_eq!(case.found().len() == 2, gone, "{questions} {answered}: {:?}", case.found());
    }
    // Long ago somebody did not wait for the answer; now there is one coming.
    let mut case = Case::settled();
    ask(&mut case, "other.local A", false);
    case.run(600_000);
    case.receive(PEER, &response(&["other.local A 7200! 10.0.0.9"]));
    for _ in 0..5 {
        case.receive("10.0.0.10:5353", &query(&["other.local A"]));
        case.run(100_000);
    }
    assert_eq!(case.found().len(), 1);
    // Who knows the record does not wait for it.
    let mut case = Case::settled();
    ask(&mut case, "other.local A", false);
    case.run(600_000);
    case.receive(PEER, &response(&["other.local A 1200! 10.0.0.9"]));
    for _ in 0..5 {
        case.receive("10.0.0.10:5353", &knowing(&["other.local A"], &[known]));
        case.run(1000);
    }
    case.run(20_000);
    assert_eq!(case.found().len(), 1);
}

#[test]
fn only_what_was_asked_for_is_kept_with_what_comes_along() {
    let mut case = Case::settled();
    case.receive(PEER, &response(&["other.local A 120! 10.0.0.9"]));
    assert_eq!(case.mdns.cached().0, 0);
    ask(&mut case, "_http._tcp.local PTR", false);
    let whole = ["_http._tcp.local PTR 4500 a._http._tcp.local", "other.local A 120! 10.0.0.9"];
    case.receive(PEER, &response(&whole));
    assert_eq!(case.mdns.cached().0, 2);
    case.told.clear();
    ask(&mut case, "other.local A", true);
    assert_eq!(case.found().len(), 2, "without a packet");
}

#[test]
fn each_link_has_a_cache_of_its_own_and_loses_it_when_it_goes() {
    let mut case = Case::settled();
    case.link(2, &["192.168.7.5/24"]);
    ask(&mut case, "other.local A", false);
    let question = Question { name: name("other.local"), kind: Kind::A, link: Some(1), once: false };
    let only_one = case.mdns.ask(case.now, question).unwrap();
    case.run(30_000);
    case.told.clear();
    case.receive_at(2, "192.168.7.9:5353", true, &response(&["other.local A 120! 192.168.7.9"]));
    assert!(matches!(&case.told[..], [Action::Found { link: 2, question, .. }] if *question != only_one));
    case.mdns.drop_link(case.now, 2);
    case.perform();
    assert_eq!(case.found()[1..], ["-other.local A 120! 192.168.7.9"]);
}

#[test]
fn a_question_that_was_taken_back_is_silent() {
    let mut case = Case::settled();
    let id = ask(&mut case, "other.local A", false);
    case.run(10_000);
    case.mdns.cancel(id);
    case.sent.clear();
    case.receive(PEER, &response(&["other.local A 120! 10.0.0.9"]));
    case.run(100_000);
    assert_eq!((case.sent.len(), case.found().len(), case.mdns.deadline()), (0, 0, None));
}

#[test]
fn rfc6762_11_responses_are_from_port_5353_and_by_multicast() {
    let mut case = Case::settled();
    ask(&mut case, "other.local A", false);
    let bytes = response(&["other.local A 120! 10.0.0.9"]);
    case.receive("10.0.0.9:5354", &bytes);
    case.receive_at(1, PEER, false, &bytes);
    case.receive_at(3, PEER, true, &bytes);
    assert_eq!(case.found().len(), 0);
}

#[test]
fn after_a_sleep_the_cache_is_doubted_and_questions_begin_anew() {
    let mut case = Case::settled();
    ask(&mut case, "other.local A", false);
    case.run(600_000);
    case.receive(PEER, &response(&["other.local A 4500! 10.0.0.9"]));
    case.now += 1_000_000;
    case.mdns.resumed(case.now);
    let begin = case.now;
    case.sent.clear();
    case.run(5000);
    assert!(asked(&case, begin).len() >= 3);
    case.run(6000);
    assert_eq!(case.found().len(), 2, "{:?}", case.found());
}

#[test]
fn of_two_who_want_to_know_the_other_is_told_when_one_has_gone() {
    let mut case = Case::settled();
    let first = ask(&mut case, "other.local A", false);
    let second = ask(&mut case, "OTHER.local ANY", false);
    case.receive(PEER, &response(&["other.local A 120! 10.0.0.9"]));
    case.mdns.cancel(first);
    case.told.clear();
    case.receive(PEER, &response(&["other.local A 0! 10.0.0.9"]));
    case.run(2000);
    assert!(
        matches!(&case.told[..], [Action::Gone { question, .. }] if *question == second),
        "{:?}",
        case.told
    );
}
