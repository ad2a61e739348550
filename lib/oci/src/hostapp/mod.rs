//! Installing a host app: from an OCI image in a registry or an archive straight into a slot's folder, with no
//! copy in between (spec os §1.6, §15.2; complaint balena-os/meta-balena#2507).
//!
//! The image has one gzip layer. A full image holds `boot/`, `rootfs.squashfs` and `rootfs.verity`; what else is
//! in it is for other engines and is skipped. A delta holds `delta.json` and the pieces that turn the base's
//! files into the same files.
//!
//! Nothing in the folder counts before [`install`] has returned: each file is then on the disk, was read back from
//! there, and has the digest that it came with.

mod delta;
mod files;
mod resume;
mod signature;
mod source;
mod whole;

pub use files::Written;
pub use signature::{PublicKey, Signer, read_keys};
pub use source::Source;

use crate::documents::{Image, text};
use crate::layer::{Sink, pass, sha256};
use crate::{Blob, Digest, Error, ImageConfig, Platform, Result};
use minke_sys::file;
use std::ops::ControlFlow;
use std::path::Path;

/// Label: the host app that a delta starts from, by id.
pub const LABEL_BASE: &str = "io.minke.delta.base";
/// Label: the full host app that a delta makes, by id.
pub const LABEL_TARGET: &str = "io.minke.delta.target";
/// Label: the bytes that the files take in a slot.
pub const LABEL_SIZE: &str = "io.minke.size";
/// Label: the files of the boot partition, a line each: MD5 sum, bytes, path.
pub const LABEL_BOOT_FILES: &str = "io.minke.boot.files";
/// Label: the version.
pub const LABEL_VERSION: &str = "org.opencontainers.image.version";
/// Prefix of labels that repeat `/etc/os-release`.
pub const LABEL_OS_RELEASE: &str = "io.balena.os-release.";
/// Label that every host app has, with the value `hostapp`.
pub const LABEL_CLASS: &str = "io.balena.image.class";
/// Annotation of the manifest: a minisign signature of the configuration's bytes.
pub const ANNOTATION_SIGNATURE: &str = "io.minke.signature";

/// What an image's documents say, before the first byte of its layer is asked for.
#[derive(Debug, Clone)]
pub struct Release {
    /// The id that the host app will have in its slot: hex digits.
    pub id: String,
    /// The id of the host app that it starts from, when this is a delta.
    pub base: Option<String>,
    /// The configuration's labels.
    pub labels: Vec<(String, String)>,
    /// Bytes of the layer, as they travel.
    pub download: Option<u64>,
    /// Who signed it, verified; `None` only when there are no keys.
    pub signer: Option<Signer>,
}

impl Release {
    /// A label's value, or the empty text.
    pub fn label(&self, name: &str) -> &str {
        label(&self.labels, name).unwrap_or_default()
    }

    /// A value of the new system's os-release (`VERSION`, `SLUG`), or the empty text.
    #[inline(never)]
    pub fn os_release(&self, key: &str) -> &str {
        self.label(&[LABEL_OS_RELEASE, key].concat())
    }

    /// The version.
    pub fn version(&self) -> &str {
        match self.os_release("VERSION") {
            "" => self.label(LABEL_VERSION),
            version => version,
        }
    }

    /// The bytes that its files will take, if the image tells.
    pub fn size(&self) -> Option<u64> {
        minke_wire::text::number(self.label(LABEL_SIZE))
    }
}

/// How far an installation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Bytes of the layer that have come, of how many (0: not known).
    Fetch(u64, u64),
    /// Bytes that were read back, of how many.
    ReadBack(u64, u64),
}

/// Who wants the installation.
pub trait Watch {
    /// Asked once, before the layer is asked for and before anything is written. An error is the reason why this
    /// release is not wanted.
    fn accept(&mut self, release: &Release) -> std::result::Result<(), String>;

    /// Told every 64 KiB or so; `Break` ends the installation.
    fn progress(&mut self, step: Step) -> ControlFlow<()>;
}

/// What to install.
#[derive(Debug)]
pub struct Task<'a> {
    /// The folder of the running host app, `hostapps/ID`, for deltas.
    pub base: Option<&'a Path>,
    /// The folder to be made, `hostapps/.new`. Beside it stands `.new.resume` as long as the work can be taken up.
    pub target: &'a Path,
    /// The keys that are installed. With any, only releases that one of them has signed are taken.
    pub keys: &'a [PublicKey],
    /// The machine.
    pub platform: &'a Platform,
}

/// A host app that is whole in its folder.
#[derive(Debug)]
pub struct Installed {
    /// What it is.
    pub release: Release,
    /// Its files, as they were read back.
    pub files: Vec<Written>,
    /// The place in the layer at which an interrupted installation was taken up; 0 without one.
    pub resumed: u64,
}

/// Installs a host app into `task.target`; its caller renames that.
///
/// What was written when it is interrupted (by the network, [`Watch::progress`] or a power cut) stays there, and the next
/// call for the same layer goes on from there: with a full image it asks for the rest of the layer alone, with a delta
/// it keeps the files that are right. What else is in the folder is removed. After a damaged layer nothing is kept.
pub fn install(source: Source<'_>, task: &Task<'_>, watch: &mut dyn Watch) -> Result<Installed> {
    let (image, mut content) = source::open(source, task.platform)?;
    let config = ImageConfig::parse(&image.config)?;
    let release = describe(&image, &config, task)?;
    let [layer] = image.layers.as_slice() else {
        return Err(foreign(&format_args!("it has {} layers, not one", image.layers.len())));
    };
    let diff_ids = config.diff_ids()?;
    let [diff_id] = diff_ids.as_slice() else {
        return Err(Error::bad("image config", &"it and the list of layers do not match"));
    };
    let base = release.base.as_deref().map(|base| base_folder(task.base, base)).transpose()?;
    watch.accept(&release).map_err(|reason| Error::refused(&reason))?;

    let resume = resume::path(task.target)?;
    let mut saved = if base.is_none() { resume::read(&resume, &layer.digest, task.target) } else { None };
    if saved.is_none() {
        file::remove_durable(&resume)?;
        // A delta looks at each file that is there already.
        if base.is_none() {
            file::remove_all(task.target)?;
        }
    }
    file::make_folder(task.target, 0o755)?;
    let resumed = saved.as_ref().map_or(0, |saved| saved.done);
    let size = content.begin(&layer.digest, resumed, layer.size)?;
    let mut progress = |bytes| watch.progress(Step::Fetch(bytes, size.unwrap_or(0)));
    // The blob's digest would tell of a bad download what the tar's tells, at the price of one more pass: the tar's is in
    // the configuration, which is signed, and covers all that is unpacked. Each file's is taken as it is written, for
    // reading it back.
    let (compression, digest) = (layer.compression, None);
    let blob = Blob { source: &mut |buffer| content.read(buffer), compression, digest, size };
    let mut writer: Box<dyn Writer> = match &base {
        None => Box::new(whole::Whole::new(task.target, &resume, &layer.digest, saved.as_deref_mut())?),
        Some(base) => Box::new(delta::Delta::new(task.target, base, &release)?),
    };
    let point = saved.as_deref_mut().map(resume::Saved::point);
    let done = pass(blob, diff_id, writer.sink(), &mut progress, point);
    let done = done.and_then(|()| writer.finish());
    // What is only cut off is of use another time; what cannot be read back is not.
    let done = match done {
        Err(error @ (Error::Cancelled | Error::Registry(_) | Error::Dates(_) | Error::System(_))) => {
            return Err(error);
        }
        Err(error) => Err(error),
        Ok(files) => match files::read_back(task.target, &files, watch) {
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) => Err(error),
            Ok(()) => Ok(Installed { release, files, resumed }),
        },
    };
    file::remove_durable(&resume)?;
    if done.is_err() {
        file::remove_all(task.target)?;
    }
    done
}

/// What makes the files of a layer's tar.
trait Writer {
    /// Takes the tar.
    fn sink(&mut self) -> &mut dyn Sink;
    /// The tar has ended, and has its digest.
    fn finish(&mut self) -> Result<Vec<Written>>;
}

#[inline(never)]
fn label<'a>(labels: &'a [(String, String)], name: &str) -> Option<&'a str> {
    labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Understands an image's documents and verifies what can be verified before the layer comes.
#[inline(never)]
fn describe(image: &Image, config: &ImageConfig, task: &Task<'_>) -> Result<Release> {
    let labels = config.labels();
    let (base, target) = (label(&labels, LABEL_BASE).map(str::to_owned), label(&labels, LABEL_TARGET));
    if base.is_none() && label(&labels, LABEL_CLASS) != Some("hostapp") {
        return Err(foreign(&format_args!("it has no label {LABEL_CLASS}=hostapp")));
    }
    let made_for = Platform {
        os: config.os().into(),
        architecture: config.architecture().into(),
        variant: config.variant().into(),
    };
    if made_for.fitness(task.platform).is_none() {
        let (wanted, available) = (task.platform.to_string().into(), made_for.to_string().into());
        return Err(Error::Platform { wanted, available });
    }
    let signature = text(&image.annotations, ANNOTATION_SIGNATURE);
    let signer = signature::check(task.keys, signature, &image.config)?;
    let id = match (&base, target) {
        (None, _) => sha256(&image.config).hex().to_owned(),
        (Some(_), Some(target)) => target.to_owned(),
        (Some(_), None) => return Err(Error::bad("image config", &"a delta without its target's id")),
    };
    // It becomes the name of a folder.
    if Digest::of_hex(&id).is_none() {
        return Err(Error::bad("image config", &"the target's id is no sha256 digest"));
    }
    let download = image.layers.first().and_then(|layer| layer.size);
    Ok(Release { id, base, labels, download, signer })
}

/// The running host app's folder, when it is the one that a delta starts from.
fn base_folder<'a>(running: Option<&'a Path>, base: &str) -> Result<&'a Path> {
    let running = running.ok_or_else(|| Error::refused(&"a delta needs a running host app to start from"))?;
    let name = running.file_name().unwrap_or_default().to_string_lossy();
    if name == base {
        return Ok(running);
    }
    Err(Error::refused(&format_args!(
        "this delta starts from host app {:.12}, and {name:.12} is running; use the full image",
        base
    )))
}

/// The error that an image is no host app of this system.
fn foreign(reason: &dyn std::fmt::Display) -> Error {
    Error::refused(&format_args!(
        "this image is no host app of this system ({reason}); its artefacts are made by image/build --hostapp"
    ))
}
