//! A certificate authority of an owner's own, and a server's certificate for the machine that runs the test, as the
//! guests see it.

use minke_tests::{run, text};
use std::path::Path;
use std::process::Command;

/// Makes `ca.pem`, and `server.pem` with `server.key`, in a folder.
pub fn make(folder: &Path) {
    let script = "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 3650 -subj /CN=Own; \
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -out server.csr -subj /CN=x; \
        echo subjectAltName=IP:10.0.2.2 > extensions; \
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -days 3650 -extfile extensions -out server.pem";
    run(Command::new("sh").args(["-ec", script]).current_dir(folder));
}

/// The authority as `balenaRootCA` has it.
pub fn base64(folder: &Path) -> String {
    text(&run(Command::new("base64").arg("-w0").arg(folder.join("ca.pem"))))
}
