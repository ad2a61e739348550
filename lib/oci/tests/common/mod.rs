//! Makes image archives for the tests, and a scratch folder.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

pub mod hostapp;
pub mod registry;

use minke_oci::{Digest, ImageStore, LoadedImage, Platform, Problem, Progress, layer::sha256};
use minke_wire::json::{Value, json};
use minke_wire::tar::{Encoder, Entry, Kind};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("minke-oci-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
    /// Opens the store, which has no problems.
    pub fn store(&self) -> ImageStore {
        let (store, problems) = self.open();
        assert!(problems.is_empty(), "{problems:?}");
        store
    }
    /// Opens the store. A child that another test forks holds our lock until it executes its program.
    pub fn open(&self) -> (ImageStore, Vec<Problem>) {
        for _ in 0..600 {
            match ImageStore::open(&self.path("store")) {
                Ok(opened) => return opened,
                Err(minke_oci::Error::Conflict(_)) => {
                    std::thread::sleep(std::time::Duration::from_millis(50));
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the store stays locked");
    }
    pub fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn amd64() -> Platform {
    Platform::linux("amd64", "")
}

pub fn load(store: &ImageStore, archive: &Path) -> minke_oci::Result<Vec<LoadedImage>> {
    store.load_archive(archive, &amd64(), &mut |_: Progress<'_>| ControlFlow::Continue(()))
}

/// A tar of files; a name that ends with a slash is a folder.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (path, content) in files {
        let kind = if path.ends_with('/') { Kind::Folder } else { Kind::File };
        let mut entry = Entry::new(path.as_bytes(), kind, 0o755);
        entry.size = content.len() as u64;
        Encoder::header(&entry, &mut out).unwrap();
        out.extend_from_slice(content);
        Encoder::padding(entry.size, &mut out);
    }
    Encoder::end(&mut out);
    out
}

pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut child =
        Command::new("gzip").arg("-cn").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let content = content.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&content).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.stdout
}

/// An image: its layers as tars, and what differs in the config.
#[derive(Clone)]
pub struct TestImage {
    pub layers: Vec<Vec<u8>>,
    pub architecture: &'static str,
    pub variant: &'static str,
    pub label: String,
}

impl TestImage {
    pub fn new(label: &str, layers: &[Vec<u8>]) -> Self {
        Self { layers: layers.to_vec(), architecture: "amd64", variant: "", label: label.to_owned() }
    }
    pub fn config(&self) -> Vec<u8> {
        let diff_ids: Vec<_> = self.layers.iter().map(|layer| sha256(layer).as_str().to_owned()).collect();
        let mut config = json!({
            "architecture": self.architecture, "os": "linux", "created": "2024-01-02T03:04:05Z",
            "config": {"Cmd": ["/bin/sh"], "Env": ["A=b"], "Labels": {"name": self.label}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        if !self.variant.is_empty() {
            config["variant"] = json!(self.variant);
        }
        config.to_text().into_bytes()
    }
    pub fn id(&self) -> Digest {
        sha256(&self.config())
    }
}

/// A file as `docker save` writes it (before version 25).
pub fn docker_save(images: &[(&TestImage, &[&str])], packed: bool) -> Vec<u8> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let mut manifest = Vec::new();
    for (image, tags) in images {
        let config = format!("{}.json", image.id().hex());
        files.push((config.clone(), image.config()));
        let mut layers = Vec::new();
        for layer in &image.layers {
            let name = format!("{}/layer.tar", sha256(layer).hex());
            files.push((name.clone(), if packed { gzip(layer) } else { layer.clone() }));
            layers.push(name);
        }
        manifest.push(json!({"Config": config, "RepoTags": tags, "Layers": layers}));
    }
    files.push(("manifest.json".into(), minke_wire::json::Value::from(manifest).to_text().into_bytes()));
    tar(&files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect::<Vec<_>>())
}

/// An OCI layout being built.
#[derive(Default)]
pub struct Layout {
    blobs: Vec<(String, Vec<u8>)>,
    pub manifests: Vec<Value>,
}

impl Layout {
    pub fn blob(&mut self, content: &[u8]) -> Digest {
        let digest = sha256(content);
        let name = format!("blobs/sha256/{}", digest.hex());
        if !self.blobs.iter().any(|(known, _)| *known == name) {
            self.blobs.push((name, content.to_vec()));
        }
        digest
    }
    pub fn descriptor(&mut self, media_type: &str, content: &[u8]) -> Value {
        let digest = self.blob(content);
        json!({"mediaType": media_type, "digest": digest.as_str(), "size": content.len()})
    }
    /// Adds an image's blobs and returns the descriptor of its manifest.
    pub fn image(&mut self, image: &TestImage) -> Value {
        let config = self.descriptor("application/vnd.oci.image.config.v1+json", &image.config());
        let layers: Vec<Value> = image
            .layers
            .iter()
            .map(|layer| self.descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &gzip(layer)))
            .collect();
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        self.descriptor("application/vnd.oci.image.manifest.v1+json", &manifest.to_text().into_bytes())
    }
    pub fn index(&mut self, manifests: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "manifests": manifests}).to_text().into_bytes();
        self.descriptor("application/vnd.oci.image.index.v1+json", &index)
    }
    pub fn named(mut self, mut descriptor: Value, name: &str) -> Self {
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        self.manifests.push(descriptor);
        self
    }
    pub fn tar(mut self) -> Vec<u8> {
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        self.blobs.push(("index.json".into(), index.to_text().into_bytes()));
        self.blobs.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
        tar(&self.blobs.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect::<Vec<_>>())
    }
}
