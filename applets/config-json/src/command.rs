//! The command line of `config-json`.

use crate::boot;
use minke_applet::{Args, EXIT_USAGE, log};
use minke_config::{Config, Error, Paths, Store, Value, host_name, mistyped, value_of};
use std::path::{Path, PathBuf};

/// Runs `config-json`.
pub fn run(args: &Args) -> u8 {
    let root = PathBuf::from(args.value("root").unwrap_or("/"));
    let mut paths = Paths::below(&root);
    let elsewhere = args.value("config-path").map(PathBuf::from);
    if let Some(path) = elsewhere.or_else(|| std::env::var_os("CONFIG_PATH").map(PathBuf::from)) {
        paths.config = path;
    }
    let store = Store::new(paths);
    match (args.operand(0), args.operand(1), args.operand(2), args.operands().len()) {
        (Some("get"), Some(key), None, 2) => get(&store, key),
        (Some("set"), Some(key), Some(text), 3) => set(&store, key, text, args.has("json")),
        (Some("unset"), Some(key), None, 2) => change(&store, &mut |config| {
            config.remove(key);
        }),
        (Some("check"), Some(file), None, 2) => check(Path::new(file)),
        (Some("check"), None, None, 1) => check(&store.paths().config),
        (Some("show"), None, None, 1) => show(&store),
        (Some("uuid"), None, None, 1) => boot::uuid(&store),
        (Some("generate-api-key"), None, None, 1) => minke_applet::report(boot::generate_api_key(&store)),
        (Some("hostname"), None, None, 1) => boot::hostname(&store, &root),
        (Some("development-features"), None, None, 1) => {
            minke_applet::report(boot::development_features(&store, &root))
        }
        _ => {
            eprintln!("config-json: expected a command and its arguments; see 'config-json --help'");
            EXIT_USAGE
        }
    }
}

fn get(store: &Store, key: &str) -> u8 {
    let loaded = store.load();
    if let Some(message) = loaded.message() {
        log::warn(format_args!("{message}"));
    }
    match loaded.config.get(key) {
        Some(Value::String(text)) => minke_applet::print(&format!("{text}\n")),
        Some(value) => minke_applet::print(&format!("{value}\n")),
        None => 1,
    }
}

fn set(store: &Store, key: &str, text: &str, json: bool) -> u8 {
    let value = if json {
        minke_wire::json::parse_str(text).map_err(|error| format!("value of {key} is not JSON: {error}"))
    } else {
        value_of(key, text)
    };
    match value {
        Ok(value) => change(store, &mut |config| config.set(key, value.clone())),
        Err(problem) => {
            eprintln!("config-json: {problem}");
            EXIT_USAGE
        }
    }
}

fn change(store: &Store, change: &mut dyn FnMut(&mut Config)) -> u8 {
    minke_applet::report(store.update(change).map(|_| 0))
}

fn show(store: &Store) -> u8 {
    let loaded = store.load();
    if let Some(message) = loaded.message() {
        log::warn(format_args!("{message}"));
    }
    minke_applet::print(&loaded.config.to_text())
}

fn check(path: &Path) -> u8 {
    // Only the file counts here, so it gets a store without copies beside it.
    let content = match minke_config::fatrw::read(path) {
        Ok(content) => content,
        Err(error) => return minke_applet::report(Err(Error::Sys(error))),
    };
    let parsed = match content {
        Some(content) => Config::parse(&content),
        None => Err(minke_config::Problem::Missing),
    };
    let findings = match parsed {
        Ok(config) => {
            let mut findings = mistyped(&config);
            // A device without a uuid gets one at its next boot: no mistake.
            findings.extend(host_name(&config).problem.filter(|_| config.get("hostname").is_some()));
            findings
        }
        Err(problem) => vec![problem.to_string()],
    };
    for finding in &findings {
        println!("{}: {finding}", path.display());
    }
    u8::from(!findings.is_empty())
}
