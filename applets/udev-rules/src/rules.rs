//! Which files the configuration asks for.

use minke_config::{Config, Value};
use minke_wire::text::shown;

/// The longest rule, and the longest file that is compared with one, in bytes.
pub const LIMIT: usize = 1 << 20;

/// The longest name of a file is 255 bytes; `.rules` and a temporary name's `.new` are part of it.
const NAME_LIMIT: usize = 200;

/// The problems that are told one by one.
const NAMED: usize = 20;

/// A rule file.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule<'a> {
    /// Its name, `NAME.rules`.
    pub file: String,
    text: &'a str,
}

impl Rule<'_> {
    /// What stands in the file.
    pub fn content(&self) -> Vec<u8> {
        [self.text.as_bytes(), b"\n"].concat()
    }
}

/// What comes of `os.udevRules`.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    /// The files, in the order of their names.
    pub rules: Vec<Rule<'a>>,
    /// What is skipped, and why.
    pub problems: Vec<String>,
    /// The value is no object: nobody knows what is wanted.
    pub unknown: bool,
}

/// The files that the configuration asks for. The text of a rule is udev's to judge.
pub fn wanted(config: &Config) -> Wanted<'_> {
    let mut wanted = Wanted::default();
    let members = match config.get("os.udevRules") {
        None => return wanted,
        Some(Value::Object(members)) => members,
        Some(_) => {
            wanted
                .problems
                .push("os.udevRules should be an object of texts; the rules stay as they are".to_owned());
            wanted.unknown = true;
            return wanted;
        }
    };
    let mut more = 0;
    for (name, value) in members {
        let problem = match value.as_str() {
            _ if !is_name(name) => "its name should be letters, digits, '-', '_', '.', '@', '+' or ':'",
            None => "it should be a text",
            Some(text) if text.len() >= LIMIT => "it is longer than 1 MiB",
            Some(text) if text.bytes().any(|byte| byte == 0) => "it has a NUL byte in it",
            Some(text) => {
                wanted.rules.push(Rule { file: format!("{name}.rules"), text });
                continue;
            }
        };
        if wanted.problems.len() < NAMED {
            let mut name = shown(name);
            name.truncate(40);
            wanted.problems.push(format!("os.udevRules '{name}' is skipped: {problem}"));
        } else {
            more += 1;
        }
    }
    if more > 0 {
        wanted.problems.push(format!("os.udevRules: {more} more are skipped"));
    }
    wanted.rules.sort_unstable_by(|one, other| one.file.cmp(&other.file));
    wanted
}

/// Whether a name is safe for a file, in every shell and log too.
fn is_name(name: &str) -> bool {
    let sane =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@' | b'+' | b':');
    (1..=NAME_LIMIT).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(sane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_names_and_values_are_skipped_one_by_one() {
        let long = "x".repeat(201);
        let text = format!(
            r#"{{"os":{{"udevRules":{{"b":"2","a/b":"x","..":"x",".h":"x","":"x","a b":"x","ü":"x","{long}":"x",
               "n":5,"z":"a\u0000b","a":"1\\\"\n","{}":"long"}}}}}}"#,
            "y".repeat(200)
        );
        let config = Config::parse(text.as_bytes()).unwrap();
        let wanted = wanted(&config);
        let files: Vec<&str> = wanted.rules.iter().map(|rule| rule.file.as_str()).collect();
        assert_eq!(files[..2], ["a.rules", "b.rules"]);
        assert_eq!((files.len(), wanted.problems.len(), wanted.unknown), (3, 9, false));
        assert_eq!(wanted.rules[0].content(), b"1\\\"\n\n");
        assert!(wanted.problems.iter().all(|problem| !problem.contains('\n') && problem.len() < 200));
    }

    #[test]
    fn what_is_no_object_is_no_wish_to_remove_all() {
        for (text, unknown) in
            [(r#"{"os":{"udevRules":[]}}"#, true), ("{}", false), (r#"{"os":{"udevRules":null}}"#, false)]
        {
            let config = Config::parse(text.as_bytes()).unwrap();
            assert_eq!(wanted(&config).unknown, unknown, "{text}");
        }
    }

    #[test]
    fn no_accepted_name_leads_out_of_the_folder() {
        let mut state = 0x0123_4567_89AB_CDEFu64;
        let mut good = 0;
        for _ in 0..100_000 {
            let mut name = String::new();
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            for place in 0..=state >> 62 {
                let choice = usize::try_from(state >> (8 * place + 20)).unwrap() % 14;
                name.push(['a', 'Z', '0', '-', '.', '.', '/', '\0', '\n', ' ', '~', 'ü', '_', '@'][choice]);
            }
            if is_name(&name) {
                good += 1;
                let path = std::path::Path::new("/r").join(format!("{name}.rules"));
                assert_eq!(path.parent(), Some(std::path::Path::new("/r")), "{name:?}");
                assert!(!name.starts_with('.') && !name.contains(char::is_whitespace));
            }
        }
        assert!(good > 1000, "{good}");
    }
}
