//! Archives that skopeo converts between the formats: what the field's own tool writes, we load, and both
//! ways give the same image.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{Scratch, TestImage, docker_save, load, tar};
use minke_oci::Digest;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An image with a real program in it.
fn busybox() -> TestImage {
    let program = std::fs::read("/bin/busybox").unwrap_or_else(|_| vec![0x7f; 1_000_000]);
    let base = tar(&[("bin/", b""), ("bin/busybox", &program), ("etc/motd", b"hello")]);
    TestImage::new("busybox", &[base, tar(&[("etc/.wh.motd", b""), ("etc/issue", b"minke")])])
}

fn skopeo(folder: &Path, arguments: &[&str]) {
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "--tmpdir", "."])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap_or_else(|error| panic!("skopeo is missing? tests/setup brings it: {error}"));
    assert!(output.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_skopeo_converts_loads_as_the_same_image() {
    let scratch = Scratch::new("skopeo");
    let image = busybox();
    scratch.write("save.tar", &docker_save(&[(&image, &["docker.io/library/demo:1"])], false));
    skopeo(&scratch.0, &["copy", "docker-archive:save.tar", "oci-archive:oci.tar:reg.example/demo:oci"]);
    skopeo(&scratch.0, &["copy", "oci-archive:oci.tar", "docker-archive:again.tar:reg.example/demo:again"]);
    let mut ids: Vec<Digest> = Vec::new();
    for (archive, name) in
        [("save.tar", "demo:1"), ("oci.tar", "reg.example/demo:oci"), ("again.tar", "reg.example/demo:again")]
    {
        let store_path = scratch.path(&format!("store-{archive}"));
        let (store, _) = minke_oci::ImageStore::open(&store_path).unwrap();
        let loaded = load(&store, &scratch.path(archive)).unwrap();
        assert_eq!((loaded.len(), loaded[0].ignored.len()), (1, 0), "{archive}");
        let found = store.get(name).unwrap();
        let layers = store.layers(&found.id).unwrap();
        let program = std::fs::read(layers[0].join("bin/busybox")).unwrap();
        assert!(program.len() as u64 == found.size - 10 && layers[1].join("etc/issue").exists(), "{archive}");
        assert_eq!(store.config(&found.id).unwrap().cmd(), Some(vec!["/bin/sh".to_owned()]));
        if archive == "oci.tar" {
            assert!(found.digests.iter().all(|name| name.starts_with("reg.example/demo@sha256:")));
            assert_eq!(found.digests.len(), 1);
        }
        ids.push(found.id);
    }
    assert_eq!(ids[0], image.id());
    // skopeo writes the config anew for the other format, the layers stay what they are.
    assert_eq!(ids.len(), 3);
}

#[test]
fn archives_with_several_images_and_shared_layers_load() {
    let scratch = Scratch::new("skopeo-two");
    let (one, mut two) = (busybox(), busybox());
    two.label = "two".to_owned();
    two.layers.push(tar(&[("etc/two", b"2")]));
    scratch.write("one.tar", &docker_save(&[(&one, &["one"])], false));
    scratch.write("two.tar", &docker_save(&[(&two, &["two"])], true));
    skopeo(&scratch.0, &["copy", "docker-archive:one.tar", "oci:layout:one"]);
    skopeo(&scratch.0, &["copy", "docker-archive:two.tar", "oci:layout:two"]);
    let status =
        Command::new("tar").args(["-C", "layout", "-cf", "both.tar", "."]).current_dir(&scratch.0).status();
    assert!(status.unwrap().success());
    let store = scratch.store();
    let loaded = load(&store, &scratch.path("both.tar")).unwrap();
    assert_eq!(loaded.len(), 2);
    let layers: Vec<PathBuf> = store.layers(&store.get("one").unwrap().id).unwrap();
    assert_eq!(store.layers(&store.get("two").unwrap().id).unwrap()[..2], layers);
    assert_eq!(std::fs::read_dir(scratch.path("store/l")).unwrap().count(), 3);
}
