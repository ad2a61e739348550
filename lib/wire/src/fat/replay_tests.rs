//! The deployment of a boot file (`minke_boot::place`) as vfat writes it, cut anywhere: what reached the disk of the writes
//! between two syncs, in whatever order, goes through the check, and fsck.fat and mtools judge the file.

use super::tests::{Image, Random, Scratch, complaints};
use super::*;

const NAME: &str = "kernel.img";
const BESIDE: &str = ".kernel.img.new";
/// `BESIDE` where a cut took the long name.
const TWIN: &str = "KERNEL~1.NEW";
const SECTOR: usize = 512;

/// A sector and its new content.
type Write = (usize, Vec<u8>);

/// Which sectors differ.
fn writes(before: &[u8], after: &[u8]) -> Vec<Write> {
    let sectors = before.chunks(SECTOR).zip(after.chunks(SECTOR)).enumerate();
    sectors
        .filter(|(_, (old, new))| old != new)
        .map(|(number, (_, new))| (number * SECTOR, new.to_vec()))
        .collect()
}

/// The entry in the folder whose short name ends so.
fn entry(image: &[u8], ending: &[u8; 3]) -> usize {
    let boot = boot::Boot::read(&mut Image::new(image.to_vec()), image.len() as u64).ok().unwrap();
    let geometry = boot.geometry;
    let start = if geometry.wide { geometry.data_start } else { geometry.root.0 };
    let start = usize::try_from(start).unwrap();
    let is = |at: &usize| image[*at + 11] == 0x20 && image[*at + 8..*at + 11] == *ending;
    (start..start + 64 * 32).step_by(32).find(is).unwrap()
}

/// The disk before, and after each sync: the content beside, one name's exchange and the other's, the removal.
fn stages(scratch: &Scratch, bits: &str, far: bool, contents: &[Vec<u8>; 2]) -> Vec<Vec<u8>> {
    let from = Scratch::new(&format!("replay-from-{bits}-{far}"));
    let copy = |name: &str, bytes: &[u8]| {
        std::fs::write(&from.0, bytes).unwrap();
        scratch.run("mcopy", &["-i", "@", from.0.to_str().unwrap(), &format!("::/{name}")]);
    };
    let bytes = if bits == "16" { 3 << 20 } else { 34 << 20 };
    std::fs::File::create(&scratch.0).unwrap().set_len(bytes).unwrap();
    scratch.run("mkfs.vfat", &["-F", bits, "-s", "1", "-n", "resin-boot", "@"]);
    copy(NAME, &contents[0]);
    // Sixteen entries a sector.
    for number in 0..if far { 14 } else { 0 } {
        copy(&format!("F{number}"), b"neighbour");
    }
    let read = || std::fs::read(&scratch.0).unwrap();
    let mut stages = vec![read()];
    copy(BESIDE, &contents[1]);
    stages.push(read());
    let mut image = read();
    let places = [entry(&image, b"IMG"), entry(&image, b"NEW")];
    assert_eq!(places[0] / SECTOR != places[1] / SECTOR, far);
    // First cluster and length; vfat leaves dates and names where they are.
    let fields = |place: usize| [place + 20..place + 22, place + 26..place + 32];
    let old = places.map(|place| fields(place).map(|field| image[field].to_vec()));
    for (place, content) in places.iter().zip(old.iter().rev()) {
        for (field, bytes) in fields(*place).into_iter().zip(content) {
            image[field].copy_from_slice(bytes);
        }
        if far || *place == places[1] {
            stages.push(image.clone());
        }
    }
    std::fs::write(&scratch.0, &image).unwrap();
    scratch.run("mdel", &["-i", "@", &format!("::/{BESIDE}")]);
    stages.push(read());
    stages
}

/// Checks the disk and says which content the file has then: 0 or 1.
fn judge(image: &mut Image, scratch: &Scratch, contents: &[Vec<u8>; 2], what: &str) -> usize {
    let report = image.check().unwrap_or_else(|_| panic!("{what}"));
    assert!(image.check().unwrap().is_clean(), "{what}: {}", report.text());
    std::fs::write(&scratch.0, &image.bytes).unwrap();
    assert_eq!(complaints(scratch), "", "{what}: {}", report.text());
    let listed = String::from_utf8(scratch.run("mdir", &["-i", "@", "-b", "-a", "::/"])).unwrap();
    for name in listed.lines().map(|line| line.trim_start_matches("::/")) {
        let known = [NAME, BESIDE, TWIN].contains(&name) || name.starts_with('F');
        assert!(known, "{what}: nobody would remove {name}");
    }
    let content = scratch.run("mtype", &["-i", "@", &format!("::/{NAME}")]);
    contents.iter().position(|known| *known == content).unwrap_or_else(|| panic!("{what}: {NAME} is torn"))
}

/// Seeded orders in which a part of a stage's writes may have reached the disk.
const ORDERS: usize = 10;

fn replay(bits: &str, far: bool, lengths: [usize; 2]) {
    let contents = [vec![b'o'; lengths[0]], vec![b'n'; lengths[1]]];
    let scratch = Scratch::new(&format!("replay-{bits}-{far}"));
    let stages = stages(&scratch, bits, far, &contents);
    let mut random = Random(0x5EED_0001);
    let last = stages.len() - 1;
    let mut seen = [0usize; 2];
    for (number, pair) in stages.windows(2).enumerate() {
        let writes = writes(&pair[0], &pair[1]);
        for order in 0..ORDERS {
            let mut queue = writes.clone();
            let keep = match order {
                0 => 0,
                1 => queue.len(),
                _ => {
                    for index in (1..queue.len()).rev() {
                        queue.swap(index, random.below(index + 1));
                    }
                    random.below(queue.len() + 1)
                }
            };
            let mut image = Image::new(pair[0].clone());
            for (place, content) in &queue[..keep] {
                image.put(*place, content);
            }
            let what = format!("FAT{bits} far={far}: {keep} of stage {number}'s writes, order {order}");
            let content = judge(&mut image, &scratch, &contents, &what);
            seen[content] += 1;
            // Old until the exchange begins, new when its first name is synced.
            assert!(number > 0 || content == 0, "{what}");
            assert!(number < 2 && number + 1 < last || content == 1, "{what}");
        }
    }
    // The other order: the name beside reached the disk first.
    let mut image = Image::new(stages[1].clone());
    for (place, content) in writes(&stages[last - 2], &stages[last - 1]).iter().filter(|_| far) {
        image.put(*place, content);
    }
    let content = judge(&mut image, &scratch, &contents, "the name beside came first");
    assert_eq!(content, 0);
    assert!(seen[0] >= ORDERS && seen[1] >= ORDERS, "{seen:?}");
}

#[test]
fn a_boot_file_is_old_or_new_wherever_its_deployment_is_cut() {
    replay("16", false, [30_000, 50_000]);
    replay("16", true, [50_000, 30_000]);
    replay("32", false, [9_000, 5_000]);
}
