//! Programs of this machine in a guest, which has no C library: with their libraries and a loader of their own, fetched
//! from a web server in the test's network namespace.

use crate::guest::sh;
use crate::{Daemon, run};
use minke_image::guest::Guest;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

const SERVER: &str = "10.77.9.9:8080";
/// Where they are in the guest.
pub const FOLDER: &str = "/mnt/data/foreign";

/// Packs programs, named by paths or found on `PATH`, in `folder`, and serves that until the result is dropped. The loader's
/// name in a program has room for another one.
pub fn serve<P: AsRef<OsStr>>(folder: &Path, programs: &[P]) -> Daemon {
    let pack = format!(
        "mkdir foreign
        for program; do
            cp $(command -v $program) foreign/
            name=$(basename $program)
            ldd foreign/$name | grep -o '/[^ ]*' | xargs -I{{}} cp -L {{}} foreign/
            sed -i 's|/lib64/ld-linux-x86-64.so.2|{FOLDER}/ld.so\\x0\\x0\\x0\\x0|' foreign/$name
        done
        mv foreign/ld-linux* foreign/ld.so; tar cf foreign.tar foreign"
    );
    run(Command::new("sh").args(["-ec", &pack, "sh"]).args(programs).current_dir(folder));
    let mut server = Command::new("busybox");
    Daemon::start(server.args(["httpd", "-f", "-p", SERVER, "-h"]).arg(folder))
}

/// Brings them into the guest's [`FOLDER`], where they find their libraries by `LD_LIBRARY_PATH`, where the network may just be coming up.
pub fn fetch(guest: &mut Guest) {
    let script = format!(
        "set -e; cd $(dirname {FOLDER}); i=0
        until wget -q -O foreign.tar http://{SERVER}/foreign.tar; do sleep 1; i=$((i+1)); [ $i -lt 120 ]; done
        tar xf foreign.tar; rm foreign.tar"
    );
    sh(guest, &script);
}
