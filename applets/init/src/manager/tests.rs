use super::*;
use crate::unit::apply;
use crate::unit::load::Loaded;
use minke_sys::process::Exit;
use minke_wire::unit::{Name, parse};
use runtime::{Word, restart_delay};
use state::Whom;
use std::collections::{BTreeMap, BTreeSet};

/// Unit files in memory, and facts that conditions ask for.
#[derive(Default)]
struct Files {
    units: BTreeMap<&'static str, &'static str>,
    there: BTreeSet<&'static str>,
    /// Since 1970.
    clock: Duration,
    runs: BTreeMap<String, Duration>,
    random: u64,
}

impl World for Files {
    fn load(&mut self, name: &str) -> Loaded {
        let Some(text) = self.units.get(name) else {
            if name.ends_with(".target") {
                let mut unit = Unit::new(name);
                unit.add_default_dependencies();
                return Loaded::Unit(Box::new(unit));
            }
            return Loaded::Missing;
        };
        let parsed = Name::parse(name).unwrap();
        let mut unit = Unit::new(name);
        for entry in parse(text).entries {
            apply(&mut unit, &parsed, &entry.section, &entry.key, &entry.value)
                .unwrap_or_else(|problem| panic!("{name}: {}: {problem}", entry.key));
        }
        // Without a file that says so, tests need no sysinit.target.
        unit.default_dependencies &= text.contains("DefaultDependencies=yes");
        unit.add_default_dependencies();
        Loaded::Unit(Box::new(unit))
    }
    fn resolve(&mut self, name: &str) -> String {
        name.to_owned()
    }
    fn holds(&mut self, condition: &Condition) -> bool {
        self.there.contains(condition.argument.as_str())
    }
    fn read_pid(&mut self, _: &Path) -> Option<i32> {
        Some(77)
    }
    fn realtime(&mut self) -> Duration {
        self.clock
    }
    fn random(&mut self) -> u64 {
        self.random += 1_000_003;
        self.random
    }
    fn fixed(&mut self, name: &str) -> u64 {
        name.len() as u64 * 1_000_003
    }
    fn last_run(&mut self, name: &str) -> Option<Duration> {
        self.runs.get(name).copied()
    }
    fn record_run(&mut self, name: &str) {
        self.runs.insert(name.to_owned(), self.clock);
    }
}

/// A machine in which processes start at once and end when a test says so.
struct Sim {
    manager: Manager,
    files: Files,
    now: Duration,
    /// Running processes: unit, program, main.
    running: BTreeMap<i32, (String, String, bool)>,
    last_pid: i32,
    /// What happened, in order.
    story: Vec<String>,
    verdicts: BTreeMap<u32, Verdict>,
    broken_programs: BTreeSet<&'static str>,
}

impl Sim {
    fn new(units: &[(&'static str, &'static str)]) -> Self {
        let files = Files { units: units.iter().copied().collect(), ..Files::default() };
        Self {
            manager: Manager::default(),
            files,
            now: Duration::from_secs(100),
            running: BTreeMap::new(),
            last_pid: 100,
            story: Vec::new(),
            verdicts: BTreeMap::new(),
            broken_programs: BTreeSet::new(),
        }
    }

    fn request(&mut self, kind: Kind, name: &str) -> Option<u32> {
        let id = self.manager.enqueue(&mut self.files, kind, name, self.now).unwrap();
        self.act();
        id
    }

    fn act(&mut self) {
        for _ in 0..10_000 {
            let actions = self.manager.take_actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.carry_out(action);
            }
        }
        panic!("the manager never comes to rest: {:?}", self.story);
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Service { unit, effect: Effect::Spawn { command, main } } => {
                let broken = self.broken_programs.contains(command.program.as_str());
                self.story.push(format!("{unit} runs {}", command.program));
                let pid = (!broken).then(|| {
                    self.last_pid += 1;
                    self.running.insert(self.last_pid, (unit.clone(), command.program.clone(), main));
                    self.last_pid
                });
                let event = Event::Spawned { main, pid };
                self.manager.event(&mut self.files, &unit, &event, self.now);
            }
            Action::Service { unit, effect: Effect::Signal(whom, signal) } => {
                if signal != minke_sys::signal::SIGCONT {
                    self.story.push(format!("{unit} gets {signal}"));
                }
                if signal == 9 && whom == Whom::All {
                    let pids: Vec<i32> =
                        self.running.iter().filter(|(_, run)| run.0 == unit).map(|(pid, _)| *pid).collect();
                    pids.into_iter().for_each(|pid| self.end(pid, Exit::Signal(9)));
                }
            }
            Action::JobEnded { id, verdict } => {
                self.verdicts.insert(id, verdict);
            }
            Action::Watch { unit, on } => {
                self.story.push(format!("{unit} {}", if on { "watches" } else { "is blind" }));
                self.manager.path_event(&mut self.files, &unit, false, self.now);
            }
            Action::System { unit, action } => self.story.push(format!("{unit} wants {action:?}")),
            _ => {}
        }
    }

    /// The process with this program.
    fn pid(&self, program: &str) -> i32 {
        *self.running.iter().find(|(_, run)| run.1 == program).unwrap_or_else(|| panic!("no {program}")).0
    }

    fn end(&mut self, pid: i32, exit: Exit) {
        let (unit, ..) = self.running.remove(&pid).unwrap();
        self.manager.event(&mut self.files, &unit, &Event::Exited { pid, exit }, self.now);
        if !self.running.values().any(|run| run.0 == unit) {
            self.manager.event(&mut self.files, &unit, &Event::Emptied, self.now);
        }
        self.act();
    }

    fn exit(&mut self, program: &str, code: i32) {
        let pid = self.pid(program);
        self.end(pid, Exit::Code(code));
    }

    fn ready(&mut self, unit: &str) {
        self.manager.event(&mut self.files, unit, &Event::Says(Word::Ready), self.now);
        self.act();
    }

    /// Lets time pass up to the manager's next deadline; `None` when it has none.
    fn sleep(&mut self) -> Option<Duration> {
        let deadline = self.manager.deadline()?;
        let slept = deadline.saturating_sub(self.now);
        self.now = self.now.max(deadline);
        self.manager.time(&mut self.files, self.now);
        self.act();
        Some(slept)
    }

    fn sub_state(&self, unit: &str) -> &'static str {
        self.manager.sub_state(self.manager.units().get(unit).unwrap())
    }

    fn state(&self, unit: &str) -> &'static str {
        self.manager.units().get(unit).map_or("unloaded", |slot| slot.active().name())
    }
}

const NOTIFY: &str = "[Service]\nType=notify\nExecStart=/a\n";

#[test]
fn a_start_waits_for_what_is_ordered_before_and_pulls_in_what_is_required() {
    let mut sim = Sim::new(&[
        ("a.service", NOTIFY),
        (
            "b.service",
            "[Unit]\nRequires=a.service\nAfter=a.service\nWants=none.service\n[Service]\nExecStart=/b\n",
        ),
        ("all.target", "[Unit]\nWants=b.service\n"),
    ]);
    let id = sim.request(Kind::Start, "all.target").unwrap();
    assert_eq!(sim.story, ["a.service runs /a"]);
    assert_eq!((sim.state("all.target"), sim.state("a.service")), ("inactive", "activating"));
    sim.ready("a.service");
    assert_eq!(sim.story, ["a.service runs /a", "b.service runs /b"]);
    assert_eq!((sim.state("all.target"), sim.state("b.service")), ("active", "active"));
    assert_eq!(sim.verdicts[&id], Verdict::Done);
    assert!(sim.manager.is_idle());
}

#[test]
fn a_failed_requirement_fails_the_waiting_start_and_a_wish_does_not() {
    let mut sim = Sim::new(&[
        ("a.service", "[Service]\nType=oneshot\nExecStart=/a\n"),
        ("b.service", "[Unit]\nRequires=a.service\nAfter=a.service\n[Service]\nExecStart=/b\n"),
        ("c.service", "[Unit]\nWants=a.service\nAfter=a.service\n[Service]\nExecStart=/c\n"),
    ]);
    let (b, c) =
        (sim.request(Kind::Start, "b.service").unwrap(), sim.request(Kind::Start, "c.service").unwrap());
    sim.exit("/a", 1);
    assert_eq!((sim.verdicts[&b], sim.verdicts[&c]), (Verdict::Dependency, Verdict::Done));
    assert_eq!(
        (sim.state("a.service"), sim.state("b.service"), sim.state("c.service")),
        ("failed", "inactive", "active")
    );
}

#[test]
fn stops_run_in_reverse_order() {
    let mut sim = Sim::new(&[
        ("a.service", "[Service]\nExecStart=/a\n"),
        ("b.service", "[Unit]\nRequires=a.service\nAfter=a.service\n[Service]\nExecStart=/b\n"),
    ]);
    sim.request(Kind::Start, "b.service");
    sim.story.clear();
    sim.request(Kind::Stop, "a.service");
    assert_eq!(sim.story, ["b.service gets 15"]);
    sim.exit("/b", 0);
    assert_eq!(sim.story, ["b.service gets 15", "a.service gets 15"]);
    sim.exit("/a", 0);
    assert_eq!((sim.state("a.service"), sim.state("b.service")), ("inactive", "inactive"));
}

#[test]
fn all_commands_of_a_run_come_in_order() {
    let mut sim = Sim::new(&[(
        "a.service",
        "[Service]\nType=notify\nExecCondition=/cond\nExecStartPre=-/pre\nExecStart=/main\nExecStartPost=/post\n\
         ExecReload=/reload\nExecStop=/stop\nExecStopPost=/stoppost\n",
    )]);
    let start = sim.request(Kind::Start, "a.service").unwrap();
    sim.exit("/cond", 0);
    sim.exit("/pre", 3);
    sim.ready("a.service");
    assert!(!sim.verdicts.contains_key(&start), "the post command runs");
    sim.exit("/post", 0);
    assert_eq!(sim.verdicts[&start], Verdict::Done);
    let reload = sim.request(Kind::Reload, "a.service").unwrap();
    sim.exit("/reload", 0);
    assert_eq!((sim.verdicts[&reload], sim.state("a.service")), (Verdict::Done, "active"));
    sim.request(Kind::Stop, "a.service");
    sim.exit("/stop", 0);
    sim.exit("/main", 0);
    sim.exit("/stoppost", 0);
    assert_eq!(sim.state("a.service"), "inactive");
    let programs: Vec<&str> =
        sim.story.iter().filter_map(|line| line.split_once(" runs ")).map(|(_, p)| p).collect();
    assert_eq!(programs, ["/cond", "/pre", "/main", "/post", "/reload", "/stop", "/stoppost"]);
}

#[test]
fn a_restart_goes_down_and_up_and_takes_parts_along() {
    let mut sim = Sim::new(&[
        ("a.service", "[Service]\nExecStart=/a\n"),
        ("p.service", "[Unit]\nPartOf=a.service\nAfter=a.service\n[Service]\nExecStart=/p\n"),
    ]);
    sim.request(Kind::Start, "a.service");
    sim.request(Kind::Start, "p.service");
    sim.story.clear();
    let restart = sim.request(Kind::Restart, "a.service").unwrap();
    assert_eq!(sim.story, ["p.service gets 15"]);
    sim.exit("/p", 0);
    assert_eq!(sim.story, ["p.service gets 15", "a.service gets 15"]);
    sim.exit("/a", 0);
    assert_eq!(sim.story[2..], ["a.service runs /a", "p.service runs /p"]);
    assert_eq!(sim.verdicts[&restart], Verdict::Done);
    assert!(sim.manager.is_idle());
}

#[test]
fn bound_units_go_down_with_a_crash_and_required_ones_stay() {
    let mut sim = Sim::new(&[
        ("a.service", "[Service]\nExecStart=/a\n"),
        ("bound.service", "[Unit]\nBindsTo=a.service\n[Service]\nExecStart=/bound\n"),
        ("needs.service", "[Unit]\nRequires=a.service\n[Service]\nExecStart=/needs\n"),
    ]);
    sim.request(Kind::Start, "bound.service");
    sim.request(Kind::Start, "needs.service");
    sim.exit("/a", 1);
    assert_eq!(sim.story.last().unwrap(), "bound.service gets 15");
    assert_eq!(sim.state("needs.service"), "active");
}

#[test]
fn conditions_skip_and_assertions_fail() {
    let mut sim = Sim::new(&[
        ("a.service", "[Unit]\nConditionPathExists=/flag\n[Service]\nExecStart=/a\n"),
        ("b.service", "[Unit]\nAssertPathExists=/flag\n[Service]\nExecStart=/b\n"),
        (
            "c.service",
            "[Unit]\nConditionPathExists=!/flag\nRequires=a.service\nAfter=a.service\n[Service]\nExecStart=/c\n",
        ),
        (
            "d.service",
            "[Unit]\nConditionPathExists=|/flag\nConditionPathExists=|/other\n[Service]\nExecStart=/d\n",
        ),
    ]);
    let mut start = |name| sim.request(Kind::Start, name).unwrap();
    let (b, c, d) = (start("b.service"), start("c.service"), start("d.service"));
    assert_eq!(
        (sim.verdicts[&b], sim.verdicts[&c], sim.verdicts[&d]),
        (Verdict::Failed, Verdict::Done, Verdict::Skipped)
    );
    assert_eq!(sim.story, ["c.service runs /c"]);
    sim.files.there.insert("/flag");
    sim.request(Kind::Start, "a.service");
    sim.request(Kind::Start, "d.service");
    assert_eq!((sim.state("a.service"), sim.state("d.service")), ("active", "active"));
}

#[test]
fn a_cycle_is_broken_and_the_boot_goes_on() {
    let mut sim = Sim::new(&[
        ("a.service", "[Unit]\nAfter=b.service\n[Service]\nExecStart=/a\n"),
        ("b.service", "[Unit]\nAfter=c.service\n[Service]\nExecStart=/b\n"),
        ("c.service", "[Unit]\nAfter=a.service\n[Service]\nExecStart=/c\n"),
        ("all.target", "[Unit]\nWants=a.service b.service c.service\n"),
    ]);
    sim.request(Kind::Start, "all.target");
    assert_eq!(sim.state("all.target"), "active");
    assert_eq!(sim.running.len(), 3);
}

#[test]
fn the_end_of_the_system_stops_everything_and_accepts_nothing_more() {
    let mut sim = Sim::new(&[
        ("log.service", "[Unit]\nBefore=sysinit.target\n[Service]\nExecStart=/log\nRestart=always\n"),
        ("sysinit.target", "[Unit]\nDefaultDependencies=no\nWants=log.service\n"),
        ("a.service", "[Unit]\nDefaultDependencies=yes\n[Service]\nExecStart=/a\nRestart=always\n"),
        ("crash.service", "[Service]\nExecStart=/crash\nRestart=always\nRestartSec=10\n"),
        ("slow.service", "[Service]\nType=notify\nExecStart=/slow\n"),
        (
            "reboot.target",
            "[Unit]\nDefaultDependencies=no\nRequires=shutdown.target\nAfter=shutdown.target\n",
        ),
        ("shutdown.target", "[Unit]\nDefaultDependencies=no\n"),
    ]);
    for unit in ["sysinit.target", "a.service", "crash.service", "slow.service"] {
        sim.request(Kind::Start, unit);
    }
    sim.exit("/crash", 1);
    let now = sim.now;
    sim.manager.isolate(&mut sim.files, "reboot.target", now).unwrap();
    sim.manager.set_ending();
    sim.act();
    assert!(!sim.story.contains(&"log.service gets 15".to_owned()), "the log stays for the others");
    sim.exit("/slow", 0);
    sim.exit("/a", 0);
    assert_eq!(sim.story.last().unwrap(), "log.service gets 15");
    sim.exit("/log", 0);
    assert!(sim.manager.is_idle(), "{:?}", sim.manager.jobs());
    assert_eq!((sim.state("reboot.target"), sim.state("crash.service")), ("active", "inactive"));
    assert_eq!(
        sim.manager.enqueue(&mut sim.files, Kind::Start, "a.service", now),
        Err(Refusal::Ending.into())
    );
    assert_eq!(sim.sleep(), None, "no restart is left");
}

#[test]
fn oneshots_forks_and_what_remains() {
    let mut sim = Sim::new(&[
        (
            "one.service",
            "[Service]\nType=oneshot\nExecStart=/1\nExecStart=/2\nRemainAfterExit=yes\nExecStop=/undo\n",
        ),
        ("fork.service", "[Service]\nType=forking\nExecStart=/fork\nPIDFile=x.pid\n"),
    ]);
    let one = sim.request(Kind::Start, "one.service").unwrap();
    sim.exit("/1", 0);
    assert!(!sim.verdicts.contains_key(&one));
    sim.exit("/2", 0);
    assert_eq!((sim.verdicts[&one], sim.sub_state("one.service")), (Verdict::Done, "exited"));
    sim.request(Kind::Stop, "one.service");
    sim.exit("/undo", 0);
    assert_eq!(sim.state("one.service"), "inactive");

    sim.request(Kind::Start, "fork.service");
    let pid = sim.pid("/fork");
    sim.running.insert(77, ("fork.service".into(), "/daemon".into(), true));
    sim.end(pid, Exit::Code(0));
    assert_eq!((sim.state("fork.service"), sim.manager.owner(77)), ("active", Some("fork.service")));
    sim.end(77, Exit::Code(0));
    assert_eq!(sim.state("fork.service"), "inactive");
}

#[test]
fn kill_modes() {
    let mut sim =
        Sim::new(&[("engine.service", "[Service]\nExecStart=/engine\nKillMode=process\nRestart=always\n")]);
    sim.request(Kind::Start, "engine.service");
    sim.running.insert(500, ("engine.service".into(), "/shim".into(), false));
    let restart = sim.request(Kind::Restart, "engine.service").unwrap();
    sim.exit("/engine", 0);
    assert_eq!(sim.verdicts[&restart], Verdict::Done);
    assert!(sim.running.contains_key(&500), "containers outlive their engine");
    assert!(!sim.story.iter().any(|line| line.ends_with("gets 9")));
}

#[test]
fn impossible_requests_are_refused_with_the_reason() {
    let mut sim = Sim::new(&[
        ("empty.service", "[Service]\n"),
        ("two.service", "[Service]\nExecStart=/a\nExecStart=/b\n"),
        ("requisite.service", "[Unit]\nRequisite=a.service\n[Service]\nExecStart=/b\n"),
        ("needs.service", "[Unit]\nRequires=none.service\n[Service]\nExecStart=/b\n"),
    ]);
    let mut refused =
        |kind, name| sim.manager.enqueue(&mut sim.files, kind, name, Duration::ZERO).unwrap_err();
    assert!(matches!(*refused(Kind::Start, "none.service"), Refusal::NotFound(_)));
    assert!(matches!(*refused(Kind::Start, "empty.service"), Refusal::BadSetting(..)));
    assert!(matches!(*refused(Kind::Start, "two.service"), Refusal::BadSetting(..)));
    assert!(matches!(*refused(Kind::Start, "requisite.service"), Refusal::Requisite(_)));
    assert!(matches!(*refused(Kind::Start, "needs.service"), Refusal::NotFound(_)));
    assert!(matches!(*refused(Kind::Reload, "requisite.service"), Refusal::NoReload(_)));
}

#[test]
fn what_runs_is_taken_over_by_the_next_pid_1() {
    let units = [
        ("a.service", "[Service]\nExecStart=/a\nRestart=always\n"),
        ("one.service", "[Service]\nType=oneshot\nExecStart=/1\nRemainAfterExit=yes\n"),
        ("all.target", "[Unit]\nWants=a.service one.service\n"),
    ];
    let mut sim = Sim::new(&units);
    sim.request(Kind::Start, "all.target");
    sim.exit("/1", 0);
    let (saved, main) = (sim.manager.save(), sim.pid("/a"));
    let mut next = Sim::new(&units);
    next.manager.adopt(&mut next.files, &saved, Duration::from_secs(200));
    next.running.insert(main, ("a.service".into(), "/a".into(), true));
    assert_eq!(next.request(Kind::Start, "all.target"), None, "everything is up");
    assert_eq!(next.story, Vec::<String>::new());
    next.end(main, Exit::Code(1));
    assert_eq!(next.state("a.service"), "activating");
}

/// Random requests, exits, notifications and time steps: the machine always comes to rest, and after the end
/// of the system nothing runs.
#[test]
fn random_histories_come_to_rest() {
    let units = [
        ("a.service", "[Service]\nType=notify\nExecStart=/a\nRestart=always\nWatchdogSec=30\n"),
        (
            "b.service",
            "[Unit]\nRequires=a.service\nAfter=a.service c.service\n[Service]\nExecStartPre=/bp\nExecStart=/b\nExecStop=/bs\n",
        ),
        (
            "c.service",
            "[Unit]\nBindsTo=a.service\nAfter=d.service\n[Service]\nType=oneshot\nExecStart=/c\nRemainAfterExit=yes\n",
        ),
        (
            "d.service",
            "[Unit]\nConflicts=c.service\nPartOf=b.service\nAfter=b.service\n[Service]\nExecStart=/d\nRestart=on-failure\nKillMode=mixed\n",
        ),
        (
            "e.service",
            "[Unit]\nOnFailure=d.service\n[Service]\nType=forking\nExecStart=/e\nExecReload=/er\nTimeoutStopSec=1\n",
        ),
        ("all.target", "[Unit]\nWants=a.service b.service e.service\n"),
        ("reboot.target", "[Unit]\nDefaultDependencies=no\n"),
    ];
    let names = ["a.service", "b.service", "c.service", "d.service", "e.service", "all.target"];
    let mut random = 0xC0FF_EE12_3456_789A_u64;
    let mut next = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random >> 33).unwrap() % bound
    };
    for _ in 0..300 {
        let mut sim = Sim::new(&units);
        for _ in 0..60 {
            let name = names[next(names.len())];
            match next(8) {
                0 | 1 => {
                    let kind = [Kind::Start, Kind::Stop, Kind::Restart, Kind::Reload][next(4)];
                    let _ = sim.manager.enqueue(&mut sim.files, kind, name, sim.now);
                    sim.act();
                }
                2 => sim.ready(name),
                3 => {
                    sim.sleep();
                }
                _ => {
                    let pids: Vec<i32> = sim.running.keys().copied().collect();
                    if !pids.is_empty() {
                        let exit = [Exit::Code(0), Exit::Code(1), Exit::Signal(11)][next(3)];
                        sim.end(pids[next(pids.len())], exit);
                    }
                }
            }
        }
        sim.manager.isolate(&mut sim.files, "reboot.target", sim.now).unwrap();
        sim.manager.set_ending();
        sim.act();
        for _ in 0..200 {
            if sim.manager.is_idle() {
                break;
            }
            if let Some(pid) = sim.running.keys().next().copied() {
                sim.end(pid, Exit::Signal(15));
            } else {
                sim.sleep();
            }
        }
        assert!(sim.manager.is_idle(), "{:?} {:?}", sim.manager.jobs(), sim.story);
        let up: Vec<_> = names
            .iter()
            .filter(|name| !matches!(sim.state(name), "inactive" | "failed" | "unloaded"))
            .collect();
        assert!(up.is_empty(), "{up:?} {:?}", sim.story);
    }
}

#[test]
fn a_restart_takes_parts_along_and_their_conditions_decide_anew() {
    let mut sim = Sim::new(&[
        ("mode.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/mode\n"),
        ("mode.target", "[Unit]\nPartOf=mode.service\nAfter=mode.service\nWants=shell.service\n"),
        (
            "shell.service",
            "[Unit]\nPartOf=mode.target\nAfter=mode.service\nConditionPathExists=/flag\n[Service]\nExecStart=/shell\n",
        ),
        ("engine.service", "[Unit]\nPartOf=mode.target\nAfter=mode.service\n[Service]\nExecStart=/engine\n"),
        ("user.service", "[Unit]\nWants=engine.service\nAfter=engine.service\n[Service]\nExecStart=/user\n"),
        ("idle.service", "[Unit]\nPartOf=mode.target\n[Service]\nExecStart=/idle\n"),
    ]);
    let restart = |sim: &mut Sim| {
        sim.story.clear();
        sim.request(Kind::Restart, "mode.service");
        for program in ["/shell", "/engine"] {
            if sim.running.values().any(|run| run.1 == program) {
                sim.exit(program, 0);
            }
        }
        sim.exit("/mode", 0);
        assert!(sim.manager.is_idle(), "{:?}", sim.story);
        sim.story
            .iter()
            .filter(|line| line.contains("runs"))
            .map(|line| line.split(' ').next_back().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    for unit in ["mode.service", "mode.target", "user.service"] {
        sim.request(Kind::Start, unit);
        if unit == "mode.service" {
            sim.exit("/mode", 0);
        }
    }
    assert_eq!((sim.state("shell.service"), sim.state("user.service")), ("inactive", "active"));
    sim.files.there.insert("/flag");
    assert_eq!(restart(&mut sim), ["/mode", "/engine", "/shell"]);
    assert_eq!((sim.state("shell.service"), sim.state("mode.target")), ("active", "active"));
    sim.files.there.remove("/flag");
    assert_eq!(restart(&mut sim), ["/mode", "/engine"]);
    assert_eq!((sim.state("shell.service"), sim.state("engine.service")), ("inactive", "active"));
    assert_eq!((sim.state("user.service"), sim.state("idle.service")), ("active", "unloaded"));
}

#[path = "restart_tests.rs"]
mod restart_tests;
#[path = "trigger_tests.rs"]
mod trigger_tests;
