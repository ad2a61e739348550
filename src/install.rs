//! `minke --install DIR`: a relative symbolic link for each program.

use minke_applet::{EXIT_USAGE, Entry};
use minke_sys::{Errno, Error, Result, file, status};
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

/// Links every program into `folder`. Names that exist and are not links are left alone and reported.
pub(crate) fn install(folder: Option<&OsStr>, programs: &[Entry]) -> u8 {
    let Some(folder) = folder else {
        minke_applet::errln!("minke: --install needs a folder; see 'minke --help'");
        return EXIT_USAGE;
    };
    minke_applet::report(link_all(Path::new(folder), programs).map(|()| 0))
}

fn link_all(folder: &Path, programs: &[Entry]) -> Result<()> {
    let own = file::real_path(Path::new("/proc/self/exe"))?;
    let folder = file::real_path(folder)?;
    let target = relative(&folder, &own);
    for program in programs {
        let link = folder.join(program.name);
        match status::of_link(&link) {
            Ok(_) if link == own => continue,
            Ok(metadata) if !metadata.is_symlink() => {
                return Err(Error::new("link", link.display(), Errno::EXIST));
            }
            _ => file::set_link(&link, &target)?,
        }
    }
    Ok(())
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
