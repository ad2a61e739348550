use super::*;
use std::path::PathBuf;
use std::process::Command;

/// All members with their content, fed in pieces of `step` bytes.
fn decode(archive: &[u8], step: usize) -> Result<Vec<(Entry, Vec<u8>)>, Error> {
    let mut decoder = Decoder::new();
    let mut members: Vec<(Entry, Vec<u8>)> = Vec::new();
    for mut piece in archive.chunks(step) {
        loop {
            match decoder.next(&mut piece)? {
                Event::More => break,
                Event::End => return Ok(members),
                Event::Entry(entry) => members.push((*entry, Vec::new())),
                Event::Data(data) => members.last_mut().unwrap().1.extend_from_slice(data),
            }
        }
    }
    decoder.finish()?;
    Ok(members)
}

fn encode(members: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (entry, content) in members {
        Encoder::header(entry, &mut out).unwrap();
        out.extend_from_slice(content);
        Encoder::padding(entry.size, &mut out);
    }
    Encoder::end(&mut out);
    out
}

fn file(path: &str, content: &[u8]) -> (Entry, Vec<u8>) {
    let mut entry = Entry::new(path.as_bytes(), Kind::File, 0o4755);
    entry.size = content.len() as u64;
    (entry, content.to_vec())
}

fn samples() -> Vec<(Entry, Vec<u8>)> {
    let mut members = vec![file("bin/su", &[7; 1025]), file(&format!("{}/deep", "long/".repeat(60)), b"x")];
    members[1].0.uid = 3_000_000_000;
    members[1].0.gid = 2_097_152;
    members[1].0.mtime = Time { seconds: -2, nanoseconds: 750_000_000 };
    members[1].0.xattrs = vec![
        (b"security.capability".to_vec(), vec![1, 0, 0, 2, 0, b'\n', b'=', 0xff]),
        (b"user.empty".to_vec(), vec![]),
    ];
    for (kind, link) in [
        (Kind::HardLink, "bin/su"),
        (Kind::Symlink, &*"../target/".repeat(20)),
        (Kind::CharDevice, ""),
        (Kind::BlockDevice, ""),
        (Kind::Folder, ""),
        (Kind::Fifo, ""),
    ] {
        let mut entry = Entry::new(format!("some/{kind:?}").as_bytes(), kind, 0o1777);
        entry.link = link.as_bytes().to_vec();
        entry.mtime = Time { seconds: 1_700_000_000, nanoseconds: 123 };
        if matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
            entry.device = (259, 1_048_575);
        }
        members.push((entry, Vec::new()));
    }
    members
}

#[test]
fn what_is_encoded_is_decoded_in_pieces_of_any_size() {
    let archive = encode(&samples());
    for step in [1, 7, 511, 512, 513, 4096, archive.len()] {
        assert_eq!(decode(&archive, step).unwrap(), samples(), "pieces of {step}");
    }
}

#[test]
fn skipping_content_equals_reading_it() {
    let archive = encode(&[file("a", &[1; 700]), file("b", b""), file("c", &[2; 512])]);
    let (mut decoder, mut rest, mut names) = (Decoder::new(), archive.as_slice(), Vec::new());
    loop {
        match decoder.next(&mut rest).unwrap() {
            Event::Entry(entry) => {
                names.push(entry.path);
                rest = &rest[usize::try_from(decoder.skip_content()).unwrap()..];
            }
            Event::End => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(names, [b"a", b"b", b"c"]);
}

#[test]
fn a_cut_archive_is_an_error_except_between_members() {
    let archive = encode(&[file("a", &[1; 700]), file(&"b".repeat(200), b"x")]);
    let whole = archive.len() - 2 * BLOCK;
    // Header and content of the first, without and with its padding; the second with pax header.
    let good = [0..=0, 1212..=1536, whole - 511..=whole, whole + BLOCK..=archive.len()];
    for length in 0..=archive.len() {
        let result = decode(&archive[..length], 4096);
        if good.iter().any(|range| range.contains(&length)) {
            assert!(result.is_ok(), "{length}");
        } else {
            assert_eq!(result.unwrap_err(), Error::Truncated, "{length}");
        }
    }
}

#[test]
fn bad_headers_are_refused_by_name() {
    let archive = encode(&[file("a", b"")]);
    let patched = |offset: usize, bytes: &[u8]| {
        let mut archive = archive.clone();
        archive[offset..offset + bytes.len()].copy_from_slice(bytes);
        let block: &[u8; BLOCK] = archive[..BLOCK].try_into().unwrap();
        let sum = format!("{:06o}\0 ", header::sums(block).0);
        archive[148..156].copy_from_slice(sum.as_bytes());
        decode(&archive, 512).unwrap_err()
    };
    assert_eq!(patched(156, b"S"), Error::Sparse);
    assert_eq!(patched(156, b"M"), Error::Type(b'M'));
    assert_eq!(patched(0, b"\0"), Error::Path);
    assert_eq!(patched(124, b"9"), Error::Number("size"));
    // -1, and 2^62, in base 256.
    assert_eq!(patched(124, &[0xff; 12]), Error::Number("size"));
    assert_eq!(patched(124, &[0x80, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0]), Error::Number("size"));
    assert_eq!(patched(108, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), Error::Number("uid"));
    let mut damaged = archive.clone();
    damaged[3] = b'x';
    assert_eq!(decode(&damaged, 512).unwrap_err(), Error::Checksum);
    let mut lone = vec![0; BLOCK];
    lone.extend_from_slice(&archive);
    assert_eq!(decode(&lone, 512).unwrap_err(), Error::LoneZeroBlock);
}

#[test]
fn bad_pax_records_are_refused() {
    for (records, error) in [
        (&b"5 a=\n"[..], None),
        (b"6 a=b\n", None),
        (b"7 a=b\n", Some(Error::Extension)),
        (b"6 =bc\n", Some(Error::Extension)),
        (b"6 abc\n", Some(Error::Extension)),
        (b"99999999999999999999 a=b\n", Some(Error::Extension)),
        (b"18 GNU.sparse.x=1\n", Some(Error::Sparse)),
        (b"9 size=x\n", Some(Error::Number("size"))),
        (b"25 size=9999999999999999\n", Some(Error::Number("size"))),
        (b"18 uid=4294967295\n", Some(Error::Number("uid"))),
        (b"13 mtime=1.x\n", Some(Error::Number("mtime"))),
        (b"12 path=a\0b\n", Some(Error::Path)),
    ] {
        let mut member = Entry::new(b"x", Kind::File, 0);
        member.size = records.len() as u64;
        let mut archive = encode(&[(member, records.to_vec()), file("a", b"")]);
        archive[156] = b'x';
        let block: &[u8; BLOCK] = archive[..BLOCK].try_into().unwrap();
        let sum = format!("{:06o}\0 ", header::sums(block).0);
        archive[148..156].copy_from_slice(sum.as_bytes());
        assert_eq!(decode(&archive, 512).err(), error, "{}", records.escape_ascii());
    }
}

#[test]
fn mutated_archives_never_panic() {
    let archive = encode(&samples());
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).unwrap()
    };
    let mut decoded = 0;
    for _ in 0..6000 {
        let mut mutant = archive.clone();
        for _ in 0..=random(4) {
            let place = random(mutant.len());
            match random(3) {
                0 => mutant[place] = u8::try_from(random(256)).unwrap(),
                1 => mutant.truncate(place.max(1)),
                _ => {
                    let from = random(mutant.len());
                    mutant[place] = mutant[from];
                }
            }
            // Half of the mutants get past the checksum.
            if random(2) == 0 && mutant.len() >= BLOCK {
                let start = random(mutant.len() / BLOCK) * BLOCK;
                let block: &[u8; BLOCK] = mutant[start..start + BLOCK].try_into().unwrap();
                let sum = format!("{:06o}\0 ", header::sums(block).0);
                mutant[start + 148..start + 156].copy_from_slice(sum.as_bytes());
            }
        }
        decoded += usize::from(decode(&mutant, 1 + random(700)).is_ok());
    }
    assert!(decoded > 10, "the mutator destroys everything");
}

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("minke-tar-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir(&path).unwrap();
    path
}

fn run(program: &str, arguments: &[&str], folder: &std::path::Path) {
    let output = Command::new(program).args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn archives_of_gnu_tar_are_read_in_all_its_formats() {
    let folder = scratch("gnu");
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(90));
    std::fs::create_dir(folder.join("d".repeat(90))).unwrap();
    std::fs::write(folder.join(&long), vec![9; 3000]).unwrap();
    std::fs::write(folder.join("empty"), b"").unwrap();
    std::os::unix::fs::symlink("t".repeat(150), folder.join("sym")).unwrap();
    run("mkfifo", &["fifo"], &folder);
    std::fs::hard_link(folder.join("empty"), folder.join("hard")).unwrap();
    for (format, long_links) in
        [("v7", false), ("oldgnu", true), ("gnu", true), ("pax", true), ("ustar", false)]
    {
        let mut arguments = vec![
            "--owner=x:1000",
            "--group=y:1001",
            "--mtime=2001-02-03T04:05:06.5Z",
            "--format",
            format,
            "--sort=name",
            "-cf",
            "out.tar",
            "empty",
            "hard",
        ];
        if format != "v7" {
            arguments.push("fifo");
        }
        if long_links {
            arguments.push("sym");
        }
        if format != "v7" {
            arguments.push(&long);
        }
        run("tar", &arguments, &folder);
        let members = decode(&std::fs::read(folder.join("out.tar")).unwrap(), 1000).unwrap();
        let find = |path: &str| members.iter().find(|(entry, _)| entry.path == path.as_bytes());
        let (empty, _) = find("empty").unwrap();
        assert_eq!((empty.uid, empty.gid, empty.kind), (1000, 1001, Kind::File), "{format}");
        let nanoseconds = if format == "pax" { 500_000_000 } else { 0 };
        assert_eq!(empty.mtime, Time { seconds: 981_173_106, nanoseconds }, "{format}");
        assert_eq!(
            (find("hard").unwrap().0.kind, &*find("hard").unwrap().0.link),
            (Kind::HardLink, &b"empty"[..])
        );
        if format != "v7" {
            assert_eq!(find("fifo").unwrap().0.kind, Kind::Fifo);
            assert_eq!(find(&long).unwrap().1, vec![9; 3000], "{format}");
        }
        if long_links {
            assert_eq!(find("sym").unwrap().0.link, vec![b't'; 150]);
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn sparse_files_of_gnu_tar_are_refused() {
    let folder = scratch("sparse");
    std::fs::File::create(folder.join("hole")).unwrap().set_len(1 << 20).unwrap();
    for format in ["gnu", "pax"] {
        run("tar", &["--format", format, "--sparse", "-cf", "out.tar", "hole"], &folder);
        let archive = std::fs::read(folder.join("out.tar")).unwrap();
        assert_eq!(decode(&archive, 512).unwrap_err(), Error::Sparse, "{format}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn archives_of_pythons_tarfile_are_read_and_ours_by_it() {
    let folder = scratch("python");
    let script = r#"
import io, tarfile
for name, fmt in (("pax", tarfile.PAX_FORMAT), ("gnu", tarfile.GNU_FORMAT)):
    with tarfile.open(name + ".tar", "w", format=fmt) as tar:
        info = tarfile.TarInfo("long/" * 40 + "f")
        info.size, info.uid, info.mode = 600, 3000000000, 0o6755
        if name == "pax":
            info.mtime = -1.25
            info.pax_headers = {"SCHILY.xattr.user.k": "v"}
        tar.addfile(info, io.BytesIO(b"z" * 600))
        info = tarfile.TarInfo("dev")
        info.type, info.devmajor, info.devminor = tarfile.CHRTYPE, 1, 3
        tar.addfile(info)
with tarfile.open("ours.tar") as tar:
    for m in tar:
        body = tar.extractfile(m).read() if m.isreg() else b""
        print(m.name, m.type.decode(), m.linkname, oct(m.mode), m.uid, m.gid, m.size, m.mtime, m.devmajor, m.devminor, len(body))
"#;
    std::fs::write(folder.join("ours.tar"), encode(&samples())).unwrap();
    let output = Command::new("python3").args(["-c", script]).current_dir(&folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), samples().len());
    assert_eq!(lines[0], "bin/su 0  0o4755 0 0 1025 0 0 0 1025");
    assert!(lines[1].ends_with("/deep 0  0o4755 3000000000 2097152 1 -1.25 0 0 1"), "{}", lines[1]);
    assert!(lines[4].starts_with("some/CharDevice 3  0o1777 0 0 0 1700000000.0"), "{}", lines[4]);
    assert!(lines[4].ends_with(" 259 1048575 0"), "{}", lines[4]);
    for name in ["pax", "gnu"] {
        let members = decode(&std::fs::read(folder.join(format!("{name}.tar"))).unwrap(), 999).unwrap();
        let (first, content) = &members[0];
        assert_eq!((first.uid, first.mode, content.len()), (3_000_000_000, 0o6755, 600), "{name}");
        assert_eq!(first.path, format!("{}f", "long/".repeat(40)).into_bytes());
        if name == "pax" {
            assert_eq!(first.mtime, Time { seconds: -2, nanoseconds: 750_000_000 });
            assert_eq!(first.xattrs, [(b"user.k".to_vec(), b"v".to_vec())]);
        }
        assert_eq!((members[1].0.kind, members[1].0.device), (Kind::CharDevice, (1, 3)));
    }
    std::fs::remove_dir_all(folder).unwrap();
}
