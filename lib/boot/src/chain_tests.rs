//! Records of all shapes, and every power cut between the writes.

use super::*;
use crate::Slot::{A, B};

const CHAINS: [Chain; 3] = [Chain::UBoot, Chain::Grub, Chain::BalenaBootloader];

/// A boot partition of this test's own, removed at the end.
struct Boot(PathBuf);

impl Boot {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("minke-chain-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(name), content).unwrap();
    }

    fn content(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.join(name)).unwrap_or_default()
    }
}

impl Drop for Boot {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn selection(root: Slot, upgrade_available: bool, bootcount: u32) -> Selection {
    Selection { root, upgrade_available, bootcount }
}

#[test]
fn a_whole_update_on_every_chain() {
    for chain in CHAINS {
        let boot = Boot::new("update");
        let says = || chain.read(&boot.0).unwrap();
        assert_eq!(says(), Selection::default(), "a missing record is what the scripts make of it");
        chain.select(&boot.0, B, true).unwrap();
        assert_eq!(says(), selection(B, true, 0));
        assert_eq!(Chain::find_by(&boot.0, "").unwrap(), chain);
        let started: Vec<Slot> = (0..3).map(|_| chain.pass(&boot.0).unwrap()).collect();
        assert_eq!((started, says()), (vec![B, B, B], selection(B, true, 3)));
        chain.clear_count(&boot.0).unwrap();
        assert_eq!(says(), selection(B, true, 0));
        for _ in 0..3 {
            assert_eq!(chain.pass(&boot.0).unwrap(), B);
        }
        assert_eq!((chain.pass(&boot.0).unwrap(), says()), (A, selection(B, true, 4)));
        chain.commit(&boot.0).unwrap();
        assert_eq!((chain.pass(&boot.0).unwrap(), says()), (B, selection(B, false, 0)));
        chain.select(&boot.0, A, false).unwrap();
        assert_eq!(says(), selection(A, false, 0));
    }
}

#[test]
fn the_chain_that_booted_wins_over_the_order() {
    let boot = Boot::new("find");
    let find = |cmdline| Chain::find_by(&boot.0, cmdline);
    assert_eq!(find("root=UUID=1 ro").unwrap_err().errno, Errno::NOENT);
    assert_eq!(find("BOOT_IMAGE=(hd0,gpt2)/boot/vmlinuz").unwrap(), Chain::Grub, "its record was deleted");
    boot.file("boot.scr", "");
    assert_eq!(find("root=LABEL=resin-rootA").unwrap(), Chain::UBoot);
    std::fs::remove_file(boot.0.join("boot.scr")).unwrap();
    std::fs::create_dir_all(boot.0.join("EFI/BOOT")).unwrap();
    boot.file("EFI/BOOT/grubenv", "");
    assert_eq!(Chain::find_by(&boot.0, "").unwrap(), Chain::Grub);
    boot.file("bootenv", "");
    assert_eq!(Chain::find_by(&boot.0, "").unwrap(), Chain::BalenaBootloader);
    boot.file("resinOS_uEnv.txt", "");
    assert_eq!(Chain::find_by(&boot.0, "root=UUID=1 ro").unwrap(), Chain::UBoot);
    assert_eq!(Chain::find_by(&boot.0, "BOOT_IMAGE=(hd0,gpt2)/boot/vmlinuz ro").unwrap(), Chain::Grub);
    let kexec = "BOOT_IMAGE=(hd0,gpt1)/bootloader minke.chain=bootenv ro";
    assert_eq!(Chain::find_by(&boot.0, kexec).unwrap(), Chain::BalenaBootloader);
}

#[test]
fn what_anybody_left_there_is_read_and_kept() {
    let boot = Boot::new("shapes");
    // A reference system's own, of an update under way.
    boot.file("resinOS_uEnv.txt", "resin_root_part=3\nupgrade_available=1\n");
    boot.file("bootcount.env", "bootcount=2\n\0");
    assert_eq!(Chain::UBoot.read(&boot.0).unwrap(), selection(B, true, 2));
    boot.file("resinOS_uEnv.txt", "# by hand\r\nupgrade_available=0\r\nmine=1\r\nresin_root_part=3\r\n");
    boot.file("bootcount.env", "bootcount=abc");
    assert_eq!(Chain::UBoot.read(&boot.0).unwrap(), selection(B, false, 0));
    Chain::UBoot.select(&boot.0, A, true).unwrap();
    assert_eq!(Chain::UBoot.read(&boot.0).unwrap(), selection(A, true, 0));
    let text = String::from_utf8(boot.content("resinOS_uEnv.txt")).unwrap();
    assert!(text.contains("mine=1") && text.contains("# by hand"), "{text}");
    for garbage in [vec![0u8; 1024], vec![0xFF; 3000], b"x".repeat(LIMIT + 1), b"\n\n=\n".to_vec()] {
        for chain in CHAINS {
            std::fs::write(chain.path(&boot.0), &garbage).unwrap();
            boot.file("bootcount.env", &garbage);
            assert_eq!(chain.read(&boot.0).unwrap(), Selection::default());
            chain.select(&boot.0, B, true).unwrap();
            assert_eq!(chain.read(&boot.0).unwrap(), selection(B, true, 0));
        }
    }
}

#[test]
fn a_select_writes_one_sector_of_each_file_and_no_other_byte() {
    let boot = Boot::new("sector");
    let extra = format!("extra_os_firmware_class_path={}\n", "x".repeat(600));
    for chain in [Chain::Grub, Chain::BalenaBootloader] {
        let old = bootenv::set(
            Format::Block,
            format!("# GRUB Environment Block\n{extra}").as_bytes(),
            &[(ROOT, "2"), (UPGRADE, "0"), (COUNT, "0")],
        );
        std::fs::write(chain.path(&boot.0), &old).unwrap();
        use std::os::unix::fs::MetadataExt;
        let inode = std::fs::metadata(chain.path(&boot.0)).unwrap().ino();
        chain.select(&boot.0, B, true).unwrap();
        let new = std::fs::read(chain.path(&boot.0)).unwrap();
        assert_eq!(old[bootenv::SECTOR..], new[bootenv::SECTOR..]);
        assert_eq!(std::fs::metadata(chain.path(&boot.0)).unwrap().ino(), inode, "in place");
    }
}

/// The states that a cut of `write` leaves on U-Boot's two files: nothing, the first write, both. Each write is one
/// sector, which is whole.
#[test]
fn every_cut_between_two_files_leaves_old_or_new() {
    let all: Vec<Selection> = [A, B]
        .into_iter()
        .flat_map(|root| {
            [false, true]
                .into_iter()
                .flat_map(move |flag| (0..=4).map(move |count| selection(root, flag, count)))
        })
        .collect();
    let files = ["resinOS_uEnv.txt", "bootcount.env"];
    for old in &all {
        for new in all.iter().filter(|new| new.bootcount == 0) {
            let boot = Boot::new("cut");
            Chain::UBoot.write(&boot.0, old).unwrap();
            let before = files.map(|name| boot.content(name));
            Chain::UBoot.write(&boot.0, new).unwrap();
            let after = files.map(|name| boot.content(name));
            // The order that `write` has: the count first when there will be a trial.
            let first = usize::from(new.upgrade_available);
            boot.file(files[0], &before[0]);
            boot.file(files[1], &before[1]);
            boot.file(files[first], &after[first]);
            let seen = Chain::UBoot.read(&boot.0).unwrap();
            let (slot, _) = rule::next(seen);
            let same = |other: &Selection| {
                rule::next(*other).0 == slot && seen.upgrade_available == other.upgrade_available
            };
            let tries_again = same(&Selection { bootcount: 0, ..*old });
            assert!(same(old) || same(new) || tries_again, "{old:?} {new:?} {seen:?}");
        }
    }
}

#[test]
fn a_trial_with_a_count_of_garbage_ends() {
    for garbage in ["abc", "1f", "-1", "99999999999999999999"] {
        for chain in CHAINS {
            let boot = Boot::new("garbage");
            chain.select(&boot.0, B, true).unwrap();
            let path = if chain == Chain::UBoot { boot.0.join(U_BOOT_COUNT) } else { chain.path(&boot.0) };
            let format = if chain == Chain::UBoot { Format::Text } else { Format::Block };
            let content = bootenv::set(format, &std::fs::read(&path).unwrap(), &[(COUNT, garbage)]);
            std::fs::write(&path, content).unwrap();
            let started: Vec<Slot> = (0..5).map(|_| chain.pass(&boot.0).unwrap()).collect();
            assert_eq!(started.last(), Some(&A), "{garbage} {}", chain.name());
        }
    }
}
