//! The budget: a committed table of limits.

use crate::{Error, Item, history};
use std::path::Path;

/// The items that are over their limit, each as a line for people, with the crates of that target that grew
/// most since the last record.
pub(crate) fn check(path: &Path, items: &[Item], recorded: &[Item]) -> Result<Vec<String>, Error> {
    let limits = history::read_table(path)?;
    let mut lines = Vec::new();
    for limit in &limits {
        let same = |item: &&Item| item.target == limit.target && item.name == limit.name;
        let Some(item) = items.iter().find(same) else { continue };
        if item.bytes > limit.bytes {
            let over = item.bytes - limit.bytes;
            lines.push(format!(
                "over budget: {} {} is {} bytes, {over} over its limit of {}; grown: {}",
                item.target,
                item.name,
                item.bytes,
                limit.bytes,
                grown(&item.target, items, recorded)
            ));
        }
    }
    Ok(lines)
}

/// The three crates that grew most.
fn grown(target: &str, items: &[Item], recorded: &[Item]) -> String {
    let mut growth: Vec<(u64, &str)> = items
        .iter()
        .filter(|item| item.target == target && item.name.starts_with("crate:"))
        .map(|item| {
            let before = recorded.iter().find(|old| old.target == target && old.name == item.name);
            (item.bytes.saturating_sub(before.map_or(0, |old| old.bytes)), item.name.as_str())
        })
        .filter(|(bytes, _)| *bytes > 0)
        .collect();
    growth.sort_unstable_by(|left, right| right.cmp(left));
    let named: Vec<String> = growth.iter().take(3).map(|(bytes, name)| format!("{name} +{bytes}")).collect();
    if named.is_empty() { "no crate (see the images)".to_owned() } else { named.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_budget_names_the_crate_that_grew() {
        let path = std::env::temp_dir().join(format!("minke-budget-{}.tsv", std::process::id()));
        std::fs::write(&path, "armv6\tbinary\t100\n").unwrap();
        let old = [Item::new("armv6", "crate:a", 10), Item::new("armv6", "crate:b", 50)];
        let new = [
            Item::new("armv6", "binary", 101),
            Item::new("armv6", "crate:a", 45),
            Item::new("armv6", "crate:b", 51),
        ];
        let lines = check(&path, &new, &old).unwrap();
        assert_eq!(lines.len(), 1);
        assert!(lines[0].ends_with("grown: crate:a +35, crate:b +1"), "{}", lines[0]);
        let within = [Item::new("armv6", "binary", 100)];
        assert!(check(&path, &within, &old).unwrap().is_empty());
        std::fs::remove_file(path).unwrap();
    }
}
