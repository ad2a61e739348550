//! Pulls by the Engine API, our command line and Docker's, from Debian's docker-registry.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../../../lib/oci/tests/common/mod.rs"]
mod common;

use common::registry::{Act, Front, Kind, Server, need_peers, skopeo};
use common::{Layout, Scratch, TestImage, tar};
use minke_http::Client;
use minke_http::client::Body;
use minke_tests::program;
use minke_tests::switch::{self, Marks, Switch, with_empty_run};
use minke_wire::json::Value;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[test]
fn entry() {
    program::entry(minke_engine::APPLET.programs);
}

struct Daemon(Child, PathBuf);

impl Daemon {
    fn start(scratch: &Scratch) -> Self {
        let socket = scratch.path("engine.sock");
        let path = |name: &str| scratch.path(name).display().to_string();
        let host = format!("unix://{}", socket.display());
        let words = [
            "--data-root",
            &path("data"),
            "--exec-root",
            &path("run"),
            "--preload",
            &path("none"),
            "-H",
            &host,
        ];
        let child = program::command("balenad", &words).stdout(Stdio::null()).spawn().unwrap();
        let daemon = Self(child, socket);
        for _ in 0..600 {
            if daemon.client().request("GET", "/_ping", &[], Body::None).is_ok() {
                return daemon;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the engine does not start");
    }
    fn client(&self) -> Client {
        Client::unix(&self.1)
    }
    fn get(&self, target: &str) -> Value {
        minke_wire::json::parse(&self.client().request("GET", target, &[], Body::None).unwrap().body).unwrap()
    }
    /// The status and the lines of a pull.
    fn pull(&self, query: &str, login: &str) -> (u16, Vec<Value>) {
        let headers = [("X-Registry-Auth", login)];
        let headers = if login.is_empty() { &[][..] } else { &headers };
        let target = format!("/v1.43/images/create?{query}");
        let mut answer = self.client().stream("POST", &target, headers, Body::None).unwrap();
        let mut lines = Vec::new();
        while let Some(line) = answer.next_line(1 << 20).unwrap() {
            lines.push(minke_wire::json::parse(&line).unwrap());
        }
        (answer.status, lines)
    }
    fn stop(mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// What the lines say of each layer and of the whole, without what only moves.
fn statuses(lines: &[Value]) -> Vec<String> {
    let mut all: Vec<String> = lines.iter().map(|line| text(line, "status").to_owned()).collect();
    all.retain(|status| status != "Downloading");
    all
}

fn image() -> TestImage {
    let noise = common::hostapp::content(1, 3_000_000);
    TestImage::new("app", &[tar(&[("etc/", b""), ("etc/motd", b"hello")]), tar(&[("data", &noise)])])
}

fn push(scratch: &Scratch, port: u16, options: &[&str]) {
    let mut layout = Layout::default();
    let manifest = layout.image(&image());
    scratch.write("push.tar", &layout.named(manifest, "x").tar());
    skopeo(&scratch.0, "oci-archive:push.tar:x", &format!("docker://127.0.0.1:{port}/fleet/app:1"), options);
}

#[test]
fn images_are_pulled_with_dockers_lines_and_stay() {
    need_peers();
    let scratch = Scratch::new("engine-pull");
    let registry = Server::start(&scratch.0, &Kind::Plain);
    push(&scratch, registry.port, &[]);
    let daemon = Daemon::start(&scratch);
    let repository = format!("127.0.0.1:{}/fleet/app", registry.port);
    let (status, lines) = daemon.pull(&format!("fromImage={repository}&tag=1&platform=linux%2Famd64"), "");
    assert_eq!(status, 200);
    let digest = text(&lines[lines.len() - 2], "status").strip_prefix("Digest: ").unwrap().to_owned();
    let layer = ["Download complete", "Extracting", "Pull complete"].map(str::to_owned);
    let mut expected = vec![format!("Pulling from {repository}")];
    expected.extend(["Pulling fs layer".to_owned(), "Pulling fs layer".to_owned()]);
    expected.extend(layer.clone());
    expected.extend(layer);
    expected.push(format!("Digest: {digest}"));
    expected.push(format!("Status: Downloaded newer image for {repository}:1"));
    assert_eq!(statuses(&lines), expected);
    let detail = lines.iter().find(|line| text(line, "status") == "Downloading").unwrap();
    assert!(detail.pointer("/progressDetail/total").and_then(Value::as_u64).unwrap() > 0);
    assert_eq!(text(detail, "id").len(), 12);
    let inspected = daemon.get(&format!("/images/{repository}:1/json"));
    assert_eq!(text(&inspected, "Id"), image().id().as_str());
    assert_eq!(inspected.pointer("/RepoTags/0").and_then(Value::as_str), Some(&*format!("{repository}:1")));
    assert_eq!(
        inspected.pointer("/RepoDigests/0").and_then(Value::as_str),
        Some(&*format!("{repository}@{digest}"))
    );
    // Again, by digest as by tag; and with our own command.
    for query in [format!("fromImage={repository}%3A1"), format!("fromImage={repository}&tag={digest}")] {
        let (_, lines) = daemon.pull(&query, "");
        let last = text(lines.last().unwrap(), "status");
        assert!(last.starts_with("Status: Image is up to date for"), "{last}");
    }
    let host = format!("unix://{}", daemon.1.display());
    let outcome = program::outcome(
        program::command("balena", &["-H", &host, "pull", &format!("{repository}:1")]).output().unwrap(),
    );
    assert!(outcome.0 == 0 && outcome.1.contains(": Already exists\n"), "{outcome:?}");
    assert!(outcome.1.ends_with(&format!("up to date for {repository}:1\n{repository}:1\n")), "{outcome:?}");
    // What cannot be had is a status, as nothing was sent yet.
    for (query, expected) in [
        (format!("fromImage={repository}&tag=none"), 404),
        ("fromImage=UPPER".to_owned(), 400),
        ("fromSrc=-".to_owned(), 501),
        (format!("fromImage={repository}&platform=plan9"), 400),
        ("fromImage=127.0.0.1:1/none&tag=%40".to_owned(), 400),
    ] {
        let (status, lines) = daemon.pull(&query, "");
        assert_eq!(status, expected, "{query}");
        assert!(!text(&lines[0], "message").is_empty(), "{query}");
    }
    daemon.stop();
    let daemon = Daemon::start(&scratch);
    assert_eq!(
        text(&daemon.get(&format!("/images/{repository}@{digest}/json")), "Id"),
        image().id().as_str()
    );
    let host = format!("unix://{}", daemon.1.display());
    let docker = |words: &[&str]| {
        let output = Command::new("docker").args(["-H", &host]).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?} {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    docker(&["rmi", &format!("{repository}:1")]);
    let printed = docker(&["pull", &format!("{repository}:1")]);
    assert!(printed.contains(": Pull complete") && printed.contains("Downloaded newer image"), "{printed}");
}

#[test]
fn a_login_is_used_and_a_pull_ends_with_its_client() {
    need_peers();
    let scratch = Scratch::new("engine-login");
    let registry = Server::start(&scratch.0, &Kind::Basic);
    push(&scratch, registry.port, &["--dest-creds=device:secret"]);
    let daemon = Daemon::start(&scratch);
    let query = format!("fromImage=127.0.0.1:{}/fleet/app&tag=1", registry.port);
    let (status, lines) = daemon.pull(&query, "");
    assert_eq!(status, 404);
    assert!(text(&lines[0], "message").starts_with("pull access denied"), "{lines:?}");
    // {"username":"device","password":"secret"}
    let login = "eyJ1c2VybmFtZSI6ImRldmljZSIsInBhc3N3b3JkIjoic2VjcmV0In0=";
    let (status, lines) = daemon.pull(&query, login);
    assert_eq!((status, text(lines.last().unwrap(), "error")), (200, ""));
    assert_eq!(daemon.pull(&query, "%%%").0, 400);

    // A registry that is always busy is asked again and again, as long as somebody waits.
    let front = Front::start(registry.port, |_| Act::Answer(503, String::new(), String::new()));
    let client = daemon.client().with_timeout(Some(Duration::from_millis(1500)));
    let target = format!("/images/create?fromImage=127.0.0.1:{}/app&tag=1", front.port);
    let mut asked = 0;
    // A busy machine may not have come that far when the client goes.
    for _ in 0..20 {
        let failed = client.request("POST", &target, &[], Body::None).unwrap_err();
        assert!(failed.is_timeout(), "{failed}");
        asked = front.asked().len();
        if asked >= 1 {
            break;
        }
    }
    assert!(asked >= 1);
    std::thread::sleep(Duration::from_secs(5));
    assert!(front.asked().len() <= asked + 1, "{} after {asked}", front.asked().len());
    assert_eq!(text(&daemon.get("/version"), "Os"), "linux");
}

/// A registry at `reg.test`, which is no name of this machine's own for the engine, with a certificate for it.
fn named_registry(scratch: &Scratch, certificate: &str) -> Server {
    Server::start(&scratch.0, &Kind::Tls { folder: &scratch.0, name: certificate })
}

/// Only what must wait for the clock waits, and goes on when it is known to be right; a certificate that a clock which
/// nobody has confirmed contradicts is looked at again when somebody has.
#[test]
fn a_pull_waits_for_the_clock_that_certificates_need() {
    need_peers();
    with_empty_run("a_pull_waits_for_the_clock_that_certificates_need", || {
        let scratch = Scratch::new("engine-clock");
        switch::certificates(&scratch.0, "reg.test");
        scratch.write("hosts", b"127.0.0.1 reg.test localhost\n");
        let script = "mkdir certs; cp ca.pem certs/ca-certificates.crt; mount --bind certs /etc/ssl/certs; \
                      mount --bind hosts /etc/hosts";
        minke_tests::run(Command::new("sh").args(["-ec", script]).current_dir(&scratch.0));
        let plain = Server::start(&scratch.0, &Kind::Plain);
        push(&scratch, plain.port, &[]);
        let [good, expired, early] = ["good", "expired", "early"].map(|name| named_registry(&scratch, name));
        let daemon = Daemon::start(&scratch);
        // Begins a pull by the front, and says how it ends.
        let pull = |front: &Switch| {
            let (client, port) = (daemon.client(), front.port);
            std::thread::spawn(move || {
                let target = format!("/images/create?fromImage=reg.test:{port}/fleet/app&tag=1");
                client.request("POST", &target, &[], Body::None).unwrap()
            })
        };
        let waits = || std::thread::sleep(Duration::from_secs(2));
        let is_good = |answer: minke_http::Response| {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(answer.status == 200 && text.contains("Status: "), "{} {text}", answer.status);
        };

        // Nothing has said that the clock is right: nobody is asked. This machine's own registry is.
        let marks = Marks::none("/".as_ref());
        let front = Switch::new(good.port);
        let first = pull(&front);
        let query = format!("fromImage=127.0.0.1:{}/fleet/app&tag=1", plain.port);
        assert_eq!(daemon.pull(&query, "").0, 200);
        waits();
        assert!(front.count() == 0 && !first.is_finished());
        marks.make("rtc");
        is_good(first.join().unwrap());

        // The real-time clock was plausible and is wrong, in both directions: the first look is no verdict.
        for wrong in [&expired, &early] {
            let marks = Marks::none("/".as_ref());
            marks.make("rtc");
            let front = Switch::new(wrong.port);
            let second = pull(&front);
            front.wait_for(1);
            waits();
            assert!(front.count() == 1 && !second.is_finished());
            // What a clock that is put right would make of the certificate.
            front.lead_to(good.port);
            marks.make("synchronized");
            is_good(second.join().unwrap());
            // From now on it is one.
            let third = pull(&Switch::new(wrong.port)).join().unwrap();
            let text = String::from_utf8_lossy(&third.body).into_owned();
            assert!(third.status == 500 && text.contains("this device's clock says"), "{text}");
        }

        // Who has gone is not waited for: the next pull of the same is another one.
        let marks = Marks::none("/".as_ref());
        let front = Switch::new(good.port);
        let target = format!("/images/create?fromImage=reg.test:{}/fleet/app&tag=1", front.port);
        let hasty = daemon.client().with_timeout(Some(Duration::from_millis(500)));
        assert!(hasty.request("POST", &target, &[], Body::None).unwrap_err().is_timeout());
        let last = pull(&front);
        waits();
        assert_eq!(front.count(), 0);
        marks.make("synchronized");
        is_good(last.join().unwrap());
    });
}
