//! What is to be done on the boot partition, and whether there is room for it.

use super::no_room;
use minke_boot::Chain;
use minke_sys::{Errno, Error, Result, file, status};
use minke_wire::text::{number, split_once};
use std::path::Path;

/// Files that are their owner's, or the boot loader's: never overwritten; `true`: made when missing.
const PROTECTED: [(&str, bool); 11] = [
    ("config.json", false),
    ("config.txt", false),
    ("splash/balena-logo.png", false),
    ("extra_uEnv.txt", true),
    ("grub_extraenv", true),
    ("configfs.json", false),
    ("hw_intfc.conf", false),
    ("bootenv", true),
    // The selection is the last step's.
    ("grubenv", true),
    ("resinOS_uEnv.txt", true),
    ("bootcount.env", true),
];

/// Made last, of what is there then.
pub const FINGERPRINT: &str = "balenaos.fingerprint";

/// The order of files that change: what starts earlier is written later.
const FIRMWARE: [&str; 4] = ["start", "fixup", "bootcode", "recovery"];
const LOADERS: [&str; 6] = ["kernel", "u-boot", "bootx64", "bootia32", "bootaa64", "uboot.env"];

/// The firmware's own files.
const LAST_STAGE: u8 = 3;

/// The most files, and how deep their folders lie.
const MOST: usize = 4096;
const DEPTH: usize = 8;

/// What is to be done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is not there.
    New,
    /// It is there with so many bytes of other content.
    Other(u64),
    /// It is as it should be.
    Same,
}

/// A file of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Below the boot partition.
    pub path: String,
    /// Its bytes.
    pub length: u64,
    /// What is to be done.
    pub state: State,
}

impl File {
    /// New names, then by stage.
    fn order(&self) -> u8 {
        let name = self.path.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        match self.state {
            State::New => 0,
            _ if FIRMWARE.iter().any(|start| name.starts_with(start)) => LAST_STAGE,
            _ if LOADERS.iter().any(|start| name.starts_with(start)) => 2,
            _ => 1,
        }
    }
}

/// Removes what cuts have left of earlier writes.
pub fn remove_leftovers(to: &Path) -> Result<()> {
    for file in walk(to)? {
        if is_leftover(&file.path) {
            file::remove_all(&to.join(&file.path))?;
        }
    }
    Ok(())
}

/// The files in the order in which they are written.
pub fn make(from: &Path, to: &Path) -> Result<Vec<File>> {
    let mut files = walk(from)?;
    // All releases for ARM have U-Boot's record. Beside another chain's it would be taken for the one that counts. And a
    // reference system has GRUB's elsewhere, where its hooks expect no second one.
    let record = Chain::UBoot.path(Path::new(""));
    let other_chain = Chain::find(to).is_ok_and(|chain| chain != Chain::UBoot);
    let other_place = Chain::Grub.path(to) != to.join("grubenv");
    files.retain(|file| {
        let second = other_chain && Path::new(&file.path) == record;
        !(second || other_place && file.path == "grubenv")
    });
    for file in &mut files {
        let (source, target) = (from.join(&file.path), to.join(&file.path));
        file.state = state(file, &target, &mut || is_same(&source, &target))?;
    }
    Ok(ordered(files))
}

/// Whether a file is what a write keeps beside another (`minke_boot::place`), be it one that no version has any more:
/// `.NAME.new`, or `IMAGE-~1.NEW`, the short name that stays when a cut has taken the long one.
fn is_leftover(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let short = || name.strip_suffix(".NEW").and_then(|stem| stem.split_once('~'));
    name.starts_with('.') && name.ends_with(".new")
        || short().is_some_and(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The same for files that are not there yet, by their list: a line each with MD5 sum, bytes and path. A line that is not
/// understood is left out.
pub fn of_list(list: &str, to: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for line in list.lines() {
        let Some((sum, (length, path))) =
            split_once(line, " ").and_then(|(sum, rest)| Some((sum, split_once(rest, " ")?)))
        else {
            continue;
        };
        let Some(length) = number(length) else { continue };
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            continue;
        }
        let target = to.join(path);
        let mut file = File { path: path.to_owned(), length, state: State::New };
        file.state =
            state(&file, &target, &mut || super::fingerprint::sum(&target).is_ok_and(|own| own == sum))?;
        files.push(file);
    }
    Ok(ordered(files))
}

/// What is to be done with a file; `same` tells whether what is there, which has its length, has its content.
fn state(file: &File, target: &Path, same: &mut dyn FnMut() -> bool) -> Result<State> {
    let protected = PROTECTED.iter().find(|(name, _)| *name == file.path);
    Ok(match (status::of(target), protected) {
        (Ok(_), Some(_)) | (Err(_), Some((_, false))) => State::Same,
        (Err(error), _) if error.errno == Errno::NOENT || error.errno == Errno::NOTDIR => State::New,
        (Err(error), _) => return Err(error),
        (Ok(there), None) if !there.is_file() => {
            return Err(Error::new("replace", target.display(), Errno::ISDIR));
        }
        (Ok(there), None) if there.length == file.length && same() => State::Same,
        (Ok(there), None) => State::Other(there.length),
    })
}

/// In the order in which they are written. (A sort of a type of its own is a kilobyte of code.)
fn ordered(mut files: Vec<File>) -> Vec<File> {
    let mut ordered = Vec::with_capacity(files.len());
    for stage in 0..=LAST_STAGE {
        for file in &mut files {
            if file.order() == stage {
                ordered.push(File { path: std::mem::take(&mut file.path), ..*file });
            }
        }
    }
    ordered
}

/// All regular files below a folder, but the fingerprint.
pub fn walk(top: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    walk_folder(top, &mut String::new(), DEPTH, &mut files)?;
    Ok(files)
}

fn walk_folder(top: &Path, folder: &mut String, depth: usize, files: &mut Vec<File>) -> Result<()> {
    for path in file::list(&top.join(&*folder))? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let status = status::of_link(&path)?;
        let (length, before) = (status.length, folder.len());
        if before > 0 {
            folder.push('/');
        }
        folder.push_str(name);
        if status.is_dir() && depth > 0 {
            walk_folder(top, folder, depth.saturating_sub(1), files)?;
        } else if status.is_file() && folder != FINGERPRINT && files.len() < MOST {
            files.push(File { path: folder.clone(), length, state: State::New });
        }
        folder.truncate(before);
    }
    Ok(())
}

/// Whether two files of the same length have the same content. What cannot be read has not.
fn is_same(one: &Path, other: &Path) -> bool {
    let (Ok(one), Ok(other)) = (file::open_to_read(one), file::open_to_read(other)) else { return false };
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        let more = (file::read_some(&one, &mut left), file::read_some(&other, &mut right));
        let common = left.len().min(right.len());
        if left.get(..common) != right.get(..common) {
            return false;
        }
        left.drain(..common);
        right.drain(..common);
        match more {
            (Ok(false), Ok(false)) => return left.is_empty() && right.is_empty(),
            (Ok(_), Ok(_)) => {}
            _ => return false,
        }
    }
}

/// Goes through all writes: each new content stands beside the old one for a while, and `reserve` stays free. `free` and
/// the clusters of `unit` bytes are the partition's.
pub fn fits(files: &[File], free: u64, unit: u64, reserve: u64) -> Result<()> {
    let unit = unit.max(1);
    let whole = |bytes: u64| bytes.div_ceil(unit).saturating_mul(unit);
    let mut free = free;
    let mut folders: Vec<&str> = Vec::new();
    for file in files.iter().filter(|file| file.state != State::Same) {
        // A folder of its own, and the name beside it, may take a cluster each.
        let mut needed = whole(file.length).saturating_add(unit);
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        if file.state == State::New && !folders.contains(&folder) {
            folders.push(folder);
            needed = needed.saturating_add(unit);
        }
        let wanted = needed.saturating_add(reserve);
        if free < wanted {
            return Err(no_room(&file.path, wanted.saturating_sub(free)));
        }
        free = free.saturating_sub(needed);
        if let State::Other(before) = file.state {
            free = free.saturating_add(whole(before)).saturating_add(unit);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, length: u64, state: State) -> File {
        File { path: path.into(), length, state }
    }

    #[test]
    fn what_cuts_have_left_goes_and_what_is_the_owners_stays() {
        for path in [".boot.scr.new", "EFI/BOOT/.grub.cfg.new", "IMAGE-~1.NEW", "overlays/A~12.NEW"] {
            assert!(is_leftover(path), "{path}");
        }
        for path in [
            "config.new",
            "mine~1.new",
            "MINE.NEW",
            "A~B.NEW",
            ".hidden",
            ".NEW",
            ".x.new/file",
            ".config.json.1.md5sum",
        ] {
            assert!(!is_leftover(path), "{path}");
        }
        let top = std::env::temp_dir().join(format!("minke-plan-{}", std::process::id()));
        let (from, to) = (top.join("from"), top.join("to"));
        for folder in [from.join("EFI"), to.join("EFI")] {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(from.join("boot.scr"), "new").unwrap();
        for name in ["boot.scr", "config.txt", ".gone.new", "EFI/IMAGE-~1.NEW", ".boot.scr.new"] {
            std::fs::write(to.join(name), "old").unwrap();
        }
        remove_leftovers(&to).unwrap();
        let files = make(&from, &to).unwrap();
        assert_eq!(files, [file("boot.scr", 3, State::Other(3))]);
        let mut left: Vec<String> = walk(&to).unwrap().into_iter().map(|file| file.path).collect();
        left.sort();
        assert_eq!(left, ["boot.scr", "config.txt"]);
        std::fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn a_reference_systems_record_stays_the_only_one() {
        let top = std::env::temp_dir().join(format!("minke-plan-grub-{}", std::process::id()));
        let (from, to) = (top.join("from"), top.join("to"));
        for folder in [&from, &to.join("EFI/BOOT")] {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(from.join("grubenv"), "record").unwrap();
        assert_eq!(make(&from, &to).unwrap(), [file("grubenv", 6, State::New)]);
        std::fs::write(to.join("EFI/BOOT/grubenv"), "theirs").unwrap();
        assert_eq!(make(&from, &to).unwrap(), []);
        std::fs::write(to.join("grubenv"), "ours").unwrap();
        assert_eq!(make(&from, &to).unwrap(), [file("grubenv", 6, State::Same)]);
        std::fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn each_step_has_its_room_or_nothing_is_done() {
        let files =
            [file("a", 1000, State::Other(1000)), file("b", 5000, State::New), file("c", 9, State::Same)];
        // a: two sectors, a name; b: ten, a name, a folder.
        assert!(fits(&files, 12 * 512, 512, 0).is_ok());
        let error = fits(&files, 12 * 512 - 1, 512, 0).unwrap_err();
        assert!(error.errno == Errno::NOSPC && error.to_string().contains("/mnt/boot/b: 1 KiB"), "{error}");
        assert!(fits(&files, 12 * 512 + 99, 512, 100).is_err());
        // What is given back by one file serves the next.
        let files = [file("a", 512, State::Other(8192)), file("b", 8192, State::Other(1))];
        assert!(fits(&files, 1024, 512, 0).is_ok());
        assert!(fits(&[file("a", u64::MAX, State::New)], 1 << 40, 512, 524_288).is_err());
    }

    #[test]
    fn a_list_is_judged_by_what_is_there() {
        let boot = std::env::temp_dir().join(format!("minke-boot-list-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&boot);
        std::fs::create_dir_all(boot.join("overlays")).unwrap();
        for (name, content) in [("same", "abc"), ("other", "abd"), ("longer", "abcd"), ("config.txt", "x")] {
            std::fs::write(boot.join(name), content).unwrap();
        }
        let abc = "900150983cd24fb0d6963f7d28e17f72";
        let mut list = String::from("no line\n\n");
        for path in ["../longer", "/etc/passwd", "overlays/../same", "./same", "overlays/"] {
            list.push_str(&format!("{abc} 3 {path}\n"));
        }
        for name in ["same", "other", "longer", "overlays/new", "config.txt", "config.json"] {
            list.push_str(&format!("{abc} 3 {name}\n"));
        }
        let files = of_list(&list, &boot).unwrap();
        let expected = [
            file("overlays/new", 3, State::New),
            file("same", 3, State::Same),
            file("other", 3, State::Other(3)),
            file("longer", 3, State::Other(4)),
            file("config.txt", 3, State::Same),
            file("config.json", 3, State::Same),
        ];
        assert_eq!(files, expected);
        assert!(of_list(&format!("{abc} 3 overlays\n"), &boot).is_err());
        std::fs::remove_dir_all(&boot).unwrap();
    }

    #[test]
    fn what_starts_earlier_is_written_later() {
        let names = [
            "start4.elf",
            "kernel8.img",
            "boot.scr",
            "overlays/new.dtbo",
            "EFI/BOOT/BOOTX64.EFI",
            "EFI/BOOT/grub.cfg",
        ];
        let mut files: Vec<File> = names.iter().map(|name| file(name, 1, State::Other(1))).collect();
        files[3].state = State::New;
        let files = ordered(files);
        let order: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(
            order,
            [
                "overlays/new.dtbo",
                "boot.scr",
                "EFI/BOOT/grub.cfg",
                "kernel8.img",
                "EFI/BOOT/BOOTX64.EFI",
                "start4.elf"
            ]
        );
    }
}
