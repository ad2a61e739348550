//! The real PID 1 as first process of its own namespaces: orphans, crashes, faults, a clean end.
//!
//! Needs root; without it the test says so and passes. Nothing outside of the namespaces is touched but a control
//! group of the test's own, which it removes.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Seconds that one run may take, with a busy machine's patience.
const LIMIT: &str = "400";

/// Runs inside a mount namespace: makes a control group, then the namespaces of the machine to be, and cleans up.
const OUTER: &str = r#"
set -e
root=$1/cgroup; mkdir -p "$root"
mount -t cgroup2 none "$root"
group=$root/minke-test-$$; mkdir "$group"
sh -c 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"' sh "$group" \
  timeout -s KILL "$2" unshare -pfmuniC --kill-child --mount-proc sh "$1/inner" "$1" || echo "ended with $?"
sleep 1
for folder in $(find "$group" -depth -type d); do rmdir "$folder" || true; done
"#;

/// Becomes PID 1.
const INNER: &str = r#"
set -e
mount -t tmpfs run /run
mkdir -p /run/systemd/system /run/bin
cp "$1"/units/* /run/systemd/system/
cp "$1/minke" /run/bin/minke
mount --bind "$1/out" /mnt
mount -t tmpfs tmp /tmp
mount -t tmpfs lib /var/lib
for folder in /usr/lib/systemd/system /etc/systemd/system; do
  [ ! -d $folder ] || mount -t tmpfs units $folder
done
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 none /sys/fs/cgroup
echo 0123456789abcdef0123456789abcdef > /run/machine-id
[ -e /etc/machine-id ] && mount --bind /run/machine-id /etc/machine-id
exec env -i container=minke-test PATH=/usr/sbin:/usr/bin:/sbin:/bin /run/bin/minke init
"#;

struct Machine {
    folder: PathBuf,
}

impl Machine {
    /// `None`: not root, or no namespaces.
    fn new(name: &str, units: &[(&str, &str)]) -> Option<Self> {
        let probe = Command::new("unshare").args(["-pfmuniC", "--mount-proc", "true"]).status();
        if !probe.is_ok_and(|status| status.success()) {
            eprintln!("skipped: this needs root and namespaces");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("minke-pid1-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("units")).unwrap();
        std::fs::create_dir(folder.join("out")).unwrap();
        std::fs::copy(binary(), folder.join("minke")).unwrap();
        std::fs::write(folder.join("inner"), INNER).unwrap();
        for (unit, text) in units {
            std::fs::write(folder.join("units").join(unit), text).unwrap();
        }
        Some(Self { folder })
    }

    /// Boots the machine and waits for its end.
    fn run(&self) -> Output {
        let script = ["-m", "sh", "-c", OUTER, "outer"];
        Command::new("unshare").args(script).arg(&self.folder).arg(LIMIT).output().unwrap()
    }

    fn told(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.join("out").join(file)).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The multicall binary: `MINKE_BIN`, else built here with the applet alone.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("MINKE_BIN") {
        return path.into();
    }
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("minke");
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--bin",
            "minke",
            "--no-default-features",
            "--features",
            "init",
            "--target-dir",
        ])
        .arg(&target)
        .current_dir(&top)
        .status()
        .unwrap();
    assert!(built.success(), "the binary does not build");
    target.join("debug/minke")
}

/// A unit that runs a script and then ends the machine.
fn script(commands: &str) -> String {
    format!(
        "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nStandardOutput=append:/mnt/log\n\
         ExecStart=/bin/sh -c '{commands}'\nExecStopPost=/run/bin/minke systemctl poweroff\n"
    )
}

#[test]
fn ten_thousand_orphans_leave_no_zombie_and_a_crashing_service_does_not_spin() {
    let main = script(
        "i=0; while [ $$i -lt 10000 ]; do (: &); i=$$((i+1)); done; sleep 3; \
         n=0; until grep -l \"^State:.Z\" /proc/[0-9]*/status | wc -l > /mnt/zombies; grep -qx 0 /mnt/zombies; \
         do n=$$((n+1)); [ $$n -lt 100 ] || break; sleep 0.1; done; cat /proc/1/comm > /mnt/first; \
         /run/bin/minke systemctl show -p NRestarts --value crash > /mnt/restarts; \
         n=0; until /run/bin/minke systemctl is-active crash > /mnt/crash; grep -qx activating /mnt/crash; \
         do n=$$((n+1)); [ $$n -lt 100 ] || break; sleep 0.1; done; true",
    );
    let units = [
        ("default.target", "[Unit]\nWants=main.service crash.service\n"),
        ("main.service", main.as_str()),
        (
            "crash.service",
            "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/false\nRestart=always\n",
        ),
    ];
    let Some(machine) = Machine::new("orphans", &units) else { return };
    let output = machine.run();
    let story = format!("{output:?}\n{}", machine.told("log"));
    assert_eq!(machine.told("zombies").trim(), "0", "{story}");
    assert_eq!(machine.told("first").trim(), "minke", "{story}");
    assert_eq!(machine.told("crash").trim(), "activating", "{story}");
    let restarts: u32 = machine.told("restarts").trim().parse().unwrap_or_else(|_| panic!("{story}"));
    // 100 ms doubling: at most a dozen in the minutes that this takes.
    assert!((2..=14).contains(&restarts), "{restarts} restarts\n{story}");
}

/// A oneshot in all but name: what it says in its last moment counts, however many other processes end just then.
#[test]
fn a_service_that_says_ready_and_ends_was_ready() {
    let main = script(
        "(while :; do (: &); done) & flood=$$!; i=0; bad=0; \
         while [ $$i -lt 100 ]; do /run/bin/minke systemctl start brief || bad=$$((bad+1)); i=$$((i+1)); done; \
         kill $$flood; echo $$bad > /mnt/bad; true",
    );
    let brief = "[Unit]\nDefaultDependencies=no\n[Service]\nType=notify\nExecStart=/usr/bin/python3 -S -E /mnt/brief.py\n";
    let units = [
        ("default.target", "[Unit]\nWants=main.service\n"),
        ("main.service", main.as_str()),
        ("brief.service", brief),
    ];
    let Some(machine) = Machine::new("brief", &units) else { return };
    let program = "import os, socket\nsocket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])\nos._exit(0)\n";
    std::fs::write(machine.folder.join("out/brief.py"), program).unwrap();
    let output = machine.run();
    assert_eq!(machine.told("bad").trim(), "0", "{output:?}\n{}", machine.told("log"));
}

#[test]
fn a_fault_in_pid_1_leaves_its_services_running() {
    let main = script(
        "until [ -s /mnt/half ]; do sleep 0.1; done; sleep 1; \
         pid=$$(/run/bin/minke systemctl show -p MainPID --value keep); kill -SEGV 1; \
         n=0; until [ \"$$(/run/bin/minke systemctl is-active keep 2>/dev/null)\" = active ]; do n=$$((n+1)); [ $$n -lt 100 ] || break; sleep 0.2; done; \
         again=$$(/run/bin/minke systemctl show -p MainPID --value keep); echo \"$$pid $$again\" > /mnt/pids; \
         cp /proc/1/cmdline /mnt/cmdline; \
         n=0; until [ \"$$(grep -c . /mnt/half)\" = 2 ]; do n=$$((n+1)); [ $$n -lt 100 ] || break; sleep 0.2; done; \
         grep -c . /sys/fs/cgroup/system.slice/half.service/cgroup.procs > /mnt/halves; kill -0 $$again && echo alive > /mnt/alive; \
         kill -KILL $$again; sleep 2; \
         n=0; until /run/bin/minke systemctl show -p NRestarts --value keep > /mnt/restarts; grep -qx 1 /mnt/restarts; \
         do n=$$((n+1)); [ $$n -lt 100 ] || break; sleep 0.2; done; \
         /run/bin/minke systemctl poweroff; true",
    );
    // A unit that is up, unlike one whose start was under way, which is started anew.
    let main = main.replace("Type=oneshot", "Type=simple");
    let units = [
        ("default.target", "[Unit]\nWants=keep.service main.service half.service\n"),
        ("main.service", main.as_str()),
        (
            "half.service",
            "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo run >> /mnt/half; sleep 1000'\n",
        ),
        (
            "keep.service",
            "[Unit]\nDefaultDependencies=no\nBefore=main.service\n[Service]\nExecStart=/bin/sleep 1000\nRestart=always\n",
        ),
    ];
    let Some(machine) = Machine::new("fault", &units) else { return };
    let output = machine.run();
    let story = format!("{output:?}\n{}", machine.told("log"));
    let pids = machine.told("pids");
    let pids: Vec<&str> = pids.split_whitespace().collect();
    assert!(matches!(pids[..], [one, other] if one == other && one != "0"), "{pids:?}\n{story}");
    assert!(machine.told("cmdline").contains("--again"), "{story}");
    assert_eq!(machine.told("alive").trim(), "alive", "{story}");
    assert_eq!(machine.told("half"), "run\nrun\n", "{story}");
    assert!(machine.told("halves").trim().parse::<u32>().is_ok_and(|count| count <= 3), "{story}");
    assert_eq!(machine.told("restarts").trim(), "1", "the new PID 1 sees its service end\n{story}");
}

#[test]
fn paths_and_timers_start_their_units() {
    let main = script(
        "ctl=\"/run/bin/minke systemctl\"; runs() { n=0; while [ \"$$(grep -c . /mnt/$$1 2>/dev/null)\" != $$2 ] && [ $$n -lt 300 ]; \
         do n=$$((n+1)); sleep 0.1; done; sleep 0.5; echo \"$$1 $$(grep -c . /mnt/$$1 2>/dev/null)\" >> /mnt/story; }; \
         mkdir /run/w; echo a > /run/w/f; $$ctl start w.path soon.timer often.timer kept.timer; $$ctl list-paths --json > /mnt/paths; \
         $$ctl show -p SubState --value w.path kept.timer > /mnt/states; runs soon 1; \
         echo b > /run/w/f; runs job 1; \
         /usr/bin/python3 -S -E /mnt/nine.py; runs job 2; \
         mount -t tmpfs over /run/w; runs job 2; echo c > /run/w/f; runs job 3; umount /run/w; runs job 4; \
         rm -r /run/w; runs job 5; mkdir /run/w; echo d > /run/w/f; runs job 6; \
         $$ctl restart w.path; echo e > /run/w/f; runs job 7; \
         kill -SEGV 1; sleep 3; until $$ctl is-active -q w.path; do sleep 0.2; done; echo g > /run/w/f; runs job 8; \
         $$ctl stop w.path; echo f > /run/w/f; runs job 8; \
         $$ctl list-timers --json > /mnt/timers; $$ctl list-timers > /mnt/table; ls /var/lib/systemd/timers > /mnt/stamps; \
         cp /mnt/often /mnt/often.now; $$ctl status w.path -n 0 > /mnt/status; $$ctl poweroff; true",
    );
    // A unit that is up when PID 1 starts again.
    let main = main.replace("Type=oneshot", "Type=simple");
    let job = |file: &str| {
        format!(
            "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/bin/sh -c 'sleep 0.2; date +%%s.%%N >> /mnt/{file}'\n"
        )
    };
    let timer =
        |settings: &str| format!("[Unit]\nDefaultDependencies=no\n[Timer]\nAccuracySec=1ms\n{settings}\n");
    let (often, soon, kept) = (
        timer("OnCalendar=*:*:0/2"),
        timer("OnActiveSec=500ms"),
        timer("OnCalendar=2199-1-1\nPersistent=yes"),
    );
    let units = [
        ("default.target", "[Unit]\nWants=main.service\n"),
        ("main.service", main.as_str()),
        ("w.path", "[Unit]\nDefaultDependencies=no\n[Path]\nPathChanged=/run/w/f\nUnit=job.service\n"),
        ("job.service", &job("job")),
        ("soon.timer", &soon),
        ("soon.service", &job("soon")),
        ("often.timer", &often),
        ("often.service", &job("often")),
        ("kept.timer", &kept),
        ("kept.service", &job("kept")),
    ];
    let Some(machine) = Machine::new("triggers", &units) else { return };
    // One process, for these are one change only while they follow each other at once.
    let program = "import os\nfor i in range(9):\n    with open('/run/w/f.new', 'w') as new:\n        new.write(str(i))\n    os.rename('/run/w/f.new', '/run/w/f')\n";
    std::fs::write(machine.folder.join("out/nine.py"), program).unwrap();
    let output = machine.run();
    let log = format!("{output:?}\n{}", machine.told("log"));
    let story = machine.told("story");
    let story: Vec<&str> = story.lines().collect();
    let wanted =
        ["soon 1", "job 1", "job 2", "job 2", "job 3", "job 4", "job 5", "job 6", "job 7", "job 8", "job 8"];
    assert_eq!(story, wanted, "{log}");
    assert_eq!(
        machine.told("states").split_whitespace().collect::<Vec<_>>(),
        ["waiting", "waiting"],
        "{log}"
    );
    assert_eq!(
        machine.told("paths").trim(),
        r#"[{"path":"/run/w/f","condition":"PathChanged","unit":"w.path","activates":"job.service"}]"#
    );
    let timers = machine.told("timers");
    assert!(timers.contains(r#""unit":"often.timer","activates":"often.service""#), "{timers}");
    let table = machine.told("table");
    assert!(table.contains("NEXT") && table.contains("2199-01-01 00:00:00 UTC"), "{table}");
    assert!(machine.told("status").contains("Triggers: job.service"), "{}", machine.told("status"));
    assert_eq!(machine.told("stamps").trim(), "stamp-kept.timer");
    // Every even second, and a little more for the job's own sleep; a busy machine starts one or another late.
    let often = machine.told("often.now");
    let moments: Vec<f64> = often.lines().map(|line| line.parse().unwrap()).collect();
    assert!(moments.len() > 3, "{often}");
    let punctual = moments.iter().filter(|moment| (0.15..1.5).contains(&(**moment % 2.0))).count();
    assert!(punctual * 2 > moments.len(), "{often}");
}
