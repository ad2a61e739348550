//! Debian's docker-registry on loopback, and a front before it that spoils what comes.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The user `device` with the password `secret`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "device:$2y$05$k7t5.oXYc8cajzxf.g8cV.qEO5cTbFN.FiE02h5dwFknQGn7CnUSq\n";

/// Fails where the peers are missing: what nobody tries would pass.
pub fn need_peers() {
    for name in ["docker-registry", "skopeo"] {
        let there = Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
        assert!(there, "{name} is missing; tests/setup brings it");
    }
}

/// A registry.
pub struct Server {
    child: Child,
    pub port: u16,
}

/// What it wants of who asks.
pub enum Kind<'a> {
    Plain,
    Tls { folder: &'a Path, name: &'a str },
    Basic,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whether it is this child that listens at the port, and not another test's server that was faster.
fn listens(child: &Child, port: u16) -> bool {
    let (table, address) =
        (std::fs::read_to_string("/proc/net/tcp").unwrap(), format!("0100007F:{port:04X}"));
    let Some(socket) = table.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // 0A: it listens (proc_pid_net(5)).
        (words[1] == address && words[3] == "0A").then(|| format!("socket:[{}]", words[9]))
    }) else {
        return false;
    };
    let files = std::fs::read_dir(format!("/proc/{}/fd", child.id()));
    files.is_ok_and(|files| {
        let mut links = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
        links.any(|link| link.as_os_str() == socket.as_str())
    })
}

impl Server {
    pub fn start(scratch: &Path, kind: &Kind<'_>) -> Self {
        for _ in 0..20 {
            let port = free_port();
            let mut http = format!("  addr: 127.0.0.1:{port}\n");
            let mut auth = String::new();
            match kind {
                Kind::Plain => {}
                Kind::Tls { folder, name } => {
                    let at = |end: &str| folder.join(format!("{name}.{end}")).display().to_string();
                    http += &format!("  tls:\n    certificate: {}\n    key: {}\n", at("pem"), at("key"));
                }
                Kind::Basic => {
                    let path = scratch.join("htpasswd");
                    std::fs::write(&path, HTPASSWD).unwrap();
                    auth = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path.display());
                }
            }
            let storage = scratch.join("registry");
            let config = format!(
                "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n{http}{auth}",
                storage.display()
            );
            let path = scratch.join(format!("registry-{port}.yml"));
            std::fs::write(&path, config).unwrap();
            let mut child = Command::new("docker-registry")
                .args(["serve".as_ref(), path.as_os_str()])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            for _ in 0..200 {
                if listens(&child, port) {
                    return Self { child, port };
                }
                if child.try_wait().unwrap().is_some() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("docker-registry does not start");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Copies with skopeo.
pub fn skopeo(folder: &Path, from: &str, to: &str, options: &[&str]) {
    let output = Command::new("skopeo")
        .args(["--insecure-policy".as_ref(), "--tmpdir".as_ref(), folder.as_os_str()])
        .args(["copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"])
        .args(options)
        .args([from, to])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "skopeo {from} {to}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A request as the front sees it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub authorization: String,
    pub range: String,
}

/// What the front does with it.
pub enum Act {
    /// Answers by itself: status, header lines, body.
    Answer(u16, String, String),
    /// Hands it on, and what comes back.
    Forward,
    /// As that, and closes the connection after so many bytes of the body.
    Cut(usize),
    /// As that, without the field `Range`, and cut.
    Whole(usize),
    /// As that, with a bit of this byte of the body changed.
    Spoil(usize),
}

/// A server before another one.
pub struct Front {
    pub port: u16,
    pub asked: Arc<Mutex<Vec<Asked>>>,
}

impl Front {
    /// Starts it; it ends with the test's process.
    pub fn start(upstream: u16, mut act: impl FnMut(&Asked) -> Act + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let list = asked.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(mut client) = client else { continue };
                let _ = client.set_read_timeout(Some(Duration::from_secs(20)));
                let Some(head) = read_head(&mut client) else { continue };
                let text = String::from_utf8_lossy(&head).into_owned();
                // What speaks TLS is answered as Go's server does.
                if !text.starts_with("GET ") {
                    let _ = client.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request");
                    continue;
                }
                let field = |name: &str| {
                    let found = text.lines().find_map(|line| line.strip_prefix(name));
                    found.unwrap_or_default().trim().to_owned()
                };
                let asked = Asked {
                    path: text.split(' ').nth(1).unwrap().to_owned(),
                    authorization: field("Authorization:"),
                    range: field("Range:"),
                };
                let act = act(&asked);
                list.lock().unwrap().push(asked);
                // Who goes away early is no failure of the front.
                let _ = perform(&mut client, upstream, &text, &act);
            }
        });
        Self { port, asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn read_head(client: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
        if head.len() == 1 && byte[0] == 22 {
            return Some(head);
        }
    }
    Some(head)
}

fn perform(client: &mut TcpStream, upstream: u16, head: &str, act: &Act) -> std::io::Result<()> {
    if let Act::Answer(status, fields, body) = act {
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status} X\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        return client.write_all(answer.as_bytes());
    }
    let mut server = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], upstream)))?;
    let keep = |line: &&str| {
        !(line.starts_with("Authorization:") || line.starts_with("Range:") && matches!(act, Act::Whole(_)))
    };
    let head: Vec<&str> = head.split("\r\n").filter(keep).collect();
    server.write_all(head.join("\r\n").as_bytes())?;
    client.write_all(&read_head(&mut server).unwrap_or_default())?;
    let (mut done, mut buffer) = (0usize, [0; 4096]);
    let limit = match act {
        Act::Cut(limit) | Act::Whole(limit) => *limit,
        _ => usize::MAX,
    };
    while done < limit {
        let count = server.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        if let Act::Spoil(at) = act
            && (done..done + count).contains(at)
        {
            buffer[at - done] ^= 4;
        }
        let count = count.min(limit - done);
        client.write_all(&buffer[..count])?;
        done += count;
    }
    Ok(())
}

/// A folder with a certificate authority `ca.pem`, and a server's certificate `name` for 127.0.0.1.
pub fn certificates(folder: &Path, name: &str) -> PathBuf {
    let script = format!(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 9 -subj /CN=Root 2>/dev/null
         openssl req -newkey rsa:2048 -nodes -keyout {name}.key -subj /CN={name} -out {name}.csr 2>/dev/null
         printf 'subjectAltName=IP:127.0.0.1\\n' > {name}.ext
         openssl x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -days 9 -CAcreateserial -extfile {name}.ext -out {name}.pem 2>/dev/null"
    );
    assert!(Command::new("sh").args(["-ec", &script]).current_dir(folder).status().unwrap().success());
    folder.join("ca.pem")
}
