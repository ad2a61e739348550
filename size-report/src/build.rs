//! Builds the binary with and without symbols and weighs it.

use crate::{Error, Item, symbols};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The binary of `target`, as it ships and compressed, and what each crate and applet is of it.
pub(crate) fn measure(target: &str, features: bool) -> Result<Vec<Item>, Error> {
    let shipped = release(target, &[])?;
    let bytes = length(&shipped)?;
    let mut items =
        vec![Item::new(target, "binary", bytes), Item::new(target, "binary.xz", compressed(&shipped)?)];
    let with_symbols = release(target, &[("MINKE_KEEP_SYMBOLS", "1".to_owned())])?;
    items.extend(symbols::per_crate(target, &with_symbols)?);
    if features {
        items.extend(per_feature(target, bytes)?);
    }
    Ok(items)
}

/// The root image and the whole disk image, where they have been built.
pub(crate) fn images(target: &str) -> Result<Vec<Item>, Error> {
    let image = PathBuf::from(format!("out/minke-{target}-dev.img"));
    let parts = image.with_extension("img.boot");
    let mut items = Vec::new();
    let whole = ("image.xz", image);
    for (name, path) in
        [("rootfs", parts.join("rootfs.squashfs")), ("initramfs", parts.join("initramfs")), whole]
    {
        if !path.exists() {
            continue;
        }
        // The disk image is mostly holes: what travels is its compressed form.
        let bytes = if name.ends_with(".xz") { compressed(&path)? } else { length(&path)? };
        items.push(Item::new(target, name, bytes));
    }
    Ok(items)
}

/// What the binary loses when one applet is left out.
fn per_feature(target: &str, whole: u64) -> Result<Vec<Item>, Error> {
    let applets = applets()?;
    let mut items = Vec::new();
    for left_out in &applets {
        let rest: Vec<&str> = applets.iter().filter(|name| *name != left_out).map(String::as_str).collect();
        let arguments = format!("--no-default-features --features {}", rest.join(","));
        let bytes = length(&release(target, &[("MINKE_CARGO_ARGS", arguments)])?)?;
        items.push(Item::new(target, format!("feature:{left_out}"), whole.saturating_sub(bytes)));
    }
    // The last build must be the whole binary again: others take it from the same place.
    release(target, &[])?;
    Ok(items)
}

fn applets() -> Result<Vec<String>, Error> {
    let folder = Path::new("applets");
    let entries = std::fs::read_dir(folder).map_err(|error| Error::File(folder.to_owned(), error))?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// Runs `release/build` and returns the path that it prints.
fn release(target: &str, settings: &[(&str, String)]) -> Result<PathBuf, Error> {
    let failed = |text: String| Error::Command(format!("release/build {target}: {text}"));
    let mut command = Command::new("release/build");
    command.arg(target).stderr(Stdio::inherit());
    for (name, value) in settings {
        command.env(name, value);
    }
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

fn length(path: &Path) -> Result<u64, Error> {
    std::fs::metadata(path).map(|data| data.len()).map_err(|error| Error::File(path.to_owned(), error))
}

/// Bytes after `xz -6`, as in an update's transfer.
fn compressed(path: &Path) -> Result<u64, Error> {
    let failed = |text: String| Error::Command(format!("xz {}: {text}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| Error::File(path.to_owned(), error))?;
    let mut child = Command::new("xz")
        .args(["-6", "-c", "-T1"])
        .stdin(file)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("{error}; install xz-utils")))?;
    let mut bytes = 0;
    if let Some(mut output) = child.stdout.take() {
        bytes =
            std::io::copy(&mut output, &mut std::io::sink()).map_err(|error| failed(error.to_string()))?;
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(bytes),
        Ok(status) => Err(failed(status.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}
