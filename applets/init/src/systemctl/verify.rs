//! `systemctl verify`: finds what is wrong in unit files, without PID 1. For the units that ship this runs in
//! the project's checks; at boot the same faults are warnings (decision 11).

use super::EXIT_NO_UNIT;
use crate::unit::load::{Folders, Loaded, Warning, read_into};
use crate::unit::{Unit, bad_setting};
use minke_applet::log;
use minke_wire::unit::Name;
use std::path::Path;

/// Checks files (a path has a slash) and units by name; without any, every unit that is installed.
pub fn verify(words: &[&str]) -> u8 {
    let mut warnings = Vec::new();
    let mut missing = false;
    let names = if words.is_empty() { Folders::default().names() } else { Vec::new() };
    let mut all = words.to_vec();
    all.extend(names.iter().map(String::as_str));
    for word in all {
        let checked = if word.contains('/') {
            check_file(word, &mut warnings)
        } else {
            check_unit(word, &mut warnings)
        };
        if !checked {
            log::warn(format_args!("there is no unit {word}"));
            missing = true;
        }
    }
    for warning in &warnings {
        minke_applet::outln!("{warning}");
    }
    match (missing, warnings.is_empty()) {
        (true, _) => EXIT_NO_UNIT,
        (false, true) => 0,
        (false, false) => 1,
    }
}

/// Checks one file, whose unit is named as the file; a drop-in's unit is named by its folder.
fn check_file(word: &str, warnings: &mut Vec<Warning>) -> bool {
    let path = Path::new(word);
    let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    let drop_in = folder.strip_suffix(".d").filter(|_| file.ends_with(".conf"));
    let name = match Name::parse(drop_in.unwrap_or(file)) {
        Ok(name) => name,
        Err(error) => {
            warnings.push(Warning { path: path.into(), line: 0, text: error.to_string() });
            return true;
        }
    };
    if !minke_sys::status::exists(path) {
        return false;
    }
    let mut unit = Unit::new(name.full());
    read_into(&mut unit, &name, path, warnings);
    if let Some(why) = bad_setting(&unit).filter(|_| drop_in.is_none()) {
        warnings.push(Warning { path: path.into(), line: 0, text: why.to_owned() });
    }
    true
}

fn check_unit(word: &str, warnings: &mut Vec<Warning>) -> bool {
    let Ok(name) = Name::complete(word) else { return false };
    match Folders::default().load(name.full(), warnings) {
        Loaded::Unit(unit) => {
            if let (Some(why), Some(path)) = (bad_setting(&unit), unit.path.clone()) {
                warnings.push(Warning { path, line: 0, text: why.to_owned() });
            }
            // What a path or timer starts must be there.
            if let (Some(trigger), Some(path)) = (&unit.trigger, unit.path.clone())
                && matches!(Folders::default().load(&trigger.unit, &mut Vec::new()), Loaded::Missing)
            {
                warnings.push(Warning {
                    path,
                    line: 0,
                    text: format!("starts {}, which is not there", trigger.unit),
                });
            }
            true
        }
        Loaded::Masked => true,
        Loaded::Missing => false,
    }
}
