//! The command line of `fatrw`.

use minke_applet::{Args, EXIT_USAGE, errln, report};
use minke_config::fatrw::{self, LIMIT, WhenFull};
use minke_sys::{Errno, Error, Result, stdio};
use std::path::Path;

/// Runs `fatrw`.
pub fn run(args: &Args) -> u8 {
    let mode = args.value("mode").map(|text| minke_wire::text::in_base(text, 8));
    let mode = match mode {
        Some(Some(bits)) if bits <= 0o7777 => Some(bits),
        None => None,
        _ => {
            errln!("fatrw: a mode is octal, for instance 600");
            return EXIT_USAGE;
        }
    };
    let when_full = if args.has("unsafe") { WhenFull::Unprotected } else { WhenFull::Fail };
    let path = |index| args.operands().get(index).map(Path::new);
    report(match (args.operand(0), path(1), path(2), args.operands().len()) {
        (Some("read"), Some(file), None, 2) => read(file),
        (Some("write"), Some(file), None, 2) => write(file, mode, when_full),
        (Some("copy"), Some(source), Some(target), 3) => {
            fatrw::copy(source, target, mode, when_full).map(|()| 0)
        }
        _ => {
            errln!("fatrw: expected read FILE, write FILE or copy FILE TARGET; see 'fatrw --help'");
            return EXIT_USAGE;
        }
    })
}

fn read(path: &Path) -> Result<u8> {
    let content = fatrw::read(path)?.ok_or_else(|| Error::new("read", path.display(), Errno::NOENT))?;
    stdio::output(&content)?;
    Ok(0)
}

fn write(path: &Path, mode: Option<u32>, when_full: WhenFull) -> Result<u8> {
    let content = stdio::input(LIMIT)?;
    fatrw::write(path, &content, mode, when_full).map(|()| 0)
}
