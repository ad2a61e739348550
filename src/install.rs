//! `minke --install DIR`: a relative symbolic link for each program.

use minke_applet::{EXIT_USAGE, Program};
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

/// Links every program into `folder`. Names that exist and are not links are left alone and reported.
pub(crate) fn install(folder: Option<&OsStr>, programs: impl Iterator<Item = &'static Program>) -> u8 {
    let Some(folder) = folder else {
        eprintln!("minke: --install needs a folder; see 'minke --help'");
        return EXIT_USAGE;
    };
    match link_all(Path::new(folder), programs) {
        Ok(()) => 0,
        Err((path, error)) => {
            eprintln!("minke: {}: {error}", path.display());
            1
        }
    }
}

fn link_all(
    folder: &Path,
    programs: impl Iterator<Item = &'static Program>,
) -> Result<(), (PathBuf, io::Error)> {
    let at = |path: &Path, error| (path.to_path_buf(), error);
    let own = std::env::current_exe().map_err(|error| at(Path::new("/proc/self/exe"), error))?;
    let own = own.canonicalize().map_err(|error| at(&own, error))?;
    let folder = folder.canonicalize().map_err(|error| at(folder, error))?;
    let target = relative(&folder, &own);
    for program in programs {
        let link = folder.join(program.name);
        link_one(&link, &target, &own).map_err(|error| at(&link, error))?;
    }
    Ok(())
}

/// Makes one link, replacing a link that is there. A power cut in between leaves the old link or the new one,
/// as the new one is renamed over it.
fn link_one(link: &Path, target: &Path, own: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(link) {
        Ok(_) if link == own => return Ok(()),
        Ok(metadata) if !metadata.is_symlink() => return Err(ErrorKind::AlreadyExists.into()),
        Ok(_) | Err(_) => {}
    }
    let fresh = link.with_extension("minke-new");
    let _ = std::fs::remove_file(&fresh);
    std::os::unix::fs::symlink(target, &fresh)?;
    std::fs::rename(&fresh, link)
}

/// The way from `folder` to `file`, both absolute and without links.
fn relative(folder: &Path, file: &Path) -> PathBuf {
    let mut from = folder.components().peekable();
    let mut to = file.components().peekable();
    while from.peek().is_some() && from.peek() == to.peek() {
        from.next();
        to.next();
    }
    from.map(|_| Component::ParentDir).chain(to).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths() {
        let way = |folder: &str, file: &str| relative(Path::new(folder), Path::new(file));
        assert_eq!(way("/usr/bin", "/usr/bin/minke"), Path::new("minke"));
        assert_eq!(way("/sbin", "/usr/bin/minke"), Path::new("../usr/bin/minke"));
        assert_eq!(way("/usr/local/sbin", "/usr/bin/minke"), Path::new("../../bin/minke"));
    }
}
