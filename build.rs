//! Turns the tables of the enabled applets into what the binary has of them (the programs with their options, and the texts
//! compressed), and stamps the version and the build time.

#![allow(clippy::expect_used)]

use minke_applet::Applet;
use std::fmt::Write;
use std::process::Command;

/// The applets of the enabled features, in the order of `minke --list`, by the names of their crates.
macro_rules! applets {
    ($($feature:literal $crate_name:ident,)*) => {
        &[$(#[cfg(feature = $feature)] (stringify!($crate_name), &$crate_name::APPLET),)*]
    };
}

const APPLETS: &[(&str, &Applet)] = applets![
    "config-json" minke_config_json,
    "dns" minke_dns,
    "engine" minke_engine,
    "hostapp-update" minke_hostapp_update,
    "init" minke_init,
    "journald" minke_journald,
    "mdns" minke_mdns,
    "mount-state" minke_mount_state,
    "network" minke_network,
    "ntp" minke_ntp,
    "ssh-keys" minke_ssh_keys,
    "supervisor" minke_supervisor,
    "timesync" minke_timesync,
    "udev-rules" minke_udev_rules,
];

fn main() {
    let out = std::env::var("OUT_DIR").expect("set by cargo");
    // Indexed when it is compiled.
    let mut code = String::from("#[allow(clippy::indexing_slicing)]\nstatic PROGRAMS: &[Entry] = &[\n");
    let mut texts = String::new();
    for (crate_name, applet) in APPLETS {
        for (index, program) in applet.programs.iter().enumerate() {
            let (name, options) = (program.name, minke_applet::options(program));
            let rest = format!("{crate_name}::APPLET.programs[{index}]");
            writeln!(
                code,
                "Entry {{ name: {name:?}, options: {options:?}, parsing: {rest}.parsing, run: {rest}.run }},"
            )
            .expect("string");
            texts.push_str(&minke_applet::help(program));
            texts.push('\0');
        }
    }
    texts.push_str(include_str!("src/usage.txt"));
    let packed = miniz_oxide::deflate::compress_to_vec(texts.as_bytes(), 10);
    std::fs::write(format!("{out}/texts"), packed).expect("OUT_DIR is writable");
    code.push_str("];\nstatic TEXTS: &[u8] = include_bytes!(concat!(env!(\"OUT_DIR\"), \"/texts\"));\n");
    writeln!(code, "const TEXTS_SIZE: usize = {};", texts.len()).expect("string");
    let version = std::env::var("CARGO_PKG_VERSION").expect("set by cargo");
    writeln!(code, "const BUILD: Build = Build {{ version: {version:?}, time: {} }};", build_time())
        .expect("string");
    std::fs::write(format!("{out}/applets.rs"), code).expect("OUT_DIR is writable");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/usage.txt");
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-changed=.git/logs/HEAD");
    for name in BUILD_TIME {
        println!("cargo::rerun-if-env-changed={name}");
    }
}

/// Who says when this was built: `release/build`, or whoever calls Cargo himself.
const BUILD_TIME: [&str; 2] = ["MINKE_STAMP", "SOURCE_DATE_EPOCH"];

/// What the environment says, else the time of the commit, else 0 (a source archive without either).
fn build_time() -> u64 {
    let said = BUILD_TIME.iter().filter_map(|name| std::env::var(name).ok());
    if let Some(time) = said.filter_map(|text| text.parse().ok()).next() {
        return time;
    }
    let git = Command::new("git").args(["log", "-1", "--format=%ct"]).output().ok();
    git.and_then(|output| String::from_utf8(output.stdout).ok())
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}
