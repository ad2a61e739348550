//! `image/build`, `image/boot` and `image/shell`.

mod boot;
mod delta;
mod options;
mod shell;

use crate::build;
use crate::cache::Cache;
use crate::error::{Error, Result};
use options::Build;
use std::ffi::OsString;

/// Exit status for a command line that cannot be understood.
const EXIT_USAGE: u8 = 2;

const HELP: &str = "minke-image: builds bootable images and runs them in QEMU

Usage: image/build ARCH [--dev] [--config FILE] [--preload IMAGE.tar --app APPS.json] [--layout small|reference]
                        [--boot-chain usual|balena] [-o OUT]
       image/build --hostapp ARCH [--dev] [--version V] [--sign KEY|--signature FILE] [-o OUT]
       image/build --delta FROM TO [--sign KEY|--signature FILE] [-o OUT]
       image/boot [ARCH] [--once] [--image FILE]
       image/shell [ARCH] [--config FILE] [--image FILE] [--keep] [--firmware] -- COMMAND

ARCH is x86_64 (the default of boot and shell), aarch64, armv7 or armv6.

image/build makes a disk image.
  --dev              Development image: console, root shell on it, developmentMode, and the demo as preloaded app
  --config FILE      The device's config.json
  --preload FILE     Container image archive for the data partition, together with
  --app FILE         the apps.json that names it
  --layout NAME      Partition sizes: small (default), or reference as the specification has them
  --boot-chain NAME  Who selects the slot: usual, which is GRUB or U-Boot (default), or balena, a kernel that reads
                     bootenv and starts the slot's by kexec (x86_64 and aarch64; QEMU starts that kernel)
  -o, --output FILE  The image (default out/minke-ARCH[-dev].img); kernel and initramfs go to FILE.boot
  --version V        The operating system's version in os-release (default 8.0.2)
  --release-key FILE A minisign public key, named *.pub: the device takes only releases that it, or another one
                     that is given, has signed
  --minke FILE       Use this binary instead of running release/build
  --refresh          Fetch the newest packages instead of those of the last time

image/build --hostapp makes a release artefact, an OCI image that hostapp-update installs (default
out/minke-ARCH[-dev]-VERSION.hostapp.tar); skopeo copies it to any registry. --delta makes an image that leads from
one artefact to another, for devices that have the first.
  --sign KEY         Sign with this minisign secret key, which has no password (minisign -G -W)
  --signature FILE   Attach a minisign signature, made elsewhere, of the image's configuration; that is what
                     tar -xOf OUT blobs/sha256/ID prints, ID being what image/build printed

image/boot builds a development image with the demo app, boots it through firmware and boot loader, and shows it.
  --once             Power off after the container's first line
  --image FILE       Boot this image instead of building one
  --time SECONDS     How long the container's first line may take (default 180; for armv6 360)

image/shell runs COMMAND in the root shell of a development image, prints its output and exits with its status.
  --config FILE      config.json for this run, as it is; the image itself is not changed
  --image FILE       Use this image instead of building one
  --keep             Keep disk and logs, and say where
  --firmware         Start through firmware and boot loader instead of directly; then config.json must ask for
                     developmentMode, else there is no shell
  --time SECONDS     How long boot and command may take, each (default 180; for armv6 360)

Examples:
  image/build aarch64 -o device.img
  image/build --hostapp aarch64 --version 8.0.3 --sign release.key -o 8.0.3.tar
  image/build --delta 8.0.2.tar 8.0.3.tar --sign release.key -o 8.0.2-8.0.3.tar
  skopeo copy oci-archive:8.0.3.tar docker://registry.example/device/os:8.0.3
  image/boot --once
  image/shell armv7 -- 'balena ps; systemctl status balena'
";

/// Runs one command line (without the program's name) and returns the exit status.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    match dispatch(arguments) {
        Ok(status) => status,
        Err(Error::Usage(text)) => {
            eprintln!("image: {text}; see --help");
            EXIT_USAGE
        }
        Err(error) => {
            eprintln!("image: {error}");
            1
        }
    }
}

fn dispatch(arguments: impl IntoIterator<Item = OsString>) -> Result<u8> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    if arguments.is_empty()
        || arguments.iter().take_while(|word| *word != "--").any(|word| word == "--help" || word == "-h")
    {
        print!("{HELP}");
        return Ok(0);
    }
    let command = arguments.remove(0);
    let command = command.to_string_lossy();
    let cache = Cache::open()?;
    match command.as_ref() {
        "build" => {
            match options::build(arguments)? {
                Build::Disk(options) => println!("{}", build::build(&cache, &options)?.image.display()),
                Build::HostApp(options, signing) => {
                    println!("{}", build::artefact(&cache, &options, &signing)?);
                }
                Build::Delta { from, to, output, signing } => {
                    println!("{}", delta::run(&from, &to, output, &signing)?);
                }
            }
            Ok(0)
        }
        "boot" => boot::run(&cache, &options::boot(arguments)?),
        "shell" => shell::run(&cache, &options::shell(arguments)?),
        _ => Err(Error::Usage(format!("no command '{command}'"))),
    }
}
