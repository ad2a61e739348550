//! The first process of a container: what happens between the fork and the execution of its program. It runs
//! in a process with one thread (`minke_sys::namespace::fork` sees to that) and tells its parent, the shim,
//! by a channel that closes at the exec.

use super::failure::{Failure, Step};
use super::{mounts, user};
use crate::fields::Fields;
use minke_sys::Errno;
use minke_sys::capability::{self, Capabilities};
use minke_sys::channel::{Channel, Received};
use minke_sys::namespace::{self, Namespace};
use minke_wire::json::Value;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// The longest passwd or group file that is read.
const ACCOUNT_LIMIT: usize = 1 << 20;

/// The three standard streams of the container's first process when it has no terminal.
pub type Streams = [OwnedFd; 3];

/// Becomes the container's first process. Comes back only with the reason why that failed.
pub fn run(spec: &Value, parent: &Channel, streams: Option<Streams>) -> Failure {
    match set_up(spec, parent, streams) {
        Ok(program) => execute(&program),
        Err(failure) => failure,
    }
}

/// What is executed.
pub struct Program {
    path: String,
    arguments: Vec<String>,
    environment: Vec<String>,
    init: bool,
}

fn set_up(spec: &Value, parent: &Channel, streams: Option<Streams>) -> Result<Program, Failure> {
    namespace::die_with_parent().step("set up")?;
    wait_for_go(parent)?;
    enter_namespaces(spec)?;
    parent.send(b"network", &[]).step("talk to the shim")?;
    wait_for_go(parent)?;
    namespace::new_session().step("start a session")?;
    if !spec.text("hostname").is_empty() && !spec.flag("uts_host") {
        minke_sys::process::set_host_name(spec.text("hostname")).step("set the host name")?;
        if !spec.text("domainname").is_empty() {
            namespace::set_domain_name(spec.text("domainname")).step("set the domain name")?;
        }
    }
    minke_sys::file::write("/proc/self/oom_score_adj", spec.number("oom_score_adj").to_string())
        .or_else(|error| {
            // Without CAP_SYS_RESOURCE a score cannot go below that of the engine.
            if error.errno == minke_sys::Errno::ACCESS { Ok(()) } else { Err(error) }
        })
        .step("set the OOM score")?;
    namespace::set_umask(0o022);
    mounts::build(spec)?;
    take_streams(parent, streams, true)?;
    become_user(spec)
}

fn wait_for_go(parent: &Channel) -> Result<(), Failure> {
    match parent.receive().step("talk to the shim")? {
        Received::Message(..) => Ok(()),
        Received::Nothing | Received::Closed => Err(Failure::new(format_args!("the shim went away"))),
    }
}

fn enter_namespaces(spec: &Value) -> Result<(), Failure> {
    let mut fresh = vec![Namespace::Mount, Namespace::Cgroup];
    if !spec.flag("uts_host") {
        fresh.push(Namespace::Uts);
    }
    let mut joined = Vec::new();
    for &(kind, key) in &[(Namespace::Network, "network"), (Namespace::Ipc, "ipc")] {
        match spec.at(key).text("mode") {
            "host" => {}
            "join" => {
                let pid = spec.at(key).int("pid", 0);
                joined.push((namespace::open(pid, kind).step("join namespace")?, kind));
            }
            _ => fresh.push(kind),
        }
    }
    join(joined)?;
    match namespace::unshare(&fresh) {
        // A kernel without cgroup namespaces: containers see the host's tree, read-only.
        Err(error) if error.errno == Errno::INVAL => {
            fresh.retain(|kind| *kind != Namespace::Cgroup);
            namespace::unshare(&fresh).step("make namespaces")
        }
        other => other.step("make namespaces"),
    }
}

/// Opens a terminal of the container's own devpts, hands its manager to the shim and stands on it.
fn open_terminal(parent: &Channel, with_console: bool) -> Result<(), Failure> {
    let (manager, terminal) =
        minke_sys::terminal::open(Path::new("/dev/pts/ptmx")).step("open a terminal")?;
    if with_console {
        let path = minke_sys::terminal::path(&terminal).step("open a terminal")?;
        let console = Path::new("/dev/console");
        minke_sys::file::write(console, "").step("make /dev/console")?;
        minke_sys::mount::bind(Path::new(&path), console, false).step("make /dev/console")?;
    }
    parent.send(b"terminal", &[manager.as_fd()]).step("hand over the terminal")?;
    minke_sys::terminal::set_controlling(&terminal).step("take the terminal")?;
    namespace::set_standard_streams([&terminal, &terminal, &terminal]).step("set up streams")
}

/// Sets limits, user and capabilities, and finds the program.
fn become_user(spec: &Value) -> Result<Program, Failure> {
    for limit in spec.items("rlimits") {
        let (soft, hard) = (limit.number("soft"), limit.number("hard"));
        set_limit(limit.text("name"), soft, hard)?;
    }
    let (users, groups) = (read_accounts("/etc/passwd"), read_accounts("/etc/group"));
    let account = user::resolve(spec.text("user"), &spec.texts("groups"), &users, &groups)
        .map_err(|text| Failure::new(format_args!("{text}")))?;
    let mut environment = spec.texts("env");
    if !environment.iter().any(|entry| entry.starts_with("HOME=")) {
        environment.push(format!("HOME={}", account.home));
    }
    let folder = match spec.text("cwd") {
        "" => "/",
        folder => folder,
    };
    let wanted = Capabilities(u64::try_from(spec.number("capabilities")).unwrap_or(0));
    drop_privileges(wanted, &account, spec.flag("no_new_privileges"))?;
    namespace::change_folder(Path::new(folder)).step("working directory")?;
    let arguments = spec.texts("args");
    let path = find_program(arguments.first().map_or("", String::as_str), &environment)?;
    Ok(Program { path, arguments, environment, init: spec.flag("init") })
}

fn read_accounts(path: &str) -> String {
    let bytes = minke_sys::file::read_optional(Path::new(path), ACCOUNT_LIMIT).ok().flatten();
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

fn drop_privileges(wanted: Capabilities, account: &user::User, no_new: bool) -> Result<(), Failure> {
    let have = capability::permitted().step("capabilities")?;
    let keep = wanted.and(have);
    // Which capabilities a program gets by its exec is bounded first, while SETPCAP is still there.
    capability::limit_bounding_set(keep).step("capabilities")?;
    capability::keep_over_user_change(true).step("capabilities")?;
    capability::set_user(account.uid, account.gid, &account.groups).step("change user")?;
    capability::keep_over_user_change(false).step("capabilities")?;
    // Root gets the bounding set by its exec anyway; other users start without, as the reference has it.
    let now = if account.uid == 0 { keep } else { Capabilities::NONE };
    capability::set(now, now).step("capabilities")?;
    // A change of user takes this away (prctl(2), PR_SET_PDEATHSIG).
    namespace::die_with_parent().step("set up")?;
    if no_new { capability::no_new_privileges().step("no_new_privs") } else { Ok(()) }
}

fn set_limit(name: &str, soft: i64, hard: i64) -> Result<(), Failure> {
    let value = |number: i64| u64::try_from(number).ok();
    minke_sys::limit::set(name, value(soft), value(hard)).step("ulimit")
}

/// The file that `name` means: itself when it holds a slash, else by the search path of `environment`.
fn find_program(name: &str, environment: &[String]) -> Result<String, Failure> {
    if name.is_empty() {
        return Err(Failure::not_in_path(name));
    }
    if name.contains('/') {
        return Ok(name.to_owned());
    }
    let path = environment.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or("");
    let mut denied = None;
    for folder in path.split(':') {
        let candidate = format!("{}/{name}", if folder.is_empty() { "." } else { folder });
        match minke_sys::limit::may_execute(Path::new(&candidate)) {
            Ok(()) => return Ok(candidate),
            Err(error) if error.errno == Errno::ACCESS => denied = Some(Failure::exec(name, Errno::ACCESS)),
            Err(_) => {}
        }
    }
    Err(denied.unwrap_or_else(|| Failure::not_in_path(name)))
}

/// Executes the program; returns only when that failed.
fn execute(program: &Program) -> Failure {
    // The small init is this same program, which the container's /proc still leads to.
    let by_init = ["engine-init", &program.path];
    let (name, path, before) = if program.init {
        ("engine-init", "/proc/self/exe", &by_init[..])
    } else {
        (program.path.as_str(), program.path.as_str(), &[][..])
    };
    let (words, environment) = (c_strings(before, &program.arguments), c_strings(&[], &program.environment));
    match (CString::new(path), words, environment) {
        (Ok(path), Some(words), Some(environment)) => exec(name, &path, &words, &environment),
        _ => Failure::exec(&program.path, Errno::INVAL),
    }
}

fn c_strings(first: &[&str], rest: &[String]) -> Option<Vec<CString>> {
    let mut list = Vec::new();
    for text in first {
        list.push(CString::new(*text).ok()?);
    }
    for text in rest {
        list.push(CString::new(text.as_str()).ok()?);
    }
    Some(list)
}

/// Executes a program; `name` is what the failure calls it.
pub fn exec(name: &str, path: &CStr, arguments: &[CString], environment: &[CString]) -> Failure {
    match minke_sys::process::execute(path, arguments, environment) {
        Ok(()) => Failure::new(format_args!("exec returned")),
        Err(error) => Failure::exec(name, error.errno),
    }
}

/// Runs a further program in a container that runs: `exec`. As [`run`], from a fork that is already in the
/// container's process id namespace.
pub fn run_more(spec: &Value, container: i32, parent: &Channel, streams: Option<Streams>) -> Failure {
    match enter(spec, container, parent, streams) {
        Ok(program) => execute(&program),
        Err(failure) => failure,
    }
}

fn enter(
    spec: &Value,
    container: i32,
    parent: &Channel,
    streams: Option<Streams>,
) -> Result<Program, Failure> {
    wait_for_go(parent)?;
    let mut open = Vec::new();
    for &kind in &[Namespace::Cgroup, Namespace::Ipc, Namespace::Uts, Namespace::Network, Namespace::Mount] {
        open.push((namespace::open(container, kind).step("open namespace")?, kind));
    }
    join(open)?;
    namespace::new_session().step("start a session")?;
    take_streams(parent, streams, false)?;
    become_user(spec)
}

fn join(namespaces: Vec<(OwnedFd, Namespace)>) -> Result<(), Failure> {
    for (fd, kind) in namespaces {
        namespace::enter(fd, kind).step("join namespace")?;
    }
    Ok(())
}

/// Stands on the pipes, or on a terminal of its own.
fn take_streams(parent: &Channel, streams: Option<Streams>, with_console: bool) -> Result<(), Failure> {
    match streams {
        Some([input, output, error]) => {
            namespace::set_standard_streams([&input, &output, &error]).step("set up streams")
        }
        None => open_terminal(parent, with_console),
    }
}
