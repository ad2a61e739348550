//! Handing a changed `config.json` to the units that use it (spec os §4.4).
//!
//! Each unit has a file with its settings in `/var/volatile`, a tmpfs. What differs from it has changed, so the
//! same content restarts nothing, many edits are as good as the last one, and a run that was cut short is made
//! up for by the next.

use minke_applet::{log, outln, print};
use minke_config::{Loaded, Map, Origin, Restart, Store, Value, mistyped, settings, units};
use minke_control::init;
use minke_sys::{Result, file, status};
use minke_wire::civil::Civil;
use std::path::{Path, PathBuf};

/// The longest settings file of a unit, in bytes: JSON's escapes and indentation make more of the text.
const LIMIT: usize = 32 << 20;
/// The lines of a difference that are logged.
const DIFF_LINES: usize = 20;
/// The characters of a value that are logged.
const DIFF_WIDTH: usize = 120;

/// What a run of the dispatcher is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A boot: the units have not started yet, so whatever the file says is no change.
    Seed,
    /// The file was written: units with other settings than before are restarted.
    Change,
    /// The same on files that are not this system's: nothing is restarted.
    Elsewhere,
}

/// Hands the configuration to the units. A file that is not usable changes nothing at run time; at a boot its
/// last good copy serves.
pub fn run(store: &Store, root: &Path, purpose: Purpose) -> Result<u8> {
    let loaded = store.load();
    if loaded.origin != Origin::File && purpose != Purpose::Seed {
        let message = loaded.problem.map_or_else(String::new, |problem| problem.to_string());
        let path = store.paths().config.display();
        log::error(format_args!("{path} {message}; nothing is changed, the settings in effect stay"));
        return Ok(1);
    }
    let folder = root.join("var/volatile");
    file::make_folder(&folder, 0o755)?;
    // Two runs at once would each restart what the other has written.
    let handle = file::open_to_read(&folder)?;
    let _ = handle.lock();
    let mut failed = false;
    let mut changed = Vec::new();
    for (unit, how) in units() {
        match hand_over(&loaded, &path_of(root, unit), unit, purpose) {
            Ok(true) => changed.push((unit, how)),
            Ok(false) => {}
            Err(error) => {
                log::error(format_args!("{unit} keeps its settings: {error}"));
                failed = true;
            }
        }
    }
    if purpose == Purpose::Change {
        good(store, &loaded);
        for (unit, how) in changed {
            restart(unit, how);
        }
    }
    Ok(u8::from(failed))
}

fn path_of(root: &Path, unit: &str) -> PathBuf {
    root.join("var/volatile").join(format!("{unit}.json"))
}

/// The file was usable: it becomes the last good copy, and what in it nobody reads is told.
fn good(store: &Store, loaded: &Loaded) {
    let wrong = mistyped(&loaded.config);
    if !wrong.is_empty() {
        log::warn(format_args!("{}: ignored: {}", store.paths().config.display(), wrong.join("; ")));
    }
    if let Err(error) = store.remember(&loaded.config) {
        log::warn(format_args!("the last good copy of config.json is not current: {error}"));
    }
}

/// Writes a unit's settings if they differ; whether the unit must hear of it.
fn hand_over(loaded: &Loaded, path: &Path, unit: &str, purpose: Purpose) -> Result<bool> {
    let new = settings(&loaded.config, unit);
    let text = format!("{}\n", new.to_pretty());
    let old = file::read_optional(path, LIMIT).ok().flatten();
    if old.as_deref() == Some(text.as_bytes()) {
        return Ok(false);
    }
    let known = old.and_then(|old| match minke_wire::json::parse(&old) {
        Ok(Value::Object(old)) => Some(old),
        // Somebody else's work: as good as none.
        _ => None,
    });
    if known.as_ref() == Some(&new) {
        return Ok(false);
    }
    // Keys are among the settings.
    file::write_durable(path, text.as_bytes(), 0o600)?;
    if purpose == Purpose::Seed {
        return Ok(false);
    }
    if new.is_empty() && known.is_some() {
        log::info(format_args!("{unit} configuration removed"));
    } else {
        log::info(format_args!("{unit} configuration changed:"));
    }
    let mut lines = Vec::new();
    difference(&mut lines, "", &known.unwrap_or_default(), &new);
    let more = lines.len().saturating_sub(DIFF_LINES);
    for line in lines.iter().take(DIFF_LINES) {
        log::info(format_args!("{line}"));
    }
    if more > 0 {
        log::info(format_args!("… and {more} more"));
    }
    Ok(true)
}

/// A line for each member that went (`-`) or came (`+`); objects are compared by their members.
fn difference(lines: &mut Vec<String>, above: &str, old: &Map, new: &Map) {
    for (place, (name, value)) in old.iter().enumerate() {
        match (value, new.get_near(place, name)) {
            (value, Some(same)) if value == same => {}
            (Value::Object(old), Some(Value::Object(new))) => {
                difference(lines, &format!("{above}{name}."), old, new);
            }
            _ => lines.push(shown('-', above, name, value)),
        }
    }
    for (place, (name, value)) in new.iter().enumerate() {
        let old = old.get_near(place, name);
        if old != Some(value) && !(value.is_object() && old.is_some_and(Value::is_object)) {
            lines.push(shown('+', above, name, value));
        }
    }
}

fn shown(sign: char, above: &str, name: &str, value: &Value) -> String {
    let mut text = value.to_text();
    if name == "apiKey" {
        text = "(not shown)".to_owned();
    } else if let Some((end, _)) = text.char_indices().nth(DIFF_WIDTH) {
        text.truncate(end);
        text.push('…');
    }
    format!("{sign}{above}{name}: {text}")
}

/// Asks PID 1 to start a unit anew, and does not wait: it has its own order, logs what fails, and the next change
/// must not wait for a slow unit.
fn restart(unit: &str, how: Restart) {
    let verb = match how {
        Restart::Always => "restart",
        Restart::IfUp => "try-restart",
        Restart::Along => return,
    };
    match init::job(verb, &[&format!("{unit}.service")], false) {
        Ok(()) => {}
        Err(minke_control::Error::Refused(why)) => {
            log::info(format_args!("{why}; its settings are kept for it"));
        }
        Err(error) => log::warn(format_args!("{unit} is not restarted: {error}")),
    }
}

/// `config-json status`: what is in effect, since when, what is wrong, and what each unit has.
pub fn show(store: &Store, root: &Path) -> u8 {
    let loaded = store.load();
    let paths = store.paths();
    let in_effect = match &loaded.origin {
        Origin::File => Some(&paths.config),
        Origin::Copy(path) | Origin::LastGood(path) => Some(path),
        Origin::Default => None,
    };
    match in_effect {
        Some(path) => outln!("In effect: {}, of {}", path.display(), time_of(path)),
        None => outln!("In effect: the defaults"),
    }
    if let Some(problem) = &loaded.problem {
        outln!("Problem:   {} {problem}", paths.config.display());
    }
    for finding in mistyped(&loaded.config) {
        outln!("Ignored:   {finding}");
    }
    outln!("Good copy: {}, of {}", paths.good.display(), time_of(&paths.good));
    outln!();
    for (unit, _) in units() {
        let path = path_of(root, unit);
        let handed = file::read_optional(&path, LIMIT).ok().flatten();
        let handed = handed.and_then(|text| minke_wire::json::parse(&text).ok());
        let wanted = Value::Object(settings(&loaded.config, unit));
        let note = match &handed {
            None => " (not handed over yet)",
            Some(handed) if *handed != wanted => " (config.json has others)",
            Some(_) => "",
        };
        print(&format!("{unit:21}"));
        for (name, value) in handed.unwrap_or(wanted).as_object().into_iter().flatten() {
            print(&shown(' ', "", name, value));
        }
        outln!("{note}");
    }
    u8::from(loaded.problem.is_some())
}

/// When a file was written, for people.
fn time_of(path: &Path) -> String {
    match status::stamp(path) {
        None => "never".to_owned(),
        Some(stamp) => {
            let seconds = i64::try_from(stamp.modified.as_secs()).unwrap_or(0);
            format!("{} UTC", Civil::from_unix(seconds))
        }
    }
}
