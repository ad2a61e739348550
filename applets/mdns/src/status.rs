//! `mdns status`.

use crate::show::{graphic, socket, unanswered};
use minke_applet::{Args, print};
use minke_control::mdns::status;
use minke_wire::json::Value;
use std::fmt::Write;

/// `mdns status`.
pub(crate) fn run(args: &Args) -> u8 {
    match status(&socket(args)) {
        Ok(status) if args.has("json") => print(&format!("{status:#}\n")),
        Ok(status) => print(&text(&status)),
        Err(error) => unanswered(&error),
    }
}

fn text(status: &Value) -> String {
    let mut text = String::new();
    let _ = match (word(status, "host"), word(status, "wanted")) {
        ("", "") => writeln!(text, "No name: the host has none yet"),
        ("", wanted) => writeln!(text, "No name yet; it shall be {wanted}"),
        (host, wanted) if host == wanted => writeln!(text, "{host}"),
        (host, wanted) => writeln!(text, "{host}, as somebody else is {wanted}"),
    };
    for interface in list(status, "interfaces") {
        let _ = write!(text, "  on {}:", word(interface, "name"));
        for address in list(interface, "addresses") {
            let _ = write!(text, " {}", address.as_str().unwrap_or_default());
        }
        text.push('\n');
    }
    if list(status, "interfaces").is_empty() {
        text.push_str("  on no interface: none has an address\n");
    }
    for service in list(status, "services") {
        let file = word(service, "file");
        let from = if file.is_empty() { "a program" } else { file };
        let established = service.get("established").and_then(Value::as_bool).unwrap_or_default();
        let state = if established { "" } else { ", not established yet" };
        let (name, port) = (graphic(word(service, "name").as_bytes()), number(service, "port"));
        let _ = writeln!(text, "  {name} {} port {port} ({from}){state}", word(service, "type"));
    }
    let mut separator = "Conflicts ";
    for (key, next) in [
        ("conflicts", ", records of others "),
        ("cached", ", questions "),
        ("questions", "; packets received "),
        ("received", ", sent "),
        ("sent", ", dropped "),
        ("dropped", "\n"),
    ] {
        let _ = write!(text, "{separator}{}", number(status, key));
        separator = next;
    }
    text.push_str(separator);
    text
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    #[test]
    fn as_a_person_reads_it() {
        let status = |host: &str, interfaces: Vec<Value>, services: Vec<Value>| {
            json!({
                "host": host,
                "wanted": "b.local",
                "interfaces": Value::Array(interfaces),
                "services": Value::Array(services),
                "sent": 7,
            })
        };
        let other = text(&status("b-2.local", Vec::new(), Vec::new()));
        assert!(other.contains("b-2.local, as somebody else is b.local\n  on no interface"));
        let addresses = vec!["10.0.0.1".to_owned(), "fe80::1".to_owned()];
        let interface = json!({ "name": "eth0", "addresses": addresses });
        let service = |file: &str, established: bool| {
            json!({
                "name": "board",
                "type": "_ssh._tcp",
                "port": 22222,
                "file": file,
                "established": established,
            })
        };
        let services = vec![service("/etc/avahi/services/ssh.service", true), service("", false)];
        assert_eq!(
            text(&status("b.local", vec![interface], services)),
            "b.local\n  on eth0: 10.0.0.1 fe80::1\n  board _ssh._tcp port 22222 (/etc/avahi/services/ssh.service)\n  \
             board _ssh._tcp port 22222 (a program), not established yet\n\
             Conflicts 0, records of others 0, questions 0; packets received 0, sent 7, dropped 0\n"
        );
        assert!(text(&Value::Null).starts_with("No name: "));
    }
}
