//! The four release binaries: static, stripped, for the right processor, with 64-bit time, and each runs.

use minke_image::cache::Cache;
use minke_image::tree::walk;
use minke_tests::{TARGETS, project, release, run, text};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

fn readelf(options: &[&str], binary: &Path) -> String {
    text(&run(Command::new("readelf").args(options).arg(binary)))
}

#[test]
fn each_runs_on_its_oldest_processor() {
    for (target, emulator) in TARGETS {
        let binary = release(target);
        let (program, options) = emulator.split_first().unwrap();
        let output = run(Command::new(program).args(options).arg(&binary).arg("--list"));
        assert!(text(&output).lines().count() > 7, "{target}");
        let version = run(Command::new(program).args(options).arg(&binary).args(["journalctl", "--version"]));
        assert!(text(&version).starts_with("journalctl (minke) "), "{target}");
    }
}

#[test]
fn each_is_static_and_stripped() {
    for (target, _) in TARGETS {
        let binary = release(target);
        let headers = readelf(&["-lW"], &binary);
        assert!(!headers.contains("INTERP"), "{target} wants a dynamic loader");
        assert!(!readelf(&["-SW"], &binary).contains(".symtab"), "{target} has symbols");
    }
}

#[test]
fn the_armv6_binary_is_for_armv6_with_hard_float() {
    let attributes = readelf(&["-A"], &release("armv6"));
    let line = |name: &str| {
        let found = attributes.lines().find(|line| line.trim_start().starts_with(name));
        found.unwrap_or_else(|| panic!("no {name} in {attributes}")).to_owned()
    };
    assert!(line("Tag_CPU_arch:").contains("v6"), "{attributes}");
    assert!(line("Tag_FP_arch:").contains("VFPv2"), "{attributes}");
    assert!(line("Tag_ABI_VFP_args:").contains("VFP registers"), "{attributes}");
}

/// musl's 32-bit calls with 32-bit time are still there for old programs; ours must not use them (year 2038).
#[test]
fn no_32_bit_time() {
    for target in ["armv7", "armv6"] {
        let output = Command::new(project().join("release/build"))
            .arg(target)
            .env("MINKE_KEEP_SYMBOLS", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", minke_tests::errors(&output));
        let symbols = readelf(&["-sW"], Path::new(text(&output).trim()));
        let names: Vec<&str> = symbols.lines().filter_map(|line| line.split_whitespace().nth(7)).collect();
        assert!(names.contains(&"__clock_gettime64"), "{target}: no 64-bit clock_gettime");
        for old in
            ["clock_gettime", "gettimeofday", "stat", "fstat", "nanosleep", "futimens", "utimensat", "select"]
        {
            assert!(!names.contains(&old), "{target}: {old} with 32-bit time is linked");
        }
    }
}

/// One target per run, chosen by the day, so that each has its turn; set `MINKE_REPRODUCE=ARCH` to choose. The second folder
/// stays in the cache, so that only what has changed since its last turn is compiled again there.
#[test]
fn built_twice_in_different_folders_gives_the_same_bytes() {
    let day = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 86_400;
    let of_the_day = TARGETS[usize::try_from(day).unwrap() % TARGETS.len()].0.to_owned();
    let target = std::env::var("MINKE_REPRODUCE").unwrap_or(of_the_day);
    let cache = Cache::open().unwrap();
    let _lock = cache.lock("reproduce").unwrap();
    let copy = cache.folder("reproduce/source").unwrap();
    copy_source(&project(), &copy);
    let mut commit = Command::new("git");
    let epoch = text(&run(commit.current_dir(project()).args(["log", "-1", "--format=%ct"])));
    let second = run(Command::new(copy.join("release/build"))
        .arg(&target)
        .env("SOURCE_DATE_EPOCH", epoch.trim())
        .env("CARGO_TARGET_DIR", cache.folder("reproduce/target").unwrap()));
    let (first, second) = (release(&target), text(&second).trim().to_owned());
    let same = std::fs::read(&first).unwrap() == std::fs::read(&second).unwrap();
    assert!(same, "{target}: {} and {second} differ", first.display());
}

/// Makes `copy` hold the source and nothing else. Files that are as they were keep their time, by which Cargo knows them.
fn copy_source(source: &Path, copy: &Path) {
    let mut listing = Command::new("git");
    listing.current_dir(source).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listing = text(&run(&mut listing));
    // A file that git knows and the folder has not was removed by the change under test.
    let names: BTreeSet<&str> =
        listing.split('\0').filter(|name| !name.is_empty() && source.join(name).is_file()).collect();
    for (name, path) in walk(copy).unwrap() {
        if !path.is_dir() && !names.contains(name.as_str()) {
            std::fs::remove_file(path).unwrap();
        }
    }
    for name in names {
        let (from, to) = (source.join(name), copy.join(name));
        let content = std::fs::read(&from).unwrap();
        if !std::fs::read(&to).is_ok_and(|old| old == content) {
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::write(&to, content).unwrap();
        }
        std::fs::set_permissions(&to, from.metadata().unwrap().permissions()).unwrap();
    }
}
