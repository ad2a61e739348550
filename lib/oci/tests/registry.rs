//! Pulls from Debian's docker-registry, through all that networks and registries do to a pull.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::hostapp::{Artefact, Watcher, assert_slot, content, failure, files, install};
use common::registry::{Act, Front, Kind, Server, certificates, need_peers, skopeo};
use common::{Layout, Scratch, TestImage, tar};
use minke_oci::hostapp::Source;
use minke_oci::layer::sha256;
use minke_oci::registry::{Access, Credentials};
use minke_oci::{Digest, Error, ImageStore, Platform, PullStep, Pulled, Reference, Result};
use minke_wire::json::{Value, json};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

fn access() -> Access {
    Access { pause: Duration::from_millis(5), tries: 6, ..Access::default() }
}

fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

fn pull_as(store: &ImageStore, text: &str, access: &Access, platform: &Platform) -> Result<Pulled> {
    store.pull(&reference(text), platform, access, &mut |_| ControlFlow::Continue(()))
}

fn pull(store: &ImageStore, text: &str) -> Result<Pulled> {
    pull_as(store, text, &access(), &common::amd64())
}

/// An image whose second layer has two megabytes that hardly shrink.
fn image(label: &str) -> TestImage {
    let noise = content(label.len() as u64, 2_000_000);
    TestImage::new(label, &[tar(&[("etc/", b""), ("etc/motd", b"hello")]), tar(&[("data", &noise)])])
}

/// Puts an image into a registry by skopeo.
fn push(scratch: &Scratch, image: &TestImage, port: u16, name: &str, options: &[&str]) {
    let mut layout = Layout::default();
    let manifest = layout.image(image);
    scratch.write("push.tar", &layout.named(manifest, "x").tar());
    skopeo(&scratch.0, "oci-archive:push.tar:x", &format!("docker://127.0.0.1:{port}/{name}"), options);
}

fn line<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn an_image_is_pulled_by_tag_and_by_digest_and_only_what_is_missing() {
    need_peers();
    let scratch = Scratch::new("registry-plain");
    let server = Server::start(&scratch.0, &Kind::Plain);
    let (one, store) = (image("one"), scratch.store());
    push(&scratch, &one, server.port, "fleet/app:v1", &[]);
    let name = format!("127.0.0.1:{}/fleet/app", server.port);
    let mut steps = Vec::new();
    let pulled = store
        .pull(&reference(&format!("{name}:v1")), &common::amd64(), &access(), &mut |step| {
            steps.push(match step {
                PullStep::Layer(_) => "layer",
                PullStep::Exists(_) => "exists",
                PullStep::Fetch(..) => "fetch",
                PullStep::Done(_) => "done",
            });
            ControlFlow::Continue(())
        })
        .unwrap();
    steps.dedup();
    assert_eq!(steps, ["layer", "fetch", "done", "fetch", "done"]);
    assert_eq!((&pulled.id, pulled.is_new), (&one.id(), true));
    let found = store.get(&format!("{name}:v1")).unwrap();
    assert_eq!(found.digests, [format!("{name}@{}", pulled.digest)]);
    let layers = store.layers(&found.id).unwrap();
    assert!(std::fs::read(layers[1].join("data")).unwrap() == content(3, 2_000_000));
    // Again, and by its digest.
    assert!(!pull(&store, &format!("{name}:v1")).unwrap().is_new);
    let by_digest = pull(&store, &format!("{name}@{}", pulled.digest)).unwrap();
    assert_eq!((by_digest.id, by_digest.is_new), (one.id(), false));
    assert_eq!(store.get(&format!("{name}:v1")).unwrap().tags, [format!("{name}:v1")]);
    // A newer one takes the tag; what it shares is not fetched.
    let mut two = one.clone();
    two.layers.push(tar(&[("etc/two", b"2")]));
    push(&scratch, &two, server.port, "fleet/app:v1", &[]);
    let mut fetched = 0;
    let newer = store.pull(&reference(&format!("{name}:v1")), &common::amd64(), &access(), &mut |step| {
        fetched += u32::from(matches!(step, PullStep::Done(_)));
        ControlFlow::Continue(())
    });
    assert_eq!((newer.unwrap().id, fetched), (two.id(), 1));
    assert!(store.get(&one.id().to_string()).unwrap().tags.is_empty());
    // Ended by the caller.
    let store = ImageStore::open(&scratch.path("other")).unwrap().0;
    let ended =
        store.pull(&reference(&format!("{name}:v1")), &common::amd64(), &access(), &mut |step| match step {
            PullStep::Fetch(..) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
    assert!(matches!(ended, Err(Error::Cancelled)));
    assert!(store.list().is_empty());
    // What is not there.
    for missing in [format!("{name}:none"), format!("127.0.0.1:{}/none", server.port)] {
        let error = pull(&store, &missing).unwrap_err();
        assert!(matches!(error, Error::NotFound(_)), "{error}");
    }
    let gone = pull(&store, "127.0.0.1:1/none");
    assert!(matches!(gone, Err(Error::Registry(_))), "{gone:?}");
}

#[test]
fn an_index_gives_each_machine_its_image() {
    need_peers();
    let scratch = Scratch::new("registry-index");
    let server = Server::start(&scratch.0, &Kind::Plain);
    let mut layout = Layout::default();
    let mut manifests: Vec<Value> = Vec::new();
    let mut ids = Vec::new();
    for (architecture, variant) in [("arm", "v6"), ("arm", "v7"), ("arm64", "v8")] {
        let mut image = TestImage::new(architecture, &[tar(&[("which", variant.as_bytes())])]);
        (image.architecture, image.variant) = (architecture, variant);
        let mut descriptor = layout.image(&image);
        descriptor["platform"] = json!({ "os": "linux", "architecture": architecture, "variant": variant });
        manifests.push(descriptor);
        ids.push(image.id());
    }
    let index = layout.index(&manifests);
    scratch.write("index.tar", &layout.named(index, "x").tar());
    let name = format!("127.0.0.1:{}/multi:1", server.port);
    skopeo(&scratch.0, "oci-archive:index.tar:x", &format!("docker://{name}"), &["--all"]);
    let store = scratch.store();
    for (machine, id) in [
        (Platform::linux("arm", "v6"), Some(0)),
        (Platform::linux("arm", "v7"), Some(1)),
        (Platform::linux("arm64", "v8"), Some(2)),
        (Platform::linux("amd64", ""), None),
    ] {
        let pulled = pull_as(&store, &name, &access(), &machine);
        let Some(id) = id else {
            assert_eq!(
                line(pulled),
                "no image for linux/amd64; there is linux/arm/v6, linux/arm/v7, linux/arm64/v8"
            );
            continue;
        };
        let pulled = pulled.unwrap();
        assert_eq!(pulled.id, ids[id], "{machine}");
        // The digest is the index's, for all of them.
        let names = store.get(&pulled.id.to_string()).unwrap().digests;
        assert_eq!(names, [format!("127.0.0.1:{}/multi@{}", server.port, pulled.digest)]);
    }
}

#[test]
fn tls_is_verified_and_passwords_are_needed() {
    need_peers();
    let scratch = Scratch::new("registry-tls");
    let ca = certificates(&scratch.0, "server");
    let server = Server::start(&scratch.0, &Kind::Tls { folder: &scratch.0, name: "server" });
    let one = image("tls");
    push(&scratch, &one, server.port, "app", &[]);
    let name = format!("127.0.0.1:{}/app", server.port);
    let store = scratch.store();
    let mut trusting = access();
    trusting.trust.bundle = ca;
    assert_eq!(pull_as(&store, &name, &trusting, &common::amd64()).unwrap().id, one.id());
    // A certificate that is not believed is no reason to go without TLS.
    let refused = line(pull(&store, &name));
    assert!(refused.ends_with("the certificate's issuer is unknown; see balenaRootCA"), "{refused}");

    let server = Server::start(&scratch.0, &Kind::Basic);
    push(&scratch, &one, server.port, "app", &["--dest-creds=device:secret"]);
    let name = format!("127.0.0.1:{}/app", server.port);
    let with = |user: &str, password: &str| {
        let credentials = Some(Credentials::Basic { user: user.into(), password: password.into() });
        pull_as(&store, &name, &Access { credentials, ..access() }, &common::amd64())
    };
    assert_eq!(with("device", "secret").unwrap().id, one.id());
    assert!(line(with("device", "wrong")).starts_with("pull access denied: 127.0.0.1:"));
    assert!(line(pull(&store, &name)).ends_with("wants credentials"));
}

#[test]
fn tokens_are_fetched_renewed_and_kept_from_other_hosts() {
    need_peers();
    let scratch = Scratch::new("registry-token");
    let server = Server::start(&scratch.0, &Kind::Plain);
    let one = image("token");
    push(&scratch, &one, server.port, "fleet/app", &[]);
    // Where layers lie, in another place than the registry.
    let storage = Front::start(server.port, |_| Act::Forward);
    let elsewhere = storage.port;
    // Each token is good for two requests.
    static TOKENS: AtomicU32 = AtomicU32::new(0);
    static USES: AtomicU32 = AtomicU32::new(0);
    let tokens = Front::start(1, |asked| {
        let scope = "/token?service=test%20registry&scope=repository%3Afleet%2Fapp%3Apull";
        if asked.path != scope || asked.authorization != "Basic ZF8xOmtleQ==" {
            return Act::Answer(401, String::new(), r#"{"errors":[{"message":"who are you?"}]}"#.into());
        }
        USES.store(0, Ordering::Relaxed);
        let number = TOKENS.fetch_add(1, Ordering::Relaxed) + 1;
        Act::Answer(200, String::new(), format!(r#"{{"token":"t{number}","expires_in":60}}"#))
    });
    let realm = tokens.port;
    let front = Front::start(server.port, move |asked| {
        let good = asked.authorization == format!("Bearer t{}", TOKENS.load(Ordering::Relaxed));
        if !good || USES.fetch_add(1, Ordering::Relaxed) >= 2 {
            let field = format!(
                "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:{realm}/token\",service=\"test registry\",scope=\"repository:fleet/app:pull\"\r\n"
            );
            return Act::Answer(401, field, "{}".into());
        }
        if asked.path.contains("/blobs/") {
            let location = format!("Location: http://127.0.0.1:{elsewhere}{}\r\n", asked.path);
            return Act::Answer(307, location, String::new());
        }
        Act::Forward
    });
    let store = scratch.store();
    let name = format!("127.0.0.1:{}/fleet/app", front.port);
    let credentials = Some(Credentials::Basic { user: "d_1".into(), password: "key".into() });
    let pulled = pull_as(&store, &name, &Access { credentials, ..access() }, &common::amd64()).unwrap();
    assert_eq!(pulled.id, one.id());
    // Manifest, configuration, two layers: two tokens; and the storage was not told who we are.
    assert_eq!(TOKENS.load(Ordering::Relaxed), 2);
    assert_eq!(storage.asked().len(), 3);
    assert!(storage.asked().iter().all(|asked| asked.authorization.is_empty()));
    let denied = line(pull(&store, &name));
    assert!(denied.starts_with("pull access denied:") && denied.ends_with("who are you?"), "{denied}");
}

#[test]
fn a_redirection_within_the_registry_keeps_who_we_are() {
    need_peers();
    let scratch = Scratch::new("registry-within");
    let server = Server::start(&scratch.0, &Kind::Plain);
    let one = image("within");
    push(&scratch, &one, server.port, "app", &[]);
    let front = Front::start(server.port, |asked| {
        if asked.authorization != "Basic ZF8xOmtleQ==" {
            return Act::Answer(401, "WWW-Authenticate: Basic realm=\"x\"\r\n".into(), String::new());
        }
        if asked.path.ends_with("?again") {
            return Act::Forward;
        }
        Act::Answer(308, format!("Location: {}?again\r\n", asked.path), String::new())
    });
    let credentials = Some(Credentials::Basic { user: "d_1".into(), password: "key".into() });
    let name = format!("127.0.0.1:{}/app", front.port);
    let pulled =
        pull_as(&scratch.store(), &name, &Access { credentials, ..access() }, &common::amd64()).unwrap();
    assert_eq!(pulled.id, one.id());
    // Asked for once.
    let refused = front.asked().iter().filter(|asked| asked.authorization.is_empty()).count();
    assert_eq!((refused, front.asked().len()), (1, 9));
}

#[test]
fn broken_connections_and_busy_servers_are_outlasted() {
    need_peers();
    let scratch = Scratch::new("registry-cut");
    let server = Server::start(&scratch.0, &Kind::Plain);
    let one = image("cut");
    push(&scratch, &one, server.port, "app", &[]);
    let mut resumed = 0;
    for seed in 1..=5u64 {
        let store = ImageStore::open(&scratch.path(&format!("store{seed}"))).unwrap().0;
        let mut state = seed;
        let front = Front::start(server.port, move |asked| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = usize::try_from(state >> 40).unwrap();
            // A document is short; a cut in it comes soon.
            let limit = if asked.path.contains("/blobs/") { 700_000 } else { 900 };
            match number % 8 {
                0 => Act::Answer(503, "Retry-After: 0\r\n".into(), String::new()),
                1 => Act::Answer(429, String::new(), r#"{"errors":[{"message":"slowly"}]}"#.into()),
                2 => Act::Whole(number % limit),
                3..=5 => Act::Cut(number % limit),
                _ => Act::Cut(usize::MAX),
            }
        });
        let access = Access { tries: 40, pause: Duration::from_millis(1), ..access() };
        let name = format!("127.0.0.1:{}/app", front.port);
        let pulled = pull_as(&store, &name, &access, &common::amd64()).unwrap();
        assert_eq!(pulled.id, one.id(), "{seed}");
        resumed += front.asked().iter().filter(|asked| asked.range.starts_with("bytes=")).count();
    }
    assert!(resumed > 5, "{resumed}");
    // What never gets better ends, after as many tries as were allowed.
    let store = scratch.store();
    let front = Front::start(server.port, |_| Act::Answer(503, String::new(), String::new()));
    let error = line(pull(&store, &format!("127.0.0.1:{}/app", front.port)));
    assert!(error.contains("status 503 for /v2/app/manifests/latest"), "{error}");
    assert_eq!(front.asked().len(), 6);
}

#[test]
fn what_is_not_what_its_digest_says_is_refused() {
    need_peers();
    let scratch = Scratch::new("registry-spoil");
    let server = Server::start(&scratch.0, &Kind::Plain);
    let one = image("spoil");
    push(&scratch, &one, server.port, "app", &[]);
    let store = scratch.store();
    let digest = pull(&store, &format!("127.0.0.1:{}/app", server.port)).unwrap().digest;
    for (what, at) in
        [("/manifests/", 5), ("/blobs/", 0), ("/blobs/", 10), ("/blobs/", 300), ("/blobs/", 700_000)]
    {
        let store = ImageStore::open(&scratch.path(&format!("store{what}{at}").replace('/', "-"))).unwrap().0;
        let front =
            Front::start(
                server.port,
                move |asked| {
                    if asked.path.contains(what) { Act::Spoil(at) } else { Act::Forward }
                },
            );
        let result = pull(&store, &format!("127.0.0.1:{}/app@{digest}", front.port));
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Digest { .. } | Error::Malformed { .. }), "{what} {at}: {error}");
        assert!(store.list().is_empty());
    }
    // Layers that lead out.
    let trap = TestImage::new("trap", &[tar(&[("etc/", b""), ("etc/../../escaped", b"x")])]);
    push(&scratch, &trap, server.port, "trap", &[]);
    let error = line(pull(&store, &format!("127.0.0.1:{}/trap", server.port)));
    assert!(error.contains("contains '..'; the layer is refused"), "{error}");
    assert!(store.get("trap").is_err() && !scratch.path("store/escaped").exists());
    // Another image than the one asked for, and no image at all.
    let other: Digest = sha256(b"other");
    let front = Front::start(server.port, |asked| match asked.path.rsplit('/').next() {
        Some("web") => Act::Answer(200, String::new(), "<html>hello</html>".into()),
        Some("old") => Act::Answer(200, String::new(), r#"{"schemaVersion":1,"fsLayers":[]}"#.into()),
        Some("far") => Act::Answer(302, "Location: http://192.0.2.1/\r\n".into(), String::new()),
        Some("loop") => Act::Answer(302, format!("Location: {}\r\n", asked.path), String::new()),
        _ => Act::Answer(200, String::new(), r#"{"schemaVersion":2,"config":{},"layers":[]}"#.into()),
    });
    for (tag, expected) in [
        (":web".to_owned(), "expected value"),
        (":old".to_owned(), "manifests of schema 1"),
        (":far".to_owned(), "a redirection that is not followed: http://192.0.2.1/"),
        (":loop".to_owned(), "a redirection that is not followed"),
        (":empty".to_owned(), "a descriptor without digest"),
        (format!("@{other}"), "manifest is damaged"),
    ] {
        let error = line(pull(&store, &format!("127.0.0.1:{}/app{tag}", front.port)));
        assert!(error.contains(expected), "{tag}: {error}");
    }
}

#[test]
fn a_host_app_comes_from_a_registry_and_the_rest_of_it_after_a_restart() {
    need_peers();
    let scratch = Scratch::new("registry-hostapp");
    let server = Server::start(&scratch.0, &Kind::Plain);
    let files = files(40, 18 << 20);
    let artefact = Artefact::full(&files, "2.0.0");
    scratch.write("hostapp.tar", &artefact.archive());
    let copy = |port: u16| format!("docker://127.0.0.1:{port}/minke/hostapp:2");
    skopeo(&scratch.0, "oci-archive:hostapp.tar:minke/hostapp:1", &copy(server.port), &[]);
    let size = artefact.packed.len();
    // The network goes after two thirds of the layer, and comes back for the second command.
    static BROKEN: AtomicU32 = AtomicU32::new(1);
    let front = Front::start(server.port, move |asked| {
        let is_layer = asked.path.contains("/blobs/");
        match BROKEN.load(Ordering::Relaxed) {
            1 if is_layer && asked.range.is_empty() => Act::Cut(size * 2 / 3),
            1 if is_layer => Act::Answer(502, String::new(), String::new()),
            _ => Act::Forward,
        }
    });
    let reference = reference(&format!("127.0.0.1:{}/minke/hostapp:2", front.port));
    let target = scratch.path("hostapps/.new");
    let access = access();
    let run =
        |target: &Path| install(Source::Registry(&reference, &access), target, None, &mut Watcher::default());
    // The configuration comes whole; it is shorter than the cut.
    let error = failure(run(&target));
    assert!(error.contains("status 502"), "{error}");
    assert!(target.join("rootfs.squashfs").exists());
    BROKEN.store(0, Ordering::Relaxed);
    let installed = run(&target).unwrap();
    assert!(installed.resumed > 8 << 19, "{}", installed.resumed);
    assert_eq!(installed.release.id, artefact.id());
    assert_slot(&target, &files);
    let last = front.asked().pop().unwrap();
    assert_eq!(last.range, format!("bytes={}-", installed.resumed));
}
