//! Command lines, turned into what the commands do.

use crate::arch::Arch;
use crate::balena::BootChain;
use crate::build::{LayoutChoice, Options, Preload, default_artefact, default_output};
use crate::error::{Error, Result};
use crate::hostapp::Signing;
use crate::release::{OS_VERSION, version};
use lexopt::prelude::*;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// `image/build`.
#[derive(Debug)]
pub enum Build {
    /// A disk image.
    Disk(Options),
    /// A release artefact.
    HostApp(Options, Signing),
    /// The delta between two of them.
    Delta { from: PathBuf, to: PathBuf, output: Option<PathBuf>, signing: Signing },
}

/// `image/boot`.
#[derive(Debug)]
pub struct Boot {
    pub arch: Arch,
    pub once: bool,
    pub image: Option<PathBuf>,
    pub limit: Duration,
}

/// `image/shell`.
#[derive(Debug)]
pub struct Shell {
    pub arch: Arch,
    pub config: Option<PathBuf>,
    pub image: Option<PathBuf>,
    pub keep: bool,
    pub firmware: bool,
    pub limit: Duration,
    pub command: String,
}

fn usage(error: &lexopt::Error) -> Error {
    Error::Usage(error.to_string())
}

/// The image that `boot` and `shell` build when none is given.
pub fn demo_image(arch: Arch) -> Options {
    Options {
        arch,
        development: true,
        version: OS_VERSION.to_owned(),
        config: None,
        preload: Preload::Demo,
        layout: LayoutChoice::Small,
        boot_chain: BootChain::Usual,
        release_keys: Vec::new(),
        output: default_output(arch, true),
        minke: std::env::var_os("MINKE_BINARY").map(PathBuf::from),
        refresh: false,
    }
}

/// Reads `image/build`'s command line.
pub fn build(arguments: Vec<OsString>) -> Result<Build> {
    let (mut output, mut preload, mut apps, mut signing) = (None, None, None, Signing::Unsigned);
    let (mut hostapp, mut delta, mut of_disk, mut of_build) = (false, false, None, None);
    let mut values = Vec::new();
    let mut options = demo_image(Arch::X86_64);
    options.development = false;
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(|error| usage(&error))? {
        match &argument {
            Long(name @ ("config" | "preload" | "app" | "layout")) => of_disk = Some(format!("--{name}")),
            Long(name @ ("dev" | "minke" | "refresh" | "version" | "boot-chain" | "release-key")) => {
                of_build = Some(format!("--{name}"));
            }
            _ => {}
        }
        match argument {
            Long("hostapp") => hostapp = true,
            Long("delta") => delta = true,
            Long("sign") => signing = Signing::Key(file(&mut parser)?),
            Long("signature") => signing = Signing::Made(file(&mut parser)?),
            Long("version") => options.version = version(&file(&mut parser)?.to_string_lossy())?,
            Long("boot-chain") => {
                options.boot_chain = BootChain::parse(&file(&mut parser)?.to_string_lossy())?;
            }
            Long("release-key") => options.release_keys.push(file(&mut parser)?),
            Long("dev") => options.development = true,
            Long("config") => options.config = Some(file(&mut parser)?),
            Long("preload") => preload = Some(file(&mut parser)?),
            Long("app") => apps = Some(file(&mut parser)?),
            Long("output") | Short('o') => output = Some(file(&mut parser)?),
            Long("minke") => options.minke = Some(file(&mut parser)?),
            Long("refresh") => options.refresh = true,
            Long("layout") => options.layout = layout(&file(&mut parser)?.to_string_lossy())?,
            Value(value) => values.push(value),
            other => return Err(usage(&other.unexpected())),
        }
    }
    let misplaced = |option: Option<String>, what: &str| match option {
        Some(option) => Err(Error::Usage(format!("{option} does not go with {what}"))),
        None => Ok(()),
    };
    if delta {
        misplaced(of_disk.or(of_build).or(hostapp.then(|| "--hostapp".into())), "--delta")?;
        let [from, to] = <[OsString; 2]>::try_from(values)
            .map_err(|_| Error::Usage("--delta takes two release artefacts, FROM and TO".into()))?;
        return Ok(Build::Delta { from: from.into(), to: to.into(), output, signing });
    }
    let [arch] = <[OsString; 1]>::try_from(values).map_err(|_| Error::Usage("which architecture?".into()))?;
    options.arch = Arch::parse(&arch.to_string_lossy())?;
    if hostapp {
        misplaced(of_disk, "--hostapp")?;
        options.output =
            output.unwrap_or_else(|| default_artefact(options.arch, options.development, &options.version));
        return Ok(Build::HostApp(options, signing));
    }
    let signed = (signing != Signing::Unsigned).then(|| "a signature".to_owned());
    misplaced(signed, "a disk image, but with --hostapp or --delta")?;
    options.preload = match (preload, apps) {
        (Some(image), Some(apps)) => Preload::Files { image, apps },
        (None, None) if options.development => Preload::Demo,
        (None, None) => Preload::Nothing,
        _ => return Err(Error::Usage("--preload and --app go together".into())),
    };
    options.output = output.unwrap_or_else(|| default_output(options.arch, options.development));
    Ok(Build::Disk(options))
}

fn layout(name: &str) -> Result<LayoutChoice> {
    match name {
        "small" => Ok(LayoutChoice::Small),
        "reference" => Ok(LayoutChoice::Reference),
        name => Err(Error::Usage(format!("no layout '{name}'; there are small and reference"))),
    }
}

/// Reads `image/boot`'s command line.
pub fn boot(arguments: Vec<OsString>) -> Result<Boot> {
    let (mut arch, mut once, mut image, mut limit) = (None, false, None, None);
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(|error| usage(&error))? {
        match argument {
            Long("once") => once = true,
            Long("image") => image = Some(file(&mut parser)?),
            Long("time") => limit = Some(seconds(&mut parser)?),
            Value(name) if arch.is_none() => arch = Some(Arch::parse(&name.to_string_lossy())?),
            other => return Err(usage(&other.unexpected())),
        }
    }
    let arch = arch.unwrap_or(Arch::X86_64);
    Ok(Boot { arch, once, image, limit: limit.unwrap_or_else(|| default_limit(arch)) })
}

/// Reads `image/shell`'s command line: what follows `--` is the command, its words joined by spaces.
pub fn shell(mut arguments: Vec<OsString>) -> Result<Shell> {
    let command = match arguments.iter().position(|word| word == "--") {
        Some(at) => arguments.split_off(at).into_iter().skip(1).collect::<Vec<_>>().join(" ".as_ref()),
        None => OsString::new(),
    };
    let command = command.into_string().map_err(|_| Error::Usage("the command is not UTF-8".into()))?;
    if command.is_empty() {
        return Err(Error::Usage("which command? It follows '--'".into()));
    }
    let (mut arch, mut config, mut image, mut limit) = (None, None, None, None);
    let (mut keep, mut firmware) = (false, false);
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(|error| usage(&error))? {
        match argument {
            Long("config") => config = Some(file(&mut parser)?),
            Long("image") => image = Some(file(&mut parser)?),
            Long("time") => limit = Some(seconds(&mut parser)?),
            Long("keep") => keep = true,
            Long("firmware") => firmware = true,
            Value(name) if arch.is_none() => arch = Some(Arch::parse(&name.to_string_lossy())?),
            other => return Err(usage(&other.unexpected())),
        }
    }
    let arch = arch.unwrap_or(Arch::X86_64);
    let limit = limit.unwrap_or_else(|| default_limit(arch));
    Ok(Shell { arch, config, image, keep, firmware, limit, command })
}

fn file(parser: &mut lexopt::Parser) -> Result<PathBuf> {
    parser.value().map(PathBuf::from).map_err(|error| usage(&error))
}

fn seconds(parser: &mut lexopt::Parser) -> Result<Duration> {
    let text = parser.value().map_err(|error| usage(&error))?;
    let seconds = text.to_str().and_then(|text| text.parse().ok()).filter(|seconds| *seconds > 0);
    seconds.map(Duration::from_secs).ok_or_else(|| Error::Usage("--time takes a number of seconds".into()))
}

/// Emulation is slow, and the machine may be busy.
fn default_limit(arch: Arch) -> Duration {
    Duration::from_secs(if arch == Arch::Armv6 { 360 } else { 180 })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn command_lines() {
        let disk = |text: &str| match build(words(text)) {
            Ok(Build::Disk(options)) => options,
            other => panic!("{other:?}"),
        };
        let options = disk("armv6 --dev -o x.img --layout reference");
        assert_eq!((options.arch, options.development, options.preload), (Arch::Armv6, true, Preload::Demo));
        assert_eq!((options.output, options.layout), (PathBuf::from("x.img"), LayoutChoice::Reference));
        assert_eq!(disk("armv6").preload, Preload::Nothing);
        for wrong in [
            "mips",
            "--dev",
            "armv6 --preload x",
            "armv6 armv7",
            "armv6 --layout x",
            "armv6 --what",
            "armv6 --sign key",
            "armv6 --version x",
            "armv6 --hostapp --config x",
            "--delta a",
            "--delta a b --dev",
            "--delta --hostapp a b",
        ] {
            assert!(matches!(build(words(wrong)), Err(Error::Usage(_))), "{wrong}");
        }
        let Build::HostApp(options, signing) =
            build(words("--hostapp armv7 --version 9.0.1 --sign k")).unwrap()
        else {
            panic!("no host application")
        };
        assert_eq!((options.version.as_str(), signing), ("9.0.1", Signing::Key("k".into())));
        assert!(options.output.ends_with("minke-armv7-9.0.1.hostapp.tar"));
        let Build::Delta { from, to, .. } = build(words("--delta a b -o c")).unwrap() else {
            panic!("no delta")
        };
        assert_eq!((from, to), ("a".into(), "b".into()));
        let options = shell(words("aarch64 --keep -- echo --config x")).unwrap();
        assert_eq!(
            (options.arch, options.keep, options.command.as_str()),
            (Arch::Aarch64, true, "echo --config x")
        );
        assert!(shell(words("aarch64")).is_err());
        assert!(boot(words("--once")).unwrap().once);
        assert!(boot(words("--time soon")).is_err());
    }
}
