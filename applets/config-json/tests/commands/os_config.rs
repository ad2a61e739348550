//! `os-config` against a cloud that speaks HTTPS (Python's, with certificates that `openssl` makes), and PID 1's socket.

use crate::{Device, UUID, outcome, program};
use minke_control::{Event, Limits, Server, init};
use minke_tests::authority::Authority;
use minke_tests::cloud::Cloud;
use minke_tests::inside;
use minke_wire::json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../image/files/os-config.json");
const CONFIG: &str = "etc/openvpn/openvpn.conf";
const CA: &str = "etc/openvpn/ca.crt";

/// The cloud that this device's authority vouches for.
fn start(device: &Device, port: u16) -> Cloud {
    Cloud::start(&device.0.0.join("authority"), "server", port)
}

fn address(cloud: &Cloud, part: &str) -> String {
    format!("https://cloud.test:{}{part}", cloud.port())
}

/// A device whose system knows the cloud's authority.
pub(crate) fn device(name: &str) -> Device {
    let device = Device::new(name);
    let root = &device.0.0;
    for folder in ["etc/ssl/certs", "etc/openvpn"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    let authority = root.join("authority");
    Authority::new(&authority, 0..9).issue("server", "DNS:cloud.test", 0..9);
    std::fs::copy(authority.join("ca.pem"), root.join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    std::fs::write(root.join("etc/hosts"), "127.0.0.1 cloud.test\n").unwrap();
    std::fs::write(root.join("etc/resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    std::fs::copy(TABLE, root.join("etc/os-config.json")).unwrap();
    device
}

impl Device {
    pub(crate) fn managed(&self, endpoint: &str, more: &str) {
        self.put(format!(
            r#"{{"uuid":"{UUID}","apiEndpoint":"{endpoint}","deviceType":"pi","deviceApiKey":"k1"{more}}}"#
        ));
    }

    /// Runs `os-config`: exit status, output, log.
    fn os_config(&self, words: &[&str]) -> (i32, String, String) {
        let root = self.0.0.to_str().unwrap();
        let mut child = program("os-config", &[&["--root", root], words].concat());
        outcome(child.output().unwrap())
    }

    fn get(&self, key: &str) -> String {
        self.run(&["get", key]).1.trim().to_owned()
    }

    /// What a change of anything would show in.
    fn state(&self) -> Vec<Option<String>> {
        ["mnt/boot/config.json", CONFIG, CA].map(|path| self.read(path)).to_vec()
    }
}

fn skipped(units: &[&str]) -> String {
    units.iter().map(|unit| format!("{unit}.service does not exist here, skipped\n")).collect()
}

#[test]
fn an_update_writes_what_differs_and_only_that() {
    let device = device("update");
    let cloud = start(&device, 0);
    device.managed(&address(&cloud, "/"), "");
    let fetched = format!(
        "Fetching service configuration from {}...\nService configuration retrieved\n",
        address(&cloud, "/os/v1/config")
    );
    let (status, text, log) = device.os_config(&["update"]);
    let around = skipped(&["balena-supervisor"]);
    let units = skipped(&["prepare-openvpn", "openvpn"]);
    let files = format!("/{CA} updated\n/{CONFIG} updated\n");
    assert_eq!((status, log.as_str()), (0, ""));
    assert_eq!(text, format!("{fetched}{around}{units}{files}{units}{around}"));
    assert_eq!(device.read(CONFIG).unwrap(), "config of k1\n");
    assert_eq!(device.read(CA).unwrap(), "authority\n");
    let same = (0, format!("{fetched}No configuration changes\n"), String::new());
    assert_eq!(device.os_config(&["update"]), same);
    std::fs::write(device.0.0.join(CA), "damaged").unwrap();
    assert_eq!(device.os_config(&["update"]).0, 0);
    assert_eq!(device.read(CA).unwrap(), "authority\n");
    assert_eq!(device.os_config(&["update"]), same);
    // The key is made where there is none.
    device.put(format!(r#"{{"apiEndpoint":"{}"}}"#, address(&cloud, "")));
    assert_eq!(device.os_config(&["update"]).0, 0);
    assert_eq!(device.read(CONFIG).unwrap(), format!("config of {}\n", device.get("deviceApiKey")));
}

#[test]
fn answers_that_are_no_configuration_change_nothing() {
    let device = device("answers");
    let cloud = start(&device, 0);
    for (part, problem) in [
        ("/unauthorized", "/os/v1/config answered with status 401"),
        ("/failing", "/os/v1/config answered with status 500"),
        ("/garbage", "the cloud's answer is not JSON: "),
        ("/schema", "the cloud's answer has schema_version 2.0.0, and only 1.0.0 is known"),
    ] {
        device.managed(&address(&cloud, part), "");
        let before = device.state();
        let (status, _, log) = device.os_config(&["update"]);
        assert!(status == 1 && log.lines().count() == 1 && log.contains(problem), "{part}: {log}");
        let fleet = json!({ "apiEndpoint": address(&cloud, part), "deviceType": "pi" }).to_string();
        let (status, _, log) = device.os_config(&["join", &fleet]);
        assert!(status == 1 && log.contains(problem), "{part}: {log}");
        assert_eq!(device.state(), before);
    }
    // A transport that fails is tried again by an update, and ends a join.
    for (endpoint, problem) in [
        (address(&cloud, "/large"), "the answer is larger than 1048576 bytes"),
        ("https://cloud.test:1".to_owned(), "connect to 127.0.0.1:1: Connection refused (os error 111)"),
        (format!("https://127.0.0.1:{}", cloud.port()), "127.0.0.1: the certificate is for another name"),
        ("https://none.test".to_owned(), "none.test: no DNS server answers; is there a network?"),
    ] {
        device.managed(&address(&cloud, ""), "");
        let before = device.state();
        let (status, _, log) = device.os_config(&["join", &json!({ "apiEndpoint": endpoint }).to_string()]);
        assert!(status == 1 && log.contains(problem), "{endpoint}: {log}");
        assert_eq!(device.state(), before);
    }
}

/// One cloud takes the connection and stays silent, the other one after the request. A join ends by itself, with a line
/// that says which; an update goes on trying, and says so once.
#[test]
fn a_cloud_that_accepts_and_never_answers_holds_nobody() {
    let device = device("silent");
    let cloud = start(&device, 0);
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let deaf = format!("https://cloud.test:{}", mute.local_addr().unwrap().port());
    device.managed(&address(&cloud, "/never"), "");
    let before = device.state();
    let root = device.0.0.to_str().unwrap();
    let start = |words: &[&str]| {
        let mut command = program("os-config", &[&["--root", root], words].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let join = |endpoint: &str| start(&["join", &json!({ "apiEndpoint": endpoint }).to_string()]);
    let began = Instant::now();
    let (first, second, mut update) = (join(&deaf), join(&address(&cloud, "/never")), start(&["update"]));
    for (child, silent) in [(first, &deaf), (second, &address(&cloud, "/never"))] {
        let (status, text, log) = outcome(child.wait_with_output().unwrap());
        assert_eq!((status, log.lines().count()), (1, 1), "{log}");
        assert!(log.ends_with(&format!("{silent}/os/v1/config: no answer in time\n")), "{log}");
        assert!(
            text.starts_with("Fetching service configuration from ") && text.lines().count() == 1,
            "{text}"
        );
    }
    // Thirty seconds of silence each, at once; the limit is for a busy machine.
    let waited = began.elapsed();
    assert!((Duration::from_secs(20)..Duration::from_secs(120)).contains(&waited), "{waited:?}");
    let (mut said, mut log) = (BufReader::new(update.stderr.take().unwrap()), String::new());
    said.read_line(&mut log).unwrap();
    assert!(update.try_wait().unwrap().is_none(), "an update gives nothing up");
    std::thread::sleep(Duration::from_secs(5));
    update.kill().unwrap();
    update.wait().unwrap();
    said.read_to_string(&mut log).unwrap();
    assert!(log.ends_with("/never/os/v1/config: no answer in time; trying again\n"), "{log}");
    assert_eq!(log.lines().count(), 1, "{log}");
    assert_eq!(device.state(), before);
}

#[test]
fn wrong_types_and_endpoints_are_one_line() {
    let device = device("endpoints");
    for (key, value, problem) in [
        ("apiEndpoint", "5", "apiEndpoint is a number and should be a string"),
        ("deviceType", "[]", "deviceType is an array and should be a string"),
        ("balenaRootCA", "true", "balenaRootCA is a boolean and should be a string"),
        ("deviceApiKey", "{}", "deviceApiKey is an object and should be a string"),
        ("deviceApiKeys", "\"x\"", "deviceApiKeys is a string and should be an object"),
        (
            "apiEndpoint",
            "\"api.example.com\"",
            "apiEndpoint: URL \"api.example.com/os/v1/config\" does not begin with https://",
        ),
    ] {
        let fields = [("apiEndpoint", "\"https://x\""), ("deviceApiKey", "\"k\"")].into_iter();
        let fields = fields.filter(|(name, _)| *name != key).chain([(key, value)]);
        let text: Vec<String> = fields.map(|(key, value)| format!("\"{key}\":{value}")).collect();
        device.put(format!("{{{}}}", text.join(",")));
        for words in [&["update"][..], &["join", r#"{"apiEndpoint":"x"}"#]] {
            let (status, _, log) = device.os_config(words);
            let expected = if words[0] == "join" && key == "apiEndpoint" && value != "5" {
                "apiEndpoint: URL \"x/os/v1/config\" does not"
            } else {
                problem
            };
            assert!(
                status == 1 && log.lines().count() == 1 && log.contains(expected),
                "{key} {words:?}: {log}"
            );
        }
    }
    device.put("{\"apiEndpoint\": ");
    let (status, _, log) = device.os_config(&["join", r#"{"apiEndpoint":"https://x"}"#]);
    assert!(status == 1 && log.contains("correct it before changing fleets"), "{log}");
    device.put("{}");
    for (words, code) in
        [(&["update"][..], 0), (&["leave"], 0), (&["join", "[]"], 1), (&["join"], 2), (&["x"], 2), (&[], 2)]
    {
        assert_eq!(device.os_config(words).0, code, "{words:?}");
    }
    assert_eq!(device.read("mnt/boot/config.json").unwrap(), "{}");
}

#[test]
fn an_update_waits_for_its_cloud() {
    let device = device("waits");
    let port = minke_tests::free_tcp_port();
    device.managed(&format!("https://cloud.test:{port}"), "");
    let root = device.0.0.to_str().unwrap();
    let update = program("os-config", &["--root", root, "update"])
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut update = update.unwrap();
    let (mut said, mut log) = (BufReader::new(update.stderr.take().unwrap()), String::new());
    said.read_line(&mut log).unwrap();
    std::thread::sleep(Duration::from_millis(2500));
    let _cloud = start(&device, port);
    let (status, text, _) = outcome(update.wait_with_output().unwrap());
    said.read_to_string(&mut log).unwrap();
    assert_eq!(status, 0);
    assert!(text.contains("Service configuration retrieved\n"), "{text}");
    // The same failure again is not told again.
    assert_eq!(
        log,
        format!("connect to 127.0.0.1:{port}: Connection refused (os error 111); trying again\n")
    );
}

#[test]
fn joining_and_leaving_with_the_clouds_own_authority() {
    let device = device("join");
    let cloud = start(&device, 0);
    std::fs::remove_file(device.0.0.join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    device.managed("https://old.test", r#","mine":{"x":1},"registered_at":5,"applicationId":3"#);
    let fleet = |more: Value| {
        let mut fleet = json!({ "apiEndpoint": address(&cloud, ""), "deviceType": "pi", "applicationId": 7 });
        for (key, value) in more.as_object().unwrap().iter() {
            fleet.as_object_mut().unwrap().insert(key.clone(), value.clone());
        }
        fleet.to_string()
    };
    let before = device.state();
    let (status, _, log) = device.os_config(&["join", &fleet(json!({}))]);
    assert!(status == 1 && log.contains("cloud.test: the certificate's issuer is unknown"), "{log}");
    let (status, _, log) = device.os_config(&["join", &fleet(json!({ "deviceType": "nuc" }))]);
    assert!(status == 1 && log.contains("the fleet is for devices of type nuc, and this one is pi"), "{log}");
    assert_eq!(device.state(), before);

    let done = Command::new("base64").arg("-w0").arg(device.0.0.join("authority/ca.pem")).output().unwrap();
    let authority = String::from_utf8(done.stdout).unwrap();
    let (status, text, log) = device.os_config(&["join", &fleet(json!({ "balenaRootCA": authority }))]);
    assert_eq!((status, log.as_str()), (0, ""));
    let path = device.0.0.join("mnt/boot/config.json");
    let writing =
        format!("balena-supervisor.service does not exist here, skipped\nWriting {}\n", path.display());
    assert!(text.contains(&writing) && text.contains("/etc/openvpn/ca.crt updated\n"), "{text}");
    let key = device.get("deviceApiKey");
    assert_eq!(key.len(), 32);
    assert_eq!(device.read(CONFIG).unwrap(), format!("config of {key}\n"));
    let host = format!("cloud.test:{}", cloud.port());
    let keys = minke_wire::json::parse_str(&device.get("deviceApiKeys")).unwrap();
    let mut expected = json!({ "old.test": "k1" });
    expected.as_object_mut().unwrap().insert(host, key.as_str().into());
    assert_eq!(keys, expected);
    assert_eq!(
        (device.get("applicationId"), device.get("mine"), device.get("registered_at")),
        ("7".into(), "{\"x\":1}".into(), String::new())
    );

    let (status, text, _) = device.os_config(&["leave"]);
    assert_eq!(status, 0);
    let order =
        "Deleting config.json keys\n/etc/openvpn/ca.crt deleted\n/etc/openvpn/openvpn.conf deleted\nWriting ";
    assert!(text.contains(order), "{text}");
    let left: Value = minke_wire::json::parse_str(&device.read("mnt/boot/config.json").unwrap()).unwrap();
    assert_eq!(left, json!({ "uuid": UUID, "mine": { "x": 1 }, "deviceApiKeys": keys }));
    assert!(!device.0.0.join(CA).exists() && !device.0.0.join(CONFIG).exists());
    // And it gets its old key when it comes back.
    device.os_config(&["join", &fleet(json!({ "balenaRootCA": authority }))]);
    assert_eq!(device.get("deviceApiKey"), key);
}

/// PID 1 as far as this needs it: it notes what it is asked for, and says yes.
fn note_requests(noted: Arc<Mutex<Vec<String>>>) {
    let mut server = Server::bind(Path::new(init::SOCKET), 0o600, Limits::default()).unwrap();
    std::thread::spawn(move || {
        let poller = minke_sys::event::Poller::new().unwrap();
        poller.add(&server, 0, minke_sys::event::Interest::Read).unwrap();
        let mut ready = Vec::new();
        loop {
            poller.wait(&mut ready, None).unwrap();
            for event in server.events().unwrap() {
                let Event::Request { conn, request, .. } = event else { continue };
                let field =
                    |name: &str| request.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                let unit = request.pointer("/units/0").and_then(Value::as_str).unwrap_or_default();
                if field("command") == "show" {
                    let state = if unit == "openvpn.service" { "not-found" } else { "loaded" };
                    server.finish(conn, &json!({ "units": [{ "LoadState": state }] }));
                    continue;
                }
                let waits = request.get("block").and_then(Value::as_bool) == Some(true);
                noted.lock().unwrap().push(format!("{} {unit} {waits}", field("command")));
                server.finish(conn, &json!({}));
            }
        }
    });
}

#[test]
fn services_are_down_while_their_files_change() {
    if !inside(
        &["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"],
        "os_config::services_are_down_while_their_files_change",
    ) {
        return;
    }
    assert!(
        Command::new("sh")
            .args(["-ec", "mount -t tmpfs tmpfs /run; mkdir /run/minke"])
            .status()
            .unwrap()
            .success()
    );
    let noted = Arc::new(Mutex::new(Vec::new()));
    note_requests(noted.clone());
    let taken = || std::mem::take(&mut *noted.lock().unwrap());
    let device = device("order");
    let cloud = start(&device, 0);
    device.managed(&address(&cloud, ""), "");
    let (status, text, log) = device.os_config(&["update"]);
    assert_eq!((status, log.as_str()), (0, ""));
    let jobs = [
        "stop balena-supervisor.service true",
        "stop prepare-openvpn.service true",
        "start prepare-openvpn.service false",
        "start balena-supervisor.service false",
    ];
    assert_eq!(taken(), jobs);
    assert_eq!(
        text.lines().skip(2).collect::<Vec<_>>(),
        [
            "Stopping balena-supervisor.service...",
            "Awaiting balena-supervisor.service to exit...",
            "Stopping prepare-openvpn.service...",
            "Awaiting prepare-openvpn.service to exit...",
            "openvpn.service does not exist here, skipped",
            "/etc/openvpn/ca.crt updated",
            "/etc/openvpn/openvpn.conf updated",
            "Starting prepare-openvpn.service...",
            "openvpn.service does not exist here, skipped",
            "Starting balena-supervisor.service...",
        ]
    );
    device.os_config(&["update"]);
    assert_eq!(taken(), [""; 0]);
    // What cannot be written leaves the services running.
    device.managed(&address(&cloud, "/changed"), "");
    std::fs::remove_file(device.0.0.join(CA)).unwrap();
    std::fs::create_dir(device.0.0.join(CA)).unwrap();
    let (status, _, log) = device.os_config(&["update"]);
    assert!(status == 1 && log.contains("ca.crt"), "{log}");
    assert_eq!(taken(), jobs);
    std::fs::remove_dir(device.0.0.join(CA)).unwrap();
    assert_eq!(device.os_config(&["leave"]).0, 0);
    assert_eq!(
        taken(),
        [
            "stop balena-supervisor.service true",
            "reload-or-restart prepare-openvpn.service false",
            "start balena-supervisor.service false",
        ]
    );
}

/// Every prefix of a join's durable steps is what a power cut leaves; the next update makes it whole.
#[test]
fn a_join_that_was_cut_off_is_completed_by_the_next_update() {
    let device = device("cut");
    let cloud = start(&device, 0);
    device.managed(&address(&cloud, "/old"), "");
    assert_eq!(device.os_config(&["update"]).0, 0);
    let old = device.state();
    let fleet = json!({ "apiEndpoint": address(&cloud, "/new"), "deviceType": "pi" }).to_string();
    assert_eq!(device.os_config(&["join", &fleet]).0, 0);
    let new = device.state();
    assert!(old.iter().zip(&new).filter(|(old, new)| old != new).count() >= 2);
    let paths: Vec<PathBuf> =
        ["mnt/boot/config.json", CONFIG, CA].iter().map(|path| device.0.0.join(path)).collect();
    // The files in the order in which they are written.
    let order = [0, 2, 1];
    for done in 0..=order.len() {
        for (step, file) in order.iter().enumerate() {
            let content = if step < done { &new } else { &old };
            std::fs::write(&paths[*file], content[*file].as_ref().unwrap()).unwrap();
        }
        let begun = Instant::now();
        assert_eq!(device.os_config(&["update"]).0, 0);
        assert_eq!(device.state(), if done == 0 { old.clone() } else { new.clone() }, "after {done} steps");
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
    // A leave has deleted one file, or both, and the device is still in its fleet.
    for file in [2, 1] {
        std::fs::remove_file(&paths[file]).unwrap();
        assert_eq!(device.os_config(&["update"]).0, 0);
        assert_eq!(device.state(), new);
        std::fs::remove_file(&paths[2]).unwrap();
    }
}
