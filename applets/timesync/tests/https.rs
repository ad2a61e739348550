//! The date of a web server, against Python's with certificates that `openssl` makes. No clock is set.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use minke_tests::program;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY;

/// The program itself: this executable is it as well.
#[test]
fn entry() {
    program::entry(minke_timesync::APPLET.programs);
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// A root folder with an authority, and web servers.
struct Lab {
    root: program::Root,
    servers: Vec<Child>,
}

impl Lab {
    fn new(name: &str) -> Self {
        let root = program::Root::new("timesync", name, &["etc/ssl/certs"]);
        std::fs::write(root.0.join("etc/hosts"), "127.0.0.1 host.test\n").unwrap();
        let lab = Self { root, servers: Vec::new() };
        lab.sh("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem \
            -days 36500 -subj /CN=Root; cp ca.pem etc/ssl/certs/ca-certificates.crt; mkdir certs; touch index; \
            printf '[ca]\\ndefault_ca=d\\n[d]\\ndatabase=index\\nnew_certs_dir=certs\\nrand_serial=yes\\ndefault_md=sha256\\n\
            policy=p\\nunique_subject=no\\n[p]\\ncommonName=supplied\\n[x]\\nsubjectAltName=DNS:host.test\\n' > ca.cnf");
        lab.built(now() - YEAR);
        lab
    }

    fn sh(&self, script: &str) {
        let done = Command::new("sh").args(["-ec", script]).current_dir(&self.root.0).output().unwrap();
        assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn built(&self, time: i64) {
        self.sh(&format!("date -u -d @{time} +%Y%m%d%H%M%S > etc/timestamp"));
    }

    /// A TLS server whose certificate is valid between these two times; its port.
    fn tls(&mut self, from: i64, to: i64) -> u16 {
        let name = format!("s{}", self.servers.len());
        self.sh(&format!(
            "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr \
               -subj /CN={name}; \
             openssl ca -batch -config ca.cnf -cert ca.pem -keyfile ca.key -in {name}.csr -out {name}.pem -notext \
               -extensions x -startdate $(date -u -d @{from} +%Y%m%d%H%M%SZ) -enddate $(date -u -d @{to} +%Y%m%d%H%M%SZ)"
        ));
        self.serve(&[&format!("{name}.pem"), &format!("{name}.key")])
    }

    fn serve(&mut self, arguments: &[&str]) -> u16 {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server.py");
        let mut child = Command::new("/usr/bin/python3")
            .arg(script)
            .arg("127.0.0.1")
            .args(arguments)
            .current_dir(&self.root.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.servers.push(child);
        line.trim().parse().unwrap()
    }

    /// One attempt with these members of `config.json`: whether it succeeded, and what was said.
    fn ask(&self, uri: &str, more: &str) -> (bool, String) {
        self.root.config(format!(r#"{{"os":{{"network":{{"connectivity":{{"uri":"{uri}"}}}}}}{more}}}"#));
        let (status, output, log) = self.root.run("timesync", &["https", "--once", "--no-clock"]);
        (status == 0, log + &output)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in &mut self.servers {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What the clock is set to in a line of [`minke_timesync`], in seconds since 1970.
fn new_time(text: &str) -> i64 {
    let time = text.split("new time: ").nth(1).unwrap();
    let done = Command::new("date").args(["-u", "+%s", "-d", &time[..19]]).output().unwrap();
    String::from_utf8(done.stdout).unwrap().trim().parse().unwrap()
}

fn is_set_to(answer: &(bool, String), time: i64) {
    let (done, text) = answer;
    assert!(*done && text.contains("Time synchronised via HTTPS."), "{text}");
    assert!((time..time + 20).contains(&new_time(text)), "{text}");
}

fn fails_by(answer: &(bool, String), why: &str) {
    let (done, text) = answer;
    assert!(!*done && text.contains(why) && !text.contains("Time synchronised"), "{text}");
}

#[test]
fn plain_http_is_asked_and_everything_but_204_is_somebody_else() {
    let mut lab = Lab::new("plain");
    let port = lab.serve(&[]);
    let ask = |path: &str| lab.ask(&format!("http://host.test:{port}{path}"), "");
    let (done, text) = ask("/now");
    assert!(done && text.contains("System time is already synchronised."), "{text}");
    let later = now() + 100 * DAY;
    is_set_to(&ask(&format!("/at/{later}")), later);
    let earlier = now() - 600;
    let answer = ask(&format!("/at/{earlier}"));
    is_set_to(&answer, earlier);
    assert!(answer.1.contains("System time has gone back."), "{}", answer.1);
    for (path, status) in [("/portal", 200), ("/moved", 302), ("/missing", 404)] {
        fails_by(&ask(path), &format!("answered with status {status} instead of 204"));
    }
    fails_by(&ask(&format!("/at/{}", now() - 2 * YEAR)), "is earlier than this system's build");
    for path in ["/none", "/garbage"] {
        let (done, text) = ask(path);
        assert!(done && text.contains("gives no date"), "{text}");
    }
    let before = std::time::Instant::now();
    fails_by(&ask("/never"), "");
    assert!(before.elapsed().as_secs() < 50);
    let (done, text) = lab.ask("null", r#","apiEndpoint":"https://host.test""#);
    assert!(
        done && text.contains("Connectivity URL not defined - skipping HTTPS synchronisation."),
        "{text}"
    );
    let (done, text) = lab.ask("ftp://x", "");
    assert!(done && text.contains("skipping HTTPS synchronisation."), "{text}");
}

#[test]
fn a_certificate_must_hold_at_the_date_that_it_vouches_for() {
    let mut lab = Lab::new("tls");
    let now = now();
    let (valid, later) = (lab.tls(now - DAY, now + 30 * DAY), lab.tls(now + YEAR, now + 2 * YEAR));
    let expired = lab.tls(now - 30 * DAY, now - 60);
    let (ancient, remote) =
        (lab.tls(now - 3 * YEAR, now - 2 * YEAR), lab.tls(now + 30 * YEAR, now + 31 * YEAR));
    let ask = |port: u16, path: &str| lab.ask(&format!("https://host.test:{port}{path}"), "");
    let at = |time: i64| format!("/at/{time}");
    // The usual case.
    is_set_to(&ask(valid, &at(now + 20 * DAY)), now + 20 * DAY);
    // The server's clock is wrong, or somebody has its key: its certificate contradicts it.
    fails_by(&ask(valid, &at(now + 100 * DAY)), "the certificate expired at");
    fails_by(&ask(valid, &at(now - 100 * DAY)), "the certificate is valid from");
    // Our clock is wrong: it stands before the certificate's time, and behind it.
    is_set_to(&ask(later, &at(now + YEAR + 50 * DAY)), now + YEAR + 50 * DAY);
    is_set_to(&ask(expired, &at(now - 10 * DAY)), now - 10 * DAY);
    // The certificate has really expired, or is not valid yet.
    fails_by(&ask(expired, "/now"), "the certificate expired at");
    fails_by(&ask(later, "/now"), "the certificate is valid from");
    // It holds at no plausible time.
    fails_by(&ask(ancient, &at(now - 2 * YEAR - DAY)), "the certificate expired at");
    fails_by(&ask(remote, &at(now + 30 * YEAR + DAY)), "the certificate is valid from");
    // An unknown issuer is no matter of the clock.
    lab.sh("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout o.key -out o.pem -days 9 \
        -subj /CN=Other; cp o.pem etc/ssl/certs/ca-certificates.crt");
    for port in [valid, later, expired] {
        fails_by(&ask(port, &at(now + 20 * DAY)), "issuer is unknown");
    }
}

#[test]
fn a_long_jump_is_confirmed_by_a_second_server() {
    let mut lab = Lab::new("second");
    let now = now();
    lab.built(now - 2 * YEAR);
    let long = (now - 5 * YEAR, now + 40 * YEAR);
    let (first, second) = (lab.tls(long.0, long.1), lab.tls(long.0, long.1));
    let plain = lab.serve(&[]);
    let ask = |time: i64, other: &str| {
        lab.ask(&format!("https://host.test:{first}/at/{time}"), &format!(r#","apiEndpoint":"{other}""#))
    };
    let agreeing = |time: i64| format!("https://host.test:{second}/at/{time}");
    for time in [now - 30 * DAY, now + 6 * YEAR, now + 25 * YEAR] {
        is_set_to(&ask(time, &agreeing(time + 30)), time);
        fails_by(&ask(time, &agreeing(time + 300)), "contradicts that of another server");
        // One that does not answer is waited for.
        fails_by(&ask(time, "https://host.test:1"), "no second server confirms the date");
    }
    // A date that needs no confirmation is not held up by it.
    is_set_to(&ask(now + YEAR, "https://host.test:1"), now + YEAR);
    // Nobody else to ask: the same server again is no second, nor is one without a certificate.
    for other in [format!("https://host.test:{first}"), format!("http://host.test:{plain}")] {
        is_set_to(&ask(now - 30 * DAY, &other), now - 30 * DAY);
        fails_by(&ask(now + 25 * YEAR, &other), "is more than 20 years after this system's build");
    }
}
