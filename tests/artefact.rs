//! Host-app archives, taken apart and put together again with changes: other versions, systems that cannot start.
//! By Debian's tar, gzip, squashfs-tools and veritysetup, apart from the image tool's own writer.

// A test's helper fails the test that calls it.
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

use crate::{run, text};
use minke_image::tree::Scratch;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One archive's documents and files.
#[derive(Debug)]
pub struct Artefact {
    scratch: Scratch,
    /// Members of the archive, and those of the layer, in their order.
    members: Vec<String>,
    files: Vec<String>,
    /// The image's configuration document.
    pub config: Value,
    /// The manifest.
    pub manifest: Value,
}

impl Artefact {
    /// Takes an archive apart.
    pub fn open(archive: &Path) -> Self {
        let scratch = Scratch::new("artefact").unwrap();
        let (layout, root) = (scratch.join("layout"), scratch.join("files"));
        for folder in [&layout, &root] {
            fs::create_dir(folder).unwrap();
        }
        let list = |file: &Path| -> Vec<String> {
            text(&run(Command::new("tar").arg("-tf").arg(file))).lines().map(str::to_owned).collect()
        };
        run(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(&layout));
        let index = document(&layout.join("index.json"));
        let manifest = document(&blob(&layout, &index["manifests"][0]));
        let config = document(&blob(&layout, &manifest["config"]));
        let layer = blob(&layout, &manifest["layers"][0]);
        run(Command::new("tar").arg("-xf").arg(&layer).arg("-C").arg(&root));
        Self { members: list(archive), files: list(&layer), scratch, config, manifest }
    }

    /// The folder with the layer's files.
    pub fn files(&self) -> PathBuf {
        self.scratch.join("files")
    }

    /// The id: the digest of the configuration.
    pub fn id(&self) -> String {
        self.manifest["config"]["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned()
    }

    /// Changes a label of the configuration.
    pub fn label(&mut self, name: &str, value: &str) {
        self.config["config"]["Labels"][name] = value.into();
    }

    /// Changes the version, in the labels and in the root image.
    pub fn version(&mut self, version: &str) {
        self.label("org.opencontainers.image.version", version);
        for key in ["VERSION", "VERSION_ID", "META_BALENA_VERSION"] {
            self.label(&format!("io.balena.os-release.{key}"), version);
        }
        self.root(|root| {
            for path in ["etc/os-release", "resin-boot/os-release"] {
                let path = root.join(path);
                let line = |line: &str| match line.split_once('=') {
                    Some((key @ ("VERSION" | "VERSION_ID" | "META_BALENA_VERSION"), _)) => {
                        format!("{key}=\"{version}\"\n")
                    }
                    _ => format!("{line}\n"),
                };
                let changed: String = fs::read_to_string(&path).unwrap().lines().map(line).collect();
                fs::write(&path, changed).unwrap();
            }
        });
    }

    /// Changes files of the root image, and its hash tree with them.
    pub fn root(&mut self, change: impl FnOnce(&Path)) {
        let root = self.scratch.join("root");
        let image = self.files().join("rootfs.squashfs");
        let _ = fs::remove_dir_all(&root);
        run(Command::new("unsquashfs").args(["-q", "-n", "-d"]).arg(&root).arg(&image));
        change(&root);
        minke_image::rootfs::squash(&root, &image, 1_700_000_000).unwrap();
        self.verity();
    }

    /// Makes the hash tree anew, where there is one.
    fn verity(&self) {
        let tree = self.files().join("rootfs.verity");
        if !tree.exists() {
            return;
        }
        fs::remove_file(&tree).unwrap();
        let mut command = Command::new("veritysetup");
        command.args(["format", "--uuid=0badcafe-0000-4000-8000-000000000000", "--salt=5a"]);
        let said = text(&run(command.arg(self.files().join("rootfs.squashfs")).arg(&tree)));
        let hash = said.lines().find_map(|line| line.strip_prefix("Root hash:")).unwrap().trim().to_owned();
        self.arguments(|words| {
            words.retain(|word| !word.starts_with("roothash="));
            words.push(format!("roothash={hash}"));
        });
    }

    /// Changes the slot's kernel arguments.
    pub fn arguments(&self, change: impl FnOnce(&mut Vec<String>)) {
        let path = self.files().join("boot/slot.env");
        let before = fs::read_to_string(&path).unwrap_or_default();
        let before = before.lines().find_map(|line| line.strip_prefix("slot_arguments=")).unwrap_or_default();
        let mut words = before.split_whitespace().map(str::to_owned).collect();
        change(&mut words);
        let line = format!("slot_arguments={}\n", words.join(" "));
        fs::write(&path, &line).unwrap();
        let grub = self.files().join("boot/slot.grubenv");
        if grub.exists() {
            let mut block = format!("# GRUB Environment Block\n{line}").into_bytes();
            block.resize(1024, b'#');
            fs::write(&grub, block).unwrap();
        }
    }

    /// Writes the archive with everything that changed, and returns the id.
    pub fn save(&mut self, to: &Path) -> String {
        let layout = self.scratch.join("layout");
        for name in ["config", "layers"] {
            let old = if name == "config" { &self.manifest["config"] } else { &self.manifest["layers"][0] };
            let _ = fs::remove_file(blob(&layout, old));
        }
        let (tar, gzip) = (self.scratch.join("layer.tar"), self.scratch.join("layer.tar.gz"));
        let names = self.scratch.join("names");
        fs::write(&names, self.files.join("\n") + "\n").unwrap();
        let mut pack = Command::new("tar");
        pack.args(["--format=ustar", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@1700000000"]);
        pack.arg("--no-recursion").arg("-C").arg(self.files()).arg("-T").arg(&names).arg("-cf").arg(&tar);
        run(&mut pack);
        let _ = fs::remove_file(&gzip);
        run(Command::new("gzip").args(["-n", "-k", "-6"]).arg(&tar));
        self.config["rootfs"]["diff_ids"][0] = digest(&tar).into();
        let layer = add(&layout, &gzip, &mut self.manifest["layers"][0]);
        let config = self.scratch.join("config.json");
        fs::write(&config, self.config.to_string()).unwrap();
        let config = add(&layout, &config, &mut self.manifest["config"]);

        let index_path = layout.join("index.json");
        let mut index = document(&index_path);
        let old = blob(&layout, &index["manifests"][0]);
        fs::remove_file(&old).unwrap();
        let manifest = self.scratch.join("manifest.json");
        fs::write(&manifest, self.manifest.to_string()).unwrap();
        let manifest = add(&layout, &manifest, &mut index["manifests"][0]);
        fs::write(&index_path, index.to_string()).unwrap();
        let saved = layout.join("manifest.json");
        if saved.exists() {
            let mut list = document(&saved);
            list[0]["Config"] = config.clone().into();
            list[0]["Layers"] = json!([layer]);
            fs::write(&saved, list.to_string()).unwrap();
        }
        // Each new blob takes the place of the one that it replaces.
        let blobs: Vec<usize> =
            (0..self.members.len()).filter(|number| is_blob(&self.members[*number])).collect();
        assert_eq!(blobs.len(), 3, "{:?}", self.members);
        for (number, name) in blobs.into_iter().zip([manifest, config, layer]) {
            self.members[number] = name;
        }
        let mut pack = Command::new("tar");
        pack.args(["--format=ustar", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@1700000000"]);
        pack.arg("--no-recursion").arg("-C").arg(&layout).arg("-cf").arg(to).args(&self.members);
        run(&mut pack);
        self.id()
    }
}

fn is_blob(member: &str) -> bool {
    member.strip_prefix("blobs/sha256/").is_some_and(|name| !name.is_empty())
}

fn document(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// The file of a descriptor.
fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap();
    layout.join("blobs").join(digest.replace(':', "/"))
}

/// Moves a file among the blobs, and enters it in its descriptor; its name in the archive.
fn add(layout: &Path, file: &Path, descriptor: &mut Value) -> String {
    let digest = digest(file);
    descriptor["digest"] = digest.clone().into();
    descriptor["size"] = fs::metadata(file).unwrap().len().into();
    fs::rename(file, blob(layout, descriptor)).unwrap();
    format!("blobs/{}", digest.replace(':', "/"))
}

/// `sha256:…` of a file.
pub fn digest(file: &Path) -> String {
    let sum = text(&run(Command::new("sha256sum").arg(file)));
    format!("sha256:{}", sum.get(..64).unwrap())
}
