//! `dns status`, `dns flush` and `dns reload`: asking and telling the running forwarder.

use minke_applet::{Args, Flag, log, print};
use minke_control::dns::{self, Command, SOCKET};
use minke_wire::json::Value;
use std::fmt::Write;
use std::path::Path;

/// `--json`
pub(crate) const JSON_FLAG: Flag =
    Flag { short: None, long: "json", value: None, help: "status, query: print JSON" };
/// `--socket FILE`
pub(crate) const SOCKET_FLAG: Flag = Flag {
    short: None,
    long: "socket",
    value: Some("FILE"),
    help: "Where the forwarder answers these commands (/run/minke/dns/control.sock)",
};

/// `dns status`.
pub(crate) fn run(args: &Args) -> u8 {
    match ask(args, &Command::Status) {
        Some(status) if args.has(JSON_FLAG.long) => print(&format!("{status:#}\n")),
        Some(status) => print(&text(&status)),
        None => 1,
    }
}

/// `dns flush [NAME]`.
pub(crate) fn flush(args: &Args) -> u8 {
    tell(args, &Command::Flush(args.operand(1).map(Into::into)))
}

/// `dns reload`.
pub(crate) fn reload(args: &Args) -> u8 {
    tell(args, &Command::Reload)
}

fn tell(args: &Args, command: &Command) -> u8 {
    u8::from(ask(args, command).is_none())
}

fn ask(args: &Args, command: &Command) -> Option<Value> {
    let socket = Path::new(args.value(SOCKET_FLAG.long).unwrap_or(SOCKET));
    match dns::ask(socket, command) {
        Ok(answer) => Some(answer),
        Err(minke_control::Error::Refused(why)) => {
            log::error(format_args!("{why}"));
            None
        }
        Err(error) => {
            log::error(format_args!(
                "{error}: the forwarder is not running; see 'systemctl status dnsmasq.service'"
            ));
            None
        }
    }
}

/// The status for people.
fn text(status: &Value) -> String {
    let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_u64).unwrap_or(0);
    let word =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut text = String::from("Asked at:");
    for address in list(status, "listen") {
        let _ = write!(text, " {}", address.as_str().unwrap_or_default());
    }
    let none = Value::Null;
    let cache = status.get("cache").unwrap_or(&none);
    let _ = writeln!(
        text,
        "\nCache:    {} answers in {} of {} KiB\nPending:  {}\n\n{:32} {:20} {:8} {:>10} {:>8} {:>8}",
        number(cache, "entries"),
        number(cache, "bytes").div_ceil(1024),
        number(cache, "limit") / 1024,
        number(status, "pending"),
        "Server",
        "Asked for",
        "State",
        "Time",
        "Sent",
        "Failed",
    );
    for server in list(status, "servers") {
        let time = match server.get("rtt_us").and_then(Value::as_u64) {
            Some(micros) => format!("{}.{} ms", micros / 1000, micros / 100 % 10),
            None => "-".to_owned(),
        };
        let _ = writeln!(
            text,
            "{:32} {:20} {:8} {time:>10} {:>8} {:>8}",
            word(server, "address"),
            word(server, "domain"),
            word(server, "state"),
            number(server, "sent"),
            number(server, "failed"),
        );
    }
    if list(status, "servers").is_empty() {
        text.push_str("none: the network has named none, and dnsServers of config.json says so too\n");
    }
    text.push('\n');
    if let Some(counters) = status.get("counters").and_then(Value::as_object) {
        for (name, count) in counters.iter() {
            let _ = writeln!(text, "{name:16} {}", count.as_u64().unwrap_or(0));
        }
    }
    text
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    #[test]
    fn for_people() {
        let server = |domain: &str, rtt_us: Option<u64>, state: &str| {
            json!({
                "domain": domain,
                "address": "10.0.0.1#53",
                "state": state,
                "rtt_us": rtt_us,
                "sent": 120,
                "failed": 2,
            })
        };
        let servers = [server("default", Some(12_340), "good"), server("lan corp", None, "untried")];
        let status = json!({
            "listen": vec!["127.0.0.2:53".to_owned(), "10.114.102.1:53".to_owned()],
            "servers": Value::Array(servers.into()),
            "cache": { "entries": 3, "bytes": 2000, "limit": 524288 },
            "pending": 1,
            "counters": { "queries": 7, "hits": 5 },
        });
        let expected = "\
Asked at: 127.0.0.2:53 10.114.102.1:53
Cache:    3 answers in 2 of 512 KiB
Pending:  1

Server                           Asked for            State          Time     Sent   Failed
10.0.0.1#53                      default              good        12.3 ms      120        2
10.0.0.1#53                      lan corp             untried           -      120        2

queries          7
hits             5
";
        assert_eq!(text(&status), expected);
        assert!(text(&Value::Null).contains("none: the network"));
    }
}
