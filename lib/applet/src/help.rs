//! What a program's table becomes when the binary is built: the text of `--help`, and the options as the parser reads them.

use crate::{Flag, Parsing, Program};
use std::fmt::Write;

const HELP: [Flag; 2] = [
    Flag { short: Some('h'), long: "help", value: None, help: "Print this help" },
    Flag { short: None, long: "version", value: None, help: "Print the version" },
];

/// The options that every program has, as [`options`] writes them.
pub(crate) const COMMON: &str = "hhelp\n version\n";

/// The options of a program for [`crate::Entry::options`]: a line each, of the short form or a space, the long form, and `=`
/// when there is a value. A table of pointers takes 30 bytes an option.
pub fn options(program: &Program) -> String {
    lines(program.flags)
}

fn lines(flags: &[Flag]) -> String {
    let mut text = String::new();
    for flag in flags {
        let value = if flag.value.is_some() { "=" } else { "" };
        let _ = writeln!(text, "{}{}{value}", flag.short.unwrap_or(' '), flag.long);
    }
    text
}

/// An option, read back from its line.
pub(crate) struct Spelled {
    /// A space where there is no short form.
    pub(crate) short: char,
    pub(crate) long: &'static str,
    pub(crate) valued: bool,
}

/// The options of a text that [`options`] wrote.
pub(crate) fn each(options: &'static str) -> impl Iterator<Item = Spelled> {
    options.lines().filter_map(|line| {
        let mut long = line.chars();
        let short = long.next()?;
        let (long, valued) =
            long.as_str().strip_suffix('=').map_or((long.as_str(), false), |long| (long, true));
        Some(Spelled { short, long, valued })
    })
}

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
        for flag in program.flags.iter().chain(&HELP) {
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
    let flags = program.flags.iter().chain(&HELP).map(|flag| spelling(flag).len());
    let commands = program.commands.iter().map(|(name, _)| name.len());
    flags.chain(commands).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_options_are_those_that_help_tells_of() {
        assert_eq!(lines(&HELP), COMMON);
    }

    #[test]
    fn options_are_read_back() {
        let flags = [
            Flag { short: Some('n'), long: "lines", value: Some("N"), help: "" },
            Flag { short: None, long: "follow", value: None, help: "" },
        ];
        let read = each(lines(&flags).leak()).map(|flag| (flag.short, flag.long, flag.valued));
        assert_eq!(read.collect::<Vec<_>>(), [('n', "lines", true), (' ', "follow", false)]);
    }
}
