//! Host apps out of archives: whole, interrupted, damaged, foreign, signed, and as deltas.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::hostapp::{
    Artefact, Files, Watcher, amd64, archive, assert_slot, content, delta, failure, files, install, labels,
};
use common::{Scratch, gzip, tar};
use minke_oci::Platform;
use minke_oci::hostapp::{self, Source, Task};
use minke_wire::json::json;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const SIZE: usize = 18 << 20;

fn random(state: &mut u64, limit: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 33).unwrap() % limit
}

/// Installs what a pipe brings.
fn install_from_pipe(
    scratch: &Scratch,
    bytes: &[u8],
    target: &Path,
) -> minke_oci::Result<hostapp::Installed> {
    let fifo = scratch.path("fifo");
    let _ = std::fs::remove_file(&fifo);
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut cat = Command::new("sh")
        .arg("-c")
        .arg(format!("cat > '{}'", fifo.display()))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, bytes) = (cat.stdin.take().unwrap(), bytes.to_vec());
    // Nobody may read to the end.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&bytes)));
    let result = install(Source::Archive(&fifo), target, None, &mut Watcher::default());
    // Who still waits to write is let go.
    drop(std::fs::OpenOptions::new().read(true).write(true).open(&fifo));
    let _ = cat.wait();
    writer.join().unwrap();
    result
}

#[test]
fn a_full_image_comes_from_a_file_and_from_a_pipe() {
    let scratch = Scratch::new("hostapp-full");
    let files = files(1, 3 << 20);
    let artefact = Artefact::full(&files, "2.0.0");
    let bytes = artefact.archive();
    let path = scratch.write("hostapp.tar", &bytes);
    let target = scratch.path("hostapps/.new");
    let mut watcher = Watcher::default();
    let installed = install(Source::Archive(&path), &target, None, &mut watcher).unwrap();
    assert_slot(&target, &files);
    let release = watcher.release.unwrap();
    assert_eq!((installed.release.id, installed.resumed), (artefact.id(), 0));
    assert_eq!((release.version(), release.os_release("SLUG")), ("2.0.0", "generic-amd64"));
    assert_eq!((release.download, release.size()), (Some(artefact.packed.len() as u64), Some(12345)));
    let total: usize = files.iter().take(6).map(|(_, content)| content.len()).sum();
    assert_eq!((watcher.fetched, watcher.read_back), (artefact.packed.len() as u64, total as u64));
    assert!(!scratch.path("hostapps/.new.resume").exists());

    let piped = scratch.path("hostapps/piped");
    install_from_pipe(&scratch, &bytes, &piped).unwrap();
    assert_slot(&piped, &files);

    // The layer before the documents: from a file only.
    let mut members = artefact.members();
    members.reverse();
    let reversed = archive(&members);
    let path = scratch.write("reversed.tar", &reversed);
    install(Source::Archive(&path), &target, None, &mut Watcher::default()).unwrap();
    assert_slot(&target, &files);
    let line = failure(install_from_pipe(&scratch, &reversed, &scratch.path("hostapps/other")));
    assert!(
        line.contains("does not come before the layers") && line.contains("give the archive as a file"),
        "{line}"
    );
    let cut =
        failure(install_from_pipe(&scratch, &bytes[..bytes.len() / 2], &scratch.path("hostapps/other")));
    assert!(cut.contains("cut short"), "{cut}");
}

#[test]
fn what_old_engines_save_is_taken_as_well() {
    let scratch = Scratch::new("hostapp-save");
    let files = files(2, 700_000);
    let artefact = Artefact::full(&files, "2.0.0");
    for (name, layer) in [("plain", &artefact.layer), ("packed", &artefact.packed)] {
        let config = format!("{}.json", artefact.id());
        let manifest = json!([{ "Config": config, "RepoTags": null, "Layers": ["x/layer.tar"] }]).to_text();
        let saved = tar(&[
            ("x/layer.tar", layer),
            (&config, &artefact.config),
            ("manifest.json", manifest.as_bytes()),
        ]);
        let target = scratch.path(&format!("hostapps/{name}"));
        let path = scratch.write("saved.tar", &saved);
        let installed = install(Source::Archive(&path), &target, None, &mut Watcher::default()).unwrap();
        assert_eq!(installed.release.id, artefact.id());
        assert_slot(&target, &files);
    }
}

#[test]
fn an_interrupted_installation_is_taken_up_where_it_was() {
    let scratch = Scratch::new("hostapp-resume");
    let files = files(3, SIZE);
    let artefact = Artefact::full(&files, "2.0.0");
    let path = scratch.write("hostapp.tar", &artefact.archive());
    let target = scratch.path("hostapps/.new");
    let (mut state, mut taken_up) = (7, 0);
    for round in 0..3 {
        let _ = std::fs::remove_dir_all(scratch.path("hostapps"));
        let (mut at, mut tries) = (0, 0);
        let installed = loop {
            let stop = at + random(&mut state, artefact.packed.len()) as u64 / 3;
            let mut watcher = Watcher { stop_after: Some(stop), ..Watcher::default() };
            match install(Source::Archive(&path), &target, None, &mut watcher) {
                Ok(installed) => break installed,
                Err(minke_oci::Error::Cancelled) => {}
                Err(error) => panic!("{error}"),
            }
            (at, tries) = (watcher.fetched, tries + 1);
            // A power cut leaves more of the open file than the record speaks of.
            let root = target.join("rootfs.squashfs");
            if round % 2 == 0 && root.exists() {
                std::fs::OpenOptions::new().append(true).open(&root).unwrap().write_all(&[7; 99]).unwrap();
            }
        };
        taken_up += u32::from(installed.resumed > 0);
        assert_slot(&target, &files);
        assert!(tries > 0);
    }
    assert!(taken_up >= 2, "{taken_up}");

    // A record whose file was lost, and one of another layer, are of no use.
    for damage in ["file", "layer", "record"] {
        let _ = std::fs::remove_dir_all(scratch.path("hostapps"));
        let mut watcher =
            Watcher { stop_after: Some(artefact.packed.len() as u64 * 9 / 10), ..Watcher::default() };
        failure(install(Source::Archive(&path), &target, None, &mut watcher));
        let record = scratch.path("hostapps/.new.resume");
        assert!(record.exists());
        let mut wanted = (path.clone(), files.clone());
        match damage {
            "file" => std::fs::remove_file(target.join("rootfs.squashfs")).unwrap(),
            "layer" => {
                let other = common::hostapp::files(4, 1 << 20);
                let archive = Artefact::full(&other, "3").archive();
                wanted = (scratch.write("other.tar", &archive), other);
            }
            _ => {
                let mut bytes = std::fs::read(&record).unwrap();
                let middle = bytes.len() / 2;
                bytes.truncate(middle);
                std::fs::write(&record, bytes).unwrap();
            }
        }
        let installed = install(Source::Archive(&wanted.0), &target, None, &mut Watcher::default()).unwrap();
        assert_eq!(installed.resumed, 0, "{damage}");
        assert_slot(&target, &wanted.1);
    }
}

#[test]
fn damage_anywhere_in_an_archive_is_noticed_and_nothing_is_kept() {
    let scratch = Scratch::new("hostapp-damage");
    let artefact = Artefact::full(&files(5, 400_000), "2.0.0");
    let bytes = artefact.archive();
    let target = scratch.path("hostapps/.new");
    let mut state = 11;
    let mut installed = 0;
    for round in 0..80 {
        let mut damaged = bytes.clone();
        // Every other one in the documents, which are small.
        let at = random(&mut state, if round % 2 == 0 { bytes.len() } else { 8192 });
        let bit = 1 << random(&mut state, 8);
        damaged[at] ^= bit;
        let path = scratch.write("damaged.tar", &damaged);
        match install(Source::Archive(&path), &target, None, &mut Watcher::default()) {
            // What no digest covers: fields of the archive's own headers, its padding, names in its index.
            Ok(done) => {
                installed += 1;
                assert_eq!(done.release.id, artefact.id(), "{at}");
                assert_slot(&target, &files(5, 400_000));
                std::fs::remove_dir_all(&target).unwrap();
            }
            Err(_) => assert!(!target.exists(), "{at}"),
        }
        if round % 8 == 0 {
            match install_from_pipe(&scratch, &damaged, &target) {
                Ok(_) => assert_slot(&target, &files(5, 400_000)),
                Err(_) => assert!(!target.join("rootfs.squashfs").exists(), "{at}"),
            }
            let _ = std::fs::remove_dir_all(&target);
        }
        let cut = random(&mut state, bytes.len() - 2048);
        let path = scratch.write("cut.tar", &bytes[..cut]);
        failure(install(Source::Archive(&path), &target, None, &mut Watcher::default()));
        let _ = std::fs::remove_dir_all(&target);
    }
    assert!(installed < 40, "{installed}");
}

#[test]
fn what_is_not_for_this_device_is_refused_before_anything_is_written() {
    let scratch = Scratch::new("hostapp-foreign");
    let target = scratch.path("hostapps/.new");
    let good = files(6, 700_000);
    let check = |artefact: &Artefact, expected: &str| {
        let path = scratch.write("foreign.tar", &artefact.archive());
        let line = failure(install(Source::Archive(&path), &target, None, &mut Watcher::default()));
        assert!(line.contains(expected), "{line}");
        assert!(!target.exists(), "{expected}");
    };
    let full = Artefact::full(&good, "1");
    check(
        &Artefact::new(&labels("1"), full.layer.clone(), "arm"),
        "no image for linux/amd64; there is linux/arm",
    );
    check(&Artefact::new(&json!({}), full.layer.clone(), "amd64"), "no label io.balena.image.class=hostapp");
    let missing: Files = good.iter().filter(|(path, _)| path != "rootfs.squashfs").cloned().collect();
    check(&Artefact::full(&missing, "1"), "it has no boot or no rootfs.squashfs");
    // As a balenaOS host app is: the whole system, with its boot.
    let mut system = missing;
    system.push(("usr/lib/everything".into(), content(9, 17 << 20)));
    check(&Artefact::full(&system, "1"), "whole system beside boot and rootfs.squashfs");
    for (path, expected) in [("boot/../../x", "contains '..'"), ("/../x", "contains '..'")] {
        let layer = tar(&[(path, b"x"), ("rootfs.squashfs", b"y"), ("boot/vmlinuz", b"z")]);
        check(&Artefact::new(&labels("1"), layer, "amd64"), expected);
    }
    // Two layers.
    let mut two = full.clone();
    two.config = String::from_utf8(two.config)
        .unwrap()
        .replace(
            "\"diff_ids\":[",
            "\"diff_ids\":[\"sha256:1234567812345678123456781234567812345678123456781234567812345678\",",
        )
        .into_bytes();
    check(&two, "image config: it and the list of layers do not match");

    let path = scratch.write("good.tar", &full.archive());
    let mut watcher = Watcher { refuse: Some("version 1 is older than 2"), ..Watcher::default() };
    assert_eq!(
        failure(install(Source::Archive(&path), &target, None, &mut watcher)),
        "version 1 is older than 2"
    );
    assert!(!target.exists() && watcher.fetched == 0);
}

#[test]
fn links_in_a_layer_lead_nowhere_outside() {
    let scratch = Scratch::new("hostapp-links");
    let outside = scratch.path("outside");
    std::fs::create_dir(&outside).unwrap();
    let script = format!(
        "mkdir -p boot && ln -s '{}' boot/trap && tar cf one.tar boot && rm boot/trap && mkdir boot/trap && \
         echo stolen > boot/trap/file && echo kernel > boot/vmlinuz && echo root > rootfs.squashfs && \
         tar cf two.tar boot/trap/file boot/vmlinuz rootfs.squashfs && tar Af one.tar two.tar",
        outside.display()
    );
    assert!(Command::new("sh").args(["-ec", &script]).current_dir(&scratch.0).status().unwrap().success());
    let layer = std::fs::read(scratch.path("one.tar")).unwrap();
    let path = scratch.write("trap.tar", &Artefact::new(&labels("1"), layer, "amd64").archive());
    let line = failure(install(Source::Archive(&path), &scratch.path("new"), None, &mut Watcher::default()));
    assert!(line.contains("a file stands where a folder should"), "{line}");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn with_keys_only_what_they_have_signed_is_taken() {
    let scratch = Scratch::new("hostapp-signed");
    let target = scratch.path("new");
    let mut artefact = Artefact::full(&files(8, 700_000), "2.0.0");
    let unsigned = artefact.clone();
    std::fs::create_dir(scratch.path("keys")).unwrap();
    let run = |artefact: &Artefact| {
        let keys = hostapp::read_keys(&[&scratch.path("keys"), &scratch.path("none")]).unwrap();
        let path = scratch.write("signed.tar", &artefact.archive());
        let task = Task { base: None, target: &target, keys: &keys, platform: &amd64() };
        hostapp::install(Source::Archive(&path), &task, &mut Watcher::default())
    };
    for options in [&[][..], &["-l"]] {
        artefact.sign(&scratch.path("keys"), "good", options);
        let signer = run(&artefact).unwrap().release.signer.unwrap();
        assert_eq!((signer.key.len(), signer.comment.as_str()), (16, "by the tests"));
        // Another configuration, another trusted comment, another key.
        let mut forged = artefact.clone();
        forged.config = String::from_utf8(forged.config).unwrap().replace("2.0.0", "3.0.0").into_bytes();
        assert!(failure(run(&forged)).contains("damaged, or forged"));
        let mut forged = artefact.clone();
        forged.signature = forged.signature.map(|text| text.replace("by the tests", "by nobody"));
        assert!(failure(run(&forged)).contains("damaged, or forged"));
        let mut other = artefact.clone();
        other.sign(&scratch.0, "other", options);
        assert!(failure(run(&other)).contains("which is not installed here"));
    }
    assert_eq!(failure(run(&unsigned)), "this release is not signed, and this device takes only signed ones");
    artefact.signature = Some("nonsense".into());
    assert_eq!(failure(run(&artefact)), "the release's signature is malformed");
    // A damaged key is not the same as none.
    scratch.write("keys/bad.pub", b"untrusted comment: x\nRWQ\n");
    let error = hostapp::read_keys(&[&scratch.path("keys")]).unwrap_err();
    assert!(error.to_string().ends_with("bad.pub: is no minisign public key"), "{error}");
}

#[test]
fn a_delta_makes_the_files_of_the_full_image() {
    let scratch = Scratch::new("hostapp-delta");
    let (old, new) = (files(20, 3 << 20), files(21, 3 << 20));
    let (base, full) = (Artefact::full(&old, "1"), Artefact::full(&new, "2"));
    let delta = delta((&base, &old), (&full, &new), "2");
    assert!(delta.packed.len() * 3 < full.packed.len(), "{} of {}", delta.packed.len(), full.packed.len());
    let running = scratch.path(&format!("hostapps/{}", base.id()));
    let path = scratch.write("base.tar", &base.archive());
    install(Source::Archive(&path), &running, None, &mut Watcher::default()).unwrap();
    let target = scratch.path("other/.new");
    let path = scratch.write("delta.tar", &delta.archive());
    let mut watcher = Watcher::default();
    let installed = install(Source::Archive(&path), &target, Some(&running), &mut watcher).unwrap();
    assert_slot(&target, &new);
    assert_eq!((installed.release.id, installed.release.base), (full.id(), Some(base.id())));
    assert_eq!(watcher.release.unwrap().version(), "2");

    // Again over what is there, interrupted or foreign: right files stay.
    let inode =
        |name: &str| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(target.join(name)).unwrap());
    let before = inode("rootfs.squashfs");
    std::fs::write(target.join("boot/stray"), "x").unwrap();
    std::fs::write(target.join("stray"), "x").unwrap();
    std::fs::write(target.join("boot/dtbs/stray"), "x").unwrap();
    std::fs::create_dir_all(target.join("boot/a/b")).unwrap();
    std::os::unix::fs::symlink("/etc", target.join("boot/c")).unwrap();
    std::fs::write(target.join("boot/vmlinuz"), "half").unwrap();
    install(Source::Archive(&path), &target, Some(&running), &mut Watcher::default()).unwrap();
    assert_slot(&target, &new);
    assert_eq!(inode("rootfs.squashfs"), before);

    // Not from this base.
    let line = failure(install(Source::Archive(&path), &target, Some(&target), &mut Watcher::default()));
    assert!(line.contains("use the full image"), "{line}");
    let line = failure(install(Source::Archive(&path), &target, None, &mut Watcher::default()));
    assert!(line.contains("needs a running host app"), "{line}");
    // A base whose files are not what they were.
    std::fs::remove_dir_all(&target).unwrap();
    let root = running.join("rootfs.squashfs");
    let mut bytes = std::fs::read(&root).unwrap();
    bytes[1_000_000] ^= 1;
    std::fs::write(&root, &bytes).unwrap();
    let line = failure(install(Source::Archive(&path), &target, Some(&running), &mut Watcher::default()));
    assert!(line.contains("those are damaged; use the full image"), "{line}");
    assert!(!target.exists());
    std::fs::write(&root, &bytes[..2 << 20]).unwrap();
    let line = failure(install(Source::Archive(&path), &target, Some(&running), &mut Watcher::default()));
    assert!(line.contains("a place behind the old data"), "{line}");
}

#[test]
fn damage_in_a_deltas_plan_and_pieces_is_noticed() {
    let scratch = Scratch::new("hostapp-plan");
    let (old, new) = (files(30, 500_000), files(31, 500_000));
    let (base, full) = (Artefact::full(&old, "1"), Artefact::full(&new, "2"));
    let good = delta((&base, &old), (&full, &new), "2");
    let running = scratch.path(&format!("hostapps/{}", base.id()));
    let path = scratch.write("base.tar", &base.archive());
    install(Source::Archive(&path), &running, None, &mut Watcher::default()).unwrap();
    let target = scratch.path("other/.new");
    let labels = json!({ "io.minke.delta.base": base.id(), "io.minke.delta.target": full.id() });
    let run = |layer: Vec<u8>| {
        // Its digests are right: whoever made it wanted it so.
        let artefact = Artefact::new(&labels, layer, "amd64");
        let path = scratch.write("plan.tar", &artefact.archive());
        install(Source::Archive(&path), &target, Some(&running), &mut Watcher::default())
    };
    run(good.layer.clone()).unwrap();
    for (from, to, expected) in [
        ("\"path\": \"boot/vmlinuz\"", "\"path\": \"boot/../../z\"", "not understood"),
        ("\"path\": \"boot/vmlinuz\"", "\"path\": \"/etc/vmlinuz\"", "not understood"),
        ("\"new/rootfs.squashfs\"", "\"new/../../../etcsh/\"", "not understood"),
        ("\"kind\": \"same\"", "\"kind\": \"some\"", "not understood"),
        (base.id().as_str(), full.id().as_str(), "another base"),
        ("pieces/boot/slot.env\"", "pieces/boot/slot.inv\"", "is missing"),
        ("delta.json\0", "other.json\0", "no delta.json"),
    ] {
        let mut layer = good.layer.clone();
        assert_eq!(from.len(), to.len());
        let place = layer.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        layer[place..place + to.len()].copy_from_slice(to.as_bytes());
        if expected.ends_with("delta.json") {
            // The header's checksum.
            let sum: u32 = layer[..148]
                .iter()
                .chain(&[b' '; 8])
                .chain(&layer[156..512])
                .map(|byte| u32::from(*byte))
                .sum();
            layer[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        }
        let line = failure(run(layer));
        assert!(line.contains(expected), "{line} for {to}");
    }
    // Anything else may be accepted only where it makes the very same files.
    let mut state = 5;
    let packed = gzip(&good.layer);
    assert!(packed.len() > 1000);
    for _ in 0..60 {
        let mut layer = good.layer.clone();
        let at = random(&mut state, layer.len());
        layer[at] ^= 1 << random(&mut state, 8);
        if run(layer).is_ok() {
            assert_slot(&target, &new);
        }
    }
    assert_eq!(Platform::linux("amd64", ""), amd64());
}

/// Tells the child of the next test what to install, and where.
const INSTALL: &str = "MINKE_TEST_INSTALL";

/// A process of its own, so that what the tests themselves keep does not count.
#[test]
fn install_as_told() {
    let Ok(told) = std::env::var(INSTALL) else { return };
    let paths: Vec<&Path> = told.split(' ').map(Path::new).collect();
    let base = paths.get(2).copied();
    install(Source::Archive(paths[0]), paths[1], base, &mut Watcher::default()).unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("PEAK {peak}");
}

#[test]
fn a_killed_installation_is_taken_up() {
    let scratch = Scratch::new("hostapp-killed");
    let files = files(52, 24 << 20);
    let archive = scratch.write("archive.tar", &Artefact::full(&files, "1").archive());
    let target = scratch.path("hostapps/.new");
    let mut state = 3;
    for _ in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "install_as_told", "--nocapture", "--test-threads=1"])
            .env(INSTALL, format!("{} {}", archive.display(), target.display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(random(&mut state, 1500) as u64));
        let _ = child.kill();
        let _ = child.wait();
    }
    install(Source::Archive(&archive), &target, None, &mut Watcher::default()).unwrap();
    assert_slot(&target, &files);
    assert!(!scratch.path("hostapps/.new.resume").exists());
}

#[test]
fn an_installation_needs_less_than_16_megabytes() {
    let scratch = Scratch::new("hostapp-memory");
    let (old, new) = (files(50, 12 << 20), files(51, 12 << 20));
    let (base, full) = (Artefact::full(&old, "1"), Artefact::full(&new, "2"));
    let delta = delta((&base, &old), (&full, &new), "2");
    let running = scratch.path(&format!("hostapps/{}", base.id()));
    let install = |archive: Vec<u8>, words: &[&Path]| {
        let path = scratch.write("archive.tar", &archive);
        let mut words: Vec<String> = words.iter().map(|word| word.display().to_string()).collect();
        words.insert(0, path.display().to_string());
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "install_as_told", "--nocapture", "--test-threads=1"])
            .env(INSTALL, words.join(" "))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let peak = text.split_once("PEAK").unwrap_or_else(|| panic!("{text}")).1;
        let peak: u32 = peak.split_whitespace().next().unwrap().parse().unwrap();
        println!("peak {peak} kB");
        assert!(peak < 16 << 10, "{peak} kB");
    };
    install(base.archive(), &[&running]);
    let target = scratch.path("other/.new");
    install(delta.archive(), &[&target, &running]);
    assert_slot(&target, &new);
}
