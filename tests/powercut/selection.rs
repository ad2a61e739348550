//! The evaluator of boot selections against the rule that it stands for: three tries, then the other slot.

use crate::replay::copy;
use minke_image::arch::Arch;
use minke_image::boot_files::grub_environment;
use minke_image::tree::Scratch;
use minke_tests::boot_loader::{End, Loader};
use minke_tests::disk::Partition;
use minke_tests::{guest, run};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A disk both of whose slots can be started.
fn both_slots(arch: Arch, scratch: &Scratch) -> PathBuf {
    let disk = scratch.join("disk.img");
    copy(&guest::image(arch), &disk);
    let active = Partition::labelled(&disk, "resin-rootA").extract(&disk);
    Partition::labelled(&disk, "resin-rootB").put_back(&disk, &active);
    disk
}

/// Root, flag, count, and the slots of the passes from there. No count: there is no file of it.
const RULE: &[(&str, &str, Option<&str>, [u32; 5])] = &[
    ("2", "0", None, [2; 5]),
    ("3", "0", None, [3; 5]),
    // Without a trial the count means nothing.
    ("3", "0", Some("3"), [3; 5]),
    ("3", "1", None, [3, 3, 3, 2, 2]),
    ("3", "1", Some("0"), [3, 3, 3, 2, 2]),
    ("2", "1", Some("0"), [2, 2, 2, 3, 3]),
    ("2", "1", Some("1"), [2, 2, 3, 3, 3]),
    ("3", "1", Some("2"), [3, 2, 2, 2, 2]),
    ("3", "1", Some("3"), [2; 5]),
    ("3", "1", Some("9"), [2; 5]),
    // A count that is none leads to the end of the trial, and no further.
    ("3", "1", Some("abc"), [2; 5]),
    ("3", "1", Some("1f"), [2; 5]),
    // What a damaged record says is the first root.
    ("", "0", None, [2; 5]),
    ("zz", "0", None, [2; 5]),
    ("4", "", None, [2; 5]),
];

fn check(disk: &Path, write: fn(&mut Loader, &str, &str, Option<&str>)) {
    for (root, flag, count, expected) in RULE {
        let mut loader = Loader::new(disk);
        write(&mut loader, root, flag, *count);
        let slots: Vec<u32> = loader.slots(expected.len()).into_iter().map(Option::unwrap).collect();
        assert_eq!(slots, expected, "resin_root_part={root} upgrade_available={flag} bootcount={count:?}");
    }
}

#[test]
fn u_boot_tries_three_times() {
    let scratch = Scratch::new("selection-u-boot").unwrap();
    let disk = both_slots(guest::FASTEST, &scratch);
    check(&disk, |loader, root, flag, count| {
        let text = format!("resin_root_part={root}\nupgrade_available={flag}\n");
        loader.volume.write("resinOS_uEnv.txt", text.into_bytes());
        let count = count.map_or(String::new(), |count| format!("bootcount={count}\n"));
        loader.volume.write("bootcount.env", count.into_bytes());
    });
}

#[test]
fn grub_tries_three_times() {
    let scratch = Scratch::new("selection-grub").unwrap();
    let disk = both_slots(Arch::X86_64, &scratch);
    check(&disk, |loader, root, flag, count| {
        loader.volume.write("grubenv", grub_environment(root, flag, count.unwrap_or("")).into_bytes());
    });
}

/// A slot whose kernel or initramfs is gone gives way to the other one, at the first start, on trial or not; the count
/// goes on as ever.
fn gives_way(arch: Arch, write: fn(&mut Loader, &str, &str)) {
    let scratch = Scratch::new("selection-gone").unwrap();
    let disk = both_slots(arch, &scratch);
    for (file, label, gone, other) in
        [("initramfs", "resin-rootB", "3", 2), ("vmlinuz", "resin-rootA", "2", 3)]
    {
        let slot = Partition::labelled(&disk, label);
        let part = slot.extract(&disk);
        let whole = part.with_extension("whole");
        std::fs::copy(&part, &whole).unwrap();
        run(Command::new("debugfs").args(["-w", "-R", &format!("rm /current/boot/{file}")]).arg(&part));
        slot.put_back(&disk, &part);
        for flag in ["0", "1"] {
            let mut loader = Loader::new(&disk);
            write(&mut loader, gone, flag);
            let End::Start(start) = loader.pass() else { panic!("{file}: nothing starts") };
            assert_eq!((start.slot, start.arguments.contains("minke.trial")), (other, false), "{file}");
            // Nothing else starts later either.
            assert_eq!(loader.slots(4), [Some(other); 4], "{file}");
        }
        slot.put_back(&disk, &whole);
    }
}

#[test]
fn by_u_boot_a_slot_that_cannot_be_loaded_gives_way() {
    gives_way(guest::FASTEST, |loader, root, flag| {
        let text = format!("resin_root_part={root}\nupgrade_available={flag}\n");
        loader.volume.write("resinOS_uEnv.txt", text.into_bytes());
        loader.volume.write("bootcount.env", b"bootcount=0\n".to_vec());
    });
}

#[test]
fn by_grub_a_slot_that_cannot_be_loaded_gives_way() {
    gives_way(Arch::X86_64, |loader, root, flag| {
        loader.volume.write("grubenv", grub_environment(root, flag, "0").into_bytes());
    });
}
