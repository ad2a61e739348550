//! Tables made by sfdisk, read and grown.

use super::*;
use std::io::Write as _;
use std::process::{Command, Stdio};

fn from_memory(image: &[u8]) -> impl FnMut(u64, usize) -> Option<Vec<u8>> + '_ {
    |offset, length| {
        let offset = usize::try_from(offset).ok()?;
        image.get(offset..offset.checked_add(length)?).map(<[u8]>::to_vec)
    }
}

/// A 64 MiB disk made by sfdisk.
fn made_by_sfdisk(name: &str, script: &str) -> Vec<u8> {
    let path = std::env::temp_dir().join(format!("minke-pt-{}-{name}", std::process::id()));
    std::fs::File::create(&path).unwrap().set_len(64 << 20).unwrap();
    let mut child = Command::new("sfdisk")
        .arg("-q")
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    let image = std::fs::read(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    image
}

const MSDOS: &str = "label: dos\nlabel-id: 0x62616c65\n\
    start=8192, size=8192, type=c\nstart=16384, size=8192\nstart=24576, size=8192\n\
    start=32768, type=5\nstart=40960, size=8192\nstart=57344, size=4096\n";
const GPT: &str = "label: gpt\n\
    size=8192, uuid=01234567-89AB-CDEF-0123-456789ABCDEF, name=resin-boot\n\
    size=8192, name=\"größe\"\n";

#[test]
fn msdos_with_logical_partitions() {
    let image = made_by_sfdisk("msdos", MSDOS);
    let table = read(512, &mut from_memory(&image)).unwrap();
    assert!(!table.gpt);
    let numbers: Vec<u32> = table.partitions.iter().map(|partition| partition.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    assert_eq!(table.partitions[0].uuid.as_deref(), Some("62616c65-01"));
    assert_eq!((table.partitions[0].start, table.partitions[0].size), (8192 * 512, 8192 * 512));
    assert_eq!(table.partitions[4].uuid.as_deref(), Some("62616c65-05"));
    assert_eq!(table.partitions[4].size, 8192 * 512);
    assert_eq!(table.partitions[5].size, 4096 * 512);
    assert_eq!((table.partitions[4].start, table.partitions[5].start), (40960 * 512, 57344 * 512));
}

#[test]
fn gpt_with_names() {
    let image = made_by_sfdisk("gpt", GPT);
    let table = read(512, &mut from_memory(&image)).unwrap();
    assert!(table.gpt);
    assert_eq!(table.partitions.len(), 2);
    assert_eq!(table.partitions[0].uuid.as_deref(), Some("01234567-89ab-cdef-0123-456789abcdef"));
    assert_eq!(table.partitions[0].name.as_deref(), Some("resin-boot"));
    assert_eq!(table.partitions[0].size, 8192 * 512);
    assert_eq!(table.partitions[1].name.as_deref(), Some("größe"));
}

#[test]
fn no_table() {
    assert_eq!(read(512, &mut from_memory(&[0; 4096])), None);
    assert_eq!(read(512, &mut from_memory(&[])), None);
    assert_eq!(read(1 << 30, &mut from_memory(&[0; 4096])), None);
}

#[test]
fn a_chain_that_loops_ends() {
    let mut image = made_by_sfdisk("loop", MSDOS);
    let table = read(512, &mut from_memory(&image)).unwrap();
    let record = usize::try_from(table.partitions[3].start).unwrap();
    // The second record of the first extended boot record points back to itself.
    image[record + 446 + 16 + 8..record + 446 + 16 + 12].fill(0);
    let table = read(512, &mut from_memory(&image)).unwrap();
    assert!(table.partitions.len() <= 4 + LOGICAL_LIMIT as usize);
}

#[test]
fn never_panics_on_mutated_tables() {
    let mut images = [made_by_sfdisk("m1", MSDOS), made_by_sfdisk("m2", GPT)];
    let hot: [Vec<usize>; 2] = [
        {
            let base = read(512, &mut from_memory(&images[0])).unwrap().partitions[3].start as usize;
            (440..512).chain(base + 440..base + 512).collect()
        },
        (446..512).chain(512..604).chain(1024..1280).collect(),
    ];
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 16).unwrap()
    };
    for _ in 0..40_000 {
        for (image, hot) in images.iter_mut().zip(&hot) {
            let hits: Vec<usize> = (0..1 + random() % 4).map(|_| hot[random() % hot.len()]).collect();
            let before: Vec<u8> = hits.iter().map(|at| image[*at]).collect();
            for at in &hits {
                image[*at] = [0, 0xFF, 0x05, random() as u8][random() % 4];
            }
            let _ = read([512, 4096][random() % 2], &mut from_memory(image));
            for (at, byte) in hits.iter().zip(before).rev() {
                image[*at] = byte;
            }
        }
    }
}

/// A disk of these sectors that holds `image` at its front.
fn enlarged(image: &[u8], bytes: usize) -> Vec<u8> {
    let mut disk = image.to_vec();
    disk.resize(bytes, 0);
    disk
}

fn disk_of(image: &[u8]) -> Disk {
    Disk { sector: 512, sectors: image.len() as u64 / 512, physical: 4096 }
}

fn plan_for(image: &[u8], number: u32, start: u64) -> Result<Plan, &'static str> {
    plan(&disk_of(image), number, start, &mut from_memory(image))
}

fn apply(image: &mut [u8], write: &Write) {
    let at = usize::try_from(write.offset).unwrap();
    image[at..at + write.content.len()].copy_from_slice(&write.content);
}

/// What sfdisk reads: start and size of each partition in sectors. It complains of a table that has a fault.
fn by_sfdisk(name: &str, image: &[u8]) -> Vec<(u64, u64)> {
    let path = std::env::temp_dir().join(format!("minke-pt-{}-{name}", std::process::id()));
    std::fs::write(&path, image).unwrap();
    let verified = Command::new("sfdisk").args(["--verify", "-q"]).arg(&path).output().unwrap();
    let said =
        String::from_utf8_lossy(&verified.stdout).into_owned() + &String::from_utf8_lossy(&verified.stderr);
    let dumped = Command::new("sfdisk").arg("--dump").arg(&path).output().unwrap();
    std::fs::remove_file(path).unwrap();
    assert!(verified.status.success() && !said.to_lowercase().contains("corrupt"), "{said}");
    let said = String::from_utf8_lossy(&dumped.stdout).into_owned();
    let number = |line: &str, key: &str| {
        let rest = line.split_once(key)?.1.trim_start();
        rest.split(',').next()?.trim().parse().ok()
    };
    said.lines().filter_map(|line| Some((number(line, "start=")?, number(line, "size=")?))).collect()
}

const MIB: u64 = 1 << 20;

#[test]
fn a_gpt_grows_and_a_cut_anywhere_is_made_good() {
    let image =
        made_by_sfdisk("grow-gpt", "label: gpt\nsize=8192\nstart=16384, size=8192, name=resin-data\n");
    let mut disk = enlarged(&image, 200 << 20);
    let start = 16384 * 512;
    let full = plan_for(&disk, 2, start).unwrap();
    assert_eq!(full.writes.len(), 5);
    assert!(full.size.is_multiple_of(4096) && full.size > 191 * MIB, "{}", full.size);
    let original = disk.clone();
    // Each sector of each write is where the power goes.
    let mut sectors = Vec::new();
    for write in &full.writes {
        for (at, content) in write.content.chunks(512).enumerate() {
            sectors.push(Write { offset: write.offset + 512 * at as u64, content: content.to_vec() });
        }
    }
    for done in 0..sectors.len() {
        disk.copy_from_slice(&original);
        for write in &sectors[..done] {
            apply(&mut disk, write);
        }
        // Firmware and kernel want a whole first table, or the second to make it from.
        let lost = restore(&disk_of(&disk), &mut from_memory(&disk));
        if let Some(writes) = lost {
            for write in &writes {
                apply(&mut disk, write);
            }
            assert_eq!(restore(&disk_of(&disk), &mut from_memory(&disk)), None);
        }
        let rest = plan_for(&disk, 2, start).unwrap();
        assert_eq!(rest.size, full.size, "cut at {done}");
        for write in &rest.writes {
            apply(&mut disk, write);
        }
        assert!(plan_for(&disk, 2, start).unwrap().writes.is_empty(), "cut at {done}");
    }
    let found = by_sfdisk("grown-gpt", &disk);
    assert_eq!(found, [(2048, 8192), (16384, full.size / 512)]);
}

#[test]
fn logical_and_primary_partitions_grow_and_a_cut_anywhere_is_made_good() {
    let logical = made_by_sfdisk("grow-dos", MSDOS);
    let primary = made_by_sfdisk("grow-dos1", "label: dos\nstart=8192, size=8192\nstart=16384, size=8192\n");
    for (image, number, start, count) in [(&logical, 6, 57344, 3), (&primary, 2, 16384, 1)] {
        let mut disk = enlarged(image, 200 << 20);
        let before = read(512, &mut from_memory(&disk)).unwrap().partitions;
        let original = disk.clone();
        let full = plan_for(&disk, number, start * 512).unwrap();
        assert_eq!(full.writes.len(), count);
        assert!(full.writes.iter().all(|write| write.content.len() == 512));
        assert_eq!(full.size, (200 << 20) - start * 512);
        for done in 0..=count {
            disk.copy_from_slice(&original);
            for write in &full.writes[..done] {
                apply(&mut disk, write);
            }
            // Nothing has moved, and all lies in what holds it.
            let found = read(512, &mut from_memory(&disk)).unwrap().partitions;
            for (was, is) in before.iter().zip(&found) {
                assert_eq!((was.number, was.start), (is.number, is.start));
                assert!(is.size >= was.size);
            }
            let listed = by_sfdisk(&format!("dos{number}-{done}"), &disk);
            assert_eq!(listed.len(), found.len());
            let rest = plan_for(&disk, number, start * 512).unwrap();
            assert_eq!((rest.size, rest.writes.len()), (full.size, count - done));
        }
        assert_eq!(by_sfdisk(&format!("dos{number}"), &disk).last(), Some(&(start, full.size / 512)));
    }
}

#[test]
fn growth_ends_at_two_tebibytes_of_an_msdos_disk() {
    let image = made_by_sfdisk("tera", MSDOS);
    let disk = Disk { sector: 512, sectors: 3 << 32, physical: 4096 };
    let plan = plan(&disk, 6, 57344 * 512, &mut from_memory(&image)).unwrap();
    let end = plan.size / 512 + 57344;
    assert!(end <= u64::from(u32::MAX) && end > u64::from(u32::MAX) - 16, "{end}");
    assert_eq!(plan.size % 4096, 0);
}

#[test]
fn no_room_no_change_and_strange_tables_are_left_alone() {
    let logical = made_by_sfdisk("full", MSDOS);
    let gpt = made_by_sfdisk("strange", GPT);
    // A little room is no reason.
    let snug = enlarged(&logical[..(57344 + 4096) * 512], (57344 + 4096 + 16000) * 512);
    assert!(plan_for(&snug, 6, 57344 * 512).unwrap().writes.is_empty());
    // The data partition is not the last, another begins there, it is unknown, or the table is broken.
    assert!(plan_for(&logical, 5, 40960 * 512).is_err());
    assert!(plan_for(&logical, 6, 57345 * 512).is_err());
    assert!(plan_for(&logical, 7, 57344 * 512).is_err());
    assert!(plan_for(&logical, 1, 8192 * 512).is_err());
    assert!(plan_for(&logical, 4, 32768 * 512).is_err());
    assert!(plan_for(&gpt, 1, 2048 * 512).is_err());
    let mut broken = gpt.clone();
    broken[1024 + 60] ^= 1;
    assert!(plan_for(&broken, 2, 10240 * 512).is_err());
    let mut hybrid = gpt.clone();
    hybrid.copy_within(446..462, 462);
    hybrid[462 + 4] = 0x83;
    assert!(plan_for(&hybrid, 2, 10240 * 512).is_err());
    assert!(plan_for(&gpt, 2, 10240 * 512).is_ok());
    assert_eq!(restore(&disk_of(&gpt), &mut from_memory(&gpt)), None);
    assert!(plan_for(&[0; 1024], 1, 0).is_err());
}

#[test]
fn never_panics_on_mutated_tables_that_are_to_grow() {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 16).unwrap()
    };
    for (mut image, number, start, hot) in [
        (made_by_sfdisk("g1", MSDOS), 6, 57344 * 512, vec![446..512, 32768 * 512 + 446..32768 * 512 + 512]),
        (made_by_sfdisk("g2", GPT), 2, 10240 * 512, vec![446..512, 512..604, 1024..1280]),
    ] {
        for _ in 0..20_000 {
            let mut undo = Vec::new();
            for _ in 0..1 + random() % 3 {
                let range = hot[random() % hot.len()].clone();
                let at = range.start + random() % range.len();
                undo.push((at, image[at]));
                image[at] = [0, 0xFF, 0x05, random() as u8][random() % 4];
            }
            let disk = Disk {
                sector: [512, 4096, 0][random() % 3],
                sectors: random() as u64 >> (random() % 60),
                physical: 4096,
            };
            let _ = plan(&disk, number, start, &mut from_memory(&image));
            let _ = restore(&disk, &mut from_memory(&image));
            for (at, byte) in undo.into_iter().rev() {
                image[at] = byte;
            }
        }
    }
}
