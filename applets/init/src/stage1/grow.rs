//! The data partition grows to the end of its disk (spec os §1.9). The file system in it grows when it is mounted.

use super::root::Devices;
use crate::log;
use minke_sys::block::{self, Growth};

/// Grows the partition if there is room. The answer tells whether it did.
pub fn grow(devices: &Devices) -> bool {
    let Some(data) = devices.labelled("data").filter(|data| data.device.number.is_some()) else {
        return false;
    };
    let Some(disk) = devices.disk() else { return false };
    match block::grow(devices.places(), disk, &data.device) {
        Ok(Growth::None) => false,
        Ok(Growth::To(size)) => {
            log::line(log::INFO, format_args!("resin-data has {} MiB now", size >> 20));
            true
        }
        Ok(Growth::LeftAlone(why)) => {
            let disk = disk.path.display();
            log::line(log::WARNING, format_args!("the partition table of {disk} is left alone: {why}"));
            false
        }
        Err(error) => {
            log::line(log::WARNING, format_args!("resin-data does not grow: {error}"));
            false
        }
    }
}
