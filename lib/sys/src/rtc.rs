//! The real-time clock, which goes on while the power is off: rtc(4). It is kept in UTC.

use crate::file::{self, Flags};
use crate::{Context, Errno, Error, Result};
use minke_wire::civil::Civil;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

/// Where it may be. The first is a link that udev makes.
const PLACES: [&str; 2] = ["/dev/rtc", "/dev/rtc0"];
/// `_IOR('p', 0x09, struct rtc_time)`.
const RTC_RD_TIME: u32 = 0x8024_7009;
/// `_IOW('p', 0x0a, struct rtc_time)`.
const RTC_SET_TIME: u32 = 0x4024_700a;
/// The year of `tm_year` 0.
const FIRST_YEAR: i64 = 1900;

/// `struct rtc_time` of `linux/rtc.h`: second, minute, hour, day (from 1), month (from 0), years since 1900, weekday,
/// day of the year, daylight saving time. The last three mean nothing to the kernel.
type RtcTime = [i32; 9];

/// A real-time clock.
#[derive(Debug)]
pub struct Rtc {
    file: File,
    path: &'static str,
}

impl Rtc {
    /// The machine's first; `None` when it has none.
    pub fn open() -> Result<Option<Self>> {
        for path in PLACES {
            match file::open(path, Flags::RDONLY) {
                Ok(file) => return Ok(Some(Self { file, path })),
                // A driver without a device behind it.
                Err(error) if matches!(error.errno, Errno::NOENT | Errno::NXIO | Errno::NODEV) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Its time, in seconds since 1970. `EINVAL`: it has none, as after its battery was empty.
    pub fn read(&self) -> Result<i64> {
        let mut time: RtcTime = [0; 9];
        let argument = (&raw mut time).addr();
        // SAFETY: the driver fills in the `struct rtc_time` at this address, which lives through the call.
        let done = unsafe { file::ioctl(self.file.as_fd(), RTC_RD_TIME, argument) };
        done.on("read the time of", Path::new(self.path))?;
        decode(&time).ok_or_else(|| Error::new("read the time of", self.path, Errno::INVAL))
    }

    /// Sets it to so many seconds since 1970. `EINVAL` or `ERANGE`: it does not count that far.
    pub fn set(&self, seconds: i64) -> Result<()> {
        let time = encode(seconds);
        // SAFETY: the driver reads the `struct rtc_time` at this address, which lives through the call.
        let done = unsafe { file::ioctl(self.file.as_fd(), RTC_SET_TIME, (&raw const time).addr()) };
        done.on("set the time of", Path::new(self.path)).map(|_| ())
    }
}

fn decode(time: &RtcTime) -> Option<i64> {
    let [second, minute, hour, day, month, year, ..] = *time;
    let field = |number: i32| u8::try_from(number).ok();
    let civil = Civil {
        year: i64::from(year).checked_add(FIRST_YEAR)?,
        month: field(month)?.checked_add(1)?,
        day: field(day)?,
        hour: field(hour)?,
        minute: field(minute)?,
        second: field(second)?,
    };
    civil.to_unix()
}

fn encode(seconds: i64) -> RtcTime {
    let Civil { year, month, day, hour, minute, second } = Civil::from_unix(seconds);
    let year = i32::try_from(year.saturating_sub(FIRST_YEAR)).unwrap_or(i32::MAX);
    [second.into(), minute.into(), hour.into(), day.into(), i32::from(month).saturating_sub(1), year, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_form_of_a_time() {
        for seconds in [0, 951_782_400, 1_700_000_000, 2_147_483_648, 4_294_967_296, 253_402_300_799] {
            assert_eq!(decode(&encode(seconds)), Some(seconds));
        }
        assert_eq!(encode(2_147_483_648), [8, 14, 3, 19, 0, 138, 0, 0, 0]);
        // What a clock with an empty battery may say.
        for garbage in [[-1; 9], [i32::MAX; 9], [i32::MIN; 9], [60, 0, 0, 1, 0, 70, 0, 0, 0], [0; 9]] {
            assert_eq!(decode(&garbage), None, "{garbage:?}");
        }
    }
}
