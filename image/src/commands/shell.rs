//! `image/shell`: one command in the guest, its output and its status here.

use super::options::{Shell, demo_image};
use crate::arch::Arch;
use crate::build::{self, boot_folder, default_output};
use crate::cache::Cache;
use crate::error::{Context, Error, Result};
use crate::guest::{Guest, Settings};
use crate::machine::{KERNEL, Start};
use crate::overlay::image_config;
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// How long the guest may take to power off when its disk is kept.
const OFF_LIMIT: Duration = Duration::from_secs(60);

/// Boots, runs the command, prints, ends the guest.
pub fn run(cache: &Cache, options: &Shell) -> Result<u8> {
    let image = match &options.image {
        Some(image) => image.clone(),
        None => build::build(cache, &demo_image(options.arch))?.image,
    };
    refuse_production(&image)?;
    let mut settings = settings(cache, options.arch, &image, options.firmware);
    if let Some(path) = &options.config {
        settings.config = Some(std::fs::read(path).on("reading", path)?);
    }
    settings.no_reboot = true;
    if options.keep {
        let folder = std::env::temp_dir().join(format!("minke-shell-{}", std::process::id()));
        eprintln!("disk and logs stay in {}", folder.display());
        settings.keep = Some(folder);
    }
    let mut guest = Guest::start(settings)?;
    let output = guest.run(&options.command, options.limit)?;
    let _ = std::io::stdout().write_all(&output.bytes);
    if options.keep {
        // What is kept should be what the device wrote, so it is shut down in order.
        guest.send("poweroff\n")?;
        let _ = guest.wait_end(OFF_LIMIT);
    }
    guest.kill();
    Ok(output.status)
}

/// A production image has no shell on its console; its configuration says what it is.
fn refuse_production(image: &Path) -> Result<()> {
    let config = image_config(image)?;
    let Ok(config) = serde_json::from_slice::<Value>(&config) else { return Ok(()) };
    if config.get("developmentMode").is_some_and(|value| value == true || value == "true") {
        return Ok(());
    }
    Err(Error::Invalid(format!("{} is a production image: it has no shell on its console", image.display())))
}

/// Settings for an image, with the boot files of another build of the architecture when it has none of its own.
pub fn settings(cache: &Cache, arch: Arch, image: &Path, firmware: bool) -> Settings {
    let mut settings = Settings::new(arch, image);
    let own = settings.boot.join(KERNEL).exists();
    if !own {
        settings.boot = boot_folder(&default_output(arch, true));
    }
    if firmware || !own {
        settings.start = Start::Firmware;
    }
    settings.kvm = crate::kvm::works(cache, arch, &settings.boot.join(KERNEL));
    settings
}
