//! The client against OpenSSL: Python's web server with certificates that the `openssl` command makes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use minke_http::client::Body;
use minke_http::{Client, Dial, Distrust, Error, Response, Session, Trust, Url, count_authorities, resolve};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A folder with certificates, `hosts` and `resolv.conf`.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("minke-tls-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("hosts"), "127.0.0.1 host.test other.test\n").unwrap();
        std::fs::write(path.join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
        let folder = Self(path);
        folder.sh(
            "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 99 -subj /CN=Root",
        );
        folder
    }

    fn sh(&self, script: &str) {
        let done = Command::new("sh").args(["-ec", script]).current_dir(&self.0).output().unwrap();
        assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Makes `NAME.pem` and `NAME.key`, issued by `issuer`, with a key that `key` describes to `openssl genpkey`.
    fn issue(&self, name: &str, key: &str, issuer: &str, extensions: &str) {
        self.sh(&format!(
            "openssl genpkey {key} -out {name}.key; \
             openssl req -new -key {name}.key -subj /CN={name} -out {name}.csr; \
             printf '{extensions}' > {name}.ext; \
             openssl x509 -req -in {name}.csr -CA {issuer}.pem -CAkey {issuer}.key -days 50 -CAcreateserial \
               -extfile {name}.ext -out {name}.pem"
        ));
    }

    fn trust(&self) -> Trust {
        Trust { bundle: self.0.join("ca.pem"), extra: Vec::new() }
    }

    fn client(&self, url: &str) -> Client {
        Client::web(&Url::parse(url).unwrap())
            .with_trust(self.trust())
            .with_names_of(&self.0)
            .with_timeout(Some(Duration::from_secs(10)))
    }

    fn serve(&self, mode: &str, chain: &str, key: &str) -> Server {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peer.py");
        let mut child = Command::new("/usr/bin/python3")
            .arg(script)
            .args([mode, chain, key])
            .current_dir(&self.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Server(child, line.trim().parse().unwrap())
    }

    fn get(&self, server: &Server, host: &str, path: &str) -> Result<Response, Error> {
        self.client(&format!("https://{host}:{}", server.1)).request("GET", path, &[], Body::None)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Server(Child, u16);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const SERVER: &str = "subjectAltName=DNS:host.test,IP:127.0.0.1\\n";
const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";

#[test]
fn certificates_of_all_usual_keys_are_believed() {
    let folder = Folder::new("keys");
    for (name, key) in [
        ("rsa2048", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
        ("rsa4096", "-algorithm RSA -pkeyopt rsa_keygen_bits:4096"),
        ("p256", P256),
        ("p384", "-algorithm EC -pkeyopt ec_paramgen_curve:P-384"),
    ] {
        folder.issue(name, key, "ca", SERVER);
        let server = folder.serve("tls", &format!("{name}.pem"), &format!("{name}.key"));
        let response = folder.get(&server, "host.test", "/x").unwrap();
        assert_eq!(response.body, format!("host.test:{} -", server.1).into_bytes());
        assert!(response.headers.get("Date").unwrap().ends_with(" GMT"));
        folder.get(&server, "127.0.0.1", "/x").unwrap();
    }
    // A chain of three, whose authorities have keys of other kinds than the server's.
    let authority = "basicConstraints=critical,CA:TRUE\\nkeyUsage=critical,keyCertSign\\n";
    folder.issue("first", "-algorithm EC -pkeyopt ec_paramgen_curve:P-384", "ca", authority);
    folder.issue("second", "-algorithm RSA -pkeyopt rsa_keygen_bits:4096", "first", authority);
    folder.issue("leaf", P256, "second", SERVER);
    folder.sh("cat leaf.pem second.pem first.pem > chain.pem");
    let server = folder.serve("tls", "chain.pem", "leaf.key");
    assert_eq!(folder.get(&server, "host.test", "/x").unwrap().status, 200);
    let server = folder.serve("tls", "leaf.pem", "leaf.key");
    let error = folder.get(&server, "host.test", "/x").unwrap_err();
    assert_eq!(error.to_string(), "host.test: the certificate's issuer is unknown; see balenaRootCA");
}

#[test]
fn each_way_to_be_no_good_has_its_line() {
    let folder = Folder::new("bad");
    folder.issue("good", P256, "ca", SERVER);
    let server = folder.serve("tls", "good.pem", "good.key");
    let url = format!("https://host.test:{}", server.1);
    let at = |clock: u64| {
        let client = folder.client(&url).with_clock(Duration::from_secs(clock));
        let error = client.request("GET", "/x", &[], Body::None).unwrap_err();
        let Error::Certificate(distrusted) = &error else { panic!("{error}") };
        (distrusted.reason, distrusted.clock, error.to_string())
    };
    let (reason, clock, text) = at(0);
    assert!(matches!(reason, Distrust::NotValidYet(start) if start > 1_700_000_000) && clock == 0, "{text}");
    assert!(text.starts_with("host.test: the certificate is valid from 20"), "{text}");
    assert!(text.ends_with(", and this device's clock says 1970-01-01 00:00:00"), "{text}");
    let (reason, _, text) = at(4_000_000_000);
    assert!(matches!(reason, Distrust::Expired(_)), "{text}");
    assert!(text.contains("expired at 20") && text.ends_with("clock says 2096-10-02 07:06:40"), "{text}");

    let line = |host: &str| folder.get(&server, host, "/x").unwrap_err().to_string();
    assert_eq!(line("other.test"), "other.test: the certificate is for another name");
    let foreign = Client::web(&Url::parse(&url).unwrap()).with_names_of(&folder.0);
    let none = foreign.clone().with_trust(Trust { bundle: folder.0.join("none"), extra: Vec::new() });
    for client in [foreign.clone(), none] {
        let error = client.request("GET", "/x", &[], Body::None).unwrap_err().to_string();
        assert_eq!(error, "host.test: the certificate's issuer is unknown; see balenaRootCA");
    }
    let authority = std::fs::read(folder.0.join("ca.pem")).unwrap();
    assert_eq!(count_authorities(&authority), 1);
    let extra = Trust { extra: [b"text\n", &authority[..]].concat(), ..Trust::default() };
    assert_eq!(foreign.with_trust(extra).request("GET", "/x", &[], Body::None).unwrap().status, 200);

    // Another authority of the same name has not signed it.
    folder.sh("openssl req -x509 -newkey rsa:2048 -nodes -keyout x.key -out x.pem -days 99 -subj /CN=Root");
    let forged = folder.client(&url).with_trust(Trust { bundle: folder.0.join("x.pem"), extra: Vec::new() });
    let error = forged.request("GET", "/x", &[], Body::None).unwrap_err().to_string();
    assert!(error.starts_with("host.test: the certificate"), "{error}");

    folder.sh(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout self.key -out self.pem -days 9 -subj /CN=host.test \
         -addext subjectAltName=DNS:host.test; cat ca.pem self.pem > both.pem; mv both.pem ca.pem",
    );
    let server = folder.serve("tls", "self.pem", "self.key");
    let error = folder.get(&server, "host.test", "/x").unwrap_err().to_string();
    assert_eq!(error, "host.test: the certificate is an authority's and no server's");
    folder.issue("ed", "-algorithm ed25519", "ca", SERVER);
    let server = folder.serve("tls", "ed.pem", "ed.key");
    let error = folder.get(&server, "host.test", "/x").unwrap_err().to_string();
    assert_eq!(error, "host.test: the server cannot speak TLS 1.3 with our ciphers");
    let server = folder.serve("tls12", "good.pem", "good.key");
    let error = folder.get(&server, "host.test", "/x").unwrap_err().to_string();
    assert_eq!(error, "host.test: the server cannot speak TLS 1.3 with our ciphers");
    for mode in ["plain", "garbage"] {
        let server = folder.serve(mode, "good.pem", "good.key");
        let error = folder.get(&server, "host.test", "/x").unwrap_err().to_string();
        assert_eq!(error, "host.test: what answers does not speak TLS");
    }
    let port = server.1;
    drop(server);
    let error = folder.client(&format!("https://host.test:{port}")).request("GET", "/", &[], Body::None);
    assert_eq!(
        error.unwrap_err().to_string(),
        format!("connect to 127.0.0.1:{port}: Connection refused (os error 111)")
    );
}

#[test]
fn slow_cut_and_endless_answers_end() {
    let folder = Folder::new("slow");
    folder.issue("good", P256, "ca", SERVER);
    let server = folder.serve("tls", "good.pem", "good.key");
    let url = format!("https://host.test:{}", server.1);
    let client = || folder.client(&url);
    let fails = |client: Client, path: &str| client.request("GET", path, &[], Body::None).unwrap_err();
    let begun = Instant::now();
    assert!(fails(client().with_timeout(Some(Duration::from_millis(300))), "/never").is_timeout());
    // What has a deadline here may be silent for longer than all of this may take.
    let patient = |url: &str| folder.client(url).with_timeout(Some(Duration::from_secs(55)));
    let error = fails(patient(&url).with_deadline(Duration::from_millis(1200)), "/drip");
    assert!(error.is_timeout(), "{error}");
    let silent = folder.serve("silent", "", "");
    let silent_url = format!("https://host.test:{}", silent.1);
    assert!(
        fails(folder.client(&silent_url).with_timeout(Some(Duration::from_millis(300))), "/").is_timeout()
    );
    assert!(fails(patient(&silent_url).with_deadline(Duration::from_millis(300)), "/").is_timeout());
    assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    for path in ["/cut", "/open"] {
        let error = fails(client(), path).to_string();
        assert_eq!(error, "the peer closed the connection in the middle of a message", "{path}");
    }
    assert!(fails(client(), "/garbage").to_string().contains("no proper HTTP"));
    assert!(matches!(fails(client().with_limit(1_000_000), "/large"), Error::TooLarge(1_000_000)));
    let large = client().request("GET", "/large", &[], Body::None).unwrap();
    assert!(large.body.len() == 3_000_000 && large.body.iter().all(|byte| *byte == b'x'));
    let moved = client().request("GET", "/moved", &[], Body::None).unwrap();
    assert_eq!((moved.status, moved.headers.get("Location")), (301, Some("/elsewhere")));
}

#[test]
fn bodies_go_up_whole() {
    let folder = Folder::new("post");
    folder.issue("good", P256, "ca", SERVER);
    let server = folder.serve("tls", "good.pem", "good.key");
    let client = folder.client(&format!("https://host.test:{}", server.1));
    let body: Vec<u8> = (0..200_000u32).map(|number| (number % 251) as u8).collect();
    let answer = client.request("POST", "/", &[("Authorization", "Bearer x")], Body::Bytes(&body)).unwrap();
    assert_eq!(answer.body, body);
    let mut rest = &body[..];
    let answer = client.request(
        "POST",
        "/",
        &[],
        Body::Reader(&mut |buffer| {
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            Ok(count)
        }),
    );
    assert_eq!(answer.unwrap().body, body);
    let plain = folder.serve("plain", "", "");
    let client = folder.client(&format!("http://host.test:{}", plain.1));
    assert_eq!(client.request("POST", "/", &[], Body::Bytes(&body)).unwrap().body, body);
}

/// OpenSSL's server, told by its arguments; it says on its standard output what it exports.
fn s_server(folder: &Folder, arguments: &str) -> (Server, std::process::ChildStdout) {
    let mut child = Command::new("openssl")
        .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "good.pem", "-key", "good.key"])
        .args(arguments.split(' '))
        .current_dir(&folder.0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    // It says "ACCEPT 127.0.0.1:PORT" when it listens.
    let mut line = String::new();
    let port = loop {
        let mut byte = [0];
        output.read_exact(&mut byte).unwrap();
        if byte != [b'\n'] {
            line.push(byte[0].into());
        } else if let Some(address) = line.strip_prefix("ACCEPT ") {
            break address.rsplit_once(':').unwrap().1.parse().unwrap();
        } else {
            line.clear();
        }
    };
    (Server(child, port), output)
}

#[test]
fn sessions_of_other_protocols_have_their_keys() {
    let folder = Folder::new("session");
    folder.issue("good", P256, "ca", SERVER);
    let open = |port, clock, protocol| {
        let until = minke_sys::clock::boottime() + Duration::from_secs(10);
        let addresses = resolve(&folder.0, "host.test", until).unwrap();
        let trust = folder.trust();
        let dial = Dial { host: "host.test", addresses: &addresses, port, protocol, trust, clock, until };
        Session::open(&dial)
    };
    for (suite, key) in [("TLS_CHACHA20_POLY1305_SHA256", 32), ("TLS_AES_256_GCM_SHA384", 64)] {
        let options = format!(
            "-alpn other,sample/1 -ciphersuites {suite} -keymatexport EXPORTER-sample -keymatexportlen {key}"
        );
        let (server, mut output) = s_server(&folder, &options);
        let mut session = open(server.1, None, b"sample/1").unwrap();
        assert_eq!(session.address().to_string(), "127.0.0.1");
        let mut ours = vec![0; key];
        session.export(b"EXPORTER-sample", &[], &mut ours).unwrap();
        let ours: String = ours.iter().map(|byte| format!("{byte:02X}")).collect();
        session.write_all(b"the end\n").unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"the end\n") {
            let mut piece = [0; 4096];
            let count = output.read(&mut piece).unwrap();
            assert!(count > 0);
            seen.extend_from_slice(&piece[..count]);
        }
        let seen = String::from_utf8(seen).unwrap();
        assert!(seen.contains(&format!("Keying material: {ours}\n")), "{ours} {seen}");
        let mut other = vec![0; key];
        session.export(b"EXPORTER-sample", b"x", &mut other).unwrap();
        assert!(!seen.contains(&other.iter().map(|byte| format!("{byte:02X}")).collect::<String>()));

        drop(session);
        let error = open(server.1, None, b"else/1").unwrap_err().to_string();
        assert_eq!(error, "host.test: the server has TLS for another protocol");
        let error = open(server.1, Some(Duration::ZERO), b"sample/1").unwrap_err();
        assert!(matches!(error, Error::Certificate(_)), "{error}");
    }
    // One that does not know the extension goes on without; then nobody knows what it speaks.
    let (server, _output) = s_server(&folder, "-tls1_3");
    let error = open(server.1, None, b"sample/1").unwrap_err().to_string();
    assert_eq!(error, "host.test: the server has TLS for another protocol");
}
