//! `mdns status`.

use crate::show::{graphic, socket, unanswered};
use minke_applet::{Args, print};
use minke_control::mdns::{Status, status};
use std::fmt::Write;

/// `mdns status`.
pub(crate) fn run(args: &Args) -> u8 {
    match status(&socket(args)) {
        Ok(status) if args.has("json") => print(&format!("{:#}\n", status.to_value())),
        Ok(status) => print(&text(&status)),
        Err(error) => unanswered(&error),
    }
}

fn text(status: &Status) -> String {
    let mut text = String::new();
    let _ = match (status.host.as_str(), status.wanted.as_str()) {
        ("", "") => writeln!(text, "No name: the host has none yet"),
        ("", wanted) => writeln!(text, "No name yet; it shall be {wanted}"),
        (host, wanted) if host == wanted => writeln!(text, "{host}"),
        (host, wanted) => writeln!(text, "{host}, as somebody else is {wanted}"),
    };
    for interface in &status.interfaces {
        let _ = write!(text, "  on {}:", interface.name);
        for address in &interface.addresses {
            let _ = write!(text, " {address}");
        }
        text.push('\n');
    }
    if status.interfaces.is_empty() {
        text.push_str("  on no interface: none has an address\n");
    }
    for service in &status.services {
        let from = if service.file.is_empty() { "a program" } else { &service.file };
        let state = if service.established { "" } else { ", not established yet" };
        let name = graphic(service.name.as_bytes());
        let _ = writeln!(text, "  {name} {} port {} ({from}){state}", service.kind, service.port);
    }
    let _ = writeln!(
        text,
        "Conflicts {}, records of others {}, questions {}; packets received {}, sent {}, dropped {}",
        status.conflicts, status.cached, status.questions, status.received, status.sent, status.dropped
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_control::mdns::{Interface, Published};

    #[test]
    fn as_a_person_reads_it() {
        let interface =
            Interface { name: "eth0".into(), addresses: vec!["10.0.0.1".into(), "fe80::1".into()] };
        let mut service = Published {
            name: "board".into(),
            kind: "_ssh._tcp".into(),
            port: 22222,
            file: "/etc/avahi/services/ssh.service".into(),
            established: true,
        };
        let mut status = Status { host: "b-2.local".into(), wanted: "b.local".into(), ..Status::default() };
        assert!(text(&status).contains("b-2.local, as somebody else is b.local\n  on no interface"));
        status.host = "b.local".into();
        status.interfaces.push(interface);
        status.services.push(service.clone());
        service.file = String::new();
        service.established = false;
        status.services.push(service);
        assert_eq!(
            text(&status),
            "b.local\n  on eth0: 10.0.0.1 fe80::1\n  board _ssh._tcp port 22222 (/etc/avahi/services/ssh.service)\n  \
             board _ssh._tcp port 22222 (a program), not established yet\n\
             Conflicts 0, records of others 0, questions 0; packets received 0, sent 0, dropped 0\n"
        );
    }
}
