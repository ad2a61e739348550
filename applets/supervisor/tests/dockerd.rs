//! The supervisor against a real engine, Debian's dockerd. What the supervisor relies on is the API, so what holds here holds
//! with any engine that keeps to it.

// A test's helper fails the test that calls it.
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

use minke_engine_api::Engine;
use minke_http::Client;
use minke_http::client::Body;
use minke_tests::dockerd::Dockerd;
use minke_tests::run;
use minke_wire::json::{Value, json};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The app's id: part of the lock folders that the engine makes below /tmp.
const APP: i64 = 987_650;
const UUID: &str = "0123456789abcdef0123456789abcdef";

/// The supervisor runs as a process of its own: this test binary again, with this variable set.
const AS_SUPERVISOR: &str = "MINKE_TEST_SUPERVISOR";

#[test]
fn the_supervisor_itself() {
    let Ok(arguments) = std::env::var(AS_SUPERVISOR) else { return };
    let arguments = arguments.split(' ').map(OsString::from).collect();
    let build = minke_applet::Build { version: "test", time: 0 };
    std::process::exit(minke_applet::run(&minke_supervisor::APPLET.programs[0], arguments, build).into());
}

struct Machine {
    folder: PathBuf,
    engine: Dockerd,
    supervisor: Option<Child>,
    port: u16,
}

impl Machine {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("minke-dockerd-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("bin")).unwrap();
        std::fs::write(folder.join("config.json"), json!({ "uuid": "d".repeat(32) }).to_string()).unwrap();
        // Below those that the kernel gives out: the supervisor has it several times, and no other test in between.
        let port = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
        let mut engine = Dockerd::new(&folder, &folder.join("data"));
        engine.start();
        let machine = Self { folder, engine, supervisor: None, port };
        machine.import_image();
        machine
    }

    fn api(&self) -> Engine {
        Engine::unix(self.engine.socket())
    }

    fn import_image(&self) {
        let root = self.folder.join("image/bin");
        std::fs::create_dir_all(&root).unwrap();
        std::fs::copy(self.engine.busybox(), root.join("busybox")).unwrap();
        for name in ["sh", "sleep", "true", "false", "echo"] {
            std::os::unix::fs::symlink("busybox", root.join(name)).unwrap();
        }
        let tar = self.folder.join("image.tar");
        run(Command::new("tar").arg("-C").arg(self.folder.join("image")).arg("-cf").arg(&tar).arg("."));
        self.docker(&["import", "-c", "CMD [\"sleep\",\"1000\"]", tar.to_str().unwrap(), "demo:1"]);
    }

    fn docker(&self, arguments: &[&str]) -> String {
        self.engine.docker(arguments)
    }

    fn start_supervisor(&mut self) {
        let folder = self.folder.display();
        let arguments = format!(
            "--engine unix://{folder}/engine.sock --listen 127.0.0.1:{} --data {folder}/state \
             --apps {folder}/apps.json --config {folder}/config.json",
            self.port
        );
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("supervisor.log"));
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_supervisor_itself", "--nocapture"])
            .env(AS_SUPERVISOR, arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        self.supervisor = Some(child);
    }

    fn kill_supervisor(&mut self) {
        if let Some(mut child) = self.supervisor.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn status(&self) -> Option<Value> {
        let client =
            Client::tcp(([127, 0, 0, 1], self.port).into()).with_timeout(Some(Duration::from_secs(5)));
        let response = client.request("GET", "/v2/state/status", &[], Body::None).ok()?;
        minke_wire::json::parse(&response.body).ok()
    }

    fn is_applied(&self) -> bool {
        self.status().is_some_and(|status| status["appState"] == "applied")
    }

    /// Name and state of each container, sorted.
    fn containers(&self) -> Vec<String> {
        let list = self.docker(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]);
        let mut list: Vec<String> = list.lines().map(str::to_owned).collect();
        list.sort();
        list
    }

    fn preload(&self, services: &Value) {
        let release = json!({ "id": 11, "services": services, "volumes": { "data": {} }, "networks": {} });
        let app = json!({ "id": APP, "name": "demo", "releases": { "c0ffee": release } });
        let file = json!({ "config": {}, "apps": { UUID: app } });
        std::fs::write(self.folder.join("apps.json"), file.to_string()).unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill_supervisor();
        if std::thread::panicking() {
            let supervisor = std::fs::read_to_string(self.folder.join("supervisor.log")).unwrap_or_default();
            for (name, text) in [("supervisor", supervisor), ("engine", self.engine.log())] {
                eprintln!("--- {name}\n{}", text.get(text.len().saturating_sub(4000)..).unwrap_or(&text));
            }
        }
        self.engine.stop();
        let _ = std::fs::remove_dir_all(&self.folder);
        let _ = std::fs::remove_dir_all(format!("/tmp/balena-supervisor/services/{APP}"));
        let _ = std::fs::remove_dir("/tmp/balena-supervisor/services");
        let _ = std::fs::remove_dir("/tmp/balena-supervisor");
    }
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A shell command as PID 1 has no handler for SIGTERM: the grace is short so that the test is.
fn service(image_id: u32, composition: &Value) -> Value {
    let mut composition = composition.clone();
    composition["stop_grace_period"] = json!("1s");
    json!({ "id": 21, "image_id": image_id, "image": "demo:1", "environment": { "MODE": "x" }, "labels": {},
        "composition": composition })
}

/// One engine for all of it: starting one takes longer than the checks.
#[test]
fn a_preloaded_app_runs_and_keeps_running() {
    let mut machine = Machine::new();
    let web = json!({ "depends_on": ["db"], "ports": ["8080:80"], "volumes": ["data:/data"] });
    machine
        .preload(&json!({ "web": service(31, &web), "db": service(32, &json!({ "command": "sleep 999" })) }));
    machine.start_supervisor();
    wait("the target", || machine.is_applied());
    let both = ["db_32_11_c0ffee running", "web_31_11_c0ffee running"];
    assert_eq!(machine.containers(), both);
    assert_eq!(std::fs::read_to_string(machine.folder.join("apps.json")).unwrap(), "{}\n");
    assert!(machine.folder.join("apps.json.preloaded").exists());
    let status = machine.status().unwrap();
    assert_eq!((&status["release"], status["containers"].as_array().unwrap().len()), (&json!("c0ffee"), 2));

    let inspect = |format: &str| machine.docker(&["inspect", "-f", format, "web_31_11_c0ffee"]);
    assert!(inspect("{{.Config.Env}}").contains("BALENA_DEVICE_NAME_AT_INIT="));
    assert!(inspect("{{.HostConfig.Binds}}").contains(&format!("{APP}_data:/data")));
    assert!(inspect("{{.NetworkSettings.Networks}}").contains(&format!("{UUID}_default")));

    // What is removed behind its back comes again; the other container stays as it is.
    let id = |machine: &Machine, name: &str| machine.docker(&["inspect", "-f", "{{.Id}}", name]);
    let (web_id, db_id) = (id(&machine, "web_31_11_c0ffee"), id(&machine, "db_32_11_c0ffee"));
    machine.docker(&["rm", "-f", "web_31_11_c0ffee"]);
    wait("the container to come again", || machine.containers() == both);
    assert_ne!(id(&machine, "web_31_11_c0ffee"), web_id);
    assert_eq!(id(&machine, "db_32_11_c0ffee"), db_id);

    // A supervisor that dies and comes back changes nothing.
    wait("the target", || machine.is_applied());
    let web_id = id(&machine, "web_31_11_c0ffee");
    machine.kill_supervisor();
    machine.start_supervisor();
    wait("the target", || machine.is_applied());
    assert_eq!(id(&machine, "web_31_11_c0ffee"), web_id);
    assert_eq!(id(&machine, "db_32_11_c0ffee"), db_id);

    // What a person stopped stays stopped.
    machine.docker(&["stop", "-t", "0", "db_32_11_c0ffee"]);
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(machine.containers()[0], "db_32_11_c0ffee exited");
    machine.docker(&["start", "db_32_11_c0ffee"]);

    // An engine that restarts is found again, and what was missed meanwhile is made good.
    machine.engine.stop();
    wait("the supervisor to notice", || !machine.is_applied());
    machine.engine.start();
    wait("the target", || machine.is_applied() && machine.containers() == both);
    machine.docker(&["rm", "-f", "web_31_11_c0ffee"]);
    wait("the container to come again", || machine.containers() == both);

    a_service_that_crashes(&mut machine);
    a_new_preload_without_its_image(&mut machine);
}

/// The engine's policy retries with pauses; the supervisor sees it and does not add to it.
fn a_service_that_crashes(machine: &mut Machine) {
    let before = machine.api().inspect_container("web_31_11_c0ffee").unwrap().unwrap().id;
    machine.kill_supervisor();
    machine.preload(
        &json!({ "web": service(31, &json!({ "command": "false" })), "db": service(32, &json!({})) }),
    );
    machine.start_supervisor();
    let web = || machine.api().inspect_container("web_31_11_c0ffee").unwrap();
    wait("the change", || web().is_some_and(|web| web.id != before && web.has_run()));
    std::thread::sleep(Duration::from_secs(10));
    let restarts = || -> u32 {
        let count = machine.docker(&["inspect", "-f", "{{.RestartCount}}", "web_31_11_c0ffee"]);
        count.trim().parse().unwrap()
    };
    wait("three restarts", || restarts() >= 3);
    let restarts = restarts();
    assert!(restarts < 20, "{restarts} restarts");
    wait("both containers", || machine.containers().len() == 2);
}

/// A preload that cannot run is ignored, and what runs goes on.
fn a_new_preload_without_its_image(machine: &mut Machine) {
    machine.kill_supervisor();
    let mut gone = service(31, &json!({}));
    gone["image"] = json!("nowhere:1");
    machine.preload(&json!({ "web": gone }));
    let before = std::fs::read(machine.folder.join("apps.json")).unwrap();
    machine.start_supervisor();
    wait("the API", || machine.status().is_some());
    let log = || std::fs::read_to_string(machine.folder.join("supervisor.log")).unwrap();
    wait("the refusal", || log().contains("image nowhere:1 is not in the engine"));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(std::fs::read(machine.folder.join("apps.json")).unwrap(), before);
    assert_eq!(machine.containers().len(), 2);
}
