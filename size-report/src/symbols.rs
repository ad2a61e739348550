//! Bytes per crate, from the symbol table of an unstripped binary.

use crate::{Error, Item};
use object::{Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};
use std::collections::BTreeMap;
use std::path::Path;

/// Adds up the symbols' sizes by the crate that they come from. What no symbol covers (string constants,
/// tables, unwind data) is `crate:(data)`.
pub(crate) fn per_crate(target: &str, binary: &Path) -> Result<Vec<Item>, Error> {
    let bytes = std::fs::read(binary).map_err(|error| Error::File(binary.to_owned(), error))?;
    let file =
        object::File::parse(&*bytes).map_err(|error| Error::Format(binary.to_owned(), error.to_string()))?;
    let mut crates: BTreeMap<String, u64> = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for symbol in file.symbols() {
        let loaded = symbol.kind() == SymbolKind::Text || in_file(&file, &symbol);
        // Aliases of one address count once.
        if symbol.size() == 0 || !loaded || !seen.insert(symbol.address()) {
            continue;
        }
        *crates.entry(crate_of(symbol.name().unwrap_or(""))).or_default() += symbol.size();
    }
    let covered: u64 = crates.values().sum();
    let whole: u64 = file.sections().filter(|section| is_loaded(section.kind())).map(|s| s.size()).sum();
    crates.insert("(data)".to_owned(), whole.saturating_sub(covered));
    let mut items: Vec<Item> = Vec::new();
    for (name, bytes) in crates {
        items.push(Item::new(target, format!("crate:{name}"), bytes));
        if let Some(applet) = name.strip_prefix("minke_").map(|name| name.replace('_', "-"))
            && Path::new("applets").join(&applet).is_dir()
        {
            items.push(Item::new(target, format!("applet:{applet}"), bytes));
        }
    }
    Ok(items)
}

fn in_file(file: &object::File<'_>, symbol: &object::Symbol<'_, '_>) -> bool {
    let section = symbol.section_index().and_then(|index| file.section_by_index(index).ok());
    symbol.kind() == SymbolKind::Data && section.is_some_and(|section| is_loaded(section.kind()))
}

fn is_loaded(kind: SectionKind) -> bool {
    matches!(
        kind,
        SectionKind::Text | SectionKind::Data | SectionKind::ReadOnlyData | SectionKind::ReadOnlyString
    )
}

/// The crate that a mangled name belongs to: the first of ours that it mentions, so that a generic function
/// of a library counts for the crate that made an instance of it; else the first one; else libc.
fn crate_of(symbol: &str) -> String {
    let Ok(demangled) = rustc_demangle::try_demangle(symbol) else { return "(libc)".to_owned() };
    let name = format!("{demangled:#}");
    let words: Vec<&str> = name
        .split(|character: char| !(character.is_alphanumeric() || character == '_'))
        .filter(|word| !word.is_empty())
        .collect();
    let own = words.iter().find(|word| word.starts_with("minke_"));
    let first = words.iter().find(|word| !matches!(**word, "as" | "dyn" | "mut" | "impl" | "const" | "for"));
    own.or(first).map_or_else(|| "(other)".to_owned(), |word| (*word).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generic_instance_counts_for_the_crate_that_uses_it() {
        let symbol = "_ZN4core3ptr45drop_in_place$LT$minke_engine..shim..Shim$GT$17h0123456789abcdefE";
        assert_eq!(crate_of(symbol), "minke_engine");
        assert_eq!(crate_of("memcpy"), "(libc)");
        assert_eq!(crate_of("_ZN10serde_json2de5parse17h0123456789abcdefE"), "serde_json");
    }
}
