//! Real clients of the journal's protocols against the real daemon.

use crate::daemon::{Daemon, program};
use std::io::Write;
use std::process::{Command, Stdio};

fn pipe(mut command: Command, input: &[u8]) {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    assert!(child.wait().unwrap().success());
}

/// A shell that sees the daemon's sockets at their places in `/run`.
fn shell_in_namespace(daemon: &Daemon, script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec"]).arg(format!(
        "mount -t tmpfs tmpfs /run\nmkdir -p /run/systemd\ncp -as {}/systemd/. /run/systemd 2>/dev/null || true\n\
         rm -rf /run/systemd/journal\nmkdir -p /run/systemd/journal\nmount --bind {}/systemd/journal /run/systemd/journal\n{script}",
        daemon.path("run").display(),
        daemon.path("run").display()
    ));
    command
}

#[test]
fn util_linux_logger_writes_to_dev_log() {
    let daemon = Daemon::start("syslog");
    let socket = daemon.path("log");
    let status = Command::new("logger")
        .arg("-u")
        .arg(&socket)
        .args(["-t", "tag", "-p", "daemon.err", "hello: you"])
        .status();
    assert!(status.unwrap().success());
    let line = daemon.show_until(&["-t", "tag"], "hello");
    let (time, rest) = line.split_at(15);
    assert_eq!(time.as_bytes()[3], b' ');
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let rest = rest.strip_prefix(&format!(" {} tag[", host.trim())).unwrap();
    let (pid, rest) = rest.split_once(']').unwrap();
    assert!(pid.parse::<u32>().is_ok());
    assert_eq!(rest, ": hello: you\n");
    let json: minke_wire::json::Value =
        minke_wire::json::parse_str(&daemon.show(&["-t", "tag", "-o", "json"])).unwrap();
    assert_eq!((&json["PRIORITY"], &json["SYSLOG_FACILITY"]), (&"3".into(), &"3".into()));
    assert_eq!((&json["_TRANSPORT"], &json["_UID"]), (&"syslog".into(), &"0".into()));
    assert_eq!(daemon.show(&["-p", "crit", "-q"]), "");
}

#[test]
fn our_logger_writes_to_dev_log() {
    let daemon = Daemon::start("logger");
    let mut command = program("logger");
    command.arg("-u").arg(daemon.path("log")).args(["-t", "lines"]);
    pipe(command, b"one\n\ntwo\nthree");
    assert_eq!(daemon.show_until(&["-t", "lines", "-o", "cat"], "three"), "one\ntwo\nthree\n");
}

#[test]
fn a_native_client_sends_fields_but_cannot_lie_about_itself() {
    let daemon = Daemon::start("native");
    let command = shell_in_namespace(&daemon, "exec logger --journald");
    pipe(
        command,
        b"MESSAGE=native\nPRIORITY=2\nCONTAINER_ID_FULL=abc\n_PID=1\n_SYSTEMD_UNIT=fake.service\nlower=1\n",
    );
    let shown = daemon.show_until(&["CONTAINER_ID_FULL=abc", "-o", "json"], "native");
    let json: minke_wire::json::Value = minke_wire::json::parse_str(&shown).unwrap();
    assert_eq!((&json["_TRANSPORT"], &json["PRIORITY"]), (&"journal".into(), &"2".into()));
    assert_ne!(json["_PID"], "1");
    assert_eq!((json.get("_SYSTEMD_UNIT"), json.get("lower")), (None, None));
    // `logger` may be gone before its name is looked up; one that stays has it.
    let script = "import socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); \
        s.sendto(b'MESSAGE=stays\\nCONTAINER_ID_FULL=def\\n', '/run/systemd/journal/socket'); sys.stdin.read()";
    let mut command = shell_in_namespace(&daemon, &format!("exec /usr/bin/python3 -c \"{script}\""));
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let shown = daemon.show_until(&["CONTAINER_ID_FULL=def", "-o", "json"], "stays");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    let json: minke_wire::json::Value = minke_wire::json::parse_str(&shown).unwrap();
    assert!(json["_COMM"].as_str().is_some_and(|name| name.starts_with("python3")), "{shown}");
}

#[test]
fn a_native_message_of_300_kilobytes_arrives_cut() {
    let daemon = Daemon::start("large");
    let mut text = b"MESSAGE=".to_vec();
    text.extend(vec![b'x'; 300_000]);
    text.extend_from_slice(b"\nBIG=1\n");
    pipe(shell_in_namespace(&daemon, "exec logger --journald"), &text);
    let shown = daemon.show_until(&["BIG=1", "-o", "cat"], "xxx");
    assert_eq!(shown.len(), (64 << 10) + 1);
}

#[test]
fn systemd_cat_writes_to_the_stream_socket() {
    let daemon = Daemon::start("stream");
    let script = "systemd-cat -t cat -p warning sh -c 'echo out; echo \"<3>err\" >&2; printf rest'";
    assert!(shell_in_namespace(&daemon, script).status().unwrap().success());
    daemon.show_until(&["-t", "cat"], "rest");
    assert_eq!(daemon.show(&["-t", "cat", "-o", "cat"]), "out\nerr\nrest\n");
    assert_eq!(daemon.show(&["-t", "cat", "-p", "err", "-o", "cat"]), "err\n");
    assert_eq!(daemon.show(&["-t", "cat", "-p", "warning..warning", "-o", "cat"]), "out\nrest\n");
    assert_eq!(daemon.show(&["-t", "cat", "_LINE_BREAK=eof", "-o", "cat"]), "rest\n");
}

#[test]
fn the_kernel_log_is_read_from_its_beginning() {
    let early = format!("minke-early-{}", std::process::id());
    std::fs::write("/dev/kmsg", format!("<12>{early}: one\n")).unwrap();
    let daemon = Daemon::start_with("kernel", &[]);
    let late = format!("minke-late-{}", std::process::id());
    std::fs::write("/dev/kmsg", format!("<11>{late}[12]: two\n")).unwrap();
    let line = daemon.show_until(&["-k", "-t", &late], "two");
    assert!(line.trim_end().ends_with(&format!(" {late}[12]: two")), "{line}");
    assert!(daemon.show(&["-k", "-t", &early]).contains("one"));
    // The kernel may say something of its own at any time.
    assert!(daemon.show(&["-k", "-t", &early, "-t", &late, "-n", "1", "-r"]).contains("two"));
}

#[test]
fn the_console_gets_a_copy() {
    let folder = std::env::temp_dir().join(format!("minke-journald-tty-{}", std::process::id()));
    std::fs::write(&folder, b"").unwrap();
    let daemon = Daemon::start_with("console", &["--kmsg", "none", "--console", folder.to_str().unwrap()]);
    let status =
        program("logger").arg("-u").arg(daemon.path("log")).args(["-t", "tag", "to the console"]).status();
    assert!(status.unwrap().success());
    daemon.show_until(&["-t", "tag"], "console");
    let copy = std::fs::read_to_string(&folder).unwrap();
    let line = copy.lines().last().unwrap();
    assert!(line.starts_with("tag[") && line.ends_with("]: to the console"), "{copy}");
    std::fs::remove_file(folder).unwrap();
}

/// The same messages through systemd's journald and ours, shown by systemd's journalctl and ours.
#[test]
fn journalctl_prints_what_the_real_one_prints() {
    let folder = std::env::temp_dir().join(format!("minke-journald-compare-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "-ec", include_str!("compare.sh"), "compare"]);
    command.arg(program("").get_program()).arg(&folder);
    assert!(command.status().unwrap().success());
    let read = |name| String::from_utf8_lossy(&std::fs::read(folder.join(name)).unwrap()).into_owned();
    let (real, ours) = (read("real"), read("ours"));
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(real.contains("hello: you") && real.lines().count() > 100, "{real}");
    for (number, (real, ours)) in real.lines().zip(ours.lines()).enumerate() {
        assert_eq!(ours, real, "line {number}");
    }
    assert_eq!(ours, real);
}
