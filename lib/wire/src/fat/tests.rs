//! Images made by mkfs.vfat and mcopy, damaged, repaired, and judged by fsck.fat and mtools.

use super::*;
use std::path::PathBuf;
use std::process::Command;

/// An image in memory, that can lose its power.
pub(super) struct Image {
    pub(super) bytes: Vec<u8>,
    /// What was there before each write.
    undo: Vec<(usize, Vec<u8>)>,
    /// How many writes are left until the power goes.
    left: usize,
}

impl Image {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, undo: Vec::new(), left: usize::MAX }
    }

    pub(super) fn put(&mut self, at: usize, content: &[u8]) {
        let place = at..at + content.len();
        self.undo.push((at, self.bytes[place.clone()].to_vec()));
        self.bytes[place].copy_from_slice(content);
    }

    /// Takes back all writes after the first `keep`.
    fn take_back(&mut self, keep: usize) {
        while self.undo.len() > keep {
            let (at, old) = self.undo.pop().unwrap();
            self.bytes[at..at + old.len()].copy_from_slice(&old);
        }
    }

    pub(super) fn check(&mut self) -> Result<Report, Failure> {
        let length = self.bytes.len() as u64;
        check(self, length)
    }
}

impl Medium for Image {
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Refused> {
        let from = usize::try_from(offset).unwrap();
        let piece = self.bytes.get(from..).and_then(|rest| rest.get(..buffer.len())).ok_or(Refused)?;
        buffer.copy_from_slice(piece);
        Ok(())
    }

    fn write(&mut self, offset: u64, content: &[u8]) -> Result<(), Refused> {
        if self.left == 0 {
            return Err(Refused);
        }
        self.left -= 1;
        self.put(usize::try_from(offset).unwrap(), content);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Refused> {
        Ok(())
    }
}

/// A file for the tools, in memory where there is a place for that.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new(name: &str) -> Self {
        let shm = PathBuf::from("/dev/shm");
        let folder = if shm.is_dir() { shm } else { std::env::temp_dir() };
        Self(folder.join(format!("minke-fat-{}-{name}", std::process::id())))
    }

    pub(super) fn run(&self, tool: &str, arguments: &[&str]) -> Vec<u8> {
        let (status, output) = self.try_run(tool, arguments);
        assert!(status, "{tool} {arguments:?}: {}", String::from_utf8_lossy(&output));
        output
    }

    /// `@` stands for the file.
    fn try_run(&self, tool: &str, arguments: &[&str]) -> (bool, Vec<u8>) {
        let path = self.0.to_str().unwrap();
        let arguments = arguments.iter().map(|word| if *word == "@" { path } else { word });
        let output = Command::new(tool).args(arguments).env("MTOOLS_SKIP_CHECK", "1").output().unwrap();
        (output.status.success(), output.stdout)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Paths in the image and their content; each file's differs.
fn content() -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut state = 77u64;
    for (path, length) in [
        ("config.json", 700usize),
        ("config.json.md5sum", 40),
        ("device-type.json", 5000),
        ("A.TXT", 1),
        ("empty", 0),
        ("system-connections/balena-sample.ignore", 1500),
        ("system-connections/README.ignore", 100_000),
        ("EFI/BOOT/BOOTX64.EFI", 300_000),
        ("EFI/BOOT/grub.cfg", 2048),
        ("EFI/BOOT/a rather long name with Umlaut ä.txt", 4096),
        ("grubenv", 1024),
    ] {
        let mut bytes = vec![0; length];
        for byte in &mut bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = if length < 10_000 { b' ' + (state >> 58) as u8 } else { (state >> 40) as u8 };
        }
        files.push((path.to_owned(), bytes));
    }
    files
}

fn make(name: &str, bits: &str) -> Vec<u8> {
    let scratch = Scratch::new(name);
    // As small as either can be.
    std::fs::File::create(&scratch.0)
        .unwrap()
        .set_len(if bits == "16" { 3 << 20 } else { 34 << 20 })
        .unwrap();
    scratch
        .run("mkfs.vfat", &["-F", bits, "-s", "1", "-S", "512", "-n", "resin-boot", "-i", "12345678", "@"]);
    for folder in ["system-connections", "EFI", "EFI/BOOT"] {
        scratch.run("mmd", &["-i", "@", &format!("::/{folder}")]);
    }
    let from = Scratch::new(&format!("{name}-from"));
    for (path, bytes) in content() {
        std::fs::write(&from.0, bytes).unwrap();
        scratch.run("mcopy", &["-i", "@", from.0.to_str().unwrap(), &format!("::/{path}")]);
    }
    std::fs::read(&scratch.0).unwrap()
}

/// The files that mtools reads as they were.
fn whole(scratch: &Scratch) -> Vec<String> {
    let same = |(path, bytes): &(String, Vec<u8>)| {
        scratch.try_run("mtype", &["-i", "@", &format!("::/{path}")]) == (true, bytes.clone())
    };
    content().into_iter().filter(same).map(|(path, _)| path).collect()
}

/// What fsck.fat complains about.
pub(super) fn complaints(scratch: &Scratch) -> String {
    let (good, said) = scratch.try_run("fsck.fat", &["-n", "@"]);
    let said = String::from_utf8_lossy(&said).into_owned();
    let rest = said.lines().filter(|line| !line.starts_with("fsck.fat ") && !line.contains(" files, "));
    let rest = rest.collect::<Vec<_>>().join("\n");
    if good { rest } else { format!("status: {rest}") }
}

pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next()).unwrap() % limit
    }
}

/// Where damage shows: boot sectors, tables, folders.
fn hot(image: &[u8], wide: bool) -> Vec<std::ops::Range<usize>> {
    let boot = boot::Boot::read(&mut Image::new(image.to_vec()), image.len() as u64);
    let geometry = boot.ok().unwrap().geometry;
    let table = usize::try_from(geometry.table_start).unwrap();
    let length = usize::try_from(geometry.table_bytes).unwrap();
    let used = 1000 * if wide { 4 } else { 2 };
    let data = usize::try_from(geometry.data_start).unwrap();
    let root = usize::try_from(geometry.root.0).unwrap();
    let mut hot = vec![
        table..table + used,
        table..table + 64,
        table + length..table + length + used,
        data..data + 512 * 6,
        data..data + 512 * 40,
    ];
    if wide {
        hot.extend([512..1024, 3072..3584]);
    } else {
        hot.push(root..root + 512);
    }
    hot
}

fn damage(image: &mut Image, hot: &[std::ops::Range<usize>], random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        let range = hot[random.below(hot.len())].clone();
        let at = range.start + random.below(range.len());
        let old = image.bytes[at];
        match random.below(8) {
            // A sector that was never written, or an old one.
            0 => image.put(at - at % 512, &[0; 512]),
            1 => {
                let other = range.start - range.start % 512;
                let content = image.bytes[other..other + 512].to_vec();
                image.put(at - at % 512, &content);
            }
            // A small number, as clusters and attributes are.
            2 | 3 => image.put(at, &[random.below(64) as u8]),
            4 => image.put(at, &[old ^ (1 << random.below(8))]),
            _ => image.put(at, &[[0, 0xFF, 0xE5, 0x20, 0x10, random.next() as u8][random.below(6)]]),
        }
    }
}

/// Damages an image so often. The tools look at one of twenty, which takes the most time.
fn mutations(name: &str, bits: &str, seed: u64, rounds: usize) {
    let scratch = Scratch::new(&format!("{name}-judge"));
    let original = make(name, bits);
    std::fs::write(&scratch.0, &original).unwrap();
    assert_eq!(whole(&scratch).len(), content().len());
    let hot = hot(&original, bits == "32");
    let mut image = Image::new(original);
    let report = image.check().unwrap();
    assert!(report.is_clean() && image.undo.is_empty(), "{}", report.text());

    let mut random = Random(seed);
    let (mut left_alone, mut repaired) = (0, 0);
    for round in 0..rounds {
        image.take_back(0);
        damage(&mut image, &hot, &mut random);
        let damaged = image.undo.len();
        let report = match image.check() {
            Ok(report) => report,
            Err(Failure::LeftAlone(_)) => {
                assert_eq!(image.undo.len(), damaged, "round {round}: written");
                left_alone += 1;
                continue;
            }
            Err(Failure::Medium) => panic!("round {round}: reads outside"),
        };
        assert_eq!(report.is_clean(), image.undo.len() == damaged, "round {round}: {}", report.text());
        repaired += usize::from(!report.is_clean());
        let again = image.check().unwrap();
        assert!(again.is_clean(), "round {round}: {} and then {}", report.text(), again.text());
        if round % 20 != 0 {
            continue;
        }
        std::fs::write(&scratch.0, &image.bytes).unwrap();
        assert_eq!(complaints(&scratch), "", "round {round}: {}", report.text());
        let after = whole(&scratch);
        image.take_back(damaged);
        std::fs::write(&scratch.0, &image.bytes).unwrap();
        let lost: Vec<_> = whole(&scratch).into_iter().filter(|path| !after.contains(path)).collect();
        assert!(lost.is_empty(), "round {round}: lost {lost:?}: {}", report.text());
    }
    assert!(
        left_alone < rounds / 20 && repaired > rounds / 2,
        "{left_alone} left alone, {repaired} repaired"
    );
}

#[test]
fn damaged_fat16_is_repaired_and_whole_files_stay() {
    mutations("m16", "16", 0x9E37_79B9_7F4A_7C15, 2000);
}

#[test]
fn damaged_fat32_is_repaired_and_whole_files_stay() {
    mutations("m32", "32", 0x2545_F491_4F6C_DD1D, 500);
}

/// The power goes during a check, after each of its writes: the next check finishes, and what was whole stays.
#[test]
fn a_check_that_is_cut_anywhere_is_finished_by_the_next() {
    let scratch = Scratch::new("cut");
    let original = make("cut", "16");
    let hot = hot(&original, false);
    let mut image = Image::new(original);
    let mut random = Random(0xD1B5_4A32_D192_ED03);
    for round in 0..40 {
        image.take_back(0);
        for _ in 0..4 {
            damage(&mut image, &hot, &mut random);
        }
        let damaged = image.undo.len();
        if image.check().is_err() {
            continue;
        }
        let writes = image.undo.len() - damaged;
        image.take_back(damaged);
        let judged = round % 20 == 0;
        let before = if judged {
            std::fs::write(&scratch.0, &image.bytes).unwrap();
            whole(&scratch)
        } else {
            Vec::new()
        };
        for cut in 0..writes {
            image.take_back(damaged);
            image.left = cut;
            assert_eq!(image.check(), Err(Failure::Medium), "round {round}, cut {cut}");
            image.left = usize::MAX;
            let report = image.check().unwrap();
            assert!(image.check().unwrap().is_clean(), "round {round}, cut {cut}");
            if judged && random.below(8) == 0 {
                std::fs::write(&scratch.0, &image.bytes).unwrap();
                assert_eq!(complaints(&scratch), "", "round {round}, cut {cut}: {}", report.text());
                let after = whole(&scratch);
                assert!(before.iter().all(|path| after.contains(path)), "round {round}, cut {cut}");
            }
        }
    }
}

#[test]
fn the_serial_number_is_in_both_boot_sectors() {
    for bits in ["16", "32"] {
        let scratch = Scratch::new(&format!("serial{bits}"));
        let mut image = Image::new(make("serial", bits));
        let length = image.bytes.len() as u64;
        set_serial(&mut image, length, 0xBDEF_12AB).unwrap();
        assert!(image.check().unwrap().is_clean());
        std::fs::write(&scratch.0, &image.bytes).unwrap();
        assert_eq!(complaints(&scratch), "");
        let shown = scratch.run("blkid", &["-p", "-o", "value", "-s", "UUID", "@"]);
        assert_eq!(String::from_utf8_lossy(&shown).trim(), "BDEF-12AB");
    }
}

#[test]
fn a_boot_sector_that_is_lost_comes_from_its_copy_or_is_left_alone() {
    let original = make("boot32", "32");
    let mut image = Image::new(original.clone());
    image.put(0, &[0; 512]);
    assert_eq!(image.check().unwrap().text(), "boot sector copied");
    assert!(image.check().unwrap().is_clean() && image.bytes == original);
    let mut image = Image::new(make("boot16", "16"));
    let mut left_alone = 0;
    for at in 11..36 {
        for value in [0, 1, 2, 4, 8, 0x80, 0xFF] {
            image.take_back(0);
            let old = image.bytes[at];
            image.put(at, &[value]);
            let damaged = image.undo.len();
            match image.check() {
                // What the geometry does not need.
                Ok(report) => assert!(report.is_clean(), "byte {at} {old} {value}: {}", report.text()),
                Err(_) => {
                    assert_eq!(image.undo.len(), damaged);
                    left_alone += 1;
                }
            }
        }
    }
    assert!(left_alone > 60, "{left_alone}");
}

/// A chain that leads into the middle of another file takes one cluster of it. The other keeps its rest, and none of
/// that may count as free while copies are made.
#[test]
fn one_shared_cluster_is_copied_alone() {
    let mut image = Image::new(make("middle", "16"));
    let scratch = Scratch::new("middle-judge");
    let table = hot(&image.bytes, false)[0].start;
    let length =
        usize::try_from(boot::Boot::read(&mut image, 3 << 20).ok().unwrap().geometry.table_bytes).unwrap();
    let link = |image: &Image, cluster: usize| {
        u16::from_le_bytes([image.bytes[table + 2 * cluster], image.bytes[table + 2 * cluster + 1]])
    };
    // config.json has clusters 5 and 6. A long chain comes after it.
    assert_eq!((link(&image, 5), link(&image, 6)), (6, 0xFFFF));
    let middle = 300;
    assert_eq!(link(&image, middle), 301);
    for copy in [table, table + length] {
        image.put(copy + 2 * 5, &u16::try_from(middle).unwrap().to_le_bytes());
    }
    let report = image.check().unwrap();
    assert_eq!((report.count(Repair::Copied), report.count(Repair::Lost)), (1, 0), "{}", report.text());
    std::fs::write(&scratch.0, &image.bytes).unwrap();
    assert_eq!(complaints(&scratch), "");
    let whole = whole(&scratch);
    assert_eq!(whole.len(), content().len() - 1, "{whole:?}");
    assert!(!whole.contains(&"config.json".to_owned()));
}

#[test]
fn a_rename_that_was_cut_leaves_two_whole_files() {
    let mut image = Image::new(make("rename", "16"));
    let root = hot(&image.bytes, false).last().unwrap().start;
    // The new name leads to the old one's clusters, which still has them.
    let place =
        |name: &[u8]| (root..root + 512).step_by(32).find(|at| image.bytes[*at..*at + 11] == *name).unwrap();
    let (from, to) = (place(b"DEVICE~1JSO"), place(b"A       TXT"));
    let start = image.bytes[from + 26..from + 32].to_vec();
    image.put(to + 26, &start);
    let report = image.check().unwrap();
    assert_eq!((report.count(Repair::Copied), report.count(Repair::Lost)), (1, 0), "{}", report.text());
    let scratch = Scratch::new("rename-judge");
    std::fs::write(&scratch.0, &image.bytes).unwrap();
    assert_eq!(complaints(&scratch), "");
    let read = |path: &str| scratch.run("mtype", &["-i", "@", path]);
    assert!(read("::/A.TXT") == content()[2].1 && read("::/device-type.json") == content()[2].1);
}

/// An exchange of two names whose second half is missing, with no room for a copy: the file that was to be replaced has
/// the new content, whole, wherever its name stands in the folder.
#[test]
fn an_exchange_that_was_cut_keeps_the_file_and_not_what_stood_beside_it() {
    for beside_first in [true, false] {
        let scratch = Scratch::new(&format!("exchange{beside_first}"));
        let from = Scratch::new(&format!("exchange{beside_first}-from"));
        std::fs::File::create(&scratch.0).unwrap().set_len(3 << 20).unwrap();
        scratch.run("mkfs.vfat", &["-F", "16", "-s", "1", "-n", "resin-boot", "@"]);
        let content = |byte: u8, length: usize| vec![byte; length];
        let mut files =
            [("kernel.img", content(b'o', 600_000)), (".kernel.img.new", content(b'n', 1_000_000))];
        if beside_first {
            files.reverse();
        }
        for (name, bytes) in &files {
            std::fs::write(&from.0, bytes).unwrap();
            scratch.run("mcopy", &["-i", "@", from.0.to_str().unwrap(), &format!("::/{name}")]);
        }
        let mut image = Image::new(std::fs::read(&scratch.0).unwrap());
        let root = hot(&image.bytes, false).last().unwrap().start;
        let place = |ending: &[u8]| {
            let entries = (root..root + 512).step_by(32);
            let is = |at: &usize| image.bytes[*at + 11] == 0x20 && image.bytes[*at + 8..*at + 11] == *ending;
            entries.into_iter().find(is).unwrap()
        };
        let (kernel, beside) = (place(b"IMG"), place(b"NEW"));
        // The chain of the old content is lost for now.
        let start = image.bytes[beside + 26..beside + 32].to_vec();
        image.put(kernel + 26, &start);
        // There is room for a copy; on the full disk there is none, and the other is cut.
        let full = Scratch::new(&format!("exchange{beside_first}-full"));
        std::fs::write(&full.0, &image.bytes).unwrap();
        std::fs::write(&from.0, vec![b'f'; 1_350_000]).unwrap();
        full.run("mcopy", &["-i", "@", from.0.to_str().unwrap(), "::/full"]);
        for (mut image, copied) in [(image, 1), (Image::new(std::fs::read(&full.0).unwrap()), 0)] {
            let report = image.check().unwrap();
            assert_eq!(report.count(Repair::Copied), copied, "{}", report.text());
            assert!(image.check().unwrap().is_clean());
            std::fs::write(&scratch.0, &image.bytes).unwrap();
            assert_eq!(complaints(&scratch), "");
            assert!(scratch.run("mtype", &["-i", "@", "::/kernel.img"]) == content(b'n', 1_000_000));
        }
    }
}
