//! The command line client, for people on the device: what support types, over the same API as everybody.

mod show;

use crate::fields::Fields;
use minke_applet::Args;
use minke_http::client::{Body, Stream};
use minke_http::{Client, escape};
use minke_oci::registry::Credentials;
use minke_wire::base64;
use minke_wire::json::{Value, json};
use std::io::Read as _;
use std::path::Path;

/// The commands with their help.
pub const COMMANDS: &[(&str, &str)] = &[
    ("ps [-a] [-q]", "List containers"),
    ("images [-q]", "List images"),
    ("logs [-f] [-n N] [-t] CONTAINER", "Print what a container printed"),
    ("inspect NAME...", "Print containers or images as JSON"),
    ("start CONTAINER...", "Start containers"),
    ("stop [-t SECONDS] CONTAINER...", "Stop containers"),
    ("restart CONTAINER...", "Stop and start containers"),
    ("kill CONTAINER...", "Kill containers"),
    ("rm [-f] [-v] CONTAINER...", "Remove containers"),
    ("rmi [-f] IMAGE...", "Remove images"),
    ("pull [-q] IMAGE", "Fetch an image from a registry"),
    ("load -i FILE", "Load images from an archive"),
    ("version", "Print the engine's version"),
    ("info", "Print the engine's state as JSON"),
];

/// The longest answer that is kept.
const ANSWER_LIMIT: usize = 64 << 20;

/// Where the engine listens unless told.
const SOCKET: &str = "unix:///run/balena-engine.sock";

/// A failed command: the line for the person.
type Outcome = Result<(), String>;

/// Runs the client.
pub fn run(args: &Args) -> u8 {
    let mut words = Vec::new();
    for word in args.operands() {
        words.push(word.to_string_lossy().into_owned());
    }
    let Some((command, rest)) = words.split_first() else {
        minke_applet::errln!("no command given; see --help");
        return minke_applet::EXIT_USAGE;
    };
    let host = args.value("host").map(str::to_owned).or_else(|| std::env::var("DOCKER_HOST").ok());
    let api = Api::new(host.as_deref().unwrap_or(SOCKET));
    let outcome = api.and_then(|api| dispatch(&api, command, &Line::parse(rest)?));
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            minke_applet::errln!("Error: {error}");
            1
        }
    }
}

fn dispatch(api: &Api, command: &str, line: &Line) -> Outcome {
    match command {
        "ps" => show::containers(api, line),
        "images" => show::images(api, line),
        "logs" => show::logs(api, line),
        "inspect" => show::inspect(api, line),
        "version" | "info" => print_json(&api.get(&format!("/{command}"))?),
        "start" | "restart" | "kill" | "stop" => {
            let mut end = format!("/{command}");
            if let Some(seconds) = line.value('t').filter(|_| command == "stop") {
                end.push_str("?t=");
                end.push_str(&escape(seconds));
            }
            each(api, line, "POST", "containers", &end)
        }
        "rm" | "rmi" => {
            let kind = if command == "rm" { "containers" } else { "images" };
            let end = format!("?force={}&v={}", u8::from(line.has('f')), u8::from(line.has('v')));
            each(api, line, "DELETE", kind, &end)
        }
        "load" => load(api, line),
        "pull" => pull(api, line),
        "daemon" => Err("the daemon is balena-engine-daemon".to_owned()),
        _ => Err(format!("no command '{command}'; see --help")),
    }
}

/// What follows a command: short options, those of `VALUES` with a value, and names.
pub struct Line {
    options: Vec<(char, String)>,
    /// What is no option.
    pub names: Vec<String>,
}

/// Long options with their short ones.
const LONG: &[(&str, &str)] = &[
    ("--all", "-a"),
    ("--force", "-f"),
    ("--follow", "-f"),
    ("--quiet", "-q"),
    ("--tail", "-n"),
    ("--time", "-t"),
    ("--timestamps", "-T"),
    ("--input", "-i"),
    ("--volumes", "-v"),
];

/// Options that have a value.
const VALUES: &str = "nti";

impl Line {
    fn parse(words: &[String]) -> Result<Self, String> {
        let mut line = Self { options: Vec::new(), names: Vec::new() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let short = LONG.iter().find(|(long, _)| long == word);
            let word = short.map_or(word.as_str(), |(_, short)| short);
            let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
                line.names.push(word.to_owned());
                continue;
            };
            if letters.starts_with('-') {
                return Err(format!("unknown option '{word}'"));
            }
            let mut rest = letters.chars();
            while let Some(letter) = rest.next() {
                if !minke_wire::text::is_one_of(letter, VALUES) {
                    line.options.push((letter, String::new()));
                    continue;
                }
                let value = match rest.as_str() {
                    "" => words.next().cloned().ok_or_else(|| format!("option '-{letter}' needs a value"))?,
                    value => value.to_owned(),
                };
                line.options.push((letter, value));
                break;
            }
        }
        Ok(line)
    }

    /// Whether an option was given.
    pub fn has(&self, letter: char) -> bool {
        self.options.iter().any(|(other, _)| *other == letter)
    }

    /// An option's value.
    pub fn value(&self, letter: char) -> Option<&str> {
        self.options.iter().rev().find(|(other, _)| *other == letter).map(|(_, value)| value.as_str())
    }
}

/// Calls `/KIND/NAME` with what `end` adds, for each name.
fn each(api: &Api, line: &Line, method: &str, kind: &str, end: &str) -> Outcome {
    if line.names.is_empty() {
        return Err("a name is missing".to_owned());
    }
    let mut outcome = Ok(());
    for name in &line.names {
        match api.request(method, &format!("/{kind}/{}{end}", escape(name))) {
            Ok(_) => minke_applet::outln!("{name}"),
            Err(error) => {
                minke_applet::errln!("Error: {error}");
                outcome = Err(format!("{name} failed"));
            }
        }
    }
    outcome
}

fn load(api: &Api, line: &Line) -> Outcome {
    let path = line.value('i').ok_or("load needs -i FILE")?;
    let mut file = minke_sys::file::open_to_read(path).map_err(|error| error.to_string())?;
    let mut answer = api.open("POST", "/images/load", Body::Reader(&mut |buffer| file.read(buffer)))?;
    while let Some(text) = answer.next_line(ANSWER_LIMIT).map_err(failed)? {
        let value: Value = minke_wire::json::parse(&text).unwrap_or_default();
        if !value.text("error").is_empty() {
            return Err(value.text("error").to_owned());
        }
        minke_applet::print(value.text("stream"));
    }
    Ok(())
}

/// Where `docker login` leaves what it was told, below the home folder.
const LOGINS: &str = ".docker/config.json";

fn pull(api: &Api, line: &Line) -> Outcome {
    let [name] = line.names.as_slice() else { return Err("pull needs the name of one image".to_owned()) };
    let reference = minke_oci::Reference::parse(name).map_err(|error| error.to_string())?;
    let target = format!("/images/create?fromImage={}", escape(&reference.normalised()));
    let home = std::env::var("HOME").unwrap_or_else(|_| "/home/root".to_owned());
    let registry = reference.registry.as_deref().unwrap_or("docker.io");
    let login = match Credentials::from_file(&Path::new(&home).join(LOGINS), registry) {
        Some(Credentials::Basic { user, password }) => {
            let document = json!({ "username": user, "password": password }).to_text();
            let text = crate::pull::other_alphabet(&base64::encode_unpadded(document.as_bytes()));
            String::from_utf8(text).unwrap_or_default()
        }
        _ => String::new(),
    };
    let headers = [("X-Registry-Auth", login.as_str())];
    let headers = if login.is_empty() { &[][..] } else { &headers };
    let mut answer = api.open_with("POST", &target, headers, Body::None)?;
    while let Some(text) = answer.next_line(ANSWER_LIMIT).map_err(failed)? {
        let value: Value = minke_wire::json::parse(&text).unwrap_or_default();
        if !value.text("error").is_empty() {
            return Err(value.text("error").to_owned());
        }
        // What moves is for programs; people see what has changed.
        if line.has('q') || value.at("progressDetail").number("total") > 0 {
            continue;
        }
        match value.text("id") {
            "" => minke_applet::outln!("{}", value.text("status")),
            id => minke_applet::outln!("{id}: {}", value.text("status")),
        }
    }
    minke_applet::outln!("{}", reference.normalised());
    Ok(())
}

/// The engine.
pub struct Api {
    client: Client,
}

impl Api {
    fn new(host: &str) -> Result<Self, String> {
        match host.strip_prefix("unix://") {
            Some(path) => Ok(Self { client: Client::unix(path).with_timeout(None).with_limit(ANSWER_LIMIT) }),
            None => Err(format!("'{host}' is no address: give unix://PATH")),
        }
    }

    fn request(&self, method: &str, target: &str) -> Result<Vec<u8>, String> {
        let answer = self.client.request(method, target, &[], Body::None).map_err(failed)?;
        match answer.status {
            200..=304 => Ok(answer.body),
            _ => Err(message(&answer.body)),
        }
    }

    /// A document.
    pub fn get(&self, target: &str) -> Result<Value, String> {
        minke_wire::json::parse(&self.request("GET", target)?).map_err(|error| error.to_string())
    }

    /// An answer that comes bit by bit.
    pub fn open(&self, method: &str, target: &str, body: Body<'_>) -> Result<Box<Stream>, String> {
        self.open_with(method, target, &[], body)
    }

    fn open_with(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Body<'_>,
    ) -> Result<Box<Stream>, String> {
        let answer = self.client.stream(method, target, headers, body).map_err(failed)?;
        if answer.status == 200 {
            return Ok(answer);
        }
        Err(message(&answer.read_all(ANSWER_LIMIT).map_err(failed)?.body))
    }
}

/// A failed call in words.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub fn failed(error: minke_http::Error) -> String {
    error.to_string()
}

/// The `message` of an error body.
fn message(body: &[u8]) -> String {
    let value: Value = minke_wire::json::parse(body).unwrap_or_default();
    match value.text("message") {
        "" => String::from_utf8_lossy(body).into_owned(),
        text => text.to_owned(),
    }
}

/// Prints a document for people.
pub fn print_json(value: &Value) -> Outcome {
    minke_applet::outln!("{}", value.to_pretty());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Line;

    fn parse(text: &str) -> Result<Line, String> {
        Line::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_and_names() {
        let line = parse("-f --tail 5 web -aq -n7").unwrap();
        assert!(line.has('f') && line.has('a') && line.has('q') && !line.has('v'));
        assert_eq!((line.value('n'), line.names.as_slice()), (Some("7"), &["web".to_owned()][..]));
        assert!(parse("--what").is_err() && parse("-n").is_err());
    }
}
