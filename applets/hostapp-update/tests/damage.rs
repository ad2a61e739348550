//! Archives damaged in every part: each is refused with a clear error, or what was damaged did not matter and the slot
//! holds the very release. The system that runs stays as it was, and the next good update succeeds.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

// Other tests use the rest.
#[allow(dead_code)]
mod common;

use common::{Device, SLUG, isolated, run, text};
use std::fs;
use std::ops::Range;
use std::process::Command;

const NEW: &str = "8.1.0";
/// Damages to each part of each member; those of the layer's content.
const EACH: usize = 4;
const LAYER: usize = 24;

#[test]
fn entry() {
    common::entry();
}

/// The parts of a tar archive: header, content and padding of each member, and its end.
fn parts(archive: &[u8]) -> Vec<(String, Range<usize>)> {
    let mut parts = Vec::new();
    let mut at = 0;
    while archive[at] != 0 {
        let field = |range: Range<usize>| String::from_utf8_lossy(&archive[at + range.start..at + range.end]);
        let (name, size) = (field(0..100), field(124..135));
        let name = name.trim_end_matches('\0');
        let size = usize::from_str_radix(size.trim_matches(['\0', ' ']), 8).unwrap();
        let (start, end) = (at + 512, at + 512 + size);
        let next = end.next_multiple_of(512);
        for (part, range) in [("header", at..start), ("content", start..end), ("padding", end..next)] {
            if !range.is_empty() {
                parts.push((format!("{part} of {name}"), range));
            }
        }
        at = next;
    }
    parts.push(("end".to_owned(), at..archive.len()));
    parts
}

/// Random numbers that the seed repeats.
struct Random(u64);

impl Random {
    fn within(&mut self, range: &Range<usize>) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        range.start + (self.0 >> 33) as usize % range.len()
    }
}

/// Installs a damaged archive; whether it was taken.
fn taken(device: &Device, what: &str, archive: &[u8], id: &str) -> bool {
    fs::write(device.path("tmp/damaged.tar"), archive).unwrap();
    let (output, log) = device.run("-n -f /tmp/damaged.tar");
    assert_eq!(
        device.read("mnt/boot/resinOS_uEnv.txt"),
        "resin_root_part=2\nupgrade_available=0\n",
        "{what}"
    );
    match output.status.code() {
        Some(0) => {
            device.edit_b(|slot| {
                let current = fs::read_link(slot.join("current")).unwrap();
                assert_eq!(text(&current), format!("hostapps/{id}"), "{what}");
                assert!(fs::read(slot.join("boot/initramfs")).unwrap() == common::initramfs(NEW), "{what}");
                assert_eq!(
                    fs::read_to_string(slot.join("boot/vmlinuz")).unwrap(),
                    format!("kernel of {NEW}")
                );
            });
            true
        }
        Some(1) => {
            let errors = log.lines().filter(|line| !line.trim().is_empty()).count();
            assert!((1..8).contains(&errors), "{what}: {log}");
            // What a boot loader looks for is not there, or is still what stood there before.
            device.edit_b(|slot| {
                let current = fs::read_link(slot.join("current"));
                assert!(
                    current.as_ref().map_or(true, |current| text(current) == format!("hostapps/{id}")
                        && fs::read(slot.join("boot/initramfs")).unwrap() == common::initramfs(NEW)),
                    "{what}: {current:?}"
                );
            });
            false
        }
        other => panic!("{what}: status {other:?}: {log}"),
    }
}

/// What a compressed layer holds; nothing where that cannot be found out. Its head and its trailer say nothing of that, nor do
/// the bits that fill a byte up.
fn unpacked(device: &Device, layer: &[u8]) -> Vec<u8> {
    let path = device.path("tmp/layer.gz");
    let head: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03";
    fs::write(&path, [head, layer.get(head.len()..).unwrap_or_default()].concat()).unwrap();
    // A wrong checksum is told after all has been said.
    Command::new("gzip").arg("-dc").stdin(fs::File::open(path).unwrap()).output().unwrap().stdout
}

#[test]
fn damage_in_any_part_is_refused_or_does_not_matter() {
    isolated("damage_in_any_part_is_refused_or_does_not_matter", || {
        let device = Device::new("damage");
        let id = device.release("os.tar", NEW, SLUG);
        let good = fs::read(device.path("tmp/os.tar")).unwrap();
        let before = &device.digests()[0];
        let seed = std::env::var("MINKE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
        println!("MINKE_SEED={seed}");
        let mut random = Random(seed);
        let parts = parts(&good);
        let largest = parts.iter().map(|(_, range)| range.len()).max().unwrap();
        let content = |archive: &[u8], range: &Range<usize>| unpacked(&device, &archive[range.clone()]);
        let (mut refused, mut harmless) = (0, Vec::new());
        for (what, range) in &parts {
            for _ in 0..if range.len() == largest { LAYER } else { EACH } {
                let mut damaged = good.clone();
                let at = random.within(range);
                damaged[at] ^= 1 << random.within(&(0..8));
                let what = format!("{what}, byte {at} (MINKE_SEED={seed})");
                if taken(&device, &what, &damaged, &id) {
                    let is_blob = what.contains("content of blobs");
                    let same = range.len() == largest && content(&damaged, range) == content(&good, range);
                    assert!(!is_blob || same, "{what}");
                    harmless.push(what);
                } else {
                    refused += 1;
                }
            }
            // The transfer ends within this part; without its last records an archive is complete all the same.
            let at = random.within(range);
            if what != "end" {
                let what = format!("cut in the {what} at {at} (MINKE_SEED={seed})");
                assert!(!taken(&device, &what, &good[..at], &id) || what.contains("padding"), "{what}");
            }
        }
        println!("{refused} refused; {} did not matter: {harmless:?}", harmless.len());
        assert_eq!(&device.digests()[0], before, "the slot that runs");
        device.good("-n -f /tmp/os.tar");
        run("e2fsck", &["-fn", device.node('B')]);
    });
}
