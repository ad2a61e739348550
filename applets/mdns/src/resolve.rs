//! `mdns resolve`: who has a name.

use crate::show::{data, local, socket, unanswered, wrong};
use minke_applet::{Args, log, print};
use minke_control::Error;
use minke_control::mdns::{Question, Record, resolve};
use minke_wire::dns::{Data, Kind, reverse};
use minke_wire::json::json;
use minke_wire::text;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

/// `mdns resolve NAME [TYPE]`.
pub(crate) fn run(args: &Args) -> u8 {
    match wanted(args) {
        Ok((name, kinds)) => show(args, &name, ask(&socket(args), &name, &kinds)),
        Err(status) => status,
    }
}

/// `mdns reconfirm NAME [TYPE]`.
pub(crate) fn reconfirm(args: &Args) -> u8 {
    let (name, kinds) = match wanted(args) {
        Ok(wanted) => wanted,
        Err(status) => return status,
    };
    for kind in kinds {
        let question = Question { name: name.clone(), kind: kind.0 };
        if let Err(error) = minke_control::mdns::reconfirm(&socket(args), question) {
            return unanswered(&error);
        }
    }
    0
}

/// The name and the kinds of records that the command line asks for; else the exit status.
fn wanted(args: &Args) -> Result<(String, Vec<Kind>), u8> {
    let Some(name) = args.operand(1) else { return Err(wrong("name", "")) };
    Ok(match (args.operand(2), name.parse::<IpAddr>()) {
        (None, Ok(address)) => (reverse(address), vec![Kind::PTR]),
        (None, Err(_)) if text::contains(name, "._tcp") || text::contains(name, "._udp") => {
            (local(name), vec![Kind::SRV, Kind::TXT])
        }
        (None, Err(_)) => (local(name), vec![Kind::A, Kind::AAAA]),
        (Some(word), _) => match Kind::parse(word) {
            Some(kind) => (local(name), vec![kind]),
            None => return Err(wrong("type of records", word)),
        },
    })
}

fn show(args: &Args, name: &str, result: Result<Vec<Record>, Error>) -> u8 {
    let records = match result {
        Ok(records) => records,
        Err(error) => return unanswered(&error),
    };
    if records.is_empty() {
        log::error(format_args!("nobody on the link has {}", text::shown(name)));
        return 1;
    }
    let mut out = String::new();
    for record in &records {
        let (kind, data) = (Kind(record.kind), data(record));
        if args.has("json") {
            let value = json!({
                "name": record.name,
                "type": kind.to_string(),
                "ttl": record.ttl,
                "data": data,
                "interface": record.interface,
            });
            let _ = writeln!(out, "{value}");
        } else {
            let _ = writeln!(out, "{} {kind} {data}  ({}, {} s)", record.name, record.interface, record.ttl);
        }
    }
    print(&out)
}

/// The records of these kinds; where one tells of a host, its addresses too.
fn ask(socket: &Path, name: &str, kinds: &[Kind]) -> Result<Vec<Record>, Error> {
    let mut records = Vec::new();
    for kind in kinds {
        let found = resolve(socket, Question { name: name.to_owned(), kind: kind.0 })?;
        let nothing = found.is_empty();
        let mut hosts = Vec::new();
        for record in found {
            if let Some(Data::Srv { target, .. }) = Data::of(Kind(record.kind), &record.data) {
                hosts.push(target.to_string());
            }
            add(&mut records, record);
        }
        if *kind == Kind::SRV && nothing {
            // Without a place the texts are not asked for, as that only takes time.
            break;
        }
        for host in hosts.into_iter().take(4) {
            for kind in [Kind::A, Kind::AAAA] {
                for record in resolve(socket, Question { name: host.clone(), kind: kind.0 })? {
                    add(&mut records, record);
                }
            }
        }
    }
    Ok(records)
}

fn add(records: &mut Vec<Record>, record: Record) {
    if !records.contains(&record) {
        records.push(record);
    }
}
