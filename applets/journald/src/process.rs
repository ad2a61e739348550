//! Who a process is: its name and its unit, from `/proc`.

use minke_sys::file::read_bounded;
use std::path::Path;
use std::rc::Rc;

/// How long what was read about a process counts, in microseconds: it may change its name, and process ids are
/// used again.
const FRESH: u64 = 1_000_000;
/// Processes that are remembered at a time.
const KNOWN: usize = 64;

/// What `/proc` says about a process. Parts are missing when it has ended already.
#[derive(Debug, Default)]
pub struct Process {
    /// The name of its program, at most 15 bytes (`comm`, proc(5)).
    pub name: Option<Box<[u8]>>,
    /// Its unit, by its control group.
    pub unit: Option<Box<[u8]>>,
}

/// Processes that wrote lately.
#[derive(Debug, Default)]
pub struct Processes {
    known: Vec<(i32, u64, Rc<Process>)>,
}

impl Processes {
    /// Who `pid` is at the time `now` (microseconds since boot).
    pub fn get(&mut self, pid: i32, now: u64) -> Rc<Process> {
        self.known.retain(|(_, read, _)| now.saturating_sub(*read) < FRESH);
        if let Some((.., process)) = self.known.iter().find(|(known, ..)| *known == pid) {
            return Rc::clone(process);
        }
        if self.known.len() >= KNOWN {
            // They stand in the order in which they were read.
            self.known.remove(0);
        }
        let process = Rc::new(read(pid));
        self.known.push((pid, now, Rc::clone(&process)));
        process
    }
}

fn read(pid: i32) -> Process {
    let file = |name: &str| read_bounded(Path::new(&format!("/proc/{pid}/{name}")), 16 << 10).ok();
    let name = file("comm").map(|comm| comm.strip_suffix(b"\n").unwrap_or(&comm).into());
    let unit = file("cgroup").and_then(|content| unit_of_groups(&content).map(Into::into));
    Process { name, unit }
}

/// The unit that the content of `/proc/PID/cgroup` names: the first folder below the slices, if its name is that
/// of a unit. Only the unified hierarchy (`0::`) counts (cgroups(7)).
fn unit_of_groups(content: &[u8]) -> Option<&[u8]> {
    let path = content.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::/"))?;
    let folder = path.split(|byte| *byte == b'/').find(|folder| !folder.ends_with(b".slice"))?;
    let kinds: [&[u8]; 5] = [b".service", b".scope", b".socket", b".mount", b".swap"];
    kinds.iter().any(|kind| folder.len() > kind.len() && folder.ends_with(kind)).then_some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_in_control_groups() {
        let unit = |text: &'static str| {
            unit_of_groups(text.as_bytes()).map(|unit| std::str::from_utf8(unit).unwrap())
        };
        assert_eq!(unit("0::/system.slice/balena.service/supervise\n"), Some("balena.service"));
        assert_eq!(unit("1:name=systemd:/x\n0::/a.slice/a-b.slice/x@1.service\n"), Some("x@1.service"));
        assert_eq!(unit("0::/init.scope\n"), Some("init.scope"));
        for none in ["0::/\n", "0::/system.slice\n", "0::/balena/0123\n", "", "0::/.service"] {
            assert_eq!(unit(none), None, "{none}");
        }
    }

    #[test]
    fn this_process_has_a_name_and_the_table_is_bounded() {
        let mut processes = Processes::default();
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(processes.get(me, 0).name.is_some());
        for pid in 0..1_000 {
            let _ = processes.get(-pid, 5);
        }
        assert_eq!(processes.known.len(), KNOWN);
    }
}
