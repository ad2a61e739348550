//! Resource limits by name, setrlimit(2), and whether a file may be executed, access(2).

use crate::path::name;
use crate::{Context, Error, Result};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use std::path::Path;

/// The names as `ulimits` of compose files and systemd's `Limit…=` have them, in lower case.
const NAMES: [(&str, Resource); 16] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// Whether there is a limit of this name.
pub fn is_name(name: &str) -> bool {
    NAMES.iter().any(|(known, _)| *known == name)
}

/// Sets soft and hard limit of this process; `None` is unlimited. `EINVAL` for an unknown name.
pub fn set(name: &str, soft: Option<u64>, hard: Option<u64>) -> Result<()> {
    let resource = NAMES.iter().find(|(known, _)| *known == name).map(|(_, resource)| *resource);
    let resource = resource.ok_or_else(|| Error::new("set limit", name, Errno::INVAL))?;
    rustix::process::setrlimit(resource, Rlimit { current: soft, maximum: hard }).context("set limit", name)
}

/// Whether this process, with its effective user, may execute the file: `EACCES`, `ENOENT`, `EISDIR`.
pub fn may_execute(path: &Path) -> Result<()> {
    let access = rustix::fs::Access::EXEC_OK;
    rustix::fs::accessat(rustix::fs::CWD, name(path), access, rustix::fs::AtFlags::EACCESS)
        .on("execute", path)?;
    if crate::status::is_dir(path) { Err(Errno::ISDIR).on("execute", path) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_by_name() {
        assert!(is_name("nofile") && !is_name("nofiles"));
        assert_eq!(set("nope", None, None).unwrap_err().errno, Errno::INVAL);
        let now = rustix::process::getrlimit(Resource::Core);
        set("core", now.current, now.maximum).unwrap();
    }

    #[test]
    fn folders_are_no_programs() {
        assert_eq!(may_execute(Path::new("/")).unwrap_err().errno, Errno::ISDIR);
        assert_eq!(may_execute(Path::new("/nowhere")).unwrap_err().errno, Errno::NOENT);
        may_execute(Path::new("/bin/sh")).unwrap();
    }
}
