//! What the commands share: the socket, failures, names and records as people read them.

use minke_applet::{Args, EXIT_USAGE, Flag, log};
use minke_control::Error;
use minke_control::mdns::{Record, SOCKET};
use minke_wire::dns::{Data, Kind, Name};
use minke_wire::text;
use std::path::PathBuf;

/// The option that names the socket.
pub(crate) const SOCKET_FLAG: Flag = Flag {
    short: None,
    long: "socket",
    value: Some("FILE"),
    help: "Where the responder answers (/run/minke/mdns/mdns.sock)",
};

/// The socket of the command line.
pub(crate) fn socket(args: &Args) -> PathBuf {
    PathBuf::from(args.value(SOCKET_FLAG.long).unwrap_or(SOCKET))
}

/// Says why the responder did not answer; the exit status.
pub(crate) fn unanswered(error: &Error) -> u8 {
    match error {
        Error::Refused(why) => log::error(format_args!("{why}")),
        _ => log::error(format_args!(
            "{error}: the responder is not running; see 'systemctl status avahi-daemon.service'"
        )),
    }
    1
}

/// Says what is wrong with the command line; the exit status.
pub(crate) fn wrong(what: &str, word: &str) -> u8 {
    log::error(format_args!("'{}' is no {what}; see 'mdns --help'", text::shown(word)));
    EXIT_USAGE
}

/// A name below `.local`, where mDNS is at home, unless it says so itself or is that of an address.
pub(crate) fn local(name: &str) -> String {
    let name = name.strip_suffix('.').unwrap_or(name);
    let lower = name.to_ascii_lowercase();
    if lower.ends_with(".local") || lower.ends_with(".arpa") || lower == "local" {
        return name.to_owned();
    }
    format!("{name}.local")
}

/// The first label of a name as people see it, and the rest without `.local`: `Board in the hall`, `_http._tcp`.
pub(crate) fn instance(name: &str) -> (String, String) {
    let Some(name) = Name::parse(name) else { return (String::new(), String::new()) };
    let label = name.labels().next().unwrap_or_default();
    let rest = name.parent().unwrap_or(Name::ROOT).to_string();
    (graphic(label), rest.strip_suffix('.').unwrap_or(&rest).trim_end_matches(".local").to_owned())
}

/// Bytes of others as they can stand on a terminal.
pub(crate) fn graphic(bytes: &[u8]) -> String {
    let mut text = String::new();
    for character in String::from_utf8_lossy(bytes).chars() {
        text.push(if character.is_control() { '?' } else { character });
    }
    text
}

/// A record's data as text.
pub(crate) fn data(record: &Record) -> String {
    Data::of(Kind(record.kind), &record.data).map(|data| data.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_people_write_and_read_them() {
        for (name, whole) in [
            ("board", "board.local"),
            ("board.local", "board.local"),
            ("board.LOCAL.", "board.LOCAL"),
            ("1.0.0.10.in-addr.arpa", "1.0.0.10.in-addr.arpa"),
            ("x._http._tcp", "x._http._tcp.local"),
            ("notlocal", "notlocal.local"),
        ] {
            assert_eq!(local(name), whole);
        }
        let name = Name::parse("B\\195\\164r\\.1\\007._http._tcp.local").unwrap().to_string();
        assert_eq!(instance(&name), ("Bär.1?".to_owned(), "_http._tcp".to_owned()));
        assert_eq!(instance(""), (String::new(), String::new()));
    }
}
