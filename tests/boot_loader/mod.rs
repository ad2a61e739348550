//! What a boot loader would do with a disk: its script, taken from that disk, is run on that disk's files. Written
//! from the loaders' documentation, apart from the system's own code for selecting slots, so that a mistake there shows here.

// A test's helper fails the test that calls it.
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod grub;
mod script;
mod u_boot;
mod volume;

pub use volume::{Ext4, Fat, Volume};

use std::path::Path;

/// How a pass of the boot loader ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// A kernel starts.
    Start(Start),
    /// The machine resets: nothing could be started.
    Reset,
}

/// A kernel that starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The number of the partition it is from: 2 or 3.
    pub slot: u32,
    /// Kernel arguments.
    pub arguments: String,
}

/// A disk before its boot loader.
#[derive(Debug)]
pub struct Loader {
    /// The disk, with what the passes have written.
    pub volume: Volume,
}

impl Loader {
    /// The boot loader that is on this disk.
    pub fn new(disk: &Path) -> Self {
        Self { volume: Volume::open(disk) }
    }

    /// One pass, as after power-on. What it writes to the boot partition the next pass finds.
    pub fn pass(&mut self) -> End {
        if let Some(script) = self.volume.read(1, "boot.scr") {
            return u_boot::pass(&mut self.volume, &script);
        }
        match self.volume.read(1, "EFI/BOOT/grub.cfg") {
            Some(script) => grub::pass(&mut self.volume, &String::from_utf8_lossy(&script)),
            None => End::Reset,
        }
    }

    /// The slots of this many passes, as of a system that never comes up.
    pub fn slots(&mut self, passes: usize) -> Vec<Option<u32>> {
        let slot = |end| match end {
            End::Start(start) => Some(start.slot),
            End::Reset => None,
        };
        (0..passes).map(|_| slot(self.pass())).collect()
    }
}

/// The part of a `test` that both loaders have. `exists` answers `-e`, which takes `place` words.
fn test(words: &[String], place: usize, exists: &dyn Fn(&[String]) -> bool) -> bool {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some((first, used)) = primary(&words, place, exists) else { panic!("test {words:?}") };
    match words.get(used) {
        None => first,
        Some(operator @ (&"-o" | &"-a")) => {
            let rest: Vec<String> = words[used + 1..].iter().map(|word| (*word).to_owned()).collect();
            let second = test(&rest, place, exists);
            if *operator == "-o" { first || second } else { first && second }
        }
        Some(_) => panic!("test {words:?}"),
    }
}

/// The first condition, and how many words it has.
fn primary(words: &[&str], place: usize, exists: &dyn Fn(&[String]) -> bool) -> Option<(bool, usize)> {
    Some(match words {
        ["!", rest @ ..] => {
            let (value, used) = primary(rest, place, exists)?;
            (!value, used + 1)
        }
        ["-e", rest @ ..] => {
            let what: Vec<String> = rest.get(..place)?.iter().map(|word| (*word).to_owned()).collect();
            (exists(&what), place + 1)
        }
        ["-z", text, ..] => (text.is_empty(), 2),
        ["-n", text, ..] => (!text.is_empty(), 2),
        [left, "=", right, ..] => (left == right, 3),
        [left, "!=", right, ..] => (left != right, 3),
        [left, "-lt", right, ..] => (number(left) < number(right), 3),
        [left, "-gt", right, ..] => (number(left) > number(right), 3),
        _ => return None,
    })
}

/// The digits at the beginning of a text, as C's strtol reads them.
fn number(text: &str) -> i64 {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}
