//! Certificates by `openssl`, and NTS servers of others on loopback: chronyd (without control of the clock), and what
//! `ke.py` pretends to be. Needs chrony, openssl and /usr/bin/python3.

use minke_tests::authority::Authority;
use minke_tests::server::Server;
use minke_tests::{free_tcp_port, free_udp_port};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The names of this machine in a certificate.
pub const HERE: &str = "DNS:localhost,IP:127.0.0.1";

/// A folder with an authority.
pub struct Lab {
    pub folder: PathBuf,
    pub authority: Authority,
}

impl Lab {
    pub fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("minke-nts-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        // Valid for about a century.
        let authority = Authority::new(&folder, -9_000..27_000);
        authority.issue("good", HERE, -1..50);
        Self { folder, authority }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// chronyd with NTS and the certificate `NAME.pem`, as NTP server on 127.0.0.1; `more` is further configuration.
    pub fn chronyd(&self, certificate: &str, more: &str) -> Chronyd {
        let mut chronyd =
            Chronyd { child: None, ntp: free_udp_port(), ke: free_tcp_port(), folder: self.folder.clone() };
        let config = format!(
            "local stratum 3\nport {ntp}\nntsport {ke}\nbindaddress 127.0.0.1\ncmdport 0\nbindcmdaddress /\n\
             pidfile {folder}/chronyd-{ntp}.pid\nntsserverkey {folder}/{certificate}.key\n\
             ntsservercert {folder}/{certificate}.pem\nallow 127.0.0.0/8\n{more}\n",
            ntp = chronyd.ntp,
            ke = chronyd.ke,
            folder = self.folder.display()
        );
        std::fs::write(chronyd.config(), config).unwrap();
        chronyd.start();
        chronyd
    }

    /// A server of key exchanges that misbehaves as `mode` says.
    pub fn misbehaving(&self, mode: &str) -> Server {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/ke.py");
        Server::start(&script, &[mode], &self.folder)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
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
