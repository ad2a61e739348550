//! Restarts: their delays and limits, and what takes too long.

use super::*;

#[test]
fn a_service_that_crashes_at_once_is_retried_ever_more_slowly_and_never_spins() {
    let mut sim = Sim::new(&[("a.service", "[Service]\nExecStart=/a\nRestart=always\n")]);
    sim.request(Kind::Start, "a.service");
    let mut delays = Vec::new();
    for _ in 0..14 {
        sim.exit("/a", 1);
        assert_eq!(sim.state("a.service"), "activating");
        delays.push(sim.sleep().unwrap().as_millis());
    }
    assert_eq!(delays[..6], [100, 200, 400, 800, 1600, 3200]);
    assert_eq!(delays[12..], [60_000, 60_000]);
    assert_eq!(sim.manager.units().get("a.service").unwrap().runtime.restarts, 14);
    // A long run makes it trusted again.
    sim.now += Duration::from_secs(120);
    sim.exit("/a", 1);
    assert_eq!(sim.sleep().unwrap().as_millis(), 100);
}

#[test]
fn a_program_that_cannot_be_started_is_retried_the_same_way() {
    let mut sim = Sim::new(&[("a.service", "[Service]\nExecStart=/a\nRestart=on-failure\n")]);
    sim.broken_programs.insert("/a");
    sim.request(Kind::Start, "a.service");
    assert_eq!(sim.state("a.service"), "activating");
    sim.sleep();
    sim.broken_programs.clear();
    sim.sleep();
    assert_eq!(sim.state("a.service"), "active");
}

#[test]
fn restart_delays_of_the_unit_count() {
    let service = |text: &'static str| {
        let Loaded::Unit(unit) =
            (Files { units: [("a.service", text)].into(), ..Files::default() }).load("a.service")
        else {
            panic!()
        };
        unit.service.unwrap()
    };
    let calm = service("[Service]\nExecStart=/a\nRestartSec=10\n");
    assert_eq!(restart_delay(&calm, 9), Duration::from_secs(10));
    let growing = service("[Service]\nExecStart=/a\nRestartSec=10\nRestartMaxDelaySec=50\n");
    let delays: Vec<u64> = (0..4).map(|crashes| restart_delay(&growing, crashes).as_secs()).collect();
    assert_eq!(delays, [10, 20, 40, 50]);
    let eager = service("[Service]\nExecStart=/a\nRestartSec=0\n");
    assert!(restart_delay(&eager, 20) >= Duration::from_secs(60));
}

#[test]
fn restart_depends_on_how_it_ended() {
    for (restart, exit, again) in [
        ("no", Exit::Code(1), false),
        ("always", Exit::Code(0), true),
        ("on-success", Exit::Code(0), true),
        ("on-success", Exit::Code(1), false),
        ("on-failure", Exit::Code(0), false),
        ("on-failure", Exit::Signal(15), false),
        ("on-failure", Exit::Signal(11), true),
        ("on-abnormal", Exit::Code(1), false),
        ("on-abnormal", Exit::Signal(11), true),
    ] {
        let text: String = format!("[Service]\nExecStart=/a\nRestart={restart}\n");
        let mut sim = Sim::new(&[("a.service", text.leak())]);
        sim.request(Kind::Start, "a.service");
        let pid = sim.pid("/a");
        sim.end(pid, exit);
        assert_eq!(sim.state("a.service") == "activating", again, "{restart} {exit}");
    }
}

#[test]
fn the_start_limit_ends_the_retries_when_the_unit_sets_one() {
    let mut sim = Sim::new(&[(
        "a.service",
        "[Unit]\nStartLimitBurst=3\nStartLimitIntervalSec=1h\nStartLimitAction=reboot\n\
         [Service]\nExecStart=/a\nRestart=always\n",
    )]);
    sim.request(Kind::Start, "a.service");
    for _ in 0..3 {
        sim.exit("/a", 1);
        sim.sleep();
    }
    assert_eq!(sim.state("a.service"), "failed");
    assert_eq!(sim.story.last().unwrap(), "a.service wants Reboot");
    sim.manager.reset_failed(Some("a.service"));
    sim.request(Kind::Start, "a.service");
    assert_eq!(sim.state("a.service"), "active");
}

#[test]
fn a_stop_that_takes_too_long_is_forced() {
    let mut sim = Sim::new(&[("a.service", "[Service]\nExecStart=/a\nTimeoutStopSec=5\n")]);
    sim.request(Kind::Start, "a.service");
    let stop = sim.request(Kind::Stop, "a.service").unwrap();
    assert_eq!(sim.state("a.service"), "deactivating");
    assert_eq!(sim.sleep(), Some(Duration::from_secs(5)));
    assert_eq!(sim.story, ["a.service runs /a", "a.service gets 15", "a.service gets 9"]);
    assert_eq!((sim.state("a.service"), sim.verdicts[&stop]), ("failed", Verdict::Done));
}

#[test]
fn a_start_that_takes_too_long_fails() {
    let mut sim = Sim::new(&[("a.service", "[Service]\nType=notify\nExecStart=/a\nTimeoutStartSec=7\n")]);
    let start = sim.request(Kind::Start, "a.service").unwrap();
    assert_eq!(sim.sleep(), Some(Duration::from_secs(7)));
    sim.exit("/a", 0);
    assert_eq!((sim.state("a.service"), sim.verdicts[&start]), ("failed", Verdict::Failed));
}

#[test]
fn a_missed_watchdog_kills_and_restarts() {
    let mut sim = Sim::new(&[(
        "a.service",
        "[Service]\nType=notify\nExecStart=/a\nWatchdogSec=10\nRestart=always\nWatchdogSignal=SIGTERM\n",
    )]);
    sim.request(Kind::Start, "a.service");
    sim.ready("a.service");
    let now = sim.now + Duration::from_secs(9);
    sim.now = now;
    sim.manager.event(&mut sim.files, "a.service", &Event::Says(Word::Alive), now);
    assert_eq!(sim.sleep(), Some(Duration::from_secs(10)));
    assert_eq!(sim.story.last().unwrap(), "a.service gets 15");
    let pid = sim.pid("/a");
    sim.end(pid, Exit::Signal(15));
    assert_eq!(sim.manager.units().get("a.service").unwrap().runtime.outcome, Outcome::Watchdog);
    sim.sleep();
    assert_eq!(sim.state("a.service"), "activating", "it starts again and is not ready yet");
}

/// The names that one process has done the work of at boot.
const PARTS: [(&str, &str); 3] = [
    ("all.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/all\n"),
    (
        "part.service",
        "[Unit]\nWants=all.service\nAfter=all.service\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\nX-DoneBy=all.service\nExecStart=/part\n",
    ),
    ("other.service", "[Unit]\nWants=part.service\nAfter=part.service\n[Service]\nExecStart=/other\n"),
];

#[test]
fn the_first_start_is_done_along_with_another_s_and_later_ones_are_not() {
    let mut sim = Sim::new(&PARTS);
    sim.request(Kind::Start, "other.service");
    assert_eq!(sim.story, ["all.service runs /all"]);
    sim.exit("/all", 0);
    assert_eq!(sim.story[1..], ["other.service runs /other"]);
    assert_eq!(sim.state("part.service"), "active");
    // A restart does the part, and only that.
    sim.request(Kind::Restart, "part.service");
    assert_eq!(sim.story[2..], ["part.service runs /part"]);
    sim.exit("/part", 1);
    assert_eq!(sim.state("part.service"), "failed");
    sim.request(Kind::Start, "part.service");
    assert_eq!(sim.story.last().unwrap(), "part.service runs /part");
}

#[test]
fn what_the_other_has_not_done_is_done_by_the_unit_itself() {
    let mut sim = Sim::new(&PARTS);
    sim.request(Kind::Start, "part.service");
    sim.exit("/all", 1);
    assert_eq!(sim.story.last().unwrap(), "part.service runs /part");
    // Somebody wants it anew while the other one still runs.
    let mut sim = Sim::new(&PARTS);
    sim.request(Kind::Start, "part.service");
    sim.request(Kind::Restart, "part.service");
    sim.exit("/all", 0);
    assert_eq!(sim.story, ["all.service runs /all", "part.service runs /part"]);
}
