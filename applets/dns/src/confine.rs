//! What the forwarder gives up when its sockets are open, before it reads the first packet: every privilege, and the system
//! calls that it does not make.

use minke_applet::log;
use minke_sys::capability::{self, Capabilities};
use minke_sys::seccomp::{self, LOOP, READING, SOCKETS};

/// Gives them up, for good. What cannot be given up is told: names are worth more than a second wall.
pub(crate) fn confine() {
    let none = Capabilities::NONE;
    for done in [capability::set(none, none), seccomp::allow(&[LOOP, SOCKETS, READING])] {
        if let Err(error) = done {
            log::warn(format_args!("{error}; going on with more rights than are needed"));
        }
    }
}
