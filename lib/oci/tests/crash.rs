//! A process that is killed at any moment leaves a store that opens, whole and without leftovers.
//! (What a power cut does to single writes is tested in `store.rs` and in the record's own tests.)
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::{Scratch, TestImage, docker_save, load, tar};
use minke_oci::{ImageStore, Reference};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

const FOLDER: &str = "MINKE_OCI_CRASH_FOLDER";

fn images() -> Vec<TestImage> {
    let layer = |name: &str| tar(&[("dir/", b""), (&format!("dir/{name}"), name.repeat(2000).as_bytes())]);
    (0..3)
        .map(|number| TestImage::new(&format!("i{number}"), &[layer("base"), layer(&format!("own{number}"))]))
        .collect()
}

/// The child: loads, renames and removes in a circle until it is killed.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = std::path::PathBuf::from(folder);
    let (store, _) = ImageStore::open(&folder.join("store")).unwrap();
    println!("ready");
    // Not for ever, should the parent be gone.
    for round in 0..2000usize {
        let image = format!("i{}", round % 3);
        load(&store, &folder.join(format!("{image}.tar"))).unwrap();
        store.tag(&image, &Reference::parse("moving").unwrap()).unwrap();
        let other = format!("i{}", (round + 1) % 3);
        let _ = store.remove(&other, false, &|_| false);
        store.collect().unwrap();
    }
}

#[test]
fn a_killed_process_leaves_a_whole_store() {
    let scratch = Scratch::new("crash");
    let images = images();
    for image in &images {
        scratch.write(&format!("{}.tar", image.label), &docker_save(&[(image, &[&image.label])], true));
    }
    let mut seed = 0x1234_5678_9abc_def1_u64;
    let mut survived = 0;
    for round in 0..25 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(FOLDER, &scratch.0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Every second one is killed while it opens the store, perhaps.
        assert!(round % 2 == 0 || lines.any(|line| line.unwrap().ends_with("ready")), "no child");
        // On a slow disk it needs longer to get anywhere.
        let more = if survived == 0 { 40 * round } else { 0 };
        std::thread::sleep(Duration::from_millis(20 + seed % 60 + more));
        child.kill().unwrap();
        child.wait().unwrap();
        let (store, problems) = ImageStore::open(&scratch.path("store")).unwrap();
        for problem in &problems {
            assert!(problem.text.contains("missing; took the copy before it"), "{problem}");
        }
        let found = store.list();
        survived += found.len();
        for image in &found {
            assert!(images.iter().any(|known| known.id() == image.id));
            for (layer, name) in store.layers(&image.id).unwrap().iter().zip(["base", "own"]) {
                let file = std::fs::read_dir(layer.join("dir")).unwrap().next().unwrap().unwrap();
                assert!(file.file_name().to_string_lossy().starts_with(name));
                assert_eq!(file.metadata().unwrap().len() % 2000, 0);
            }
        }
        let owners = found.iter().filter(|image| image.tags.iter().any(|tag| tag == "moving:latest"));
        assert!(owners.count() <= 1);
        assert_eq!(std::fs::read_dir(scratch.path("store/tmp")).unwrap().count(), 0);
        let layers = std::fs::read_dir(scratch.path("store/l")).unwrap().count();
        let records = std::fs::read_dir(scratch.path("store/layer")).unwrap();
        let records =
            records.filter(|entry| !entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
        assert_eq!(layers, records.count());
    }
    assert!(survived > 0, "the child never got anywhere");
}
