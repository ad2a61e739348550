//! Debian packages of any architecture, by the system's own apt with a private state per architecture: the system's
//! package database is never touched. apt checks the archive's signatures; every package is checked again by its digest
//! when it is used.

use crate::arch::Arch;
use crate::cache::{Cache, file_digest};
use crate::error::{Context, Error, Result};
use crate::progress;
use crate::tool::Tool;
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The Debian release that kernels and boot loaders come from.
const SUITE: &str = "bookworm";

/// Where packages come from when the system's apt names no mirror of that release.
const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";

/// The archive keys, from Debian's package debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Limit for refreshing the index and for one download command.
const NETWORK_LIMIT: Duration = Duration::from_secs(600);

/// A package whose file is in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Debian's package name.
    pub name: String,
    /// Debian's version.
    pub version: String,
    /// SHA-256 of the package file.
    pub sha256: String,
    /// The package file.
    pub file: PathBuf,
}

/// The private apt state of one architecture.
#[derive(Debug)]
pub struct Archive {
    arch: Arch,
    folder: PathBuf,
    config: PathBuf,
}

impl Archive {
    /// Opens (and if need be writes) the apt state of `arch` below the cache.
    pub fn open(cache: &Cache, arch: Arch) -> Result<Archive> {
        let folder = cache.folder(&format!("apt/{SUITE}-{}", arch.debian()))?;
        for name in ["lists/partial", "cache/archives/partial", "state", "debs", "partial"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).on("making", &path)?;
        }
        let archive = Archive { arch, config: folder.join("apt.conf"), folder };
        archive.write_config()?;
        Ok(archive)
    }

    /// The packages `names`, downloaded where they are not in the cache; a kernel's meta package stands for the kernel
    /// that it depends on. With `refresh` the index is fetched anew, else the versions of the last time stay.
    pub fn packages(&self, names: &[&str], refresh: bool) -> Result<Vec<Package>> {
        if !refresh && let Some(packages) = self.noted(names) {
            return Ok(packages);
        }
        if refresh || !self.has_lists() {
            self.update()?;
        }
        let packages = match self.download(names) {
            Ok(packages) => packages,
            // The usual cause: the archive has moved on since the index was fetched.
            Err(first) => {
                eprintln!("{first}\nfetching the package index anew");
                self.update()?;
                self.download(names)?
            }
        };
        self.note(names, &packages)?;
        Ok(packages)
    }

    fn write_config(&self) -> Result<()> {
        let arch = self.arch.debian();
        let mut sources = format!(
            "deb [signed-by={KEYRING}] {} {SUITE} main\n",
            mirror(SUITE).unwrap_or_else(|| DEFAULT_MIRROR.into())
        );
        // Security updates cover fewer architectures than the release.
        let security = format!("{SUITE}-security");
        if let Some(mirror) = mirror(&security).filter(|_| matches!(arch, "amd64" | "arm64")) {
            sources.push_str(&format!("deb [signed-by={KEYRING}] {mirror} {security} main\n"));
        }
        let folder = self.folder.display();
        let mut config = format!(
            "APT::Architecture \"{arch}\";\nAPT::Architectures {{ \"{arch}\"; }};\nAPT::Sandbox::User \"root\";\n\
             Acquire::Languages \"none\";\nAcquire::Retries \"3\";\nDir::State \"{folder}/state\";\nDir::State::Lists \"{folder}/lists\";\n\
             Dir::State::status \"{folder}/status\";\nDir::Cache \"{folder}/cache\";\n\
             Dir::Etc::SourceList \"{folder}/sources.list\";\nDir::Etc::SourceParts \"/dev/null\";\nDir::Etc::Parts \"/dev/null\";\n"
        );
        config.push_str(&inherited_settings());
        for (name, content) in [("status", ""), ("sources.list", &sources), ("apt.conf", &config)] {
            let path = self.folder.join(name);
            if fs::read_to_string(&path).ok().as_deref() != Some(content) {
                fs::write(&path, content).on("writing", &path)?;
            }
        }
        Ok(())
    }

    fn apt(&self, program: &str) -> Tool {
        Tool::new(program).env("APT_CONFIG", &self.config).limit(NETWORK_LIMIT)
    }

    fn has_lists(&self) -> bool {
        let lists = fs::read_dir(self.folder.join("lists")).into_iter().flatten().flatten();
        lists.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().contains("_Packages"))
    }

    fn update(&self) -> Result<()> {
        let step = progress::announce(format!("fetch Debian's package index for {}", self.arch.debian()));
        self.apt("apt-get").args(["-qq", "update"]).run()?;
        step.done("");
        Ok(())
    }

    /// Looks the packages up in the index and downloads those that the cache lacks.
    fn download(&self, names: &[&str]) -> Result<Vec<Package>> {
        let mut packages = Vec::new();
        for name in names {
            let record = self.show(name)?;
            let record = match kernel_of_meta_package(name, &record) {
                Some(kernel) => self.show(&kernel)?,
                None => record,
            };
            packages.push(self.package(&record)?);
        }
        for package in &packages {
            if file_digest(&package.file).ok().as_deref() != Some(package.sha256.as_str()) {
                self.download_one(package)?;
            }
        }
        Ok(packages)
    }

    fn show(&self, name: &str) -> Result<String> {
        self.apt("apt-cache").args(["show", "--no-all-versions", name]).text()
    }

    fn package(&self, record: &str) -> Result<Package> {
        let [name, version, sha256] = ["Package", "Version", "SHA256"].map(|key| field(record, key));
        let (Some(name), Some(version), Some(sha256)) = (name, version, sha256) else {
            return Err(Error::Invalid(format!("apt knows no usable package in:\n{record}")));
        };
        let short = sha256.get(..16).unwrap_or(sha256);
        let file = self.folder.join("debs").join(format!("{name}_{short}.deb"));
        Ok(Package { name: name.into(), version: version.into(), sha256: sha256.into(), file })
    }

    /// Downloads into `partial/`. What a cut-off attempt left there, apt continues, if the server allows it; when the
    /// result's digest is wrong it starts over once.
    fn download_one(&self, package: &Package) -> Result<()> {
        let step = progress::announce(format!(
            "download {} {} ({})",
            package.name,
            package.version,
            self.arch.debian()
        ));
        let partial = self.folder.join("partial");
        let mut last = None;
        for _ in 0..2 {
            let wanted = format!("{}={}", package.name, package.version);
            let ended = self.apt("apt-get").folder(&partial).args(["-qq", "download", &wanted]).run();
            if let Some(file) = downloaded(&partial, &package.name)? {
                if file_digest(&file)? == package.sha256 {
                    fs::rename(&file, &package.file).on("renaming", &file)?;
                    step.done("");
                    return Ok(());
                }
                if ended.is_ok() {
                    eprintln!("{}: wrong digest, downloading again", file.display());
                }
                fs::remove_file(&file).on("removing", &file)?;
            }
            last = ended.err();
        }
        Err(last.unwrap_or_else(|| Error::Invalid(format!("{}: the digest is wrong twice", package.name))))
    }

    fn note_path(&self, names: &[&str]) -> PathBuf {
        let key = names.iter().fold(crate::cache::Key::new(), |key, name| key.with(name)).finish();
        self.folder.join(format!("set-{}.json", key.get(..16).unwrap_or_default()))
    }

    /// Notes which packages `names` stood for, so that the next build needs no index and gives the same bytes.
    fn note(&self, names: &[&str], packages: &[Package]) -> Result<()> {
        let list = packages.iter().map(|package| {
            let mut entry = Map::new();
            entry.insert("name".into(), package.name.clone().into());
            entry.insert("version".into(), package.version.clone().into());
            entry.insert("sha256".into(), package.sha256.clone().into());
            entry.insert("file".into(), package.file.display().to_string().into());
            Value::Object(entry)
        });
        let path = self.note_path(names);
        let new = path.with_extension("new");
        fs::write(&new, format!("{:#}\n", Value::Array(list.collect()))).on("writing", &new)?;
        fs::rename(&new, &path).on("renaming", &new)
    }

    /// The packages of the last time, when each of their files is there with the right digest.
    fn noted(&self, names: &[&str]) -> Option<Vec<Package>> {
        let text = fs::read_to_string(self.note_path(names)).ok()?;
        let list: Value = serde_json::from_str(&text).ok()?;
        let packages = list.as_array()?.iter().map(|entry| {
            let text = |key: &str| Some(entry.get(key)?.as_str()?.to_owned());
            let file = PathBuf::from(text("file")?);
            Some(Package { name: text("name")?, version: text("version")?, sha256: text("sha256")?, file })
        });
        let packages = packages.collect::<Option<Vec<_>>>()?;
        let good =
            |package: &Package| file_digest(&package.file).is_ok_and(|digest| digest == package.sha256);
        (packages.len() == names.len() && packages.iter().all(good)).then_some(packages)
    }
}

impl Package {
    /// Unpacks the package's files into `folder`, after a check of its digest.
    pub fn unpack(&self, folder: &Path) -> Result<()> {
        if file_digest(&self.file)? != self.sha256 {
            return Err(Error::Invalid(format!(
                "{} is damaged; remove it and build again",
                self.file.display()
            )));
        }
        Tool::new("dpkg-deb").arg("-x").arg(&self.file).arg(folder).run()
    }
}

/// The file that `apt-get download` wrote for `name`: `NAME_VERSION_ARCH.deb`, or a part of it.
fn downloaded(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    let start = format!("{name}_");
    let files = crate::tree::walk(folder)?;
    Ok(files
        .into_iter()
        .find(|(file, _)| file.starts_with(&start) && file.ends_with(".deb"))
        .map(|(_, path)| path))
}

/// The value of `Key: value` in a package record.
fn field<'a>(record: &'a str, key: &str) -> Option<&'a str> {
    record.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": ")).map(str::trim)
}

/// The kernel package that a meta package such as `linux-image-rpi` depends on.
fn kernel_of_meta_package(name: &str, record: &str) -> Option<String> {
    if !name.starts_with("linux-image-") {
        return None;
    }
    let depends = field(record, "Depends")?;
    let names = depends.split(',').filter_map(|part| part.split_whitespace().next());
    names.into_iter().find(|part| part.starts_with("linux-image-")).map(str::to_owned)
}

/// The mirror that the system's apt uses for `suite`.
fn mirror(suite: &str) -> Option<String> {
    let text =
        Tool::new("apt-get").args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)"]).text().ok()?;
    text.lines().find_map(|line| {
        let (mirror, release) = line.split_once(' ')?;
        (release == suite).then(|| mirror.to_owned())
    })
}

/// The system's proxy and date settings for apt, which a private configuration would lose.
fn inherited_settings() -> String {
    let dump = Tool::new("apt-config").arg("dump").text().unwrap_or_default();
    let kept = |line: &&str| {
        let line = line.to_ascii_lowercase();
        line.starts_with("acquire::")
            && (line.contains("::proxy") || line.starts_with("acquire::check-"))
            && !line.contains("\"\"")
    };
    dump.lines().filter(kept).fold(String::new(), |text, line| text + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: &str = "Package: linux-image-rpi\nVersion: 6.1.176-1\nDepends: foo, linux-image-6.1.0-50-rpi (= 6.1.176-1)\nSHA256: 00\n";

    #[test]
    fn package_records() {
        assert_eq!(field(META, "Version"), Some("6.1.176-1"));
        assert_eq!(field(META, "Vers"), None);
        assert_eq!(
            kernel_of_meta_package("linux-image-rpi", META).as_deref(),
            Some("linux-image-6.1.0-50-rpi")
        );
        assert_eq!(kernel_of_meta_package("busybox-static", META), None);
        assert_eq!(kernel_of_meta_package("linux-image-6.1.0-50-rpi", "Depends: kmod\n"), None);
    }
}
