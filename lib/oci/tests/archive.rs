//! Archives of both formats, as the store loads them.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::{Layout, Scratch, TestImage, amd64, docker_save, gzip, load, tar};
use minke_oci::{Error, Platform, layer::sha256};
use minke_wire::json::json;
use std::ops::ControlFlow;

fn two_layers() -> TestImage {
    let base = tar(&[("bin/", b""), ("bin/sh", b"shell"), ("etc/old", b"old")]);
    TestImage::new("two", &[base, tar(&[("etc/.wh.old", b""), ("etc/new", b"new")])])
}

#[test]
fn docker_save_files_load_plain_and_packed() {
    for packed in [false, true] {
        let scratch = Scratch::new(if packed { "save-gz" } else { "save" });
        let image = two_layers();
        let names: &[&str] = &["docker.io/library/two:1", "reg.io:5000/me/two:x", "Bad Name"];
        let archive = scratch.write("a.tar", &docker_save(&[(&image, names)], packed));
        let store = scratch.store();
        let loaded = load(&store, &archive).unwrap();
        assert_eq!((&loaded[0].id, loaded[0].ignored.len()), (&image.id(), 1));
        assert_eq!(loaded[0].names, ["two:1", "reg.io:5000/me/two:x"]);
        let found = store.get("two:1").unwrap();
        assert_eq!((found.size, found.layers.len()), (5 + 3 + 3, 2));
        let layers = store.layers(&found.id).unwrap();
        assert_eq!(std::fs::read(layers[0].join("bin/sh")).unwrap(), b"shell");
        assert!(layers[1].join("etc/new").exists());
        let config = store.config(&found.id).unwrap();
        assert_eq!((config.cmd(), config.env()), (Some(vec!["/bin/sh".to_owned()]), vec!["A=b".to_owned()]));
        assert_eq!(config.labels(), [("name".to_owned(), "two".to_owned())]);
    }
}

#[test]
fn progress_counts_up_and_can_cancel() {
    let scratch = Scratch::new("progress");
    let image = TestImage::new("p", &[tar(&[("big", &vec![7; 300_000])])]);
    let archive = scratch.write("a.tar", &docker_save(&[(&image, &["p"])], false));
    let store = scratch.store();
    let error = store.load_archive(&archive, &amd64(), &mut |_| ControlFlow::Break(())).unwrap_err();
    assert!(matches!(error, Error::Cancelled));
    assert_eq!((store.list().len(), std::fs::read_dir(scratch.path("store/tmp")).unwrap().count()), (0, 0));
    let mut seen = Vec::new();
    store
        .load_archive(&archive, &amd64(), &mut |progress| {
            seen.push(match progress {
                minke_oci::Progress::Layer { current, total, .. } => (current, total),
                minke_oci::Progress::LayerDone(_) => (1, 0),
                minke_oci::Progress::LayerExists(_) => (2, 0),
                minke_oci::Progress::Image(_) => (3, 0),
            });
            ControlFlow::Continue(())
        })
        .unwrap();
    let blob = image.layers[0].len() as u64;
    assert!(seen.contains(&(65536, blob)) && seen.contains(&(blob, blob)));
    assert_eq!(seen[seen.len() - 2..], [(1, 0), (3, 0)]);
}

#[test]
fn a_layer_that_old_docker_saved_as_a_link_is_found() {
    let scratch = Scratch::new("link");
    let image = TestImage::new("l", &[tar(&[("f", b"f")])]);
    let config = format!("{}.json", image.id().hex());
    let manifest = json!([{"Config": config, "RepoTags": null, "Layers": ["b/layer.tar"]}]).to_string();
    std::fs::create_dir_all(scratch.path("t/a")).unwrap();
    std::fs::create_dir_all(scratch.path("t/b")).unwrap();
    scratch.write("t/a/layer.tar", &image.layers[0]);
    std::os::unix::fs::symlink("../a/layer.tar", scratch.path("t/b/layer.tar")).unwrap();
    scratch.write(&format!("t/{config}"), &image.config());
    scratch.write("t/manifest.json", manifest.as_bytes());
    let status = std::process::Command::new("tar")
        .args(["-C", "t", "-cf", "a.tar", "."])
        .current_dir(&scratch.0)
        .status()
        .unwrap();
    assert!(status.success());
    let store = scratch.store();
    let loaded = load(&store, &scratch.path("a.tar")).unwrap();
    assert!(loaded[0].names.is_empty());
    assert!(store.layers(&image.id()).unwrap()[0].join("f").exists());
}

#[test]
fn oci_layouts_load_with_their_digests_as_names() {
    let scratch = Scratch::new("layout");
    let image = two_layers();
    let mut layout = Layout::default();
    let manifest = layout.image(&image);
    let digest = manifest["digest"].as_str().unwrap().to_owned();
    let archive = scratch.write("a.tar", &layout.named(manifest, "reg.io/app").tar());
    let store = scratch.store();
    load(&store, &archive).unwrap();
    let found = store.get(&format!("reg.io/app@{digest}")).unwrap();
    assert_eq!((found.id, found.tags), (image.id(), vec!["reg.io/app:latest".to_owned()]));
    assert_eq!(found.digests, [format!("reg.io/app@{digest}")]);
}

#[test]
fn the_platform_chooses_from_nested_indexes_and_flat_ones() {
    let variant = |architecture, variant| TestImage {
        architecture,
        variant,
        ..TestImage::new(architecture, &[tar(&[("f", format!("{architecture}{variant}").as_bytes())])])
    };
    let images = [variant("arm", "v6"), variant("arm", "v7"), variant("arm64", "v8"), variant("amd64", "")];
    for nested in [true, false] {
        let scratch = Scratch::new(if nested { "nested" } else { "flat" });
        let mut layout = Layout::default();
        let mut descriptors: Vec<_> = images
            .iter()
            .map(|image| {
                let mut descriptor = layout.image(image);
                descriptor["platform"] = json!({"os": "linux", "architecture": image.architecture});
                if !image.variant.is_empty() {
                    descriptor["platform"]["variant"] = json!(image.variant);
                }
                descriptor
            })
            .collect();
        // What BuildKit adds: it must not be taken for an image.
        let mut attestation = descriptors[0].clone();
        attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
        attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
        descriptors.push(attestation);
        let layout = if nested {
            let index = layout.index(&descriptors);
            layout.named(index, "app:1")
        } else {
            descriptors.into_iter().fold(layout, |layout, descriptor| {
                if descriptor.get("annotations").is_some() {
                    layout
                } else {
                    layout.named(descriptor, "app:1")
                }
            })
        };
        let archive = scratch.write("a.tar", &layout.tar());
        let store = scratch.store();
        for (platform, expected) in [("arm/v6", 0), ("arm/v7", 1), ("arm64/", 2), ("amd64/", 3)] {
            let (architecture, variant) = platform.split_once('/').unwrap();
            let platform = Platform::linux(architecture, variant);
            let loaded = store.load_archive(&archive, &platform, &mut |_| ControlFlow::Continue(())).unwrap();
            assert_eq!(loaded.len(), 1);
            assert_eq!(loaded[0].id, images[expected].id(), "{platform}");
            assert_eq!(store.get("app:1").unwrap().id, loaded[0].id, "the name moves");
        }
        let riscv = Platform::linux("riscv64", "");
        let error = store.load_archive(&archive, &riscv, &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(error.to_string().contains("linux/arm/v6, linux/arm/v7"), "{error}");
    }
}

#[test]
fn wrong_digests_are_found_wherever_they_are() {
    let image = two_layers();
    let replaced = |archive: &[u8], from: &[u8], to: &[u8]| {
        let place = archive.windows(from.len()).position(|window| window == from).unwrap();
        let mut damaged = archive.to_vec();
        damaged[place..place + from.len()].copy_from_slice(to);
        damaged
    };
    let save = docker_save(&[(&image, &["a"])], false);
    let mut layout = Layout::default();
    let manifest = layout.image(&image);
    let layout = layout.named(manifest, "a").tar();
    let packed = gzip(&image.layers[1]);
    let mut broken = packed.clone();
    // The compression level's note in gzip's header: it decompresses as before.
    broken[8] ^= 1;
    for (name, archive, what) in [
        ("layer", replaced(&save, b"shell", b"Shell"), "layer is damaged"),
        ("config", replaced(&save, b"2024-01", b"2025-01"), "image config is damaged"),
        ("oci config", replaced(&layout, b"2024-01", b"2025-01"), "document is damaged"),
        ("oci blob", replaced(&layout, &packed[..20], &broken[..20]), "layer blob is damaged"),
        (
            "manifest",
            replaced(&layout, b"\"schemaVersion\":2,\"config\"", b"\"schemaVersion\":3,\"config\""),
            "document is damaged",
        ),
    ] {
        let scratch = Scratch::new("digest");
        let store = scratch.store();
        let error = load(&store, &scratch.write("a.tar", &archive)).unwrap_err();
        assert!(matches!(error, Error::Digest { .. }) && error.to_string().contains(what), "{name}: {error}");
        assert!(store.list().is_empty() && store.get("a").is_err());
        assert_eq!(std::fs::read_dir(scratch.path("store/tmp")).unwrap().count(), 0, "{name}");
    }
}

#[test]
fn unusable_archives_say_why() {
    let image = two_layers();
    let save = docker_save(&[(&image, &["a"])], false);
    let mut zstd = Layout::default();
    let config = zstd.descriptor("application/vnd.oci.image.config.v1+json", &image.config());
    let layer =
        zstd.descriptor("application/vnd.oci.image.layer.v1.tar+zstd", &[0x28, 0xb5, 0x2f, 0xfd, 0, 0]);
    let manifest = json!({"config": config, "layers": [layer, layer]}).to_string();
    let manifest = zstd.descriptor("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
    let scratch = Scratch::new("unusable");
    let store = scratch.store();
    for (archive, text) in [
        (b"not a tar".repeat(100), "not a tar archive"),
        (Vec::new(), "manifest.json or index.json is missing"),
        (tar(&[("x", b"")]), "manifest.json or index.json is missing"),
        (tar(&[("manifest.json", b"[{")]), "manifest.json: EOF"),
        (tar(&[("manifest.json", b"[]")]), "holds no image"),
        (tar(&[("manifest.json", b"[{\"Config\":\"../../x\"}]")]), "../../x is missing"),
        (save[..save.len() / 2].to_vec(), "cut short"),
        (gzip(&save), "compressed; decompress it first"),
        (zstd.named(manifest, "z").tar(), "zstd"),
        (tar(&[("oci-layout", b"{}"), ("index.json", b"{}")]), "layout version ''"),
    ] {
        let error = load(&store, &scratch.write("a.tar", &archive)).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    assert!(load(&store, &scratch.path("none")).unwrap_err().to_string().contains("No such file"));
}

#[test]
fn mutated_archives_never_panic() {
    let scratch = Scratch::new("mutated");
    let store = scratch.store();
    let image = two_layers();
    let mut layout = Layout::default();
    let manifest = layout.image(&image);
    let bases = [docker_save(&[(&image, &["a"])], false), layout.named(manifest, "a").tar()];
    let mut seed = 0xdead_beef_cafe_f00d_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).unwrap()
    };
    for round in 0..600 {
        let mut mutant = bases[round % 2].clone();
        for _ in 0..=random(3) {
            // Content rather than headers: JSON and tar payload.
            let place = random(mutant.len());
            mutant[place] = b"\"{}[],:0x\0"[random(10)];
        }
        let _ = load(&store, &scratch.write("a.tar", &mutant));
    }
    // Whatever came in is what its id says.
    for found in store.list() {
        let config = store.config(&found.id).unwrap();
        assert_eq!(sha256(&config.document().to_text().into_bytes()), found.id);
    }
}
