//! `--help`, derived from the table.

use crate::args::common;
use crate::{Parsing, Program};
use std::fmt::Write;

/// The help text of a program.
pub fn help(program: &Program) -> String {
    let mut text = format!("{}\n\nUsage: {} {}\n", program.about, program.name, program.usage);
    let width = column(program);
    if !program.commands.is_empty() {
        text.push_str("\nCommands:\n");
        for (name, about) in program.commands {
            let _ = writeln!(text, "  {name:width$}  {about}");
        }
    }
    if program.parsing != Parsing::Raw {
        text.push_str("\nOptions:\n");
        for flag in program.flags.iter().chain(common()) {
            let _ = writeln!(text, "  {:width$}  {}", spelling(flag), flag.help);
        }
    }
    if !program.examples.is_empty() {
        text.push_str("\nExamples:\n");
        for (line, about) in program.examples {
            let _ = writeln!(text, "  {line}\n      {about}");
        }
    }
    text
}

fn spelling(flag: &crate::Flag) -> String {
    let short = flag.short.map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
    let value = flag.value.map_or_else(String::new, |value| format!(" {value}"));
    format!("{short}--{}{value}", flag.long)
}

fn column(program: &Program) -> usize {
    let flags = program.flags.iter().chain(common()).map(|flag| spelling(flag).len());
    let commands = program.commands.iter().map(|(name, _)| name.len());
    flags.chain(commands).max().unwrap_or(0)
}
