//! Turns the enabled features into the applet table, and stamps the version and the build time.

#![allow(clippy::expect_used)]

use std::fmt::Write;
use std::process::Command;

fn main() {
    let manifest = std::fs::read_to_string("Cargo.toml").expect("Cargo.toml");
    let mut code = String::from("static APPLETS: &[&Applet] = &[\n");
    for name in features(&manifest) {
        if std::env::var_os(format!("CARGO_FEATURE_{}", name.to_uppercase().replace('-', "_"))).is_some() {
            writeln!(code, "    &minke_{}::APPLET,", name.replace('-', "_")).expect("string");
        }
    }
    code.push_str("];\n");
    let version = std::env::var("CARGO_PKG_VERSION").expect("set by cargo");
    writeln!(code, "const BUILD: Build = Build {{ version: {version:?}, time: {} }};", build_time())
        .expect("string");
    let out = std::env::var("OUT_DIR").expect("set by cargo");
    std::fs::write(format!("{out}/applets.rs"), code).expect("OUT_DIR is writable");
    println!("cargo::rerun-if-changed=Cargo.toml");
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-changed=.git/logs/HEAD");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
}

/// The feature names, in the manifest's order, which is the order of `minke --list`.
fn features(manifest: &str) -> Vec<&str> {
    let section = manifest.split("\n[features]\n").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    section
        .lines()
        .filter(|line| line.contains("dep:"))
        .filter_map(|line| line.split_once('=').map(|(name, _)| name.trim()))
        .collect()
}

/// `SOURCE_DATE_EPOCH`, else the time of the commit, else 0 (a source archive without either).
fn build_time() -> u64 {
    if let Some(time) = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok()) {
        return time;
    }
    let git = Command::new("git").args(["log", "-1", "--format=%ct"]).output().ok();
    git.and_then(|output| String::from_utf8(output.stdout).ok())
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}
