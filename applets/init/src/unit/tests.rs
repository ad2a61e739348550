use super::load::{Folders, Loaded, Warning};
use super::*;
use minke_sys::capability::Capabilities;
use minke_sys::process::{Exit, Limit};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::path::Path;

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("minke-unit-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir(&path).unwrap();
    path
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn load(folders: &[&PathBuf], name: &str) -> (Unit, Vec<String>) {
    let mut warnings: Vec<Warning> = Vec::new();
    let folders = Folders::new(folders.iter().map(|folder| (*folder).clone()).collect());
    match folders.load(name, &mut warnings) {
        Loaded::Unit(unit) => (*unit, warnings.iter().map(ToString::to_string).collect()),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn drop_ins_aliases_wants_and_folders_by_importance() {
    let (etc, lib) = (folder("etc"), folder("lib"));
    write(&lib, "real.service", "[Unit]\nDescription=vendor\nAfter=x.service\n[Service]\nExecStart=/v\n");
    symlink("real.service", lib.join("alias.service")).unwrap();
    write(
        &lib,
        "real.service.d/10-a.conf",
        "[Unit]\nAfter=\nAfter=y.service\n[Service]\nExecStart=\nExecStart=/w\n",
    );
    write(&etc, "real.service.d/20-b.conf", "[Unit]\nDescription=owner\n");
    write(&lib, "real.service.d/20-b.conf", "[Unit]\nDescription=hidden\n");
    write(&lib, "t.target", "[Unit]\nWants=alias.service\n");
    std::fs::create_dir(etc.join("t.target.wants")).unwrap();
    symlink("../z.service", etc.join("t.target.wants/z.service")).unwrap();
    let (unit, warnings) = load(&[&etc, &lib], "alias.service");
    assert_eq!((unit.name.as_str(), unit.description.as_str()), ("real.service", "owner"));
    assert_eq!(unit.service.unwrap().exec_start[0].program, "/w");
    assert_eq!(unit.relations.after, ["y.service", "sysinit.target", "basic.target"]);
    assert!(warnings.is_empty());
    let (target, _) = load(&[&etc, &lib], "t.target");
    assert_eq!(target.relations.wants, ["real.service", "z.service"]);
    assert_eq!(target.relations.after, ["real.service", "z.service"]);
    write(&etc, "real.service", "[Service]\nExecStart=/etc\n");
    assert_eq!(load(&[&etc, &lib], "real.service").0.service.unwrap().exec_start.len(), 1);
    for path in [etc, lib] {
        std::fs::remove_dir_all(path).unwrap();
    }
}

#[test]
fn templates_masks_and_what_is_not_there() {
    let lib = folder("templates");
    write(
        &lib,
        "getty@.service",
        "[Unit]\nDescription=on %I\n[Service]\nExecStart=/getty %i\nTTYPath=/dev/%I\n",
    );
    symlink("/dev/null", lib.join("masked.service")).unwrap();
    let (unit, _) = load(&[&lib], "getty@ttyS0.service");
    assert_eq!((unit.name.as_str(), unit.description.as_str()), ("getty@ttyS0.service", "on ttyS0"));
    assert_eq!(unit.service.unwrap().exec_start[0].arguments, ["/getty", "ttyS0"]);
    let folders = Folders::new(vec![lib.clone()]);
    assert!(matches!(folders.load("masked.service", &mut Vec::new()), Loaded::Masked));
    assert!(matches!(folders.load("none.service", &mut Vec::new()), Loaded::Missing));
    assert!(matches!(folders.load("../etc/passwd", &mut Vec::new()), Loaded::Missing));
    std::fs::remove_dir_all(lib).unwrap();
}

#[test]
fn faults_are_told_with_file_and_line_and_the_rest_counts() {
    let lib = folder("faults");
    write(
        &lib,
        "a.service",
        "[Unit]\nDescriptoin=x\n[Service]\nExecStart=/a\nRestart=sometimes\nNice=99\n[Sirvice]\nX=1\nnoise\n",
    );
    let (unit, warnings) = load(&[&lib], "a.service");
    assert_eq!(unit.service.unwrap().exec_start.len(), 1);
    let path = lib.join("a.service");
    let told: Vec<&str> =
        warnings.iter().map(|text| text.strip_prefix(path.to_str().unwrap()).unwrap()).collect();
    assert_eq!(told[0], ":9: neither a section nor an assignment");
    assert_eq!(told[1], ":2: unknown directive Descriptoin= in [Unit]");
    assert!(told[2].starts_with(":5: Restart=sometimes: wanted:"));
    assert_eq!(told[3], ":6: Nice=99: wanted: out of range");
    assert_eq!(told[4], ":7: unknown section [Sirvice]".replace(":7", ":8"));
    std::fs::remove_dir_all(lib).unwrap();
}

#[test]
fn directives_have_their_meaning() {
    let lib = folder("meaning");
    write(
        &lib,
        "a.service",
        "[Unit]\nConditionKernelCommandLine=!quiet\nStartLimitBurst=9\nJobTimeoutSec=2min\n[Service]\n\
         ExecStart=-+/a \"b c\" $X ${Y}z $$ %n\nEnvironment=X=1 \"Y=2 3\"\nEnvironmentFile=-/none\nUser=nobody\n\
         LimitNOFILE=1024:infinity\nCapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW\nCapabilityBoundingSet=~CAP_NET_RAW\n\
         AmbientCapabilities=CAP_NET_ADMIN\nUMask=0077\nTimeoutStartSec=0\nTimeoutStopSec=infinity\nKillSignal=SIGINT\n\
         StandardOutput=append:/x\nMemoryMax=64M\nSuccessExitStatus=3 SIGUSR1\nRuntimeDirectory=a b\n",
    );
    let (unit, warnings) = load(&[&lib], "a.service");
    assert!(warnings.is_empty(), "{warnings:?}");
    assert!(unit.conditions[0].negated);
    assert_eq!(unit.start_limit, Some((Duration::from_secs(10), 9)));
    let service = unit.service.unwrap();
    let command = &service.exec_start[0];
    assert!(command.ignore_failure && command.privileged);
    let expanded = command.expanded(&service.exec.environment);
    assert_eq!(expanded, ["/a", "b c", "1", "2 3z", "$", "a.service"]);
    assert_eq!(service.exec.limits, [(Limit::Nofile, Some(1024), None)]);
    assert_eq!(service.exec.bounding, Capabilities::by_name("CAP_NET_ADMIN"));
    assert_eq!((service.start_limit(), service.stop_timeout, service.kill_signal), (None, None, 2));
    assert_eq!(service.exec.output, Stream::Append("/x".into()));
    assert_eq!(service.exec.cgroup, [("memory.max", "67108864".to_owned())]);
    assert!(
        service.is_clean(Exit::Code(3))
            && service.is_clean(Exit::Signal(10))
            && !service.is_clean(Exit::Code(4))
    );
    assert_eq!(service.exec.runtime_directories, ["a", "b"]);
    std::fs::remove_dir_all(lib).unwrap();
}

#[test]
fn paths_and_timers() {
    let lib = folder("triggers");
    symlink("real.service", lib.join("alias.service")).unwrap();
    write(&lib, "real.service", "[Service]\nExecStart=/r\n");
    write(
        &lib,
        "p.path",
        "[Path]\nPathExists=/gone\nPathChanged=\nPathChanged=/a\nDirectoryNotEmpty=/b\nPathModified=%t/c\n\
         Unit=alias.service\nMakeDirectory=yes\nDirectoryMode=0700\nTriggerLimitIntervalSec=0\nTriggerLimitBurst=3\n",
    );
    let (unit, warnings) = load(&[&lib], "p.path");
    assert!(warnings.is_empty(), "{warnings:?}");
    let path = unit.trigger.as_ref().unwrap();
    let paths: Vec<_> = path.paths.iter().map(|(look, path)| (*look, path.as_str())).collect();
    assert_eq!(paths, [(Look::Changed, "/a"), (Look::NotEmpty, "/b"), (Look::Modified, "/run/c")]);
    assert_eq!((path.unit.as_str(), path.limit_interval, path.limit_burst), ("real.service", None, 3));
    assert_eq!(unit.relations.before, ["real.service", "paths.target", "shutdown.target"]);
    assert_eq!(unit.relations.after, ["sysinit.target"]);
    write(
        &lib,
        "t@.timer",
        "[Timer]\nOnBootSec=5min\nOnCalendar=\nOnUnitActiveSec=1d\nOnUnitInactiveSec=infinity\nOnCalendar=hourly\n\
         OnCalendar=Mon 6:00\nAccuracySec=1us\nRandomizedDelaySec=6h\nPersistent=true\nWakeSystem=no\n",
    );
    let (unit, warnings) = load(&[&lib], "t@x.timer");
    assert!(warnings.is_empty(), "{warnings:?}");
    let timer = unit.trigger.as_ref().unwrap();
    assert_eq!((timer.unit.as_str(), timer.moments.len(), timer.calendars.len()), ("t@x.service", 1, 2));
    assert_eq!(timer.accuracy, Some(Duration::from_micros(1)));
    assert_eq!(unit.relations.before, ["t@x.service", "timers.target", "shutdown.target"]);
    assert_eq!(unit.relations.after, ["sysinit.target", "time-set.target", "time-sync.target"]);
    write(
        &lib,
        "bad.timer",
        "[Timer]\nOnCalendar=whenever\nOnBootSec=soon\nWakeSystem=yes\nPathChanged=/x\nUnit=x\n[Path]\nPathChanged=/x\n\
         [Service]\nExecStart=/x\n",
    );
    let (unit, warnings) = load(&[&lib], "bad.timer");
    assert_eq!(warnings.len(), 7, "{warnings:?}");
    assert!(bad_setting(&unit).is_some());
    write(&lib, "bad.path", "[Path]\nPathChanged=relative\nOnBootSec=1\n[Timer]\nOnBootSec=1\n");
    assert_eq!(load(&[&lib], "bad.path").1.len(), 3);
    std::fs::remove_dir_all(lib).unwrap();
}

/// The units that ship, each with what is wrong with it.
fn shipped() -> Vec<(Box<Unit>, Vec<String>)> {
    let folders = Folders::new(vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../../image/units")]);
    let names = folders.names();
    assert!(names.len() > 10, "{names:?}");
    let load = |name: &String| {
        let mut warnings = Vec::new();
        match folders.load(name, &mut warnings) {
            Loaded::Unit(unit) => (unit, warnings.iter().map(ToString::to_string).collect()),
            other => panic!("{name}: {other:?}"),
        }
    };
    names.iter().map(load).collect()
}

/// Every unit that ships is free of faults (decision 11).
#[test]
fn the_units_that_ship_have_no_faults() {
    for (unit, warnings) in shipped() {
        assert_eq!(bad_setting(&unit), None, "{}", unit.name);
        assert!(warnings.is_empty(), "{}", warnings.join("\n"));
    }
}

/// One that waits for itself is started in the end, but at a moment that nobody has chosen.
#[test]
fn the_units_that_ship_do_not_wait_for_themselves() {
    let mut waits: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (unit, _) in shipped() {
        for later in &unit.relations.before {
            waits.entry(later.clone()).or_default().insert(unit.name.clone());
        }
        waits.entry(unit.name.clone()).or_default().extend(unit.relations.after);
    }
    // Whoever waits for none of those that are left goes as well.
    loop {
        let count = waits.len();
        let names: BTreeSet<String> = waits.keys().cloned().collect();
        waits.retain(|_, others| !others.is_disjoint(&names));
        if waits.len() == count {
            break;
        }
    }
    // Those that nobody of them waits for are in no circle.
    loop {
        let count = waits.len();
        let awaited: BTreeSet<String> = waits.values().flatten().cloned().collect();
        waits.retain(|name, _| awaited.contains(name));
        if waits.len() == count {
            break;
        }
    }
    assert!(waits.is_empty(), "{waits:#?}");
}

#[test]
fn never_panics_on_mutated_paths_and_timers() {
    let seed = "[Path]\nPathChanged=/x\nDirectoryNotEmpty=/%i\nUnit=b.service\nDirectoryMode=0755\nTriggerLimitBurst=5\n\
                [Timer]\nOnCalendar=Mon..Fri *-1,2~3/1 0/2:15\nOnBootSec=5min 1s\nRandomizedDelaySec=6h\nUnit=c.service\nPersistent=1\n";
    let mut random = 0x0FED_CBA9_8765_4321_u64;
    for _ in 0..8_000 {
        let mut bytes = seed.as_bytes().to_vec();
        for _ in 0..6 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let index = usize::try_from(random >> 33).unwrap() % bytes.len();
            bytes[index] = b"\\\"[]=%#;\n /9.,~*-@:\0"[usize::try_from(random % 19).unwrap()];
        }
        let text = String::from_utf8_lossy(&bytes);
        for name in ["a@b.path", "a@b.timer"] {
            let name = minke_wire::unit::Name::parse(name).unwrap();
            let mut unit = Unit::new(name.full());
            for entry in minke_wire::unit::parse(&text).entries {
                let _ = apply(&mut unit, &name, &entry.section, &entry.key, &entry.value);
            }
            unit.add_default_dependencies();
            for (calendar, _) in &unit.trigger.as_ref().unwrap().calendars {
                let _ = calendar.next(1_795_243_006);
            }
        }
    }
}

#[test]
fn never_panics_on_mutated_units() {
    let lib = folder("mutated");
    let seed = "[Unit]\nAfter=a.service b@%i.service\nConditionPathExists=|!/x\n[Service]\nExecStart=-@/a \"b\" $X ${Y} %n\n\
                Environment=\"A=b c\"\nTimeoutStopSec=5min 1s\nLimitNOFILE=1:2\nUMask=022\nStandardOutput=file:/x\n";
    let mut random = 0x0123_4567_89AB_CDEF_u64;
    for _ in 0..8_000 {
        let mut bytes = seed.as_bytes().to_vec();
        for _ in 0..6 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let index = usize::try_from(random >> 33).unwrap() % bytes.len();
            bytes[index] = b"\\\"'[]=%#;\n x9@.$-{}\0"[usize::try_from(random & 15).unwrap()];
        }
        let text = String::from_utf8_lossy(&bytes);
        let name = minke_wire::unit::Name::parse("a@b.service").unwrap();
        let mut unit = Unit::new(name.full());
        for entry in minke_wire::unit::parse(&text).entries {
            let _ = apply(&mut unit, &name, &entry.section, &entry.key, &entry.value);
        }
        unit.add_default_dependencies();
        for command in unit.service.unwrap().exec_start {
            command.expanded(&["X=\"".to_owned()]);
        }
    }
    std::fs::remove_dir_all(lib).unwrap();
}
