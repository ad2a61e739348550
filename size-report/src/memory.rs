//! The memory of the running system: PSS of each process, in a booted development image.

use crate::{Error, Item};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// Prints `PSS-in-KiB NAME` of every process of ours, once the demo container runs and the system is at rest.
const SCRIPT: &str = "for i in $(seq 120); do \
    journalctl -b -o cat --no-pager | grep -q '^minke demo: line 5 ' && break; sleep 1; done; sleep 30; for p in /proc/[0-9]*; do \
    pss=$(grep ^Pss: $p/smaps_rollup 2>/dev/null | tr -dc 0-9); [ -n \"$pss\" ] || continue; \
    exe=$(readlink $p/exe); case $exe in */minke) ;; *) continue;; esac; \
    echo \"pss $pss $(tr '\\0' ' ' < $p/cmdline | cut -d' ' -f1)\"; done";

/// Boots the development image of `target` with the demo app and measures when its container runs.
pub(crate) fn measure(target: &str) -> Result<Vec<Item>, Error> {
    let failed = |text: String| Error::Command(format!("image/shell {target}: {text}"));
    let output = Command::new("image/shell")
        .args([target, "--", SCRIPT])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    let mut processes: BTreeMap<String, u64> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let mut words = line.split_whitespace();
        if let (Some("pss"), Some(kibibytes), Some(name)) = (words.next(), words.next(), words.next()) {
            let name = name.rsplit('/').next().unwrap_or(name).to_owned();
            *processes.entry(name).or_default() += kibibytes.parse::<u64>().unwrap_or(0) * 1024;
        }
    }
    if processes.is_empty() {
        return Err(failed("printed no process".to_owned()));
    }
    let total = processes.values().sum();
    let mut items: Vec<Item> =
        processes.into_iter().map(|(name, bytes)| Item::new(target, format!("pss:{name}"), bytes)).collect();
    items.push(Item::new(target, "pss", total));
    Ok(items)
}
