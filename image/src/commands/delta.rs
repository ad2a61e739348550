//! `image/build --delta`: makes a delta and says what it saves.

use crate::build::{project, write_whole};
use crate::delta;
use crate::error::Result;
use crate::hostapp::Signing;
use crate::oci::Archive;
use crate::progress;
use minke_oci::hostapp::LABEL_VERSION;
use std::path::{Path, PathBuf};

/// Makes the delta image and returns its id; the table goes to standard error.
pub fn run(from: &Path, to: &Path, output: Option<PathBuf>, signing: &Signing) -> Result<String> {
    let step = progress::step("delta");
    let (base, target) = (Archive::read(from)?, Archive::read(to)?);
    let made = delta::make(&base, &target)?;
    let archive = made.archive(signing)?;
    let output = output.unwrap_or_else(|| default_output(&base, &target));
    write_whole(&output, &archive)?;
    let full = target.bytes.0;
    eprintln!("{:<28} {:>10} {:>10}  how", "file", "bytes", "piece");
    for row in &made.rows {
        eprintln!("{:<28} {:>10} {:>10}  {}", row.path, row.size, row.piece, row.kind);
    }
    let permille = archive.len().saturating_mul(1000).checked_div(full).unwrap_or_default();
    let share = format!("{}.{} %", permille / 10, permille % 10);
    step.done(&format!("{} ({} bytes, {share} of {full})", output.display(), archive.len()));
    Ok(made.image.id)
}

fn default_output(base: &Archive, target: &Archive) -> PathBuf {
    let version = |archive: &Archive| archive.labels.get(LABEL_VERSION).cloned().unwrap_or_default();
    let name = format!("minke-{}-{}-{}.delta.tar", target.platform.0, version(base), version(target));
    project().join("out").join(name)
}
