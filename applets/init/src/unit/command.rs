//! Command lines of services: systemd.service(5), "Command lines".

use minke_wire::unit::words;

/// A command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program's path, or its name when it has no slash.
    pub program: String,
    /// The arguments, beginning with the name it is called by.
    pub arguments: Vec<String>,
    /// `-`: a failure counts as success.
    pub ignore_failure: bool,
    /// `+` or `!`: with root's full privileges.
    pub privileged: bool,
}

impl Command {
    /// Reads one line; specifiers are replaced already.
    pub fn parse(value: &str) -> Result<Self, &'static str> {
        let (mut ignore_failure, mut privileged, mut named, mut literal) = (false, false, false, false);
        let line = value.trim_start_matches(|prefix| {
            match prefix {
                '-' => ignore_failure = true,
                '+' | '!' => privileged = true,
                '@' => named = true,
                ':' => literal = true,
                _ => return false,
            }
            true
        });
        let mut arguments = words(line).ok_or("a quote is not closed or an escape unknown")?;
        if arguments.is_empty() {
            return Err("a command line without a program");
        }
        let program = arguments.first().cloned().unwrap_or_default();
        if named {
            arguments.remove(0);
        }
        if !literal {
            // `$$` is a dollar sign; variables are replaced when the command runs.
            for argument in &mut arguments {
                *argument = minke_wire::text::replace(argument, "$$", "\u{0}");
            }
        }
        Ok(Self { program, arguments, ignore_failure, privileged })
    }

    /// The arguments with `$NAME` (a word of its own: split into words) and `${NAME}` (anywhere) replaced.
    pub fn expanded(&self, environment: &[(String, String)]) -> Vec<String> {
        let mut arguments = Vec::new();
        for (argument, index) in self.arguments.iter().zip(0..) {
            let value = |name: &str| {
                environment.iter().rev().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
            };
            match argument.strip_prefix('$').filter(|name| is_name(name) && index > 0) {
                Some(name) => arguments.extend(words(value(name)).unwrap_or_default()),
                None => arguments.push(braced(argument, value).replace('\u{0}', "$")),
            }
        }
        arguments
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn braced<'a>(argument: &str, value: impl Fn(&str) -> &'a str) -> String {
    let mut text = String::new();
    let mut rest = argument;
    while let Some((before, after)) = minke_wire::text::split_once(rest, "${") {
        let Some((name, after)) = after.split_once('}').filter(|(name, _)| is_name(name)) else {
            break;
        };
        text.push_str(before);
        text.push_str(value(name));
        rest = after;
    }
    text.push_str(rest);
    text
}
