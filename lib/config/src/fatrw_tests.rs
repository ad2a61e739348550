//! Every power cut of a write, and every power cut of the read that finishes it, on a model of a disk that
//! loses, tears and reorders what was not synced.

use super::*;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;

type Disk = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Clone)]
enum Operation {
    Write(String, Vec<u8>),
    Rename(String, String),
    Remove(String),
    /// Everything before it is on the disk.
    Barrier,
}

/// A folder in memory that records its operations and can be full or read-only.
#[derive(Default)]
struct Recorder {
    disk: Disk,
    log: Vec<Operation>,
    room: Option<usize>,
    read_only: bool,
}

impl Recorder {
    fn on(disk: &Disk) -> Self {
        Self { disk: disk.clone(), ..Self::default() }
    }

    fn apply(&mut self, operation: Operation) -> Result<()> {
        if self.read_only {
            return Err(Error::new("write", "model", Errno::ROFS));
        }
        if let (Operation::Write(name, content), Some(room)) = (&operation, self.room) {
            let others: usize = self.disk.iter().filter(|(n, _)| *n != name).map(|(_, c)| c.len()).sum();
            if others + content.len() > room {
                self.disk.insert(name.clone(), Vec::new());
                return Err(Error::new("write", "model", Errno::NOSPC));
            }
        }
        replay(&mut self.disk, &operation, Damage::Done);
        self.log.push(operation);
        Ok(())
    }
}

impl Files for Recorder {
    fn names(&self) -> Result<Vec<String>> {
        Ok(self.disk.keys().cloned().collect())
    }
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.disk.get(name).cloned())
    }
    fn create(&mut self, name: &str, content: &[u8], _: Option<u32>) -> Result<()> {
        self.apply(Operation::Write(name.into(), content.into()))
    }
    fn overwrite(&mut self, name: &str, content: &[u8], _: Option<u32>) -> Result<()> {
        self.apply(Operation::Write(name.into(), content.into()))
    }
    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        self.apply(Operation::Rename(from.into(), to.into()))
    }
    // A model without this barrier is the harder one: the name is durable only with the folder.
    fn sync(&mut self, _: &str) -> Result<()> {
        Ok(())
    }
    fn remove(&mut self, name: &str) -> Result<()> {
        self.apply(Operation::Remove(name.into()))
    }
    fn sync_folder(&mut self) -> Result<()> {
        self.apply(Operation::Barrier)
    }
}

/// What a power cut makes of an operation that was not synced.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Done,
    Lost,
    /// Write: half of it. Rename: the target is gone, the source stays.
    Half,
    /// Write: an empty file. Rename: both names.
    Odd,
    /// Rename and removal: the names stay as they were, but the clusters are free: an empty file.
    Freed,
}

fn replay(disk: &mut Disk, operation: &Operation, damage: Damage) {
    match (operation, damage) {
        (_, Damage::Lost) | (Operation::Barrier, _) => {}
        (Operation::Write(name, content), damage) => {
            let kept = match damage {
                Damage::Half => content.len() / 2,
                Damage::Odd => 0,
                _ => content.len(),
            };
            disk.insert(name.clone(), content[..kept].to_vec());
        }
        (Operation::Rename(_, freed) | Operation::Remove(freed), Damage::Freed) => {
            if let Some(content) = disk.get_mut(freed) {
                content.clear();
            }
        }
        (Operation::Rename(_, to), Damage::Half) => {
            disk.remove(to);
        }
        (Operation::Rename(from, to), damage) => {
            if let Some(content) = disk.get(from).cloned() {
                disk.insert(to.clone(), content);
                if !matches!(damage, Damage::Odd) {
                    disk.remove(from);
                }
            }
        }
        (Operation::Remove(name), _) => {
            disk.remove(name);
        }
    }
}

/// All disks that a power cut somewhere in `log` can leave.
fn cuts(before: &Disk, log: &[Operation]) -> Vec<Disk> {
    let mut left = BTreeSet::new();
    for end in 0..=log.len() {
        let run = &log[..end];
        let synced = run.iter().rposition(|op| matches!(op, Operation::Barrier)).map_or(0, |at| at + 1);
        let mut base = before.clone();
        run[..synced].iter().for_each(|operation| replay(&mut base, operation, Damage::Done));
        let pending = &run[synced..];
        for choice in 0..5usize.pow(u32::try_from(pending.len()).unwrap()) {
            let mut disk = base.clone();
            let mut choice = choice;
            for operation in pending {
                let damage =
                    [Damage::Done, Damage::Lost, Damage::Half, Damage::Odd, Damage::Freed][choice % 5];
                replay(&mut disk, operation, damage);
                choice /= 5;
            }
            left.insert(disk);
        }
    }
    left.into_iter().collect()
}

const NAME: &str = "config.json";
const OLD: &[u8] = br#"{"uuid":"0123456789abcdef0123456789abcdef","developmentMode":true}"#;
const NEW: &[u8] = br#"{"uuid":"fedcba98"}"#;

fn old_disk() -> Disk {
    BTreeMap::from([(NAME.to_owned(), OLD.to_vec()), ("cmdline.txt".to_owned(), b"x".to_vec())])
}

#[test]
fn a_cut_anywhere_leaves_the_old_or_the_new_content_whole() {
    let mut writer = Recorder::on(&old_disk());
    write_in(&mut writer, NAME, NEW, None, WhenFull::Fail, 0xdead_beef).unwrap();
    assert_eq!(writer.disk[NAME], NEW);
    assert_eq!(writer.disk.len(), 2, "{:?}", writer.disk.keys());
    let states = cuts(&old_disk(), &writer.log);
    assert!(states.len() >= 10, "{}", states.len());
    let mut seen = BTreeSet::new();
    for state in &states {
        let mut reader = Recorder::on(state);
        let first = read_in(&mut reader, NAME).unwrap().unwrap();
        assert!(first == OLD || first == NEW, "{state:?}");
        seen.insert(first.clone());
        assert_eq!(reader.disk.len(), 2, "leftovers of {state:?}");
        // The power goes again while the read finishes the write.
        for again in cuts(state, &reader.log) {
            let mut reader = Recorder::on(&again);
            let second = read_in(&mut reader, NAME).unwrap().unwrap();
            assert!(second == first || second == NEW, "{state:?} then {again:?}");
            assert_eq!(reader.disk[NAME], second);
            assert_eq!(reader.disk.len(), 2);
        }
    }
    assert_eq!(seen.len(), 2, "both outcomes occur");
}

#[test]
fn what_was_acknowledged_stays() {
    let mut writer = Recorder::on(&old_disk());
    write_in(&mut writer, NAME, NEW, None, WhenFull::Fail, 1).unwrap();
    let mut reader = Recorder::on(&writer.disk);
    assert_eq!(read_in(&mut reader, NAME).unwrap().unwrap(), NEW);
}

#[test]
fn the_model_finds_a_missing_sync() {
    // The protocol without its barriers: the same check must fail, or it proves nothing.
    let mut writer = Recorder::on(&old_disk());
    write_in(&mut writer, NAME, NEW, None, WhenFull::Fail, 1).unwrap();
    let careless: Vec<Operation> =
        writer.log.into_iter().filter(|operation| !matches!(operation, Operation::Barrier)).collect();
    let bad = cuts(&old_disk(), &careless).into_iter().any(|state| {
        let content = read_in(&mut Recorder::on(&state), NAME).unwrap();
        content.as_deref() != Some(OLD) && content.as_deref() != Some(NEW)
    });
    assert!(bad);
}

#[test]
fn the_first_write_leaves_nothing_or_everything() {
    let mut writer = Recorder::default();
    write_in(&mut writer, NAME, NEW, None, WhenFull::Fail, 1).unwrap();
    for state in cuts(&Disk::new(), &writer.log) {
        let content = read_in(&mut Recorder::on(&state), NAME).unwrap();
        assert!(content.is_none() || content.as_deref() == Some(NEW), "{state:?}");
    }
}

#[test]
fn a_full_disk_keeps_the_old_content() {
    let room = OLD.len() + 1 + NEW.len() / 2;
    let mut files = Recorder { room: Some(room), ..Recorder::on(&old_disk()) };
    let error = write_in(&mut files, NAME, NEW, None, WhenFull::Fail, 1).unwrap_err();
    assert_eq!(error.errno, Errno::NOSPC);
    assert_eq!(files.disk, old_disk());
    // Room for one copy and not for two.
    let mut files = Recorder { room: Some(room + NEW.len()), ..Recorder::on(&old_disk()) };
    write_in(&mut files, NAME, NEW, None, WhenFull::Fail, 1).unwrap_err();
    assert_eq!(files.disk, old_disk());
    for extra in [0, NEW.len()] {
        let mut files = Recorder { room: Some(room + extra), ..Recorder::on(&old_disk()) };
        write_in(&mut files, NAME, NEW, None, WhenFull::Unprotected, 1).unwrap();
        assert_eq!(files.disk[NAME], NEW);
        assert_eq!(files.disk.len(), 2);
    }
}

#[test]
fn a_read_only_disk_still_gives_the_newer_content() {
    let mut disk = old_disk();
    disk.insert(format!(".{NAME}.00000001.{}.md5sum", md5::hex(NEW)), NEW.to_vec());
    let mut files = Recorder { read_only: true, ..Recorder::on(&disk) };
    assert_eq!(read_in(&mut files, NAME).unwrap().unwrap(), NEW);
    assert_eq!(files.disk, disk);
}

#[test]
fn a_torn_copy_is_dropped_and_a_later_write_wins_over_an_interrupted_one() {
    let mut disk = old_disk();
    disk.insert(format!(".{NAME}.00000001.{}.md5sum", md5::hex(NEW)), b"torn".to_vec());
    disk.insert(format!(".{NAME}.00000001.{}.tmp", md5::hex(NEW)), b"".to_vec());
    let mut files = Recorder::on(&disk);
    assert_eq!(read_in(&mut files, NAME).unwrap().unwrap(), OLD);
    assert_eq!(files.disk, old_disk());
    disk.insert(format!(".{NAME}.00000002.{}.md5sum", md5::hex(NEW)), NEW.to_vec());
    let mut files = Recorder::on(&disk);
    write_in(&mut files, NAME, b"{}", None, WhenFull::Fail, 3).unwrap();
    assert_eq!(read_in(&mut files, NAME).unwrap().unwrap(), b"{}");
}

#[test]
fn names_that_are_no_copies() {
    let digest = "0".repeat(32);
    assert!(is_leftover("a.json", &format!(".a.json.12345678.{digest}.md5sum")));
    assert!(is_leftover("a.json", &format!(".a.json.12345678.{digest}.tmp")));
    for other in ["a.json", ".a.json.tmp", ".a.json.md5sum", ".b.json.12345678.0.md5sum"] {
        assert!(!is_leftover("a.json", other), "{other}");
    }
    assert!(!is_leftover("a.json", &format!(".a.json.bak.12345678.{digest}.md5sum")));
}

#[test]
fn each_cut_on_a_real_folder() {
    let base = std::env::temp_dir().join(format!("minke-fatrw-{}", std::process::id()));
    let mut writer = Recorder::on(&old_disk());
    write_in(&mut writer, NAME, NEW, None, WhenFull::Fail, 0x0bad_cafe).unwrap();
    for state in cuts(&old_disk(), &writer.log) {
        let _ = std::fs::remove_dir_all(&base);
        std::fs::create_dir(&base).unwrap();
        for (name, content) in &state {
            std::fs::write(base.join(name), content).unwrap();
        }
        let path = base.join(NAME);
        let content = read(&path).unwrap().unwrap();
        assert!(content == OLD || content == NEW);
        assert_eq!(std::fs::read(&path).unwrap(), content);
        assert_eq!(std::fs::read_dir(&base).unwrap().count(), 2);
        write(&path, b"after", Some(0o600), WhenFull::Fail).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"after");
        copy(&path, &base.join("copy"), None, WhenFull::Fail).unwrap();
        assert_eq!(std::fs::metadata(base.join("copy")).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert!(read(&base.join("none")).unwrap().is_none());
    assert!(read(&base.join("no-folder/none")).unwrap().is_none());
    std::fs::remove_dir_all(&base).unwrap();
}
