//! Messages of services about themselves: sd_notify(3).

use crate::manager::Manager;
use crate::manager::runtime::Word;
use crate::unit::{NotifyAccess, Type};
use minke_sys::socket::{self, Received};
use minke_sys::{Result, file};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use super::launch::NOTIFY_SOCKET;

/// Bytes of one message.
const MESSAGE_LIMIT: usize = 4096;
/// Bytes of `STATUS=` that are kept.
const STATUS_LIMIT: usize = 256;

/// Opens the socket that `NOTIFY_SOCKET` names.
pub fn listen() -> Result<UnixDatagram> {
    let path = Path::new(NOTIFY_SOCKET);
    if let Some(folder) = path.parent() {
        file::make_folder(folder, 0o755)?;
    }
    // Services under their own users notify too; who a message is from is the kernel's word.
    let socket = minke_control::socket::datagrams(path, 0o777)?;
    socket::pass_credentials(&socket)?;
    Ok(socket.into())
}

/// A message and who sent it.
#[derive(Debug)]
pub struct Message {
    /// The sender.
    pub pid: i32,
    /// `NAME=VALUE` lines.
    pub text: String,
    /// Descriptors for the store.
    pub descriptors: Vec<OwnedFd>,
}

/// The next message, if one waits.
pub fn take(socket: &UnixDatagram) -> Option<Message> {
    let mut buffer = [0u8; MESSAGE_LIMIT];
    loop {
        let Received { length, truncated, credentials, descriptors } =
            socket::receive(socket, &mut buffer).ok().flatten()?;
        if let (Some(sender), false) = (credentials, truncated) {
            let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
            return Some(Message { pid: sender.pid, text, descriptors });
        }
    }
}

/// The unit that a process belongs to: by PID 1's own knowledge, else by its control group.
fn unit_of(manager: &Manager, pid: i32) -> Option<String> {
    if let Some(name) = manager.owner(pid) {
        return Some(name.to_owned());
    }
    let text = crate::read_text(Path::new(&format!("/proc/{pid}/cgroup")), 4096);
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let (_, below) = minke_wire::text::split_once(path, "/system.slice/")?;
    below.split('/').next().map(str::to_owned)
}

/// The unit that a message of this process counts for.
pub fn sender(manager: &Manager, pid: i32) -> Option<String> {
    let name = unit_of(manager, pid)?;
    let slot = manager.units().get(&name)?;
    let service = slot.unit.service.as_ref()?;
    let main = slot.runtime.main == Some(pid);
    let accepted = match service.notify_access {
        NotifyAccess::All => true,
        NotifyAccess::None => false,
        NotifyAccess::Exec => slot.runtime.owns(pid),
        NotifyAccess::Main => main,
        NotifyAccess::Default => main && (service.kind == Type::Notify || service.watchdog.is_some()),
    };
    accepted.then_some(name)
}

/// The words of a message; what is unknown is skipped.
pub fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    text.lines().filter_map(word)
}

fn word(line: &str) -> Option<Word<'_>> {
    let (name, value) = line.split_once('=')?;
    let number = minke_wire::text::number::<u64>(value);
    let micros = number.map(Duration::from_micros);
    Some(match (name, value) {
        ("READY", "1") => Word::Ready,
        ("WATCHDOG", "1") => Word::Alive,
        ("WATCHDOG", "trigger") => Word::Hung,
        ("WATCHDOG_USEC", _) => Word::WatchdogInterval(micros?),
        ("STATUS", _) => {
            let end = value.char_indices().map(|(at, _)| at).find(|at| *at >= STATUS_LIMIT);
            Word::Status(end.and_then(|end| value.get(..end)).unwrap_or(value))
        }
        ("MAINPID", _) => Word::MainPid(i32::try_from(number?).ok().filter(|pid| *pid > 1)?),
        ("EXTEND_TIMEOUT_USEC", _) => Word::Extend(micros?),
        ("FDSTORE", "1") => Word::Store,
        ("FDSTOREREMOVE", "1") => Word::StoreRemove,
        ("FDNAME", _) => Word::StoreName(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_message() {
        let found: Vec<_> =
            words("READY=1\nSTATUS=up\nMAINPID=1\nMAINPID=7\nX=1\nWATCHDOG_USEC=5\nnoise").collect();
        let expected = [
            Word::Ready,
            Word::Status("up"),
            Word::MainPid(7),
            Word::WatchdogInterval(Duration::from_micros(5)),
        ];
        assert_eq!(found, expected);
        let long = format!("STATUS={}", "é".repeat(400));
        assert!(matches!(words(&long).next(), Some(Word::Status(text)) if text.len() <= STATUS_LIMIT + 1));
    }
}
