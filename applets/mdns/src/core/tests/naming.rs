//! RFC 6762 §9: conflicts, giving way, and going back to the wanted name.

use super::*;

/// Somebody answers all probes for these names, for so long.
fn hold(case: &mut Case, names: &[&str], time: Time) {
    let end = case.now + time;
    while case.now < end {
        case.run(10);
        let probed = |name: &&&str| {
            let question = format!("{name}.local ANY");
            case.sent.iter().any(|sent| sent.questions.iter().any(|asked| asked.starts_with(&question)))
        };
        let held: Vec<String> =
            names.iter().filter(probed).map(|name| format!("{name}.local A 120! 10.0.0.9")).collect();
        case.sent.clear();
        for record in held {
            case.receive(PEER, &response(&[&record]));
        }
    }
}

/// The host `box`, which had to take `box-2`, announced long ago.
fn renamed() -> Case {
    let mut case = Case::starting(1);
    hold(&mut case, &["box"], 20_000);
    assert_eq!(case.mdns.host(), "box-2");
    case.sent.clear();
    case.told.clear();
    case
}

#[test]
fn rfc6762_9_a_conflict_makes_us_probe_again() {
    let mut case = Case::settled();
    case.receive(PEER, &response(&["box.local A 120! 10.0.0.9"]));
    let sent = case.sent_within(10_000);
    assert_eq!(sent[0].questions, ["box.local ANY?"]);
    assert_eq!(case.mdns.host(), "box", "nobody has defended it");
    assert!(sent.iter().any(|sent| sent.says("box.local A 120! 10.0.0.5")), "announced anew");
}

#[test]
fn a_packet_with_several_records_is_one_conflict() {
    let mut case = Case::settled();
    case.receive(PEER, &response(&["box.local A 120! 10.0.0.9", "box.local AAAA 120! fe80::9"]));
    assert_eq!(case.mdns.counters.conflicts, 1);
    assert_eq!(case.sent_within(10_000)[0].questions, ["box.local ANY?"]);
    assert_eq!(case.mdns.host(), "box", "nobody has defended it");
}

#[test]
fn rfc6762_9_who_defends_a_name_keeps_it() {
    let mut case = Case::with_ssh();
    case.receive(PEER, &response(&["box.local A 120! 10.0.0.9"]));
    hold(&mut case, &["box"], 100);
    assert_eq!(case.mdns.host(), "box-2");
    // What was published of the old name has gone with it, without the bit that would flush the other's records.
    let mut gone = Vec::new();
    let mut case = Case::with_ssh();
    case.receive(PEER, &response(&["box.local A 120! 10.0.0.9"]));
    case.run(10);
    case.receive(PEER, &response(&["box.local A 120! 10.0.0.9"]));
    for sent in case.sent_within(5000) {
        gone.extend(sent.answers.iter().filter(|record| record.contains(" 0 ")).cloned());
        for record in sent.answers {
            assert!(!record.starts_with("box.local") || record.contains(" 0 "), "{record}");
        }
    }
    for record in [
        "box.local A 0 10.0.0.5",
        "box._ssh._tcp.local SRV 0 0 0 22222 box.local",
        "_ssh._tcp.local PTR 0 box._ssh._tcp.local",
    ] {
        assert!(gone.contains(&record.to_owned()), "{record} {gone:?}");
    }
    assert!(!gone.contains(&"_services._dns-sd._udp.local PTR 0 _ssh._tcp.local".to_owned()));
    // The service is named after the host.
    assert_eq!(case.mdns.services()[0].instance, "box-2");
}

#[test]
fn rfc6762_9_the_same_data_is_no_conflict_nor_is_a_farewell_nor_a_shared_record() {
    let mut case = Case::with_ssh();
    for record in [
        "box.local A 120! 10.0.0.5",
        "box.local A 0! 10.0.0.9",
        "_ssh._tcp.local PTR 4500 other._ssh._tcp.local",
        "_ssh._tcp.local PTR 4500! other._ssh._tcp.local",
        // Types that we do not have are no contradiction once the name is ours.
        "box.local SRV 120! 0 0 1 box.local",
        "other.local A 120! 10.0.0.9",
    ] {
        case.receive(PEER, &response(&[record]));
    }
    case.run(10_000);
    assert_eq!((case.mdns.counters.conflicts, case.mdns.host()), (0, "box"));
}

#[test]
fn a_response_from_another_port_or_by_unicast_is_no_conflict() {
    let mut case = Case::settled();
    let bytes = response(&["box.local A 120! 10.0.0.9"]);
    case.receive("10.0.0.9:5354", &bytes);
    case.receive_at(1, PEER, false, &bytes);
    case.run(10_000);
    assert_eq!((case.mdns.counters.conflicts, case.mdns.counters.refused), (0, 2));
}

#[test]
fn rfc6762_8_1_a_probe_may_be_answered_by_unicast_from_the_link() {
    for (from, taken) in [(PEER, true), ("10.0.1.9:5353", false)] {
        let mut case = Case::starting(1);
        case.run(250);
        case.receive_at(1, from, false, &response(&["box.local A 120! 10.0.0.9"]));
        assert_eq!(case.mdns.host() == "box-2", taken, "{from}");
    }
}

#[test]
fn avahi_117_own_packets_that_come_back_are_no_conflict() {
    let mut case = Case::starting(1);
    case.link(2, &["10.0.0.6/24"]);
    let mut seen = 0;
    // Both interfaces are on one link: each hears what the other says, at once and late.
    for round in 0..40 {
        case.run(250);
        let sent: Vec<Sent> = std::mem::take(&mut case.sent);
        seen += sent.len();
        for packet in &sent {
            let from = if packet.link == 1 { "10.0.0.5:5353" } else { "10.0.0.6:5353" };
            for link in [1, 2] {
                case.receive_at(link, from, true, &packet.bytes);
                // And a reflector sends it back from its own address.
                case.receive_at(link, "10.0.0.77:5353", true, &packet.bytes);
            }
        }
        if round == 6 {
            let ours = case.mdns.groups[0].id;
            assert!(case.mdns.sides.iter().all(|side| side.is_live(ours)), "nor do they lose to each other");
        }
        if round == 20 {
            case.link(1, &["10.0.0.7/24"]);
        }
    }
    assert!(seen > 10);
    assert_eq!((case.mdns.counters.conflicts, case.mdns.host()), (0, "box"));
    assert!(case.mdns.counters.reflected > 10);
}

#[test]
fn avahi_117_what_was_ours_comes_back_from_a_reflector_after_a_change() {
    let mut case = Case::settled();
    let old = case.react(&query(&["box.local A"])).remove(0).bytes;
    case.link(1, &["10.0.0.7/24"]);
    case.run(60_000);
    case.receive("10.0.0.77:5353", &old);
    case.run(10_000);
    assert_eq!((case.mdns.counters.conflicts, case.mdns.host()), (0, "box"));
}

#[test]
fn another_responder_on_this_host_is_somebody_else() {
    let mut case = Case::settled();
    case.receive("10.0.0.5:5353", &response(&["box.local A 120! 172.17.0.1"]));
    assert_eq!(case.mdns.counters.conflicts, 1);
}

#[test]
fn the_wanted_name_is_tried_again_and_had_when_it_is_free() {
    let mut case = renamed();
    let began = case.now;
    case.run(200_000);
    assert_eq!(case.mdns.host(), "box");
    assert!(case.told.contains(&Action::Host("box".into())));
    let mut trial = case.sent.iter().filter(|sent| !sent.is_response());
    let first = trial.next().unwrap();
    assert!(
        (90_000..150_000).contains(&(first.at - began)),
        "two minutes after it was lost: {}",
        first.at - began
    );
    // The old name was served until the new one was found free, then it got its farewell.
    let free = case.sent.iter().find(|sent| sent.says("box-2.local A 0 10.0.0.5")).unwrap();
    assert!(free.at >= first.at + 750);
    assert!(case.sent.iter().any(|sent| sent.says("box.local A 120! 10.0.0.5")));
    assert_eq!(case.mdns.deadline(), None);
}

#[test]
fn a_name_that_is_still_taken_is_left_alone_and_tried_ever_more_rarely() {
    let mut case = renamed();
    let mut trials = Vec::new();
    let began = case.now;
    while trials.len() < 20 {
        let due = case.mdns.deadline().unwrap();
        case.run(due - case.now);
        let asked =
            case.sent.drain(..).any(|sent| sent.questions.iter().any(|asked| asked.starts_with("box.local")));
        if asked {
            trials.push((case.now - began) / 1000);
            case.receive(PEER, &response(&["box.local A 120! 10.0.0.9"]));
        }
    }
    let gaps: Vec<_> = trials.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().zip([240, 480, 960, 1920, 3600, 3600]).all(|(gap, least)| *gap >= least), "{gaps:?}");
    assert!(gaps.iter().all(|gap| *gap <= 4502), "{gaps:?}");
    assert_eq!(case.mdns.host(), "box-2", "and served all the time");
    assert!(!case.told.iter().any(|told| matches!(told, Action::Host(_))));
}

#[test]
fn a_farewell_of_the_owner_makes_the_name_ours_soon() {
    let mut case = renamed();
    case.run(60_000);
    case.receive(PEER, &response(&["box.local A 0! 10.0.0.9"]));
    let began = case.now;
    case.run(11_000);
    assert_eq!(case.mdns.host(), "box", "{} {}", case.now, began);
}

#[test]
fn a_name_that_was_lost_again_soon_is_waited_for_longer() {
    let mut case = renamed();
    case.run(200_000);
    assert_eq!(case.mdns.host(), "box");
    case.receive(PEER, &response(&["box.local A 120! 10.0.0.9"]));
    hold(&mut case, &["box"], 5000);
    assert_eq!(case.mdns.host(), "box-2");
    let lost = case.now;
    case.sent.clear();
    case.run(220_000);
    assert_eq!(case.mdns.host(), "box-2", "four minutes now");
    case.run(100_000);
    assert_eq!(case.mdns.host(), "box", "{lost}");
}

#[test]
fn services_have_numbers_as_avahi_gives_them() {
    let mut case = Case::settled();
    let service = Service { instance: "Büro".into(), wildcards: false, ..ssh() };
    case.mdns.set_service(case.now, 7, service).unwrap();
    for instance in ["Büro", "Büro #2"] {
        case.run(300);
        assert_eq!(case.mdns.services()[0].instance, instance);
        let mut record = record("x.local SRV 120! 0 0 80 other.local");
        let label = Name::from_labels(std::iter::once(instance.as_bytes())).unwrap();
        record.name = label.join(&name("_ssh._tcp.local")).unwrap();
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, 9000, 0, Flags(0x8400));
        assert!(send::put(&mut writer, Section::Answer, (&record, true), 120));
        case.receive(PEER, &bytes);
    }
    case.run(20_000);
    assert_eq!((case.mdns.services()[0].instance, case.mdns.services()[0].established), ("Büro #3", true));
    assert_eq!(case.mdns.host(), "box", "each name for itself");
    case.run(300_000);
    assert_eq!(case.mdns.services()[0].instance, "Büro", "and back");
}

#[test]
fn a_new_wanted_name_replaces_the_old_one() {
    let mut case = renamed();
    case.mdns.set_host(case.now, "kiosk");
    case.run(1000);
    assert!(case.sent.iter().any(|sent| sent.says("box-2.local A 0 10.0.0.5")));
    assert!(case.told.contains(&Action::Host("kiosk".into())), "within a second");
    case.sent.clear();
    case.run(3_600_000);
    assert_eq!(case.mdns.host(), "kiosk");
    assert!(case.sent.iter().all(|sent| sent.is_response()), "nobody tries the old one");
}
