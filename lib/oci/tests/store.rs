//! The store: names, sharing, removal, and what it makes of damage.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::{Scratch, TestImage, docker_save, load, tar};
use minke_oci::{Digest, Error, ImageStore, Reference, Removal, layer::sha256};
use std::path::Path;

fn layer(name: &str) -> Vec<u8> {
    tar(&[(name, name.as_bytes())])
}

fn unused(_: &Digest) -> bool {
    false
}

fn count(path: &Path) -> usize {
    std::fs::read_dir(path).unwrap().count()
}

fn put(scratch: &Scratch, store: &ImageStore, image: &TestImage, names: &[&str]) {
    let archive = scratch.write("put.tar", &docker_save(&[(image, names)], false));
    load(store, &archive).unwrap();
}

#[test]
fn queries_find_images_as_dockers_do() {
    let scratch = Scratch::new("query");
    let store = scratch.store();
    let image = TestImage::new("q", &[layer("a")]);
    put(&scratch, &store, &image, &["docker.io/library/q:1", "reg.io/x/q"]);
    let id = image.id();
    let full = id.as_str().to_owned();
    let queries = [
        "q:1",
        "library/q:1",
        "docker.io/library/q:1",
        "reg.io/x/q",
        "reg.io/x/q:latest",
        &full,
        id.hex(),
        id.short(),
        &full[..12],
    ];
    for query in queries {
        assert_eq!(store.get(query).unwrap().id, id, "{query}");
    }
    for query in
        ["q", "q:2", "x/q", &"0".repeat(64), "ffffffffffff0", &format!("q@sha256:{}", "0".repeat(64))]
    {
        assert!(matches!(store.get(query), Err(Error::NotFound(_))), "{query}");
    }
    assert!(matches!(store.get("UPPER case"), Err(Error::Reference(_))));
    // With enough images, one digit is ambiguous.
    for number in 0..17 {
        put(&scratch, &store, &TestImage::new(&format!("n{number}"), &[layer("a")]), &[]);
    }
    let ambiguous = "0123456789abcdef"
        .chars()
        .filter(|digit| matches!(store.get(&digit.to_string()), Err(Error::Conflict(_))));
    assert!(ambiguous.count() > 0);
    assert_eq!(store.list().len(), 18);
    assert_eq!(count(&scratch.path("store/l")), 1, "one layer for all");
}

#[test]
fn names_move_and_survive_reopening() {
    let scratch = Scratch::new("names");
    let (one, two) = (TestImage::new("1", &[layer("a")]), TestImage::new("2", &[layer("a"), layer("b")]));
    {
        let store = scratch.store();
        put(&scratch, &store, &one, &["app:1", "other"]);
        put(&scratch, &store, &two, &["app:1"]);
        store.tag("other", &Reference::parse("third").unwrap()).unwrap();
        store.tag("third", &Reference::parse("third").unwrap()).unwrap();
        assert!(store.tag("none", &Reference::parse("x").unwrap()).is_err());
    }
    let store = scratch.store();
    assert_eq!(store.get("app:1").unwrap().id, two.id());
    assert_eq!(store.get(one.id().as_str()).unwrap().tags, ["other:latest", "third:latest"]);
    assert_eq!(store.layers(&two.id()).unwrap().len(), 2);
}

#[test]
fn removal_follows_docker() {
    let scratch = Scratch::new("remove");
    let store = scratch.store();
    let (one, two) = (TestImage::new("1", &[layer("a")]), TestImage::new("2", &[layer("a"), layer("b")]));
    put(&scratch, &store, &one, &["app:1", "app:2", "other:1"]);
    put(&scratch, &store, &two, &["two"]);
    assert_eq!(store.remove("app:1", false, &unused).unwrap(), [Removal::Untagged("app:1".into())]);
    let error = store.remove(one.id().as_str(), false, &unused).unwrap_err();
    assert!(error.to_string().contains("must be forced"), "{error}");
    // In use: names but the last may go; the last only by force, and then the image stays.
    assert!(store.remove("other:1", false, &|_| true).is_ok());
    assert!(matches!(store.remove("app:2", false, &|_| true), Err(Error::Conflict(_))));
    assert_eq!(store.remove("app:2", true, &|_| true).unwrap(), [Removal::Untagged("app:2".into())]);
    assert_eq!(store.get(one.id().short()).unwrap().tags.len(), 0);
    // The shared layer stays.
    let removed = store.remove(one.id().short(), false, &unused).unwrap();
    assert_eq!(removed, [Removal::Deleted(one.id())]);
    let removed = store.remove("two", false, &unused).unwrap();
    assert_eq!(
        removed,
        [
            Removal::Untagged("two:latest".into()),
            Removal::Deleted(two.id()),
            Removal::Deleted(sha256(&two.layers[1])),
            Removal::Deleted(sha256(&two.layers[0])),
        ]
    );
    for folder in ["l", "layer", "image", "tmp"] {
        assert_eq!(count(&scratch.path("store").join(folder)), 0, "{folder}");
    }
    assert!(matches!(store.remove("two", true, &unused), Err(Error::NotFound(_))));
}

#[test]
fn a_repeated_layer_is_one_folder_and_an_opaque_root_hides_the_rest() {
    let scratch = Scratch::new("repeat");
    let store = scratch.store();
    let image = TestImage::new("r", &[layer("a"), layer("b"), layer("a"), layer("c")]);
    put(&scratch, &store, &image, &["r"]);
    let layers = store.layers(&image.id()).unwrap();
    let files = |layers: &[std::path::PathBuf]| -> Vec<_> {
        layers
            .iter()
            .map(|path| std::fs::read_dir(path).unwrap().next().unwrap().unwrap().file_name())
            .collect()
    };
    assert_eq!(files(&layers), ["b", "a", "c"]);
    let opaque = tar(&[(".wh..wh..opq", b""), ("only", b"")]);
    let image = TestImage::new("o", &[layer("a"), opaque, layer("c")]);
    put(&scratch, &store, &image, &["o"]);
    assert_eq!(files(&store.layers(&image.id()).unwrap()), ["only", "c"]);
}

#[test]
fn layers_of_an_abandoned_load_are_used_again_or_collected() {
    let scratch = Scratch::new("resume");
    let store = scratch.store();
    let image = TestImage::new("i", &[layer("a"), layer("b")]);
    let archive = docker_save(&[(&image, &["i"])], false);
    // The second layer's only member is damaged.
    let place =
        archive.windows(512).rposition(|window| window.starts_with(b"b\0") && window[512 - 1] == 0).unwrap();
    let mut damaged = archive.clone();
    damaged[place] = b'x';
    assert!(load(&store, &scratch.write("bad.tar", &damaged)).is_err());
    assert_eq!((store.list().len(), count(&scratch.path("store/l"))), (0, 1));
    drop(store);
    let store = scratch.store();
    let mut exists = 0;
    let good = scratch.write("good.tar", &archive);
    store
        .load_archive(&good, &common::amd64(), &mut |progress| {
            exists += usize::from(matches!(progress, minke_oci::Progress::LayerExists(_)));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!((exists, store.collect().unwrap()), (1, 0));
    store.remove("i", false, &unused).unwrap();
    assert!(load(&store, &scratch.path("bad.tar")).is_err());
    assert_eq!((store.collect().unwrap(), count(&scratch.path("store/l"))), (1, 0));
}

#[test]
fn a_damaged_record_costs_its_image_only_and_is_told_once() {
    let scratch = Scratch::new("damage");
    let images: Vec<TestImage> =
        ["a", "b", "c"].iter().map(|name| TestImage::new(name, &[layer("base"), layer(name)])).collect();
    {
        let store = scratch.store();
        for image in &images {
            put(&scratch, &store, image, &[&format!("{}:1", image.label)]);
        }
        // A second write, so that there is a copy before it.
        store.tag("c:1", &Reference::parse("c:2").unwrap()).unwrap();
    }
    let record =
        |kind: &str, id: &Digest| scratch.path("store").join(kind).join(format!("{}.json", id.hex()));
    let truncate = |path: &Path| std::fs::write(path, b"{\"crc32\"").unwrap();
    truncate(&record("image", &images[0].id()));
    truncate(&record("layer", &sha256(&images[1].layers[1])));
    truncate(&record("image", &images[2].id()));
    {
        let (store, problems) = scratch.open();
        assert_eq!(problems.len(), 4, "image a, a layer and so image b, a copy of c: {problems:?}");
        assert!(store.get("a:1").is_err() && store.get("b:1").is_err());
        assert_eq!(store.get("c:1").unwrap().layers, store.get("c:1").unwrap().layers);
        assert_eq!(store.layers(&images[2].id()).unwrap().len(), 2);
    }
    let store = scratch.store();
    put(&scratch, &store, &images[0], &["a:1"]);
    put(&scratch, &store, &images[1], &["b:1"]);
    assert_eq!(store.list().len(), 3);
}

#[test]
fn what_a_power_cut_leaves_at_each_step_is_tidied() {
    let scratch = Scratch::new("cut");
    let (one, two) = (TestImage::new("1", &[layer("a")]), TestImage::new("2", &[layer("b")]));
    let path = |name: &str| scratch.path("store").join(name);
    let record = |kind: &str, id: &Digest| path(kind).join(format!("{}.json", id.hex()));
    {
        let store = scratch.store();
        put(&scratch, &store, &one, &["app"]);
    }
    let before_move = std::fs::read(record("image", &one.id())).unwrap();
    {
        let store = scratch.store();
        put(&scratch, &store, &two, &["app"]);
    }
    // A name that moved: the new owner's record is written, the old owner's not yet.
    std::fs::write(record("image", &one.id()), before_move).unwrap();
    // A layer that was being unpacked; one that was renamed before its record was written; a record that
    // was being written; a record that was to be replaced.
    std::fs::create_dir_all(path("tmp/7/deep/er")).unwrap();
    std::fs::create_dir_all(path("l/9/some")).unwrap();
    let hex = "0".repeat(64);
    std::fs::write(path("image").join(format!(".{hex}.json.new")), b"half").unwrap();
    let image = record("image", &two.id());
    std::fs::rename(&image, path("image").join(format!(".{}.json.previous", two.id().hex()))).unwrap();
    {
        let (store, problems) = scratch.open();
        assert_eq!(problems.len(), 1, "the missing newest copy: {problems:?}");
        assert_eq!(store.get("app").unwrap().id, two.id(), "a name is with its new owner");
        assert!(store.get(one.id().short()).unwrap().tags.is_empty());
        assert_eq!((count(&path("tmp")), count(&path("l"))), (0, 2));
        // Removing the new owner must not give the name back to the old one.
        store.remove("app", false, &unused).unwrap();
        assert!(store.get("app").is_err());
    }
    let store = scratch.store();
    assert!(store.get("app").is_err());
    // A removal: the image's record is gone, its layer not yet; then the layer's record, not its folder.
    std::fs::remove_file(record("image", &one.id())).unwrap();
    let _ = std::fs::remove_file(path("image").join(format!(".{}.json.previous", one.id().hex())));
    drop(store);
    let store = scratch.store();
    assert_eq!((store.list().len(), store.collect().unwrap(), count(&path("l"))), (0, 1, 0));
}

#[test]
fn two_processes_cannot_have_it_open() {
    let scratch = Scratch::new("lock");
    let store = scratch.store();
    assert!(matches!(ImageStore::open(&scratch.path("store")), Err(Error::Conflict(_))));
    drop(store);
    scratch.store();
}

#[test]
fn parallel_loads_of_the_same_layers_agree() {
    let scratch = Scratch::new("parallel");
    let store = scratch.store();
    let base: Vec<Vec<u8>> = (0..4).map(|number| layer(&format!("base{number}"))).collect();
    let images: Vec<TestImage> = (0..4).map(|number| TestImage::new(&format!("i{number}"), &base)).collect();
    std::thread::scope(|scope| {
        for image in &images {
            let archive = docker_save(&[(image, &[&image.label])], true);
            let archive = scratch.write(&format!("{}.tar", image.label), &archive);
            let store = &store;
            scope.spawn(move || load(store, &archive).unwrap());
        }
    });
    assert_eq!(
        (store.list().len(), count(&scratch.path("store/l")), count(&scratch.path("store/tmp"))),
        (4, 4, 0)
    );
    for image in &images {
        store.remove(&image.label, false, &unused).unwrap();
    }
    assert_eq!(count(&scratch.path("store/l")), 0);
}
