//! What comes in and what is done about it, without sockets and clocks.

mod following;

use super::*;
use crate::sources;
use minke_wire::ntp::{Leap, Packet, Short, Timestamp, mode};
use std::net::IpAddr;
use std::path::Path;

/// 2026-11-21 00:00:00 UTC.
const TODAY: i64 = 1_795_219_200 * SECOND;
const DAY: i64 = 86_400 * SECOND;

struct Case {
    client: Client,
    now: Now,
    log: Vec<String>,
    steps: Vec<i64>,
    questions: u64,
    steered: Option<Steering>,
    resolve: Vec<u64>,
    /// Questions that wait: source, address, bytes.
    asked: Vec<(u64, SocketAddr, Packet)>,
}

impl Case {
    fn new(list: &str) -> Self {
        Self::at(list, TODAY, 0)
    }

    fn at(list: &str, real: i64, build_before: i64) -> Self {
        let now = Now { boot: 5 * SECOND, raw: 4 * SECOND, real, random: 1 << 15, ..Now::default() };
        let build = TODAY - 10 * DAY - build_before;
        let beginning = Beginning { drift: None, build, synchronized: false, watch_only: false };
        let client = Client::new(now, beginning);
        let mut case = Self {
            client,
            now,
            log: Vec::new(),
            steps: Vec::new(),
            questions: 0,
            steered: None,
            resolve: Vec::new(),
            asked: Vec::new(),
        };
        case.list(list);
        case
    }

    fn list(&mut self, list: &str) {
        let mut lines = Vec::new();
        sources::parse(list, Path::new("test"), &mut lines);
        self.client.set_lines(self.now, lines);
        self.perform();
    }

    fn pass(&mut self, nanos: i64) {
        self.now.boot += nanos;
        self.now.raw += nanos;
        self.now.real += nanos;
    }

    /// Lets time pass until the client wants something.
    fn wait(&mut self) {
        let due = self.client.deadline().unwrap();
        self.pass((due - self.now.boot).max(0));
        self.client.timer(self.now);
        self.perform();
    }

    fn perform(&mut self) {
        loop {
            let actions = self.client.take_actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    Action::Ask(id) => {
                        let (address, bytes) =
                            self.client.ask(id, self.now, [self.now.random ^ 77, 99]).unwrap();
                        self.client.was_sent(id, self.now, self.now.real);
                        self.questions += 1;
                        self.asked.retain(|(old, ..)| *old != id);
                        self.asked.push((id, address, Packet::decode(&bytes).unwrap().0));
                        self.now.random = self.now.random.wrapping_mul(5).wrapping_add(1);
                    }
                    Action::Close(id) => self.asked.retain(|(old, ..)| *old != id),
                    Action::Resolve { entry, .. } => self.resolve.push(entry),
                    Action::Step(by) => {
                        self.now.real += by;
                        self.steps.push(by);
                        self.client.stepped(self.now);
                    }
                    Action::Steer(steering) => self.steered = Some(steering),
                    Action::Lost => {}
                    Action::Log(line) => self.log.push(line),
                }
            }
        }
    }

    /// The answer of an honest server that is ahead of our clock by `offset`.
    fn answer(&self, place: usize, offset: i64) -> Packet {
        let server = self.now.real + offset;
        Packet {
            version: 4,
            mode: mode::SERVER,
            stratum: 2,
            precision: -20,
            rootdelay: Short::from_nanos(1_000_000),
            rootdisp: Short::from_nanos(1_000_000),
            refid: [10, 0, 0, 1],
            reftime: Timestamp::from_nanos(server - SECOND),
            org: self.asked[place].2.xmt,
            rec: Timestamp::from_nanos(server + 5_000_000),
            xmt: Timestamp::from_nanos(server + 5_000_000),
            ..Packet::default()
        }
    }

    /// It arrives 10 ms after the question.
    fn arrive(&mut self, id: u64, packet: &Packet) -> bool {
        self.pass(10_000_000);
        let done = self.client.received(id, self.now, &packet.encode(), self.now.real);
        self.perform();
        done
    }

    fn reply(&mut self, place: usize, offset: i64) {
        let packet = self.answer(place, offset);
        let id = self.asked.remove(place).0;
        assert!(self.arrive(id, &packet));
    }

    /// All servers that are asked answer.
    fn reply_all(&mut self, offset: i64) {
        let packets: Vec<_> =
            (0..self.asked.len()).map(|place| (self.asked[place].0, self.answer(place, offset))).collect();
        self.asked.clear();
        self.pass(10_000_000);
        for (id, packet) in packets {
            self.client.received(id, self.now, &packet.encode(), self.now.real);
            self.perform();
        }
    }
}

#[test]
fn all_servers_are_asked_at_once_and_a_majority_sets_the_clock_at_once() {
    let mut case =
        Case::new("server 10.0.0.1 iburst\nserver 10.0.0.2 iburst\nserver 10.0.0.3\nserver 10.0.0.4\n");
    assert_eq!(case.asked.len(), 4);
    case.reply(0, 90 * SECOND);
    case.reply(0, 90 * SECOND);
    assert!(case.steps.is_empty(), "two of four are no majority");
    case.reply(0, 90 * SECOND);
    assert_eq!(case.steps.len(), 1);
    assert!((case.steps[0] - 90 * SECOND).abs() < 30_000_000, "{:?}", case.steps);
    assert!(case.asked.is_empty(), "an answer from before the step would be misread");
    assert!(case.client.clock.is_synchronized(case.now));
}

#[test]
fn names_that_do_not_resolve_hold_up_a_few_servers_only() {
    let names: String = (0..4).map(|number| format!("pool {number}.pool.example\n")).collect();
    let mut case = Case::new(&format!("{names}server 10.0.0.1\nserver 10.0.0.2\nserver 10.0.0.3\n"));
    case.reply(0, 9 * SECOND);
    case.reply(0, 9 * SECOND);
    assert!(case.steps.is_empty());
    case.reply(0, 9 * SECOND);
    assert_eq!(case.steps.len(), 1);
}

#[test]
fn a_minority_is_enough_when_the_others_stay_silent() {
    let mut case = Case::new(
        "server 10.0.0.1 iburst\nserver 10.0.0.2 iburst\nserver 10.0.0.3 iburst\nserver 10.0.0.4 iburst\n",
    );
    case.reply(0, 5 * SECOND);
    let begin = case.now.boot;
    while case.steps.is_empty() {
        case.wait();
        assert!(case.now.boot - begin < 5 * SECOND);
    }
}

#[test]
fn only_true_answers_count() {
    let mut case = Case::new("server 10.0.0.1\n");
    let (id, good) = (case.asked[0].0, case.answer(0, 0));
    let foreign = [
        Packet { org: Timestamp(good.org.0 ^ 1), ..good },
        Packet { org: Timestamp::ZERO, ..good },
        Packet { mode: mode::CLIENT, ..good },
        Packet { mode: mode::BROADCAST, ..good },
        Packet { stratum: 0, refid: *b"DENY", org: Timestamp(7), ..good },
    ];
    for packet in &foreign {
        assert!(!case.arrive(id, packet), "{packet:?}");
    }
    for length in [0, 1, 47] {
        assert!(!case.client.received(id, case.now, &good.encode()[..length], case.now.real));
    }
    let mut behind = good.encode().to_vec();
    behind.extend([0xff; 40]);
    assert!(!case.client.received(id, case.now, &behind, case.now.real), "extension fields that are none");
    assert!(case.client.sources[0].is_pending() && !case.client.sources[0].denied);
    assert_eq!((case.client.sources[0].received, case.client.sources[0].valid), (9, 0));
    case.pass(-50_000_000);
    assert!(case.arrive(id, &good));
    assert_eq!((case.client.sources[0].valid, case.client.sources[0].reach), (1, 1));
    assert!(!case.arrive(id, &good), "an answer counts once");
    assert_eq!(case.client.sources[0].valid, 1);
}

#[test]
fn servers_that_tell_no_time_are_of_no_use() {
    let late = Timestamp::from_nanos(TODAY + 100 * SECOND);
    type Spoil = fn(&mut Packet, Timestamp);
    let bad: [(&str, Spoil); 9] = [
        ("it is not synchronised", |packet, _| packet.leap = Leap::Unknown),
        ("it is not synchronised", |packet, _| packet.stratum = 16),
        ("it is not synchronised", |packet, _| packet.stratum = 255),
        ("it is too far from a reference clock", |packet, _| {
            packet.rootdisp = Short::from_nanos(17_000_000_000);
        }),
        ("it is too far from a reference clock", |packet, _| packet.rootdelay = Short(u32::MAX)),
        ("it tells no time", |packet, _| packet.xmt = Timestamp::ZERO),
        ("it tells no time", |packet, _| packet.rec = Timestamp::ZERO),
        ("it was corrected in the future", |packet, late| packet.reftime = late),
        ("its times contradict each other", |packet, _| packet.rec = Timestamp(packet.xmt.0 + (1 << 32))),
    ];
    for (problem, spoil) in bad {
        let mut case = Case::new("server 10.0.0.1\n");
        let mut packet = case.answer(0, 3 * SECOND);
        spoil(&mut packet, late);
        let id = case.asked[0].0;
        assert!(case.arrive(id, &packet));
        let source = &case.client.sources[0];
        assert_eq!((source.problem, source.valid), (problem, 0));
        assert!(case.steps.is_empty() && !case.client.clock.synchronized);
        assert!(source.next.unwrap() - case.now.boot >= 15 * SECOND);
    }
}

#[test]
fn one_server_alone_may_not_do_everything() {
    let years = |count: i64| count * 365 * DAY;
    for (offset, allowed) in [(years(15), true), (-9 * DAY, true), (-11 * DAY, false), (years(25), false)] {
        let mut case = Case::new("server 10.0.0.1\n");
        case.reply(0, offset);
        assert_eq!(case.steps.len(), usize::from(allowed), "{offset} {:?}", case.log);
        assert_eq!(case.client.clock.synchronized, allowed);
        let mut case = Case::new("server 10.0.0.1\nserver 10.0.0.2\nserver 10.0.0.3\n");
        case.reply_all(offset);
        assert_eq!(case.steps.len(), 1, "three that agree may");
    }
    // A clock that was right once moves by a day at most.
    let mut case = Case::new("server 10.0.0.1 minpoll 4 maxpoll 4\n");
    case.reply(0, 0);
    for _ in 0..20 {
        case.wait();
        if !case.asked.is_empty() {
            case.reply(0, 3 * DAY);
        }
    }
    assert!(case.steps.is_empty(), "{:?}: {:?}", case.steps, case.log);
}

#[test]
fn eras_and_wrong_centuries() {
    // 1970; after the era's end in 2036; so far off that the nearest era is the wrong one.
    for real in [0, 2_100_000_000 * SECOND, 5_000_000_000 * SECOND] {
        for truth in [TODAY, 2_085_978_490 * SECOND, 2_085_978_500 * SECOND, 3_000_000_000 * SECOND] {
            let mut case = Case::at("server 10.0.0.1\nserver 10.0.0.2\n", real, 0);
            case.reply_all(truth - real);
            assert!((case.now.real - truth).abs() < SECOND, "{real} {truth} {:?}", case.steps);
        }
    }
}

#[test]
fn interleaved_answers_tell_when_the_one_before_was_sent() {
    let mut case = Case::new("server 10.0.0.1 xleave minpoll 4 maxpoll 4\n");
    assert_eq!((case.asked[0].2.org, case.asked[0].2.rec), (Timestamp::ZERO, Timestamp::ZERO));
    let first = case.answer(0, 0);
    case.reply(0, 0);
    case.wait();
    let question = case.asked[0].2;
    assert_eq!(question.org, first.rec, "the question names the answer before");
    assert!(question.rec != Timestamp::ZERO && question.rec != question.xmt);
    // It was sent 2 ms later than it said itself.
    let packet = Packet { org: question.rec, xmt: Timestamp(first.xmt.0 + 8_589_935), ..case.answer(0, 0) };
    let id = case.asked[0].0;
    assert!(case.arrive(id, &packet));
    let last = case.client.sources[0].last.unwrap();
    assert!(last.interleaved);
    assert_eq!((last.delay, last.offset / 100_000), (8_000_000, 10), "{last:?}");
    // A basic answer to an interleaved question is as good.
    case.wait();
    case.reply(0, 0);
    assert!(!case.client.sources[0].last.unwrap().interleaved);
}

#[test]
fn a_leap_second_is_announced_late_and_survived() {
    a_leap_second(Leap::Insert, -SECOND);
}

#[test]
fn a_second_that_is_left_out_is_too() {
    a_leap_second(Leap::Delete, SECOND);
}

/// `by`: what the kernel does to the clock.
fn a_leap_second(kind: Leap, by: i64) {
    // 2026-12-31 11:00 UTC.
    let mut case = Case::at("server 10.0.0.1\nserver 10.0.0.2\nserver 10.0.0.3\n", 1_798_714_800 * SECOND, 0);
    let leap = |case: &mut Case, announced: usize| {
        let packets: Vec<_> = (0..case.asked.len())
            .map(|place| {
                let leap = if place < announced { kind } else { Leap::None };
                (case.asked[place].0, Packet { leap, ..case.answer(place, 0) })
            })
            .collect();
        case.asked.clear();
        case.pass(10_000_000);
        for (id, packet) in packets {
            case.client.received(id, case.now, &packet.encode(), case.now.real);
        }
        case.perform();
    };
    leap(&mut case, 3);
    assert_eq!(case.client.clock.report.leap, kind);
    assert_eq!(case.steered.unwrap().leap, Leap::None, "more than twelve hours before");
    case.pass(2 * 3600 * SECOND);
    case.client.burst(case.now, 1);
    case.perform();
    case.asked.sort_by_key(|(id, ..)| *id);
    leap(&mut case, 1);
    assert_eq!(case.steered.unwrap().leap, Leap::None, "one of three");
    case.pass(60 * SECOND);
    case.client.burst(case.now, 1);
    case.perform();
    case.asked.sort_by_key(|(id, ..)| *id);
    leap(&mut case, 2);
    assert_eq!(case.steered.unwrap().leap, kind);
    // Midnight comes; the kernel puts the clock back by a second, and somebody looks in just that second. Or the day's last
    // second does not come, and midnight is a second earlier.
    let left = 86_400 * SECOND - case.now.real.rem_euclid(86_400 * SECOND);
    case.pass(left - by.max(0) + SECOND / 4);
    case.now.real += by;
    case.client.timer(case.now);
    assert!(case.client.clock.synchronized, "{:?}", case.log);
    assert!(case.client.clock.remaining(case.now).unwrap().abs() < SECOND / 10);
    case.pass(600 * SECOND);
    case.client.timer(case.now);
    assert!(case.client.clock.synchronized, "{:?}", case.log);
    // The servers leapt as well, so nothing is left to correct.
    case.asked.clear();
    case.client.burst(case.now, 1);
    case.perform();
    case.reply_all(0);
    assert!(case.client.clock.remaining(case.now).unwrap().abs() < SECOND / 10, "{:?}", case.log);
    assert!(case.steps.is_empty() && case.log.is_empty(), "{:?}", case.log);
}

#[test]
fn a_clock_that_was_read_late_was_not_set() {
    let mut case = Case::new("server 10.0.0.1\nserver 10.0.0.2\nserver 10.0.0.3\n");
    case.reply_all(0);
    let told = |case: &mut Case, moved: i64, spread: i64| {
        case.log.clear();
        case.pass(SECOND);
        (case.now.real, case.now.spread) = (case.now.real + moved, spread);
        case.client.watch(case.now);
        case.perform();
        case.log.iter().any(|line| line.starts_with("somebody set the clock"))
    };
    let ms = SECOND / 1000;
    // The process waited between the two clocks, now or the last time.
    assert!(!told(&mut case, 8 * ms, 9 * ms));
    assert!(!told(&mut case, -8 * ms, 0));
    assert!(told(&mut case, 8 * ms, ms));
}

#[test]
fn names_are_looked_up_again_and_bad_servers_replaced() {
    let mut case = Case::new("pool pool.example iburst maxsources 2\n");
    assert_eq!(case.resolve.len(), 1);
    let entry = case.resolve.remove(0);
    case.client.resolved(entry, case.now, Err("no DNS server answers".to_owned()));
    case.perform();
    assert!(case.client.waits_for_route());
    assert_eq!(case.log, ["no DNS server answers"]);
    case.wait();
    assert_eq!(case.resolve.len(), 1, "after 2 s");
    let addresses: Vec<IpAddr> = (1..=3).map(|number| IpAddr::from([192, 0, 2, number])).collect();
    case.client.resolved(entry, case.now, Ok(addresses));
    case.perform();
    assert_eq!(case.asked.len(), 2);
    assert!(!case.client.waits_for_route());
    let (id, kiss) = (case.asked[0].0, Packet { stratum: 0, refid: *b"DENY", ..case.answer(0, 0) });
    case.arrive(id, &kiss);
    let asked: Vec<String> =
        case.client.sources.iter().map(|source| source.address.ip().to_string()).collect();
    assert_eq!(asked, ["192.0.2.2", "192.0.2.3"]);
    // Nobody answers: the name is looked up again, but not all the time.
    case.resolve.clear();
    let (begin, before) = (case.now.boot, case.questions);
    while case.now.boot - begin < 6 * 3600 * SECOND {
        case.wait();
        for entry in std::mem::take(&mut case.resolve) {
            let addresses: Vec<IpAddr> = (1..=3).map(|number| IpAddr::from([192, 0, 2, number])).collect();
            case.client.resolved(entry, case.now, Ok(addresses));
            case.perform();
            case.log.push("looked up".to_owned());
        }
    }
    let count = case.log.iter().filter(|line| *line == "looked up").count();
    assert!((2..30).contains(&count), "{count}");
    let sent = case.questions - before;
    assert!(sent < 400, "{sent}");
}

#[test]
fn without_a_route_nobody_is_asked_until_one_comes() {
    let mut case = Case::new("server 10.0.0.1\nserver 10.0.0.2\n");
    let ids: Vec<u64> = case.asked.iter().map(|(id, ..)| *id).collect();
    for id in ids {
        case.client.was_refused(id, case.now, "no route leads to it", true);
    }
    case.asked.clear();
    assert!(case.client.waits_for_route());
    case.pass(SECOND);
    case.client.route_changed(case.now);
    assert!(case.client.deadline().unwrap() - case.now.boot <= SECOND / 5);
    case.wait();
    assert_eq!(case.asked.len(), 2);
    assert!(!case.client.waits_for_route());
}

#[test]
fn offline_and_online() {
    let mut case = Case::new("server 10.0.0.1 minpoll 10\n");
    case.reply(0, 0);
    case.client.go_offline(case.now);
    case.perform();
    assert_eq!(case.client.deadline(), None);
    case.pass(10 * 3600 * SECOND);
    case.client.go_online(case.now);
    case.perform();
    assert_eq!(case.asked.len(), 1, "nothing waits for the next poll");
}

#[test]
fn another_list_keeps_what_is_known() {
    let mut case = Case::new("server 10.0.0.1\nserver 10.0.0.2\n");
    case.reply_all(0);
    let kept = case.client.sources[1].id;
    case.list("server 10.0.0.2\nserver 10.0.0.3\n");
    let sources: Vec<_> = case.client.sources.iter().map(|source| (source.id, source.valid)).collect();
    assert_eq!(sources[0], (kept, 1));
    assert_eq!((sources.len(), case.asked.len()), (2, 1));
    case.list("");
    assert!(case.client.sources.is_empty() && case.client.deadline().is_none());
}
