//! A certificate authority of a test's own, by `openssl`.

// A test's helper fails the test that calls it.
#![allow(clippy::unwrap_used)]

use crate::{run, text};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An authority, in the folder where its certificates go. All keys are ECDSA's with P-256.
#[derive(Debug)]
pub struct Authority(PathBuf);

impl Authority {
    /// Makes `ca.pem` and `ca.key` in a folder, and the folder; valid between these days, counted from now. One that was
    /// there before is replaced: each has a name of its own, so what it has signed is then of an unknown issuer.
    pub fn new(folder: &Path, days: Range<i64>) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let authority = Self(folder.to_path_buf());
        let extensions = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign";
        authority.sign("ca", "-selfsign", extensions, days);
        authority
    }

    /// Makes `NAME.pem` and `NAME.key` for names like `DNS:host.test,IP:127.0.0.1`, valid between these days, counted from
    /// now.
    pub fn issue(&self, name: &str, names: &str, days: Range<i64>) {
        self.sign(name, "-cert ca.pem", &format!("subjectAltName={names}"), days);
    }

    /// The authority as `balenaRootCA` has it.
    pub fn base64(&self) -> String {
        text(&run(Command::new("base64").arg("-w0").arg(self.0.join("ca.pem"))))
    }

    /// `openssl x509` and `req` begin every certificate now; `ca` takes other dates, and a folder of files for that.
    fn sign(&self, name: &str, by: &str, extensions: &str, Range { start, end }: Range<i64>) {
        let config = format!(
            "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nunique_subject=no\nrand_serial=yes\nnew_certs_dir=.\n\
             default_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n[x]\n{extensions}\n"
        );
        std::fs::write(self.0.join("ca.cnf"), config).unwrap();
        let script = format!(
            "touch index
             from=$(date -u -d '{start} days' +%Y%m%d%H%M%SZ) to=$(date -u -d '{end} days' +%Y%m%d%H%M%SZ)
             openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr \
               -subj \"/CN={name} $(openssl rand -hex 8)\"
             openssl ca -batch -config ca.cnf {by} -keyfile ca.key -in {name}.csr -out {name}.pem -notext \
               -extensions x -startdate $from -enddate $to"
        );
        run(Command::new("sh").args(["-ec", &script]).current_dir(&self.0));
    }
}
