//! Certificates by `openssl`, and NTS servers of others on loopback: chronyd (without control of the clock), and what
//! `ke.py` pretends to be. Needs chrony, openssl and /usr/bin/python3.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Seconds of a day.
pub const DAY: i64 = 86_400;

/// A folder with an authority, `ca.pem`.
pub struct Lab(pub PathBuf);

impl Lab {
    pub fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("minke-nts-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let config = "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\n\
             policy=p\nunique_subject=no\n[p]\ncommonName=supplied\n\
             [x]\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n[y]\nsubjectAltName=DNS:other.test\n";
        for (file, content) in [("ca.cnf", config), ("index", ""), ("serial", "01\n")] {
            std::fs::write(folder.join(file), content).unwrap();
        }
        let lab = Self(folder);
        // Valid for a century, from 2000 on.
        lab.sh("openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.csr -subj /CN=Root; \
                printf '[r]\\nbasicConstraints=critical,CA:TRUE\\nkeyUsage=critical,keyCertSign\\n' >>ca.cnf; \
                openssl ca -batch -selfsign -config ca.cnf -keyfile ca.key -in ca.csr -out ca.pem -notext -extensions r \
                  -startdate 20000101000000Z -enddate 21000101000000Z");
        lab.issue("good", "x", now() - DAY, now() + 50 * DAY);
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn sh(&self, script: &str) {
        let done = Command::new("sh").args(["-ec", script]).current_dir(&self.0).output().unwrap();
        assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Makes `NAME.pem` and `NAME.key`, valid between two times since 1970, for `localhost` (extensions `x`) or
    /// `other.test` (`y`).
    pub fn issue(&self, name: &str, extensions: &str, from: i64, to: i64) {
        self.sh(&format!(
            "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr \
               -subj /CN={name}; \
             openssl ca -batch -config ca.cnf -cert ca.pem -keyfile ca.key -in {name}.csr -out {name}.pem -notext \
               -extensions {extensions} -startdate $(date -u -d @{from} +%Y%m%d%H%M%SZ) \
               -enddate $(date -u -d @{to} +%Y%m%d%H%M%SZ)"
        ));
    }

    /// chronyd with NTS and the certificate `NAME.pem`, as NTP server on 127.0.0.1; `more` is further configuration.
    pub fn chronyd(&self, certificate: &str, more: &str) -> Chronyd {
        let mut chronyd = Chronyd { child: None, ntp: free_udp(), ke: free_tcp(), folder: self.0.clone() };
        let config = format!(
            "local stratum 3\nport {ntp}\nntsport {ke}\nbindaddress 127.0.0.1\ncmdport 0\nbindcmdaddress /\n\
             pidfile {folder}/chronyd-{ntp}.pid\nntsserverkey {folder}/{certificate}.key\n\
             ntsservercert {folder}/{certificate}.pem\nallow 127.0.0.0/8\n{more}\n",
            ntp = chronyd.ntp,
            ke = chronyd.ke,
            folder = self.0.display()
        );
        std::fs::write(chronyd.config(), config).unwrap();
        chronyd.start();
        chronyd
    }

    /// A server of key exchanges that misbehaves as `mode` says.
    pub fn misbehaving(&self, mode: &str) -> Misbehaving {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/ke.py");
        let mut child = Command::new("/usr/bin/python3")
            .arg(script)
            .arg(mode)
            .current_dir(&self.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Misbehaving(child, line.trim().parse().unwrap())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub struct Misbehaving(Child, pub u16);

impl Drop for Misbehaving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Chronyd {
    child: Option<Child>,
    /// Its UDP port.
    pub ntp: u16,
    /// The TCP port of its key exchange.
    pub ke: u16,
    folder: PathBuf,
}

impl Chronyd {
    fn config(&self) -> PathBuf {
        self.folder.join(format!("chrony-{}.conf", self.ntp))
    }

    /// Starts it, without control of the clock, with keys of its own making.
    pub fn start(&mut self) {
        let log = std::fs::File::create(self.folder.join(format!("chronyd-{}.log", self.ntp))).unwrap();
        let child = Command::new("chronyd")
            .args(["-U", "-x", "-d", "-u", "root", "-f"])
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let until = Instant::now() + Duration::from_secs(20);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut request = [0; 48];
        request[0] = 0x23;
        loop {
            assert!(Instant::now() < until, "chronyd does not answer");
            let _ = socket.send_to(&request, ("127.0.0.1", self.ntp));
            if socket.recv_from(&mut [0; 100]).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Chronyd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Seconds since 1970.
pub fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64
}

pub fn free_udp() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn free_tcp() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
