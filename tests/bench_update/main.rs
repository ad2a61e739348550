//! `hostapp-update` beside RAUC (Debian's package, in a chroot): the same two versions of the system, in the same guest,
//! into the same slot. Prints what each downloaded and wrote, how long it took, and its peak memory.
//!
//! RAUC as Debian builds it has no streaming, so that it downloads a bundle as a whole before it installs it; its way to
//! download less is a bundle whose image is an index of casync's chunks. Its bundles hold the slot's content as an archive
//! or as a file system.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod bundles;

use minke_image::balena::BootChain;
use minke_image::build::{self, LayoutChoice, Options, Preload};
use minke_image::cache::Cache;
use minke_image::delta;
use minke_image::guest::Settings;
use minke_image::hostapp::Signing;
use minke_image::oci::Archive;
use minke_image::release::OS_VERSION;
use minke_image::tree::Scratch;
use minke_tests::guest::{FASTEST, booted, sh, start, try_sh};
use minke_tests::registry::Registry;
use minke_tests::{release, run};
use std::path::{Path, PathBuf};
use std::process::Command;

const USAGE: &str = "usage: bench-update [BASE-BINARY]";
const NEW: &str = "8.1.0";

/// Prints milliseconds, sectors written to the disk and KiB of the command in `$1`, whose processes have the names in `$2`.
const MEASURE: &str = r#"
measure() {
  peak=0; sync; echo 3 > /proc/sys/vm/drop_caches
  before=$(awk '{print $7}' /sys/block/vda/stat); began=$(sed 's/ .*//; s/\.//' /proc/uptime)
  sh -c "$1" > /run/bench.log 2>&1 & job=$!
  while kill -0 $job 2>/dev/null; do
    now=$(awk -v names="^($2)" '/^Name:/ { name = $2 } /^VmHWM:/ { if (name ~ names) sum += $2 } END { print sum + 0 }' /proc/[0-9]*/status 2>/dev/null)
    [ $now -le $peak ] || peak=$now
    sleep 0.2
  done
  wait $job; status=$?; sync
  echo $((($(sed 's/ .*//; s/\.//' /proc/uptime) - began) * 10)) $(($(awk '{print $7}' /sys/block/vda/stat) - before)) $peak
  [ $status = 0 ] || { cat /run/bench.log; return $status; }
}
umount /mnt/sysroot/inactive 2>/dev/null
"#;

fn main() {
    let base = match std::env::args().nth(1) {
        Some(word) if word.starts_with('-') => {
            eprintln!("{USAGE}");
            std::process::exit(2);
        }
        Some(path) => PathBuf::from(path),
        None => release(FASTEST.name()),
    };
    let scratch = Scratch::new("bench-update").unwrap();
    let cache = Cache::open().unwrap();
    let options = |version: &str, minke: &Path, output: PathBuf| Options {
        arch: FASTEST,
        development: true,
        version: version.to_owned(),
        config: None,
        preload: Preload::Nothing,
        layout: LayoutChoice::Small,
        release_keys: Vec::new(),
        output,
        minke: Some(minke.to_path_buf()),
        refresh: false,
        boot_chain: BootChain::Usual,
    };
    let disk = build::build(&cache, &options(OS_VERSION, &base, scratch.join("disk.img"))).unwrap();
    let artefact = |version: &str, minke: &Path, name: &str| {
        let path = scratch.join(name);
        build::artefact(&cache, &options(version, minke, path.clone()), &Signing::Unsigned).unwrap();
        path
    };
    let old = artefact(OS_VERSION, &base, "old.tar");
    let new = artefact(NEW, &release(FASTEST.name()), "new.tar");
    let delta_path = scratch.join("delta.tar");
    let made = delta::make(&Archive::read(&old).unwrap(), &Archive::read(&new).unwrap()).unwrap();
    std::fs::write(&delta_path, made.archive(&Signing::Unsigned).unwrap()).unwrap();

    let registry = Registry::start();
    let (full, delta) = (registry.offer("full", &new), registry.offer("delta", &delta_path));
    let bundles = bundles::make(&cache, &new, &registry.files());
    let mut guest =
        start(Settings { image: disk.image, boot: disk.boot, ..Settings::new(FASTEST, Path::new("/")) });
    booted(&mut guest);
    sh(&mut guest, &bundles::prepare(&registry.file("chroot.tar.gz")));

    println!("{}", minke_tests::text(&run(&mut Command::new("date"))).trim());
    println!("{:<26} {:>12} {:>12} {:>8} {:>10}", "", "downloaded", "written", "time", "memory");
    let update = "hostapp-update --insecure-registry";
    let ours = [
        ("minke, whole", format!("{update} -i {full}")),
        ("minke, delta", format!("{update} --delta {delta} -i {full}")),
    ];
    for (name, command) in ours {
        row(&mut guest, &registry, name, &command, "hostapp-update|e2fsck");
    }
    for (name, bundle) in bundles {
        let command = format!("chroot /mnt/data/rauc /usr/bin/rauc install {}", registry.file(bundle));
        row(&mut guest, &registry, name, &command, "rauc|tar|gzip|casync|mke2fs|mkfs|resize2fs|e2fsck");
    }
}

fn row(guest: &mut minke_image::guest::Guest, registry: &Registry, name: &str, command: &str, names: &str) {
    registry.sent();
    let (said, status) = try_sh(guest, &format!("{MEASURE} measure '{command}' '{names}'"));
    if status != 0 {
        println!("{name:<26} failed: {}", said.lines().rev().take(5).collect::<Vec<_>>().join(" | "));
        return;
    }
    let line = said.lines().find(|line| line.split(' ').count() == 3).unwrap_or_default();
    let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
    let [time, sectors, memory] = numbers[..] else { panic!("{said}") };
    println!(
        "{name:<26} {:>12} {:>12} {:>6}.{} s {:>6} KiB",
        registry.sent(),
        sectors * 512,
        time / 1000,
        time / 100 % 10,
        memory
    );
}
