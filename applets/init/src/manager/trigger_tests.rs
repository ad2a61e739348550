use super::*;

const DAY: u64 = 86_400;

impl Sim {
    /// Lets time pass; the calendar's clock goes along, and whatever falls due happens at its moment.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let since_boot = self.manager.deadline().map(|at| at.max(self.now));
            let calendar = self.manager.alarm().map(|at| self.now + at.saturating_sub(self.files.clock));
            let next = [since_boot, calendar].into_iter().flatten().min().filter(|next| *next <= end);
            let at = next.unwrap_or(end);
            self.files.clock += at - self.now;
            self.now = at;
            self.manager.time(&mut self.files, self.now);
            self.act();
            if next.is_none() {
                return;
            }
        }
    }

    fn seconds(&mut self, seconds: u64) {
        self.pass(Duration::from_secs(seconds));
    }

    fn change(&mut self, unit: &str) {
        self.manager.path_event(&mut self.files, unit, true, self.now);
        self.act();
    }

    fn look(&mut self, unit: &str) {
        self.manager.path_event(&mut self.files, unit, false, self.now);
        self.act();
    }

    fn runs(&self, program: &str) -> usize {
        self.story.iter().filter(|line| line.ends_with(&format!("runs {program}"))).count()
    }

    /// Seconds since boot at which the timer's next moment is, as far as it is not of the calendar.
    fn next(&self, unit: &str) -> Option<u64> {
        self.manager.units().get(unit).unwrap().armed.as_ref().unwrap().next.map(|next| next.as_secs())
    }
}

const JOB: &str = "[Service]\nType=oneshot\nExecStart=/job\n";
const WATCH: &str = "[Path]\nPathChanged=/f\nUnit=job.service\n";

#[test]
fn a_change_starts_the_unit_and_one_during_its_run_starts_it_again() {
    let mut sim = Sim::new(&[("w.path", WATCH), ("job.service", JOB)]);
    sim.request(Kind::Start, "w.path");
    assert_eq!((sim.state("w.path"), sim.sub_state("w.path")), ("active", "waiting"));
    sim.seconds(100);
    assert_eq!(sim.story, ["w.path watches"]);
    assert_eq!(sim.manager.deadline(), None, "nothing to wake up for");
    for _ in 0..50 {
        sim.change("w.path");
    }
    sim.seconds(1);
    assert_eq!((sim.runs("/job"), sim.sub_state("w.path")), (1, "running"));
    for _ in 0..50 {
        sim.change("w.path");
        sim.seconds(1);
    }
    assert_eq!((sim.runs("/job"), sim.manager.deadline()), (1, None));
    sim.exit("/job", 0);
    sim.seconds(1);
    assert_eq!(sim.runs("/job"), 2);
    sim.exit("/job", 1);
    sim.seconds(100);
    assert_eq!((sim.runs("/job"), sim.sub_state("w.path")), (2, "waiting"));
    // A failed run does not end the watching.
    sim.change("w.path");
    sim.seconds(1);
    assert_eq!(sim.runs("/job"), 3);
    sim.exit("/job", 0);
    sim.request(Kind::Stop, "w.path");
    assert_eq!(sim.story.last().unwrap(), "w.path is blind");
    sim.change("w.path");
    sim.seconds(10);
    assert_eq!((sim.runs("/job"), sim.state("w.path")), (3, "inactive"));
}

#[test]
fn a_restarted_path_watches_on_and_a_reloaded_one_watches_anew() {
    let mut sim = Sim::new(&[("w.path", WATCH), ("job.service", JOB)]);
    sim.request(Kind::Start, "w.path");
    sim.request(Kind::Restart, "w.path");
    assert_eq!(sim.story, ["w.path watches", "w.path is blind", "w.path watches"]);
    sim.change("w.path");
    sim.manager.reload(&mut sim.files);
    sim.act();
    assert_eq!(sim.story.len(), 4);
    sim.seconds(1);
    assert_eq!(sim.runs("/job"), 1, "a reload forgets no change");
}

#[test]
fn no_limit_ends_the_watching() {
    let job =
        "[Unit]\nStartLimitIntervalSec=10\nStartLimitBurst=3\n[Service]\nType=oneshot\nExecStart=/job\n";
    let mut sim = Sim::new(&[("w.path", WATCH), ("job.service", job)]);
    sim.request(Kind::Start, "w.path");
    for _ in 0..100 {
        sim.change("w.path");
        sim.pass(Duration::from_millis(200));
        if sim.running.values().any(|run| run.1 == "/job") {
            sim.exit("/job", 0);
        }
    }
    // 20 seconds: three at once, three after ten.
    assert_eq!((sim.runs("/job"), sim.state("job.service")), (6, "inactive"));
    sim.seconds(20);
    assert_eq!(sim.runs("/job"), 7, "the last change is not forgotten");
    sim.exit("/job", 0);
    let path = "[Path]\nPathChanged=/f\nUnit=job.service\nTriggerLimitIntervalSec=5\nTriggerLimitBurst=2\n";
    let mut sim = Sim::new(&[("w.path", path), ("job.service", JOB)]);
    sim.request(Kind::Start, "w.path");
    for _ in 0..40 {
        sim.change("w.path");
        sim.pass(Duration::from_millis(250));
        if sim.running.values().any(|run| run.1 == "/job") {
            sim.exit("/job", 0);
        }
    }
    assert_eq!(sim.runs("/job"), 4);
}

#[test]
fn what_is_there_starts_the_unit_again_and_again_at_a_calm_pace() {
    let path = "[Path]\nPathExists=/f\nDirectoryNotEmpty=/d\nUnit=job.service\n";
    let mut sim = Sim::new(&[("w.path", path), ("job.service", JOB)]);
    sim.files.there.insert("/f");
    sim.request(Kind::Start, "w.path");
    assert_eq!(sim.runs("/job"), 1, "at once, as it is there already");
    for _ in 0..10 {
        sim.exit("/job", 0);
        sim.seconds(2);
    }
    assert_eq!(sim.runs("/job"), 11);
    sim.files.there.remove("/f");
    sim.exit("/job", 0);
    sim.seconds(1000);
    assert_eq!((sim.runs("/job"), sim.manager.deadline()), (11, None));
    sim.look("w.path");
    assert_eq!(sim.runs("/job"), 11);
    sim.files.there.insert("/d");
    sim.look("w.path");
    assert_eq!(sim.runs("/job"), 12);
    // One whose condition does not hold is not tried for ever.
    let never = "[Unit]\nConditionPathExists=/never\n[Service]\nType=oneshot\nExecStart=/job\n";
    let mut sim = Sim::new(&[("w.path", path), ("job.service", never)]);
    sim.files.there.insert("/f");
    sim.request(Kind::Start, "w.path");
    sim.seconds(10);
    assert_eq!((sim.runs("/job"), sim.manager.deadline()), (0, None));
}

#[test]
fn a_path_whose_unit_is_missing_or_that_watches_nothing() {
    let mut sim = Sim::new(&[("w.path", WATCH), ("x.path", "[Path]\nMakeDirectory=yes\n")]);
    sim.request(Kind::Start, "w.path");
    sim.change("w.path");
    sim.seconds(1);
    assert_eq!((sim.state("w.path"), sim.manager.deadline()), ("active", None));
    let refused = sim.manager.enqueue(&mut sim.files, Kind::Start, "x.path", sim.now);
    assert!(matches!(*refused.unwrap_err(), Refusal::BadSetting(..)));
}

#[test]
fn nothing_is_started_when_the_system_goes_down() {
    let path = "[Unit]\nDefaultDependencies=yes\n[Path]\nPathChanged=/f\nUnit=job.service\n";
    let mut sim = Sim::new(&[("w.path", path), ("job.service", JOB)]);
    sim.request(Kind::Start, "w.path");
    sim.change("w.path");
    sim.manager.isolate(&mut sim.files, "shutdown.target", sim.now).unwrap();
    sim.manager.set_ending();
    sim.act();
    sim.seconds(10);
    assert_eq!((sim.runs("/job"), sim.state("w.path")), (0, "inactive"));
    assert!(sim.manager.is_idle());
    // A unit that does not end keeps its timer up, which is ordered before it: nobody is woken for that.
    let service = "[Service]\nExecStart=/slow\n";
    let timer = "[Unit]\nDefaultDependencies=yes\nBefore=slow.service\n[Timer]\nOnCalendar=minutely\nOnActiveSec=30\nUnit=job.service\n";
    let mut sim = Sim::new(&[("t.timer", timer), ("job.service", JOB), ("slow.service", service)]);
    sim.request(Kind::Start, "slow.service");
    sim.request(Kind::Start, "t.timer");
    sim.manager.isolate(&mut sim.files, "shutdown.target", sim.now).unwrap();
    sim.manager.set_ending();
    sim.act();
    assert_eq!(sim.state("t.timer"), "active");
    assert_eq!(sim.manager.alarm(), None);
    assert_eq!(sim.manager.deadline(), Some(sim.now + Duration::from_secs(90)), "the stop's own limit");
    sim.seconds(80);
    assert_eq!(sim.runs("/job"), 0);
}

#[test]
fn an_adopted_path_watches_on() {
    let mut sim = Sim::new(&[("w.path", WATCH), ("job.service", JOB)]);
    let saved =
        Saved { name: "w.path".to_owned(), up: true, exited: true, main: None, control: None, restarts: 0 };
    sim.manager.adopt(&mut sim.files, &[saved], sim.now);
    sim.act();
    assert_eq!(sim.story, ["w.path watches"]);
    sim.change("w.path");
    sim.seconds(1);
    assert_eq!(sim.runs("/job"), 1);
}

#[test]
fn moments_since_boot_start_and_runs() {
    let timer = "[Timer]\nOnBootSec=15min\nOnUnitInactiveSec=1d\nAccuracySec=1us\nUnit=job.service\n";
    let mut sim = Sim::new(&[("t.timer", timer), ("job.service", JOB)]);
    sim.request(Kind::Start, "t.timer");
    assert_eq!((sim.next("t.timer"), sim.sub_state("t.timer")), (Some(900), "waiting"));
    sim.seconds(801);
    assert_eq!((sim.runs("/job"), sim.sub_state("t.timer")), (1, "running"));
    sim.seconds(600);
    sim.exit("/job", 0);
    assert_eq!(sim.next("t.timer"), Some(1501 + DAY));
    // A run by hand counts as well.
    sim.request(Kind::Start, "job.service");
    sim.seconds(100);
    sim.exit("/job", 0);
    assert_eq!(sim.next("t.timer"), Some(1601 + DAY));
    sim.seconds(DAY);
    assert_eq!(sim.runs("/job"), 3);
    // Since the timer's start, once; what passed before it counts at its start only for the boot.
    let once = "[Timer]\nOnActiveSec=30\nUnit=job.service\n";
    let gone = "[Timer]\nOnBootSec=1\nRemainAfterElapse=no\nUnit=job.service\n";
    let mut sim = Sim::new(&[("t.timer", once), ("g.timer", gone), ("job.service", JOB)]);
    sim.request(Kind::Start, "t.timer");
    sim.seconds(30);
    sim.exit("/job", 0);
    sim.seconds(DAY);
    assert_eq!((sim.runs("/job"), sim.sub_state("t.timer"), sim.manager.deadline()), (1, "elapsed", None));
    sim.request(Kind::Start, "g.timer");
    assert_eq!((sim.runs("/job"), sim.state("g.timer")), (2, "inactive"));
}

#[test]
fn a_unit_that_is_started_again_and_again() {
    let timer = "[Timer]\nOnActiveSec=0\nOnUnitActiveSec=0\nAccuracySec=0\nUnit=job.service\n";
    let mut sim = Sim::new(&[("t.timer", timer), ("job.service", JOB)]);
    sim.request(Kind::Start, "t.timer");
    for _ in 0..20 {
        sim.exit("/job", 0);
        sim.pass(Duration::from_millis(100));
    }
    assert!((18..=21).contains(&sim.runs("/job")), "{}", sim.runs("/job"));
}

/// 2026-11-21 06:36:46.
const NOW: Duration = Duration::from_secs(1_795_243_006);

fn calendar(settings: &'static str) -> Sim {
    let mut sim = Sim::new(&[("t.timer", settings), ("job.service", JOB)]);
    sim.files.clock = NOW;
    sim
}

#[test]
fn moments_of_the_calendar_and_a_clock_that_is_set() {
    let mut sim = calendar("[Timer]\nOnCalendar=hourly\nAccuracySec=0\nUnit=job.service\n");
    sim.request(Kind::Start, "t.timer");
    let seven = NOW + Duration::from_secs(23 * 60 + 14);
    assert_eq!((sim.manager.alarm(), sim.manager.deadline()), (Some(seven), None));
    sim.pass(seven - NOW);
    assert_eq!(sim.runs("/job"), 1);
    sim.exit("/job", 0);
    assert_eq!(sim.manager.alarm(), Some(seven + Duration::from_secs(3600)));
    // Set back by two hours: it is not silent until the old time comes again.
    sim.files.clock -= Duration::from_secs(7200);
    sim.manager.clock_set(&mut sim.files, sim.now);
    assert_eq!(sim.manager.alarm(), Some(seven - Duration::from_secs(3600)));
    // Set forward over a moment: that moment has come.
    sim.files.clock += Duration::from_secs(30 * DAY);
    sim.manager.clock_set(&mut sim.files, sim.now);
    sim.act();
    assert_eq!(sim.runs("/job"), 2);
    sim.exit("/job", 0);
    assert!(sim.manager.alarm().unwrap() > sim.files.clock);
    sim.request(Kind::Stop, "t.timer");
    assert_eq!(sim.manager.alarm(), None);
}

#[test]
fn what_was_missed_is_made_up_for_once_when_persistent() {
    let daily = "[Timer]\nOnCalendar=daily\nPersistent=yes\nUnit=job.service\n";
    let mut sim = calendar(daily);
    sim.request(Kind::Start, "t.timer");
    assert_eq!((sim.runs("/job"), sim.files.runs["t.timer"]), (0, NOW), "the first time nothing was missed");
    let mut sim = calendar(daily);
    sim.files.runs.insert("t.timer".to_owned(), NOW - Duration::from_secs(10 * DAY));
    sim.request(Kind::Start, "t.timer");
    assert_eq!((sim.runs("/job"), sim.files.runs["t.timer"]), (1, NOW));
    sim.exit("/job", 0);
    sim.seconds(60);
    assert_eq!(sim.runs("/job"), 1);
    // A stamp of the future, of a clock that was wrong, blocks nothing.
    let mut sim = calendar(daily);
    sim.files.runs.insert("t.timer".to_owned(), NOW + Duration::from_secs(1000 * DAY));
    sim.request(Kind::Start, "t.timer");
    assert!(sim.manager.alarm().unwrap() < NOW + Duration::from_secs(DAY));
    let mut sim = calendar("[Timer]\nOnCalendar=daily\nUnit=job.service\n");
    sim.files.runs.insert("t.timer".to_owned(), NOW - Duration::from_secs(10 * DAY));
    sim.request(Kind::Start, "t.timer");
    assert_eq!(sim.runs("/job"), 0);
}

#[test]
fn random_delays_differ_each_time_and_fixed_ones_do_not() {
    let delays = |settings| {
        let mut sim = calendar(settings);
        sim.request(Kind::Start, "t.timer");
        let mut delays = Vec::new();
        for _ in 0..20 {
            let alarm = sim.manager.alarm().unwrap();
            delays.push((alarm.as_millis() % (u128::from(DAY) * 1000)) as u64);
            sim.pass(alarm - sim.files.clock);
            sim.exit("/job", 0);
        }
        delays
    };
    let random =
        delays("[Timer]\nOnCalendar=daily\nRandomizedDelaySec=6h\nAccuracySec=0\nUnit=job.service\n");
    assert!(random.iter().all(|delay| *delay <= 6 * 3_600_000), "{random:?}");
    assert!(random.iter().collect::<BTreeSet<_>>().len() > 15, "{random:?}");
    let fixed = delays(
        "[Timer]\nOnCalendar=daily\nRandomizedDelaySec=6h\nFixedRandomDelay=yes\nAccuracySec=0\nUnit=job.service\n",
    );
    assert_eq!(fixed.iter().collect::<BTreeSet<_>>().len(), 1, "{fixed:?}");
    assert!(fixed[0] > 0);
}

#[test]
fn wake_ups_are_put_together() {
    let units = [
        ("a.timer", "[Timer]\nOnActiveSec=100\nUnit=job.service\n"),
        ("b.timer", "[Timer]\nOnActiveSec=130\nUnit=job.service\n"),
        ("c.timer", "[Timer]\nOnActiveSec=155\nUnit=job.service\n"),
        ("d.timer", "[Timer]\nOnActiveSec=170\nUnit=job.service\n"),
        ("job.service", JOB),
    ];
    let mut sim = Sim::new(&units);
    let begin = sim.now;
    let mut wakes = Vec::new();
    for unit in ["a.timer", "b.timer", "c.timer", "d.timer"] {
        sim.request(Kind::Start, unit);
    }
    while let Some(deadline) = sim.manager.deadline() {
        wakes.push((deadline - begin).as_secs());
        sim.now = deadline;
        sim.manager.time(&mut sim.files, deadline);
        sim.act();
    }
    // The first three within the minute of the first, none of them earlier than it says.
    assert_eq!(wakes, [155, 170]);
}

#[test]
fn an_automatic_mount_point_is_kept_while_it_is_up() {
    let mut sim = Sim::new(&[
        ("mnt-x.automount", "[Automount]\nWhere=/mnt/x\nTimeoutIdleSec=0\n"),
        ("mnt-x.mount", "[Unit]\nDescription=none\n"),
        ("bad.automount", "[Automount]\nDirectoryMode=0700\n"),
    ]);
    sim.request(Kind::Start, "mnt-x.automount");
    assert_eq!(sim.story, ["mnt-x.automount watches"]);
    let slot = sim.manager.units().get("mnt-x.automount").unwrap();
    assert_eq!((sim.state("mnt-x.automount"), sim.manager.sub_state(slot)), ("active", "waiting"));
    assert_eq!(slot.unit.trigger.as_ref().unwrap().unit, "mnt-x.mount");
    // It waits for nothing by itself.
    assert_eq!(sim.manager.deadline(), None);
    sim.request(Kind::Stop, "mnt-x.automount");
    assert_eq!(sim.story[1..], ["mnt-x.automount is blind"]);
    let bad = sim.manager.enqueue(&mut sim.files, Kind::Start, "bad.automount", sim.now).unwrap_err();
    assert!(bad.to_string().contains("no Where="), "{bad}");
}
