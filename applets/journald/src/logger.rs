//! `logger`: writes to the system log as syslog(3) does.

use crate::journal::now;
use crate::lines::{Break, Lines};
use minke_applet::Args;
use minke_sys::{Context, Result, stdio};
use minke_wire::civil::Civil;
use minke_wire::journal::{facility_number, priority_number};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Runs the program: one message from the operands, or one per line of standard input.
pub fn run(args: &Args) -> u8 {
    let wanted = args.value("priority").unwrap_or("user.notice");
    let Some(pri) = pri(wanted) else {
        minke_applet::log::error(format_args!("'{wanted}' is no priority; for instance user.info or err"));
        return minke_applet::EXIT_USAGE;
    };
    minke_applet::report(log(args, pri))
}

fn log(args: &Args, pri: u8) -> Result<u8> {
    let path = Path::new(args.value("socket").unwrap_or("/dev/log"));
    let socket = UnixDatagram::unbound().on("make a socket for", path)?;
    socket.connect(path).on("connect to", path)?;
    let user =
        || std::env::var("LOGNAME").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| "root".to_owned());
    let mut tag = args.value("tag").map_or_else(user, str::to_owned);
    if args.has("id") {
        tag.push_str(&format!("[{}]", std::process::id()));
    }
    let send = |message: &[u8]| {
        let line = line(pri, now().realtime, &tag, message);
        if args.has("stderr") {
            let _ = stdio::error(&[&line[..], b"\n"].concat());
        }
        socket.send(&line).map(|_| ()).on("write to", path)
    };
    if !args.operands().is_empty() {
        let words: Vec<&[u8]> = args.operands().iter().map(|word| word.as_encoded_bytes()).collect();
        send(&words.join(&b' '))?;
        return Ok(0);
    }
    let (mut lines, mut buffer, mut result) = (Lines::default(), Vec::new(), Ok(()));
    while stdio::read_some(&mut buffer)? {
        lines.feed(&buffer, &mut |line, _| {
            if !line.is_empty() {
                result = send(line);
            }
            result.is_ok()
        });
        result?;
        result = Ok(());
        buffer.clear();
    }
    lines.flush(Break::Closed, |line, _| result = send(line));
    result.map(|()| 0)
}

/// `FACILITY.PRIORITY`, or a priority alone with the facility `user`.
fn pri(text: &str) -> Option<u8> {
    let (facility, priority) = text.split_once('.').unwrap_or(("user", text));
    Some(facility_number(facility)?.checked_mul(8)?.wrapping_add(priority_number(priority)?))
}

/// The message as RFC 3164 section 4.1 has it, without host name, as /dev/log wants.
fn line(pri: u8, micros: u64, tag: &str, message: &[u8]) -> Vec<u8> {
    let civil = Civil::from_unix(i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX));
    let Civil { day, hour, minute, second, .. } = civil;
    let month = civil.month_name();
    let mut line = format!("<{pri}>{month} {day:2} {hour:02}:{minute:02}:{second:02} {tag}: ").into_bytes();
    line.extend_from_slice(message);
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::journal::Syslog;

    #[test]
    fn a_line_is_understood() {
        let line = line(pri("daemon.err").unwrap(), 1_667_347_155_000_000, "me[7]", b"hello: you");
        assert_eq!(line, b"<27>Nov  1 23:59:15 me[7]: hello: you");
        let syslog = Syslog::decode(&line);
        assert_eq!((syslog.facility, syslog.priority), (3, 3));
        assert_eq!((syslog.identifier, syslog.pid), (Some(&b"me"[..]), Some(&b"7"[..])));
        assert_eq!(syslog.message, b"hello: you");
    }

    #[test]
    fn priorities() {
        assert_eq!((pri("user.notice"), pri("err"), pri("local7.7")), (Some(13), Some(11), Some(191)));
        assert_eq!((pri("x.err"), pri("user."), pri("")), (None, None, None));
    }
}
