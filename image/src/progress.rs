//! Progress lines: one per step, with the time it took, on standard error.

use std::time::Instant;

/// A running step; its line is completed by [`Step::done`].
#[derive(Debug)]
pub struct Step {
    name: String,
    start: Instant,
}

/// Begins a step. Nothing is printed until it is done, so that lines of steps never mix; for long ones use [`announce`].
pub fn step(name: impl Into<String>) -> Step {
    Step { name: name.into(), start: Instant::now() }
}

/// Begins a step that takes more than a moment: says so at once.
pub fn announce(name: impl Into<String>) -> Step {
    let name = name.into();
    eprintln!("         {name} ...");
    step(name)
}

impl Step {
    /// Prints the line, with a remark (sizes, counts) or an empty one.
    pub fn done(self, remark: &str) {
        let time = self.start.elapsed();
        let tenths = time.subsec_millis() / 100;
        let gap = if remark.is_empty() { "" } else { ": " };
        eprintln!("[{:>3}.{tenths} s] {}{gap}{remark}", time.as_secs(), self.name);
    }
}
