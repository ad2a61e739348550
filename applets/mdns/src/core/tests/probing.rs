//! RFC 6762 §8: probing and announcing.

use super::*;

#[test]
fn rfc6762_8_1_three_probes_a_quarter_second_apart() {
    for seed in 0..50 {
        let mut case = Case::starting(seed);
        let sent = case.sent_within(700);
        let times: Vec<_> = sent.iter().map(|sent| sent.at - 10_000).collect();
        assert!(times[0] <= 250, "a random start within 250 ms: {times:?}");
        assert_eq!(times.iter().map(|at| at - times[0]).collect::<Vec<_>>(), [0, 250, 500]);
        for (probe, round) in sent.iter().zip(0..) {
            assert!(!probe.is_response() && probe.to == EVERYBODY, "{probe:?}");
            assert_eq!(probe.questions, [if round == 0 { "box.local ANY?" } else { "box.local ANY" }]);
            assert_eq!(probe.authorities, ["box.local A 120 10.0.0.5"]);
        }
    }
}

#[test]
fn rfc6762_8_1_hosts_do_not_start_in_step() {
    let starts: Vec<_> = (0..20).map(|seed| Case::starting(seed).mdns.deadline().unwrap()).collect();
    let mut different = starts.clone();
    different.sort_unstable();
    different.dedup();
    assert!(different.len() > 10, "{starts:?}");
}

#[test]
fn a_name_is_answered_within_a_second_of_the_link() {
    for seed in 0..50 {
        let mut case = Case::starting(seed);
        case.run(950);
        case.sent.clear();
        let sent = case.react(&query(&["box.local A"]));
        let told = sent.iter().any(|sent| sent.says("box.local A"));
        // It may have been announced less than a second ago, which is as good.
        assert!(told || case.told.contains(&Action::Host("box".into())), "seed {seed}");
    }
}

#[test]
fn rfc6762_8_3_announced_more_than_once_and_slower_each_time() {
    let mut case = Case::starting(1);
    case.run(60_000);
    let announced: Vec<_> = case.responses().cloned().collect();
    let gaps: Vec<_> = announced.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert_eq!(gaps, [1000, 2000]);
    for announcement in announced {
        assert_eq!(
            announcement.answers,
            ["box.local A 120! 10.0.0.5", "5.0.0.10.in-addr.arpa PTR 120! box.local"]
        );
        assert_eq!((announcement.to.as_str(), announcement.header.id), (EVERYBODY, 0));
    }
    assert_eq!(case.mdns.deadline(), None, "nothing is left to do");
}

#[test]
fn rfc6762_8_1_nothing_is_answered_before_the_name_is_ours() {
    let mut case = Case::starting(1);
    case.run(300);
    case.sent.clear();
    case.receive(PEER, &query(&["box.local A", "5.0.0.10.in-addr.arpa PTR"]));
    assert!(case.sent_within(150).iter().all(|sent| !sent.is_response()));
}

#[test]
fn rfc6762_8_1_any_record_of_the_name_takes_it() {
    for taken in ["box.local A 120! 10.0.0.9", "BOX.local TXT 120! \"\x01a\"", "box.local AAAA 120 fe80::9"] {
        let mut case = Case::starting(1);
        case.run(300);
        case.receive(PEER, &response(&[taken]));
        case.sent.clear();
        case.run(30_000);
        assert_eq!(case.mdns.host(), "box-2", "{taken}");
        assert_eq!(case.mdns.counters.conflicts, 1);
        assert!(case.sent.iter().all(|sent| !sent.says("box.local")), "never said");
        assert!(case.told.contains(&Action::Host("box-2".into())));
        assert!(!case.told.contains(&Action::Host("box".into())));
    }
}

#[test]
fn rfc6762_8_1_an_equal_record_takes_nothing() {
    let mut case = Case::starting(1);
    case.run(300);
    case.receive(PEER, &response(&["box.local A 120! 10.0.0.5"]));
    case.run(5000);
    assert_eq!(case.mdns.host(), "box");
}

#[test]
fn rfc6762_8_1_after_fifteen_conflicts_in_ten_seconds_five_seconds_of_peace() {
    let mut case = Case::starting(1);
    let mut renames = Vec::new();
    let begin = case.now;
    while case.now < begin + 60_000 {
        case.run(10);
        let taken = format!("{}.local A 120! 10.0.0.9", case.mdns.host());
        let before = case.mdns.counters.conflicts;
        if case.sent.drain(..).any(|sent| !sent.questions.is_empty()) {
            case.receive(PEER, &response(&[&taken]));
        }
        if case.mdns.counters.conflicts > before {
            renames.push(case.now - begin);
        }
    }
    assert!(renames[14] < 10_000, "{renames:?}");
    for pair in renames[14..].windows(2) {
        assert!(pair[1] - pair[0] >= 5000, "{renames:?}");
    }
}

#[test]
fn rfc6762_8_2_the_lexicographically_later_data_wins() {
    // 169.254.99.200 against 169.254.200.50 is the RFC's own example.
    for (theirs, wins) in
        [("10.0.0.4", true), ("10.0.0.6", false), ("10.0.1.1", false), ("9.255.255.255", true)]
    {
        let mut case = Case::starting(1);
        case.run(300);
        case.sent.clear();
        case.receive(PEER, &probe("box.local", &[&format!("box.local A 120 {theirs}")]));
        let at = case.now;
        case.run(5000);
        let next = case.sent.iter().find(|sent| !sent.questions.is_empty()).unwrap();
        assert_eq!(next.at < at + 250, wins, "{theirs}");
        if !wins {
            assert_eq!(next.at, at + 1000, "the loser waits a second");
            assert_eq!(next.questions, ["box.local ANY?"], "and probes anew");
        }
        assert_eq!(case.mdns.host(), "box", "nobody has defended it");
    }
}

#[test]
fn rfc6762_8_2_a_host_defers_before_its_first_probe_too() {
    let mut case = Case::starting(3);
    case.receive(PEER, &probe("box.local", &["box.local A 120 10.0.0.6"]));
    let at = case.now;
    assert_eq!(case.sent_within(3000)[0].at, at + 1000);
}

#[test]
fn rfc6762_8_2_1_all_records_are_compared_in_order() {
    let cases: [(&[&str], bool); 5] = [
        // Ours are A 10.0.0.5 and AAAA fe80::5.
        (&["box.local A 120 10.0.0.5", "box.local AAAA 120 fe80::4"], true),
        (&["box.local AAAA 120 fe80::6", "box.local A 120 10.0.0.5"], false),
        (&["box.local A 120 10.0.0.5"], true),
        (&["box.local A 120 10.0.0.5", "box.local AAAA 120 fe80::5", "box.local AAAA 120 fe80::6"], false),
        // The same is no conflict.
        (&["box.local AAAA 120 fe80::5", "box.local A 120 10.0.0.5"], true),
    ];
    for (theirs, wins) in cases {
        let mut case = Case::new(1);
        case.mdns.set_host(case.now, "box");
        case.link(1, &["10.0.0.5/24", "fe80::5/64"]);
        case.run(300);
        case.sent.clear();
        case.receive(PEER, &probe("box.local", theirs));
        let v4 = |sent: &&Sent| sent.to == EVERYBODY;
        let at = case.now;
        case.run(1000);
        assert_eq!(case.sent.iter().find(v4).unwrap().at < at + 1000, wins, "{theirs:?}");
    }
}

#[test]
fn rfc6762_8_1_the_owner_defends_at_once() {
    let mut case = Case::settled();
    let sent = case.react(&probe("box.local", &["box.local A 120 10.0.0.6"]));
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].at, sent[0].says("box.local A 120! 10.0.0.5")), (case.now, true));
    assert_eq!(sent[0].to, EVERYBODY, "§15.1: who shares his port may not get what is unicast");
    let sent = case.react(&probe("box.local", &["box.local A 120 10.0.0.6"]));
    assert_eq!((sent[0].at, sent[0].to.as_str()), (case.now, PEER), "no wait for the next multicast");
    assert_eq!(case.mdns.host(), "box");
}

#[test]
fn rfc6762_6_a_name_is_defended_four_times_a_second_at_most() {
    let mut case = Case::settled();
    for _ in 0..100 {
        let bytes = message(Flags::default(), &["box.local ANY"], &[], &["box.local A 120 10.0.0.6"]);
        case.receive(PEER, &bytes);
        case.run(10);
    }
    let times: Vec<_> = case.sent.iter().map(|sent| sent.at).collect();
    assert!((4..=5).contains(&times.len()), "{times:?}");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 250), "{times:?}");
}

#[test]
fn rfc6762_10_2_nothing_flushes_caches_but_responses() {
    let mut case = Case::starting(1);
    for sent in case.sent_within(700) {
        assert!(sent.authorities.iter().all(|record| !record.contains('!')), "{sent:?}");
    }
}

#[test]
fn rfc6762_8_4_new_data_is_announced_without_probing() {
    let mut case = Case::settled();
    case.link(1, &["10.0.0.7/24"]);
    let sent = case.sent_within(10_000);
    assert!(sent.iter().all(Sent::is_response), "{sent:?}");
    assert!(sent.iter().any(|sent| sent.says("box.local A 120! 10.0.0.7")));
    assert!(sent.iter().all(|sent| !sent.says("box.local A 0")), "the bit flushes the old one");
    assert!(sent[0].says("5.0.0.10.in-addr.arpa PTR 0 box.local"), "its reverse name is gone: {sent:?}");
}
