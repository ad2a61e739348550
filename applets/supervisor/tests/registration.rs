//! The registration of a device with its cloud, which is Python's web server with TLS (spec supervisor §2.2).

// A test's helper fails the test that calls it.
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

use minke_control::time;
use minke_tests::authority::Authority;
use minke_tests::cloud::{Cloud, FLEET_KEY};
use minke_tests::program::{self, Root};
use minke_tests::switch::with_empty_run;
use minke_tests::{Daemon, free_tcp_port};
use minke_wire::json::{Value, json};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const UUID: &str = "0123456789abcdef0123456789abcdef";
const KEY: &str = "fedcba9876543210fedcba9876543210";

/// Not a test of its own: the program, when this executable is started as it.
#[test]
fn entry() {
    program::entry(minke_supervisor::APPLET.programs);
}

/// A device with its cloud.
struct Lab {
    root: Root,
    cloud: Cloud,
    authority: Authority,
    port: u16,
}

impl Lab {
    fn new(test: &str) -> Self {
        let root = Root::new("registration", test, &[]);
        let authority = Authority::new(&root.0, 0..9);
        authority.issue("server", "IP:127.0.0.1", 0..9);
        let cloud = Cloud::start(&root.0, "server", 0);
        let port = free_tcp_port();
        Self { root, cloud, authority, port }
    }

    /// Writes `config.json`: a device of the cloud at this part of its address, with these members besides.
    fn config(&self, part: &str, more: &Value) {
        let mut config = json!({
            "apiEndpoint": format!("https://127.0.0.1:{}{part}", self.cloud.port()),
            "balenaRootCA": self.authority.base64(),
            "uuid": UUID,
            "deviceApiKey": KEY,
            "deviceType": "raspberrypi3",
            "bootstrapRetryDelay": 0,
        });
        for (key, value) in more.as_object().unwrap().iter() {
            config.make_object().insert(key.clone(), value.clone());
        }
        // In one step, as the supervisor may look at it any moment.
        let fresh = self.root.0.join("mnt/boot/fresh");
        std::fs::write(&fresh, config.to_text()).unwrap();
        std::fs::rename(fresh, self.root.0.join("mnt/boot/config.json")).unwrap();
    }

    fn read(&self) -> Value {
        minke_wire::json::parse_str(&self.root.read("mnt/boot/config.json").unwrap()).unwrap()
    }

    fn words(&self) -> Vec<String> {
        let path = |name: &str| self.root.0.join(name).display().to_string();
        vec![
            "--engine".into(),
            format!("unix://{}", path("no-engine.sock")),
            "--listen".into(),
            format!("127.0.0.1:{}", self.port),
            "--data".into(),
            path("data"),
            "--apps".into(),
            path("apps.json"),
            "--config".into(),
            path("mnt/boot/config.json"),
        ]
    }

    /// The supervisor, in the namespaces of this thread.
    fn start(&self) -> Daemon {
        let words = self.words();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Daemon::start(program::command("supervisor", &words).stdout(Stdio::null()))
    }

    fn status(&self) -> String {
        let words = [self.words(), vec!["status".into()]].concat();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        program::outcome(program::command("supervisor", &words).output().unwrap()).1
    }

    /// Waits until `config.json` has a number of the device and no key of the fleet, and until its writer has done the last of
    /// his steps, the good copy: what is written by hand before that may be taken for a write that a power cut has ended.
    fn registered(&self) -> Value {
        until("the device is registered", || {
            let config = self.read();
            let copy = self.root.read("mnt/boot/config.json.good");
            !config["deviceId"].is_null()
                && config["apiKey"].is_null()
                && copy
                    .is_some_and(|copy| minke_wire::json::parse_str(&copy).is_ok_and(|copy| copy == config))
        });
        self.read()
    }

    /// Method and path of the requests with which key, in order.
    fn requests(&self) -> Vec<(String, String)> {
        let word = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
        self.cloud.requests().iter().map(|line| (word(line, "request"), word(line, "key"))).collect()
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn milliseconds() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

const REGISTER: &str = "POST /device/register";
const FIND: &str = "GET /v7/device?$select=id&$filter=uuid%20eq%20'0123456789abcdef0123456789abcdef'";

fn request(line: &str, key: &str) -> (String, String) {
    (line.to_owned(), key.to_owned())
}

#[test]
fn a_new_device_is_registered_and_the_fleet_s_key_goes() {
    let lab = Lab::new("new");
    lab.config("", &json!({ "applicationId": "12", "apiKey": FLEET_KEY, "userId": 5, "custom": "kept" }));
    let before = milliseconds();
    let _supervisor = lab.start();
    let config = lab.registered();
    assert_eq!(config["deviceId"], 1000);
    let at = config["registered_at"].as_u64().unwrap();
    assert!((before..=milliseconds()).contains(&at), "{at}");
    assert_eq!((&config["apiKey"], &config["custom"]), (&Value::Null, &json!("kept")));
    assert_eq!((&config["uuid"], &config["deviceApiKey"]), (&json!(UUID), &json!(KEY)));

    assert_eq!(lab.requests(), [request(REGISTER, FLEET_KEY)]);
    let asked = &lab.cloud.requests()[0];
    let document = &asked["document"];
    for (member, value) in [
        ("application", json!(12)),
        ("uuid", json!(UUID)),
        ("device_type", json!("raspberrypi3")),
        ("api_key", json!(KEY)),
        ("supervisor_version", json!("19.0.5")),
        ("user", json!(5)),
    ] {
        assert_eq!(document[member], value, "{member}");
    }
    for member in ["os_version", "os_variant", "mac_address"] {
        assert!(document[member].is_string(), "{member}");
    }
    assert!(asked["agent"].as_str().unwrap().starts_with("Supervisor/19.0.5"), "{asked:?}");
    until("nothing is said of it", || !lab.status().contains("registration"));
    // Once is enough, also for the next start.
    drop(_supervisor);
    let _supervisor = lab.start();
    until("it answers", || lab.status().contains("Target: "));
    assert_eq!(lab.requests().len(), 1);
}

#[test]
fn a_registration_whose_answer_was_lost_ends_well() {
    let lab = Lab::new("lost");
    lab.config("/lost", &json!({ "applicationId": 12, "apiKey": FLEET_KEY }));
    let _supervisor = lab.start();
    let config = lab.registered();
    assert_eq!((&config["deviceId"], &config["apiKey"]), (&json!(1000), &Value::Null));
    let at = |path: &str| path.replacen(" /", " /lost/", 1);
    let asked = lab.requests();
    assert_eq!(asked[0], request(&at(REGISTER), FLEET_KEY));
    // The cloud has the key, so that the device finds itself by it.
    assert_eq!(asked[asked.len() - 2..], [request(&at(REGISTER), FLEET_KEY), request(&at(FIND), KEY)]);
}

#[test]
fn what_is_wrong_is_said_and_tried_again() {
    let lab = Lab::new("wrong");
    let says = |text: &str| until(text, || lab.status().contains(text));
    lab.config("", &json!({ "applicationId": 12 }));
    let _supervisor = lab.start();
    says("Problem: registration with the cloud: Cannot provision without a provisioning api key");
    lab.config("", &json!({ "apiKey": FLEET_KEY }));
    says("registration with the cloud: applicationId is missing or wrong in config.json");
    // No configuration at all, as in the middle of somebody's write, is not one of a device without a cloud.
    lab.root.config("");
    says("registration with the cloud: config.json is empty");
    assert_eq!(lab.requests(), []);
    lab.config("", &json!({ "applicationId": 12, "apiKey": "other" }));
    says("/device/register answered with status 401: Unauthorized");
    assert_eq!((lab.read()["apiKey"].clone(), lab.read()["deviceId"].clone()), (json!("other"), Value::Null));
    lab.config("", &json!({ "applicationId": 12, "apiKey": FLEET_KEY, "balenaRootCA": "" }));
    says("127.0.0.1: the certificate's issuer is unknown");
    lab.config("", &json!({ "applicationId": 12, "apiKey": FLEET_KEY, "apiEndpoint": "nowhere" }));
    says("registration with the cloud: apiEndpoint: URL \"nowhere/device/register\" does not begin");
    lab.config("", &json!({ "applicationId": 12, "apiKey": FLEET_KEY }));
    assert_eq!(lab.registered()["deviceId"], 1000);
}

#[test]
fn a_device_that_the_cloud_knows_brings_its_key_and_one_that_it_has_lost_becomes_another() {
    let lab = Lab::new("exchange");
    // Made by somebody else, with another key.
    lab.config("", &json!({ "applicationId": 12, "apiKey": FLEET_KEY, "deviceApiKey": "old" }));
    drop((lab.start(), lab.registered()));
    let first = lab.requests().len();
    lab.config("", &json!({ "apiKey": FLEET_KEY, "registered_at": 1, "deviceId": 1000 }));
    let supervisor = lab.start();
    lab.registered();
    drop(supervisor);
    let bring = "POST /api-key/device/1000/device-key";
    assert_eq!(
        lab.requests()[first..],
        [request(FIND, KEY), request(FIND, FLEET_KEY), request(bring, FLEET_KEY)]
    );
    // A number of the device without a device of its uuid is a person's mistake: nothing is changed.
    let strange = json!({ "apiKey": FLEET_KEY, "registered_at": 1, "deviceId": 7, "uuid": "f".repeat(32) });
    lab.config("", &strange);
    let before = lab.read();
    let supervisor = lab.start();
    until("it is said", || {
        lab.status().contains("the cloud has no device of this uuid; see uuid and deviceId")
    });
    assert_eq!(lab.read(), before);
    drop(supervisor);
    // Without a number it is another device from now on, with another key.
    let lost =
        json!({ "applicationId": 12, "apiKey": FLEET_KEY, "registered_at": 1, "uuid": "f".repeat(32) });
    lab.config("", &lost);
    let _supervisor = lab.start();
    let config = lab.registered();
    assert_eq!(config["deviceId"], 1001);
    for (key, old) in [("uuid", "f".repeat(32)), ("deviceApiKey", KEY.to_owned())] {
        let new = config[key].as_str().unwrap();
        assert!(new.len() == 32 && new != old, "{key} {new}");
    }
}

#[test]
fn nothing_is_asked_before_the_clock_can_be_trusted() {
    with_empty_run("nothing_is_asked_before_the_clock_can_be_trusted", || {
        std::fs::create_dir_all(time::FOLDER).unwrap();
        let lab = Lab::new("clock");
        // An attempt that failed would be the last one of the test.
        let config = json!({ "applicationId": 12, "apiKey": FLEET_KEY, "bootstrapRetryDelay": 3600000 });
        lab.config("", &config);
        let _supervisor = lab.start();
        let waits = "waiting for the time: the clock is not known to be right";
        until("it waits", || lab.status().contains(waits));
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(lab.requests(), []);
        time::mark_synchronized("NTP").unwrap();
        assert_eq!(lab.registered()["deviceId"], 1000);
        assert_eq!(lab.requests(), [request(REGISTER, FLEET_KEY)]);
    });
}
