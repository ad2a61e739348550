//! Makes host apps for the tests: full ones, deltas, signatures by minisign itself.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::{gzip, tar};
use minke_oci::hostapp::{self, Installed, Release, Source, Step, Task, Watch};
use minke_oci::layer::sha256;
use minke_oci::{Digest, Error, Platform, Result};
use minke_wire::json::{Value, json};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;

/// Files by path in the order of the layer.
pub type Files = Vec<(String, Vec<u8>)>;

/// Bytes that are neither all alike nor noise.
pub fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut out = Vec::with_capacity(length + 64);
    while out.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if state >> 58 == 0 && out.len() > 5000 {
            let from = usize::try_from(state >> 20).unwrap() % (out.len() - 4000);
            let again = out[from..from + 300].to_vec();
            out.extend(again);
        } else {
            out.extend((state >> 16).to_le_bytes());
        }
    }
    out.truncate(length);
    out
}

/// A host app of about `size` bytes.
pub fn files(seed: u64, size: usize) -> Files {
    let mut program = content(seed ^ 7, 300_000);
    program[1000..1008].copy_from_slice(&seed.to_le_bytes());
    let mut root = content(1, size);
    root[..program.len()].copy_from_slice(&program);
    let at = usize::try_from(seed % 1000).unwrap() * 7 + 300_100;
    root.splice(at..at + 10, content(seed, 25));
    vec![
        ("boot/dtbs/board.dtb".into(), content(4, 30_000)),
        ("boot/initramfs".into(), [content(seed, 2000), program.clone()].concat()),
        ("boot/slot.env".into(), format!("slot_arguments=roothash={seed}\n").into_bytes()),
        ("boot/vmlinuz".into(), content(3, size.min(2_000_000))),
        ("rootfs.squashfs".into(), root),
        ("rootfs.verity".into(), content(seed ^ 5, 60_000)),
        ("sbin/init".into(), program.clone()),
        ("boot/init".into(), program),
    ]
}

/// An image of one layer, as an archive in the order of a stream.
#[derive(Clone)]
pub struct Artefact {
    pub layer: Vec<u8>,
    pub packed: Vec<u8>,
    pub config: Vec<u8>,
    pub architecture: &'static str,
    pub signature: Option<String>,
}

pub fn labels(version: &str) -> Value {
    json!({
        "io.balena.image.class": "hostapp", "io.balena.os-release.VERSION": version,
        "io.balena.os-release.SLUG": "generic-amd64", "org.opencontainers.image.version": version, "io.minke.size": "12345"
    })
}

impl Artefact {
    pub fn new(labels: &Value, layer: Vec<u8>, architecture: &'static str) -> Self {
        let config = json!({
            "architecture": architecture, "os": "linux", "config": { "Labels": labels },
            "rootfs": { "type": "layers", "diff_ids": [sha256(&layer).as_str()] },
        });
        let (packed, config) = (gzip(&layer), config.to_text().into_bytes());
        Self { layer, packed, config, architecture, signature: None }
    }
    pub fn full(files: &Files, version: &str) -> Self {
        let mut members: Vec<(&str, &[u8])> = vec![("boot/", b""), ("boot/dtbs/", b"")];
        members.extend(files.iter().map(|(path, content)| (path.as_str(), content.as_slice())));
        Self::new(&labels(version), tar(&members), "amd64")
    }
    pub fn id(&self) -> String {
        sha256(&self.config).hex().to_owned()
    }
    pub fn manifest(&self) -> Vec<u8> {
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": sha256(&self.config).as_str(), "size": self.config.len()
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": sha256(&self.packed).as_str(), "size": self.packed.len()
            }],
        });
        if let Some(signature) = &self.signature {
            manifest["annotations"] = json!({ "io.minke.signature": signature });
        }
        manifest.to_text().into_bytes()
    }
    /// The archive's members.
    pub fn members(&self) -> Files {
        let manifest = self.manifest();
        let index = json!({ "schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": sha256(&manifest).as_str(),
            "size": manifest.len(), "platform": { "os": "linux", "architecture": self.architecture },
            "annotations": { "org.opencontainers.image.ref.name": "minke/hostapp:1" }
        }] });
        let blob = |content: &[u8]| format!("blobs/sha256/{}", sha256(content).hex());
        vec![
            ("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".into(), index.to_text().into_bytes()),
            ("manifest.json".into(), b"[]".to_vec()),
            (blob(&manifest), manifest),
            (blob(&self.config), self.config.clone()),
            (blob(&self.packed), self.packed.clone()),
        ]
    }
    pub fn archive(&self) -> Vec<u8> {
        archive(&self.members())
    }
    /// Signs the configuration with the key `NAME.key` in a folder, which is made when missing, with `NAME.pub`.
    pub fn sign(&mut self, folder: &Path, name: &str, options: &[&str]) {
        let (key, public) = (folder.join(format!("{name}.key")), folder.join(format!("{name}.pub")));
        let run = |arguments: &[&std::ffi::OsStr]| {
            let done = Command::new("minisign").args(arguments).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        };
        if !key.exists() {
            run(&["-G".as_ref(), "-W".as_ref(), "-p".as_ref(), public.as_ref(), "-s".as_ref(), key.as_ref()]);
        }
        let (blob, signature) = (folder.join("blob"), folder.join("signature"));
        std::fs::write(&blob, &self.config).unwrap();
        let mut arguments: Vec<&std::ffi::OsStr> =
            vec!["-S".as_ref(), "-s".as_ref(), key.as_ref(), "-m".as_ref()];
        arguments.extend([
            blob.as_os_str(),
            "-x".as_ref(),
            signature.as_ref(),
            "-t".as_ref(),
            "by the tests".as_ref(),
        ]);
        arguments.extend(options.iter().map(|option| std::ffi::OsStr::new(*option)));
        run(&arguments);
        self.signature = Some(std::fs::read_to_string(signature).unwrap());
    }
}

pub fn archive(members: &Files) -> Vec<u8> {
    tar(&members.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect::<Vec<_>>())
}

/// What of it belongs into a slot.
fn of_slot(files: &Files) -> Files {
    files.iter().filter(|(path, _)| path != "sbin/init" && path != "boot/init").cloned().collect()
}

/// The delta from one host app to another.
pub fn delta(base: (&Artefact, &Files), target: (&Artefact, &Files), version: &str) -> Artefact {
    let (old, mut new) = (of_slot(base.1), of_slot(target.1));
    new.sort_by_key(|(path, _)| (path != "rootfs.squashfs", path.clone()));
    let (mut plan, mut pieces) = (Vec::new(), Vec::new());
    for (path, content) in &new {
        let mut file = json!({
            "path": path, "size": content.len(), "mode": 420, "sha256": sha256(content).hex(), "from": [path]
        });
        let before = &old.iter().find(|(known, _)| known == path).unwrap().1;
        let member = format!("pieces/{path}");
        if before == content {
            file["kind"] = json!("same");
        } else if path == "boot/slot.env" {
            (file["kind"], file["from"], file["member"]) = (json!("whole"), json!([]), json!(member));
            pieces.push((member, content.clone()));
        } else {
            let mut data = before.clone();
            if path == "boot/initramfs" {
                file["from"] = json!([path, "new/rootfs.squashfs"]);
                data.extend(&new[0].1);
            }
            let mut piece = Vec::new();
            bidiff::simple_diff(&data, content, &mut piece).unwrap();
            (file["kind"], file["member"]) = (json!("delta"), json!(member));
            pieces.push((member, piece));
        }
        plan.push(file);
    }
    let document = json!({
        "base": base.0.id(), "target": target.0.id(), "files": plan, "folders": ["boot", "boot/dtbs"], "links": []
    });
    let mut members = vec![
        ("delta.json".to_owned(), document.to_pretty().into_bytes()),
        ("config.json".to_owned(), target.0.config.clone()),
    ];
    members.extend(pieces);
    let labels = json!({
        "io.minke.delta.base": base.0.id(), "io.minke.delta.target": target.0.id(),
        "io.balena.os-release.VERSION": version
    });
    let layer =
        tar(&members.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect::<Vec<_>>());
    Artefact::new(&labels, layer, "amd64")
}

/// Notes what it is told; ends the work after so many bytes.
#[derive(Default)]
pub struct Watcher {
    pub release: Option<Release>,
    pub refuse: Option<&'static str>,
    pub stop_after: Option<u64>,
    pub fetched: u64,
    pub read_back: u64,
}

impl Watch for Watcher {
    fn accept(&mut self, release: &Release) -> std::result::Result<(), String> {
        self.release = Some(release.clone());
        self.refuse.map_or(Ok(()), |reason| Err(reason.to_owned()))
    }
    fn progress(&mut self, step: Step) -> ControlFlow<()> {
        match step {
            Step::Fetch(done, total) => {
                assert!(done <= total);
                self.fetched = done;
            }
            Step::ReadBack(done, total) => {
                assert!(done <= total);
                self.read_back = done;
            }
        }
        match self.stop_after {
            Some(limit) if self.fetched > limit => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

pub fn amd64() -> Platform {
    Platform::linux("amd64", "")
}

pub fn install(
    source: Source<'_>,
    target: &Path,
    base: Option<&Path>,
    watch: &mut Watcher,
) -> Result<Installed> {
    hostapp::install(source, &Task { base, target, keys: &[], platform: &amd64() }, watch)
}

/// The line of a failed installation.
pub fn failure(result: Result<Installed>) -> String {
    match result {
        Ok(_) => panic!("it was installed"),
        Err(error) => error.to_string(),
    }
}

/// Whether a slot's folder holds these files and nothing else.
pub fn assert_slot(target: &Path, files: &Files) {
    let mut found = Vec::new();
    let mut folders = vec![target.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(target).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    let expected = of_slot(files);
    assert_eq!(found, expected.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>());
    for (path, content) in &expected {
        assert!(std::fs::read(target.join(path)).unwrap() == *content, "{path}");
    }
}

pub fn assert_is(error: &Error, line: &str) {
    assert_eq!(error.to_string(), line);
}

pub fn digest(content: &[u8]) -> Digest {
    sha256(content)
}
