//! The command line of `config-json`.

use crate::dispatch::{self, Purpose};
use crate::{boot, consumers, os_config, root_ca};
use minke_applet::{Args, EXIT_USAGE, log};
use minke_config::{Config, Error, Key, Loaded, Paths, Store, Value, host_name, mistyped, value_of};
use std::path::Path;

/// A command line.
struct Call<'a> {
    store: Store,
    root: &'a Path,
    /// The command's arguments.
    words: &'a [&'a str],
    json: bool,
    seed: bool,
}

impl Call<'_> {
    fn word(&self, index: usize) -> &str {
        self.words.get(index).copied().unwrap_or_default()
    }

    fn purpose(&self) -> Purpose {
        match (self.seed, self.root == Path::new("/")) {
            (true, _) => Purpose::Seed,
            (false, true) => Purpose::Change,
            (false, false) => Purpose::Elsewhere,
        }
    }
}

type Run = fn(&Call<'_>) -> u8;

/// The commands with the least and the largest number of their arguments.
const COMMANDS: [(&str, usize, usize, Run); 15] = [
    ("get", 1, 1, get),
    ("set", 2, 2, set),
    ("unset", 1, 1, unset),
    ("check", 0, 1, check),
    ("show", 0, 0, show),
    ("explain", 0, 1, explain),
    ("status", 0, 0, |call| dispatch::show(&call.store, call.root)),
    ("dispatch", 0, 0, |call| minke_applet::report(dispatch::run(&call.store, call.root, call.purpose()))),
    ("apply", 1, 1, |call| consumers::run(&call.store, call.root, call.word(0))),
    ("boot", 0, 0, |call| boot::all(&call.store, call.root)),
    ("uuid", 0, 0, |call| boot::uuid(&call.store)),
    ("generate-api-key", 0, 0, |call| {
        minke_applet::report(os_config::generate_api_key(&call.store).map(|()| 0))
    }),
    ("root-ca", 0, 0, |call| minke_applet::report(root_ca::apply(&call.store, call.root))),
    ("hostname", 0, 0, |call| boot::hostname(&call.store.load().config, call.root)),
    ("development-features", 0, 0, |call| {
        minke_applet::report(boot::development_features(&call.store.load().config, call.root))
    }),
];

/// Runs `config-json`.
pub fn run(args: &Args) -> u8 {
    let root = Path::new(args.value("root").unwrap_or("/"));
    let mut paths = Paths::below(root);
    if let Some(path) = args.value("config-path").map(Into::into).or_else(|| std::env::var_os("CONFIG_PATH"))
    {
        paths.config = path.into();
    }
    let mut words = Vec::new();
    for word in args.operands() {
        words.extend(word.to_str());
    }
    if words.len() < args.operands().len() {
        words.clear();
    }
    if let Some((verb, words)) = words.split_first() {
        for (name, least, most, run) in &COMMANDS {
            if name == verb && (*least..=*most).contains(&words.len()) {
                return run(&Call {
                    store: Store::new(paths),
                    root,
                    words,
                    json: args.has("json"),
                    seed: args.has("seed"),
                });
            }
        }
    }
    minke_applet::errln!("config-json: expected a command and its arguments; see 'config-json --help'");
    EXIT_USAGE
}

fn get(call: &Call<'_>) -> u8 {
    let loaded = load(&call.store);
    match loaded.config.get(call.word(0)) {
        Some(Value::String(text)) => minke_applet::print(&format!("{text}\n")),
        Some(value) => minke_applet::print(&format!("{value}\n")),
        None => 1,
    }
}

/// Reads the configuration, and says what is wrong with the file.
fn load(store: &Store) -> Box<Loaded> {
    let loaded = store.load();
    if let Some(message) = loaded.message() {
        log::warn(format_args!("{message}"));
    }
    loaded
}

fn set(call: &Call<'_>) -> u8 {
    let (key, text) = (call.word(0), call.word(1));
    let value = if call.json {
        minke_wire::json::parse_str(text).map_err(|error| format!("value of {key} is not JSON: {error}"))
    } else {
        value_of(key, text)
    };
    match value {
        Ok(value) => change(&call.store, &mut |config| config.set(key, value.clone())),
        Err(problem) => {
            minke_applet::errln!("config-json: {problem}");
            EXIT_USAGE
        }
    }
}

fn unset(call: &Call<'_>) -> u8 {
    change(&call.store, &mut |config| {
        config.remove(call.word(0));
    })
}

fn change(store: &Store, change: &mut dyn FnMut(&mut Config)) -> u8 {
    minke_applet::report(store.update(change).map(|()| 0))
}

fn show(call: &Call<'_>) -> u8 {
    minke_applet::print(&load(&call.store).config.to_text())
}

fn explain(call: &Call<'_>) -> u8 {
    if call.words.is_empty() {
        for key in minke_config::keys() {
            minke_applet::outln!("{:36}{}", key.path, key.about);
        }
        return 0;
    }
    let Some(key) = minke_config::key(call.word(0)) else {
        minke_applet::errln!("config-json: nothing here reads '{}'; see 'config-json explain'", call.word(0));
        return 1;
    };
    let Key { path, default, units, about, .. } = key;
    minke_applet::outln!("{path}: {}\n  {about}.", key.wanted());
    if !default.is_empty() {
        minke_applet::outln!("  Default: {default}");
        let units = if units.is_empty() { "nothing at once" } else { units };
        minke_applet::outln!("  A change restarts: {units}");
    }
    0
}

fn check(call: &Call<'_>) -> u8 {
    let path = call.words.first().map_or(call.store.paths().config.as_path(), Path::new);
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
        minke_applet::outln!("{}: {finding}", path.display());
    }
    u8::from(!findings.is_empty())
}
