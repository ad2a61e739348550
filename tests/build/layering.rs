//! The layers of the source: `src -> applets -> lib/{config,…} -> lib/{wire,sys}`, and `unsafe` in `lib/sys`
//! alone.

use minke_tests::project;
use std::path::{Path, PathBuf};

/// The crates of ours that a manifest's ordinary dependencies name.
fn own_dependencies(manifest: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(manifest).unwrap();
    let section = text.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    section
        .lines()
        .filter_map(|line| line.strip_prefix("minke-"))
        .map(|line| line.chars().take_while(|c| c.is_alphanumeric() || *c == '-').collect())
        .collect()
}

fn folders(name: &str) -> Vec<String> {
    let entries = std::fs::read_dir(project().join(name)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn no_arrow_points_up_or_sideways() {
    let (applets, libs) = (folders("applets"), folders("lib"));
    assert!(applets.len() >= 7 && libs.len() >= 9);
    for applet in &applets {
        for dependency in own_dependencies(&project().join("applets").join(applet).join("Cargo.toml")) {
            assert!(!applets.contains(&dependency), "applet {applet} depends on applet {dependency}");
        }
    }
    for lib in &libs {
        for dependency in own_dependencies(&project().join("lib").join(lib).join("Cargo.toml")) {
            assert!(libs.contains(&dependency), "lib {lib} depends on applet {dependency}");
            assert_ne!(lib, "wire", "lib/wire is the bottom, and depends on {dependency}");
            // The kernel speaks netlink and superblocks: sys uses the codecs of wire, never the other way.
            assert!(lib != "sys" || dependency == "wire", "lib/sys depends on {dependency}");
        }
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with(".git") && !path.ends_with("out") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn unsafe_stands_in_lib_sys_alone() {
    let mut files = Vec::new();
    sources(&project(), &mut files);
    let sys = project().join("lib/sys");
    assert!(files.iter().any(|file| file.starts_with(&sys)));
    // Written in two parts, or these lines would be found.
    let keyword = concat!("un", "safe");
    let forms = ["{", "fn", "impl", "extern", "trait"].map(|what| format!("{keyword} {what}"));
    for file in files.iter().filter(|file| !file.starts_with(&sys)) {
        let text = std::fs::read_to_string(file).unwrap();
        let found = forms.iter().filter(|form| text.contains(form.as_str()));
        assert_eq!(found.count(), 0, "{} uses {keyword} code", file.display());
    }
    for lib in folders("lib").iter().filter(|name| *name != "sys") {
        let root = std::fs::read_to_string(project().join("lib").join(lib).join("src/lib.rs")).unwrap();
        assert!(root.contains(&format!("#![forbid({keyword}_code)]")), "lib/{lib} does not forbid it");
    }
}
