//! The start of a container, seen from its parent: groups, fork, links, hand-over of the terminal.

use super::child;
use super::failure::{Failure, Step};
use super::forward::Forwarder;
use super::network;
use crate::fields::Fields;
use crate::fields::json;
use minke_sys::channel::{Channel, Received};
use minke_sys::namespace::{self, Namespace, Side};
use minke_wire::json::Value;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;

/// The parent's ends of a process's streams.
pub struct Ends {
    /// Where its standard input comes from, if anybody may write to it.
    pub input: Option<OwnedFd>,
    /// Standard output and standard error; with a terminal only the first.
    pub outputs: Vec<OwnedFd>,
    /// The terminal's manager.
    pub terminal: Option<OwnedFd>,
}

/// A container that was started.
pub struct Started {
    /// Its first process.
    pub pid: i32,
    /// Its streams.
    pub ends: Ends,
    /// The published ports, `{"port": "80/tcp", "ip": "0.0.0.0", "host_port": 8080}`.
    pub ports: Vec<Value>,
}

/// Starts the container.
pub fn start(spec: &Value, forwarder: &mut Forwarder) -> Result<Started, Failure> {
    let ports = publish(spec, forwarder)?;
    let group = prepare_group(spec)?;
    let into = || enter_pid_namespace(spec);
    let inside = |channel: &Channel, streams| child::run(spec, channel, streams);
    let started = fork_with(spec, &into, &inside, &|pid: i32, channel: &Channel| {
        if let Some(group) = &group {
            minke_sys::cgroup::attach(group, pid).step("control group")?;
        }
        go(channel)?;
        expect(channel, b"network")?;
        if spec.at("network").text("mode") == "own" {
            network::set_up(pid, spec.at("network").items("endpoints"))?;
        }
        go(channel)
    });
    match started {
        Ok((pid, ends)) => Ok(Started { pid, ends, ports }),
        Err(failure) => {
            if let Some(group) = &group {
                let _ = minke_sys::cgroup::remove(group);
            }
            Err(failure)
        }
    }
}

/// Starts a further program in the container whose first process is `container`.
pub fn start_more(spec: &Value, container: i32) -> Result<(i32, Ends), Failure> {
    let into = || join_pid_namespace(container);
    let inside = |channel: &Channel, streams| child::run_more(spec, container, channel, streams);
    fork_with(spec, &into, &inside, &|pid: i32, channel: &Channel| {
        let group = spec.at("cgroup").text("path");
        if !group.is_empty() {
            minke_sys::cgroup::attach(Path::new(group), pid).step("control group")?;
        }
        go(channel)
    })
}

/// Forks into the process id namespace that `into` enters; the child runs `inside`, the parent `prepare`. Then
/// it waits until the child executed its program.
fn fork_with(
    spec: &Value,
    into: &dyn Fn() -> Result<(), Failure>,
    inside: &dyn Fn(&Channel, Option<child::Streams>) -> Failure,
    prepare: &dyn Fn(i32, &Channel) -> Result<(), Failure>,
) -> Result<(i32, Ends), Failure> {
    let (mut ends, streams) = streams(spec)?;
    let (ours, theirs) = Channel::pair().step("channel")?;
    let own = namespace::open_own(Namespace::Pid).step("open namespace")?;
    into()?;
    let forked = namespace::fork();
    let pid = match forked {
        Ok(Side::Parent(pid)) => {
            // Back, as a process whose children live elsewhere may have no threads.
            namespace::enter(own, Namespace::Pid).step("leave namespace")?;
            pid
        }
        Err(error) => {
            namespace::enter(own, Namespace::Pid).step("leave namespace")?;
            return Err(error).step("fork");
        }
        Ok(Side::Child) => {
            drop(ours);
            let failure = inside(&theirs, streams);
            let report = json!({ "code": failure.code, "text": failure.text });
            let _ = theirs.send(report.to_string().as_bytes(), &[]);
            namespace::exit_now(failure.code);
        }
    };
    drop((theirs, streams));
    let outcome = prepare(pid, &ours).and_then(|()| wait_for_exec(&ours, &mut ends));
    if let Err(failure) = outcome {
        // The child's own account is better than that the parent could not talk to it.
        let failure = last_words(&ours).unwrap_or(failure);
        let _ = minke_sys::process::kill(pid, minke_sys::signal::SIGKILL);
        let _ = minke_sys::process::wait(pid);
        return Err(failure);
    }
    Ok((pid, ends))
}

fn go(channel: &Channel) -> Result<(), Failure> {
    channel.send(b"go", &[]).step("talk to the container")
}

fn expect(channel: &Channel, word: &[u8]) -> Result<(), Failure> {
    match channel.receive().step("talk to the container")? {
        Received::Message(text, _) if text == word => Ok(()),
        Received::Message(text, _) => Err(failure_of(&text)),
        _ => Err(Failure::new(format_args!("the container's first process ended before it was set up"))),
    }
}

fn wait_for_exec(channel: &Channel, ends: &mut Ends) -> Result<(), Failure> {
    loop {
        match channel.receive().step("talk to the container")? {
            Received::Message(text, mut fds) if text == b"terminal" && !fds.is_empty() => {
                let manager = fds.remove(0);
                ends.outputs.push(minke_sys::file::duplicate(&manager).step("terminal")?);
                ends.input = Some(minke_sys::file::duplicate(&manager).step("terminal")?);
                ends.terminal = Some(manager);
            }
            Received::Message(text, _) => return Err(failure_of(&text)),
            Received::Nothing => {}
            // Closed by the exec.
            Received::Closed => return Ok(()),
        }
    }
}

fn last_words(channel: &Channel) -> Option<Failure> {
    channel.set_nonblocking(true).ok()?;
    match channel.receive().ok()? {
        Received::Message(text, _) if text.first() == Some(&b'{') => Some(failure_of(&text)),
        _ => None,
    }
}

fn failure_of(text: &[u8]) -> Failure {
    let report: Value = minke_wire::json::parse(text).unwrap_or(Value::Null);
    Failure::with_code(report.int("code", 128), format_args!("{}", report.text("text")))
}

fn streams(spec: &Value) -> Result<(Ends, Option<child::Streams>), Failure> {
    if spec.flag("tty") {
        return Ok((Ends { input: None, outputs: Vec::new(), terminal: None }, None));
    }
    let pipe = || minke_sys::process::pipe().step("pipe");
    let ((out_ours, out_theirs), (err_ours, err_theirs)) = (pipe()?, pipe()?);
    let (input, stdin) = if spec.flag("stdin") {
        let (theirs, ours) = pipe()?;
        (Some(ours), theirs)
    } else {
        (None, OwnedFd::from(minke_sys::file::open_to_read("/dev/null").step("/dev/null")?))
    };
    let ends = Ends { input, outputs: vec![out_ours, err_ours], terminal: None };
    Ok((ends, Some([stdin, out_theirs, err_theirs])))
}

/// The next child of this process lives in the container's process id namespace.
fn enter_pid_namespace(spec: &Value) -> Result<(), Failure> {
    match spec.at("pid").text("mode") {
        "host" => Ok(()),
        "join" => join_pid_namespace(spec.at("pid").int("pid", 0)),
        _ => namespace::unshare(&[Namespace::Pid]).step("make namespaces"),
    }
}

fn join_pid_namespace(pid: i32) -> Result<(), Failure> {
    let fd = namespace::open(pid, Namespace::Pid).step("join namespace")?;
    namespace::enter(fd, Namespace::Pid).step("join namespace")
}

/// Makes the container's control group and sets its limits. A controller that the kernel lacks is no reason
/// not to run (`SwapLimit` and the like are reported as absent by `/info` as well).
fn prepare_group(spec: &Value) -> Result<Option<std::path::PathBuf>, Failure> {
    let path = spec.at("cgroup").text("path");
    if path.is_empty() {
        return Ok(None);
    }
    let group = Path::new(path);
    if let Err(error) = minke_sys::cgroup::create(group) {
        minke_applet::log::warn(format_args!(
            "container {} runs without a control group: {error}",
            spec.text("id")
        ));
        return Ok(None);
    }
    for (file, value) in spec.at("cgroup").entries("settings") {
        if let Err(error) = minke_sys::cgroup::set(group, file, value.as_str().unwrap_or("")) {
            minke_applet::log::warn(format_args!(
                "container {} runs without this limit: {error}",
                spec.text("id")
            ));
        }
    }
    if let Some(rules) = super::devices::rules(spec)
        && let Err(error) = minke_sys::device_filter::attach(group, &rules)
    {
        minke_applet::log::warn(format_args!("container {} may use all devices: {error}", spec.text("id")));
    }
    Ok(Some(group.to_owned()))
}

fn publish(spec: &Value, forwarder: &mut Forwarder) -> Result<Vec<Value>, Failure> {
    let mut published = Vec::new();
    for port in spec.at("network").items("ports") {
        let protocol = if port.text("key").ends_with("/udp") { "udp" } else { "tcp" };
        let host = address(port, "host_ip", "host_port");
        let bound = forwarder.publish(protocol, &host, &address(port, "address", "port"))?;
        published.push(json!({ "port": port.text("key"), "ip": host.ip().to_string(), "host_port": bound }));
    }
    Ok(published)
}

/// The address in two members; 0.0.0.0 unless told.
fn address(port: &Value, ip: &str, number: &str) -> SocketAddr {
    let ip = port.text(ip).parse().unwrap_or(IpAddr::from([0, 0, 0, 0]));
    SocketAddr::new(ip, u16::try_from(port.number(number)).unwrap_or(0))
}
