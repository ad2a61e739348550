use super::*;
use minke_wire::tar::{Encoder, Time};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::process::Command;

struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("minke-unpack-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self { path }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn add(mut self, path: &str, kind: Kind, change: impl Fn(&mut Entry)) -> Self {
        let mut entry = Entry::new(path.as_bytes(), kind, 0o755);
        entry.mtime = Time { seconds: 1_000_000_000, nanoseconds: 5 };
        change(&mut entry);
        let content = if kind == Kind::File { path.as_bytes() } else { b"" };
        entry.size = content.len() as u64;
        Encoder::header(&entry, &mut self.0).unwrap();
        self.0.extend_from_slice(content);
        Encoder::padding(entry.size, &mut self.0);
        self
    }
    fn file(self, path: &str) -> Self {
        self.add(path, Kind::File, |_| {})
    }
    fn folder(self, path: &str) -> Self {
        self.add(path, Kind::Folder, |_| {})
    }
    fn link(self, path: &str, target: &str) -> Self {
        self.add(path, Kind::Symlink, |entry| entry.link = target.as_bytes().to_vec())
    }
    fn hard(self, path: &str, target: &str) -> Self {
        self.add(path, Kind::HardLink, |entry| entry.link = target.as_bytes().to_vec())
    }
    fn unpack(mut self, target: &Path) -> Result<Unpacked> {
        Encoder::end(&mut self.0);
        let mut unpacker = Unpacker::new(target)?;
        for piece in self.0.chunks(300) {
            unpacker.push(piece)?;
        }
        unpacker.finish()
    }
}

fn attribute(path: &Path, name: &str) -> Option<String> {
    let output = Command::new("python3")
        .args(["-c", "import os,sys; print(os.getxattr(sys.argv[1], sys.argv[2]).hex())"])
        .args([path.as_os_str(), name.as_ref()])
        .output()
        .unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

fn is_opaque(path: &Path) -> bool {
    attribute(path, "trusted.overlay.opaque").as_deref() == Some("79")
}

fn is_whiteout(path: &Path) -> bool {
    let status = std::fs::symlink_metadata(path).unwrap();
    status.file_type().is_char_device() && status.rdev() == 0
}

#[test]
fn every_kind_of_member_arrives_with_its_attributes() {
    let folder = Folder::new("kinds");
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    let unpacked = Tar::default()
        .add("./", Kind::Folder, |entry| entry.mode = 0o711)
        .add("etc", Kind::Folder, |entry| (entry.mode, entry.uid, entry.gid) = (0o2750, 7, 8))
        .file("etc/passwd")
        .add("bin/ping", Kind::File, |entry| {
            (entry.mode, entry.uid, entry.gid) = (0o4711, 1, 2);
            entry.xattrs = vec![
                (b"security.capability".to_vec(), capability.clone()),
                (b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec()),
            ];
        })
        .hard("bin/ping6", "/bin/ping")
        .add("sym", Kind::Symlink, |entry| {
            entry.link = b"/etc/../nowhere".to_vec();
            (entry.uid, entry.mtime) = (9, Time { seconds: -5, nanoseconds: 0 });
        })
        .hard("hard-to-link", "sym")
        .add("dev/null", Kind::CharDevice, |entry| (entry.device, entry.mode) = ((1, 3), 0o666))
        .add("dev/loop", Kind::BlockDevice, |entry| (entry.device, entry.mode) = ((7, 0), 0o660))
        .add("pipe", Kind::Fifo, |entry| entry.mode = 0o622)
        .unpack(&folder.path)
        .unwrap();
    let status = |path: &str| std::fs::symlink_metadata(folder.path.join(path)).unwrap();
    assert_eq!((unpacked.members, unpacked.bytes, unpacked.opaque), (10, 18, false));
    assert_eq!((status("").mode() & 0o7777, status("").mtime()), (0o711, 1_000_000_000));
    let etc = status("etc");
    assert_eq!((etc.mode() & 0o7777, etc.uid(), etc.gid()), (0o2750, 7, 8));
    assert_eq!((etc.mtime(), etc.mtime_nsec()), (1_000_000_000, 5), "set after its content");
    let ping = status("bin/ping");
    assert_eq!((ping.mode() & 0o7777, ping.uid(), ping.gid(), ping.nlink()), (0o4711, 1, 2, 2));
    assert_eq!(ping.ino(), status("bin/ping6").ino());
    assert!(attribute(&folder.path.join("bin/ping"), "security.capability").is_some());
    assert!(attribute(&folder.path.join("bin/ping"), "trusted.overlay.redirect").is_none());
    assert_eq!((status("bin").mode() & 0o7777, status("bin").uid()), (0o755, 0), "an unnamed parent");
    assert_eq!(std::fs::read(folder.path.join("etc/passwd")).unwrap(), b"etc/passwd");
    assert_eq!(std::fs::read_link(folder.path.join("sym")).unwrap(), Path::new("/etc/../nowhere"));
    assert_eq!((status("sym").uid(), status("sym").mtime()), (9, -5));
    assert_eq!(status("hard-to-link").ino(), status("sym").ino());
    let null = status("dev/null");
    assert_eq!((null.rdev(), null.mode() & 0o7777), (0x103, 0o666));
    assert!(status("dev/loop").file_type().is_block_device());
    assert!(status("pipe").file_type().is_fifo() && status("pipe").mode() & 0o777 == 0o622);
}

#[test]
fn whiteouts_hide_lower_layers_only_and_in_any_order() {
    let folder = Folder::new("whiteout");
    let unpacked = Tar::default()
        .file("a/.wh.gone")
        .file("opaque/.wh..wh..opq")
        .file("opaque/new")
        // In the same layer, the name stays; as a folder it hides the lower one.
        .file("file-first")
        .file(".wh.file-first")
        .file(".wh.file-later")
        .file("file-later")
        .folder("folder-first")
        .file(".wh.folder-first")
        .file(".wh.folder-later")
        .folder("folder-later")
        .file(".wh.implied")
        .file("implied/x")
        .file(".wh..wh.aufs")
        .file(".wh..wh.plnk/1.2")
        .unpack(&folder.path)
        .unwrap();
    let path = |name: &str| folder.path.join(name);
    assert!(!unpacked.opaque);
    assert!(is_whiteout(&path("a/gone")));
    assert!(is_opaque(&path("opaque")) && path("opaque/new").is_file());
    assert!(path("file-first").is_file() && path("file-later").is_file());
    for name in ["folder-first", "folder-later", "implied"] {
        assert!(is_opaque(&path(name)), "{name}");
    }
    assert!(path("implied/x").is_file());
    let mut names: Vec<_> =
        std::fs::read_dir(&folder.path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a", "file-first", "file-later", "folder-first", "folder-later", "implied", "opaque"]);

    let root = Folder::new("whiteout-root");
    assert!(Tar::default().file(".wh..wh..opq").unpack(&root.path).unwrap().opaque);
}

#[test]
fn the_kernel_sees_the_whiteouts_in_an_overlay() {
    let base = Folder::new("overlay");
    let path = |name: &str| base.path.join(name);
    for name in ["lower", "upper", "merged"] {
        std::fs::create_dir(path(name)).unwrap();
    }
    let lower = Tar::default().file("keep").file("gone").file("dir/old").file("again/old");
    lower.unpack(&path("lower")).unwrap();
    let upper = Tar::default().file(".wh.gone").file("dir/.wh..wh..opq").file("dir/new");
    upper.file(".wh.again").file("again/new").unpack(&path("upper")).unwrap();
    let script = format!(
        "mount -t overlay overlay -o ro,lowerdir={0}/upper:{0}/lower {0}/merged && cd {0}/merged && find . -type f | sort",
        base.path.display()
    );
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "./again/new\n./dir/new\n./keep\n");
}

#[test]
fn later_members_replace_earlier_ones() {
    let folder = Folder::new("replace");
    Tar::default()
        .file("x")
        .folder("x")
        .file("x/inside")
        .file("x")
        .link("link", "elsewhere")
        .file("link")
        .folder("kept")
        .file("kept/file")
        .add("kept/", Kind::Folder, |entry| entry.mode = 0o700)
        .file("same")
        .hard("same", "same")
        .file("d/a")
        .link("d", "kept")
        .file("d/b")
        .unpack(&folder.path)
        .unwrap();
    assert_eq!(std::fs::read(folder.path.join("x")).unwrap(), b"x");
    assert!(!folder.path.join("elsewhere").exists());
    assert_eq!(std::fs::read(folder.path.join("link")).unwrap(), b"link");
    assert!(folder.path.join("kept/file").exists() && folder.path.join("kept/b").exists());
    assert_eq!(std::fs::metadata(folder.path.join("kept")).unwrap().mode() & 0o777, 0o700);
    assert_eq!(std::fs::read(folder.path.join("same")).unwrap(), b"same");
}

#[test]
fn nothing_leads_out_of_the_target() {
    let base = Folder::new("escape");
    std::fs::create_dir(base.path.join("outside")).unwrap();
    std::fs::write(base.path.join("secret"), b"secret").unwrap();
    let outside = base.path.join("outside");
    let target = base.path.join("target");
    let cases: [(&str, Tar); 9] = [
        ("dots", Tar::default().file("../outside/f")),
        ("inner dots", Tar::default().folder("a").file("a/../../outside/f")),
        ("absolute", Tar::default().file(&format!("{}/f", outside.display()))),
        ("link up", Tar::default().link("l", "../outside").file("l/f")),
        ("link absolute", Tar::default().link("l", outside.to_str().unwrap()).file("l/f")),
        ("link through link", Tar::default().link("a", "..").link("a/b", "../outside").file("a/b/f")),
        ("hard link out", Tar::default().hard("f", "../secret")),
        ("hard link by link", Tar::default().link("up", "..").hard("f", "up/secret")),
        ("whiteout out", Tar::default().file(".wh...")),
    ];
    for (name, tar) in cases {
        let _ = std::fs::remove_dir_all(&target);
        std::fs::create_dir(&target).unwrap();
        let _ = tar.unpack(&target);
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{name}");
        assert_eq!(std::fs::metadata(base.path.join("secret")).unwrap().nlink(), 1, "{name}");
        assert!(!target.join("f").exists() || name == "absolute", "{name}");
    }
    // A file that is written through an existing link replaces the link.
    let _ = std::fs::remove_dir_all(&target);
    std::fs::create_dir(&target).unwrap();
    Tar::default().link("f", "../secret").file("f").unpack(&target).unwrap();
    assert_eq!(std::fs::read(base.path.join("secret")).unwrap(), b"secret");
}

#[test]
fn refused_layers_say_why() {
    let folder = Folder::new("refuse");
    for (tar, text) in [
        (Tar::default().file("a/../b"), "contains '..'"),
        (Tar::default().hard("a", "missing"), "which the layer does not have"),
        (Tar::default().file(".wh."), "whiteout without a name"),
        (Tar::default().file(".wh.a/b"), "whiteout that is a folder"),
        (Tar::default().file("."), "root is not a folder"),
    ] {
        let error = tar.unpack(&folder.path).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn mutated_layers_never_panic_nor_escape() {
    let base = Folder::new("mutate");
    let target = base.path.join("target");
    let tar = Tar::default().folder("a").file("a/b").link("l", "a").file("l/c").hard("h", "a/b");
    let mut bytes = tar.file("a/.wh.x").file("a/.wh..wh..opq").0;
    Encoder::end(&mut bytes);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).unwrap()
    };
    for _ in 0..1500 {
        let mut mutant = bytes.clone();
        let block = random(mutant.len() / 512) * 512;
        for _ in 0..=random(3) {
            let place = block + random(160);
            mutant[place] = b"./\0awhlx0157\xff"[random(13)];
        }
        let sum: u32 = mutant[block..block + 512]
            .iter()
            .enumerate()
            .map(|(index, byte)| if (148..156).contains(&index) { 32 } else { u32::from(*byte) })
            .sum();
        mutant[block + 148..block + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let _ = std::fs::remove_dir_all(&target);
        std::fs::create_dir(&target).unwrap();
        let mut unpacker = Unpacker::new(&target).unwrap();
        if unpacker.push(&mutant).is_ok() {
            let _ = unpacker.finish();
        }
        assert_eq!(std::fs::read_dir(&base.path).unwrap().count(), 1);
    }
}
