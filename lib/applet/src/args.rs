//! The command line, read by the program's table.

use crate::help::{COMMON, Spelled, each};
use crate::{Entry, Parsing};
use std::ffi::OsString;
use std::fmt;

/// A command line that was understood.
#[derive(Debug, Default)]
pub struct Args {
    flags: Vec<(&'static str, Option<String>)>,
    operands: Vec<OsString>,
}

impl Args {
    /// Whether the switch or option with this long name was given.
    pub fn has(&self, long: &str) -> bool {
        self.flags.iter().any(|(name, _)| *name == long)
    }

    /// The value of the option with this long name; the last one wins.
    pub fn value(&self, long: &str) -> Option<&str> {
        self.flags.iter().rev().find(|(name, _)| *name == long).and_then(|(_, value)| value.as_deref())
    }

    /// All values of an option that may be repeated, in order.
    pub fn values<'a>(&'a self, long: &'a str) -> impl Iterator<Item = &'a str> {
        self.flags.iter().filter(move |(name, _)| *name == long).filter_map(|(_, value)| value.as_deref())
    }

    /// What is not an option, in order.
    pub fn operands(&self) -> &[OsString] {
        &self.operands
    }

    /// The operand at `index` as text; `None` when it is missing or not UTF-8.
    pub fn operand(&self, index: usize) -> Option<&str> {
        self.operands.get(index).and_then(|word| word.to_str())
    }
}

/// Why a command line was refused.
#[derive(Debug, PartialEq, Eq)]
pub enum UsageError {
    /// No such option.
    Unknown(String),
    /// An option that needs a value stands last.
    MissingValue(String),
    /// A switch was given a value.
    UnexpectedValue(String),
    /// The value is not UTF-8.
    NotText(String),
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(option) => write!(f, "unknown option '{option}'"),
            Self::MissingValue(option) => write!(f, "option '{option}' needs a value"),
            Self::UnexpectedValue(option) => write!(f, "option '{option}' takes no value"),
            Self::NotText(option) => write!(f, "the value of option '{option}' is not UTF-8"),
        }
    }
}

/// Reads `arguments` by the table of `entry`: `-n5`, `-n 5`, `-fn5`, `--lines=5`, `--lines 5`; `--` ends the
/// options, and `-` is an operand.
pub(crate) fn parse(entry: &'static Entry, arguments: Vec<OsString>) -> Result<Args, UsageError> {
    let mut args = Args::default();
    let mut words = arguments.into_iter();
    let mut options = entry.parsing != Parsing::Raw;
    while let Some(word) = words.next() {
        let bytes = word.as_encoded_bytes();
        if !options || bytes == b"-" || !bytes.starts_with(b"-") {
            options &= entry.parsing != Parsing::StopAtOperand;
            args.operands.push(word);
            continue;
        }
        let text = word.into_string().map_err(|word| UsageError::NotText(word.to_string_lossy().into()))?;
        let ended = match text.strip_prefix("--") {
            Some("") => {
                options = false;
                false
            }
            Some(long) => args.take_long(entry, long, &mut words)?,
            None => args.take_short(entry, text.get(1..).unwrap_or_default(), &mut words)?,
        };
        if ended {
            break;
        }
    }
    Ok(args)
}

type Words = std::vec::IntoIter<OsString>;

impl Args {
    /// Takes `NAME` or `NAME=VALUE` in. Whether it ends the command line: help wins over what follows.
    fn take_long(
        &mut self,
        entry: &'static Entry,
        text: &str,
        words: &mut Words,
    ) -> Result<bool, UsageError> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let flag = find(entry, &|flag| flag.long == name);
        let flag = flag.ok_or_else(|| UsageError::Unknown(format!("--{name}")))?;
        self.take(&flag, value, words)
    }

    /// Takes short options in; the value of one is the rest of the word or the next word.
    fn take_short(
        &mut self,
        entry: &'static Entry,
        text: &str,
        words: &mut Words,
    ) -> Result<bool, UsageError> {
        let mut rest = text.chars();
        while let Some(short) = rest.next() {
            let flag = find(entry, &|flag| flag.short == short);
            let flag = flag.ok_or_else(|| UsageError::Unknown(format!("-{short}")))?;
            let after = rest.as_str();
            let value = if flag.valued && !after.is_empty() { Some(after) } else { None };
            let value =
                value.or(after.strip_prefix('=')).map(|value| value.strip_prefix('=').unwrap_or(value));
            if self.take(&flag, value, words)? {
                return Ok(true);
            }
            if flag.valued {
                break;
            }
        }
        Ok(false)
    }

    fn take(&mut self, flag: &Spelled, value: Option<&str>, words: &mut Words) -> Result<bool, UsageError> {
        let option = || format!("--{}", flag.long);
        let ends = matches!(flag.long, "help" | "version");
        let mut value = value.map(str::to_owned);
        if !flag.valued {
            if value.take().is_some() && !ends {
                return Err(UsageError::UnexpectedValue(option()));
            }
        } else if value.is_none() {
            let word = words.next().ok_or_else(|| UsageError::MissingValue(option()))?;
            value = Some(word.into_string().map_err(|_| UsageError::NotText(option()))?);
        }
        self.flags.push((flag.long, value));
        Ok(ends)
    }
}

fn find(entry: &'static Entry, wanted: &dyn Fn(&Spelled) -> bool) -> Option<Spelled> {
    [entry.options, COMMON].into_iter().find_map(|options| each(options).find(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    static PROGRAM: Entry =
        Entry { name: "demo", options: "nlines=\nffollow\n", parsing: Parsing::Gnu, run: |_| 0 };
    static STOPPING: Entry =
        Entry { name: "stopping", options: "ffollow\n", parsing: Parsing::StopAtOperand, run: |_| 0 };

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn every_gnu_spelling_of_a_value() {
        for line in ["-n5", "-n 5", "--lines=5", "--lines 5", "-fn5"] {
            assert_eq!(parse(&PROGRAM, words(line)).unwrap().value("lines"), Some("5"), "{line}");
        }
    }

    #[test]
    fn operands_may_follow_options_and_a_double_dash_ends_them() {
        let args = parse(&PROGRAM, words("a -f b -- -n")).unwrap();
        assert!(args.has("follow"));
        assert_eq!(args.operands(), ["a", "b", "-n"]);
    }

    #[test]
    fn what_the_table_does_not_know_is_refused() {
        assert_eq!(parse(&PROGRAM, words("--nope")).unwrap_err(), UsageError::Unknown("--nope".into()));
        assert_eq!(parse(&PROGRAM, words("-n")).unwrap_err(), UsageError::MissingValue("--lines".into()));
        let error = parse(&PROGRAM, words("--follow=yes")).unwrap_err();
        assert_eq!(error, UsageError::UnexpectedValue("--follow".into()));
    }

    #[test]
    fn a_wrapped_command_keeps_its_own_options() {
        let args = parse(&STOPPING, words("-f run -x --help")).unwrap();
        assert!(args.has("follow") && !args.has("help"));
        assert_eq!(args.operands(), ["run", "-x", "--help"]);
    }

    #[test]
    fn help_wins_over_what_follows() {
        assert!(parse(&PROGRAM, words("--help --nope")).unwrap().has("help"));
    }
}
