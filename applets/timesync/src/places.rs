//! The files of this applet, and the times that they hold.

use crate::rule::{Bounds, Said};
use minke_applet::log;
use minke_sys::rtc::Rtc;
use minke_sys::{Result, clock, file};
use minke_wire::civil::Civil;
use std::path::{Path, PathBuf};

/// The most of a file with a time that is read.
const LIMIT: usize = 4096;
/// Where this applet notes what it did, for `timesync status`: a tmpfs.
const NOTES: &str = "run/minke/timesync";

/// What this program works on.
#[derive(Debug, Clone)]
pub struct Places {
    /// The root folder of the files.
    pub root: PathBuf,
    /// The clocks are only read, and what would be done to them is said: for tests and for the curious.
    pub no_clock: bool,
}

impl Places {
    /// The saved clock.
    pub fn saved_clock(&self) -> PathBuf {
        self.root.join("etc/fake-hwclock/fake-hwclock.data")
    }

    /// What is plausible, by the build time of `/etc/timestamp` and of this binary.
    pub fn bounds(&self) -> Bounds {
        let path = self.root.join("etc/timestamp");
        let stamp = read(&path, b"yyyymmddhhiiss");
        if stamp == Said::Garbage {
            log::warn(format_args!("{} is no build time", path.display()));
        }
        let own = i64::try_from(minke_applet::build().time).unwrap_or(0);
        Bounds::new(if let Said::Time(stamp) = stamp { stamp.max(own) } else { own })
    }

    /// What the saved clock says.
    pub fn saved(&self) -> Said {
        read(&self.saved_clock(), b"yyyy-mm-dd hh:ii:ss")
    }

    /// Saves a time.
    ///
    /// Power cut: while the new file is written and until its name is on the disk, the old one stays, whole; then it is the
    /// new one. Either is a time at which this device has been, so the next boot's clock is at most what was not saved
    /// behind. What a broken file system or somebody else left there is no time, and counts as nothing.
    pub fn save(&self, time: i64) -> Result<()> {
        file::write_durable(&self.saved_clock(), format!("{}\n", shown(time)).as_bytes(), 0o644)
    }

    /// Sets the clock to so many seconds since 1970.
    pub fn set_clock(&self, time: i64) -> Result<()> {
        if self.no_clock {
            return Ok(());
        }
        clock::set_realtime(std::time::Duration::from_secs(u64::try_from(time).unwrap_or(0)))
    }

    /// Sets the real-time clock, if there is one, by the clock. That it cannot be set is told, and no more.
    pub fn set_rtc(&self) {
        if self.no_clock {
            return;
        }
        let set = Rtc::open().and_then(|rtc| rtc.map_or(Ok(()), |rtc| rtc.set(now())));
        if let Err(error) = set {
            log::warn(format_args!("{error}"));
        }
    }

    /// Notes what became of something, for `timesync status`.
    pub fn note(&self, name: &str, text: &str) {
        let folder = self.root.join(NOTES);
        let noted = file::make_folder(&folder, 0o755).and_then(|()| file::write(folder.join(name), text));
        if let Err(error) = noted {
            log::warn(format_args!("{error}"));
        }
    }

    /// What was noted; empty when nothing was.
    pub fn noted(&self, name: &str) -> String {
        file::text(self.root.join(NOTES).join(name))
    }
}

/// Reads a file that holds one time and a line feed.
fn read(path: &Path, pattern: &[u8]) -> Said {
    match file::read_optional(path, LIMIT) {
        Ok(None) => Said::Nothing,
        Ok(Some(content)) => match Civil::parse(content.trim_ascii(), pattern) {
            Some(civil) => civil.to_unix().map_or(Said::Garbage, Said::Time),
            None => Said::Garbage,
        },
        Err(error) => {
            log::warn(format_args!("{error}"));
            Said::Garbage
        }
    }
}

/// The clock, in seconds since 1970.
pub fn now() -> i64 {
    i64::try_from(clock::realtime().as_secs()).unwrap_or(i64::MAX)
}

/// A time as files and people have it.
pub fn shown(time: i64) -> Civil {
    Civil::from_unix(time)
}
