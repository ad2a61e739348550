//! The service against real DHCP servers, in pairs of network namespaces. Needs root, iproute2, dnsmasq and
//! /usr/bin/python3; without root each test says so and passes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "cases/profiles.rs"]
mod profiles;

use minke_wire::json::Value;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Far longer than the service takes for an answer on a busy machine, whose disk may be busy too.
const PATIENCE: Duration = Duration::from_secs(30);

/// The service itself: the test program starts this "test" of itself in a namespace.
#[test]
fn as_the_program() {
    let Some(arguments) = std::env::var_os("NETWORK_ARGUMENTS") else { return };
    let arguments = arguments.to_str().unwrap().split_whitespace().map(Into::into).collect();
    let build = minke_applet::Build { version: "test", time: 0 };
    std::process::exit(minke_applet::run(&minke_network::APPLET.programs[0], arguments, build).into());
}

/// Two namespaces joined by a veth pair, `srv` with the server's address and `eth0`; and what runs in them.
struct Lab {
    name: String,
    folder: PathBuf,
    children: Vec<(&'static str, Child)>,
}

impl Lab {
    /// `None` without root.
    fn new(test: &str, server: &str) -> Option<Self> {
        if !std::fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t0") {
            eprintln!("skipped: network namespaces need root");
            return None;
        }
        let name = format!("mn{}{test}", std::process::id());
        let folder = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&folder).unwrap();
        let lab = Self { name, folder, children: Vec::new() };
        let (s, c) = (lab.namespace("s"), lab.namespace("c"));
        run("ip", &["netns", "add", &s]);
        run("ip", &["netns", "add", &c]);
        run("ip", &["-n", &s, "link", "add", "srv", "type", "veth", "peer", "eth0", "netns", &c]);
        run("ip", &["-n", &s, "address", "add", server, "dev", "srv"]);
        run("ip", &["-n", &s, "link", "set", "srv", "up"]);
        Some(lab)
    }

    fn namespace(&self, side: &str) -> String {
        format!("{}{side}", self.name)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn spawn(&mut self, what: &'static str, side: &str, log: &str, command: &[&str], arguments: &str) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path(log)).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", &self.namespace(side)])
            .args(command)
            .env("NETWORK_ARGUMENTS", arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.children.push((what, child));
    }

    fn places(&self) -> String {
        let folder = self.folder.display();
        format!("--run {folder}/run --state {folder}/state --profiles {folder}/profiles")
    }

    /// Starts the service on `eth0`.
    fn client(&mut self, more: &str) {
        let arguments = format!("serve --interface eth0 {more} {}", self.places());
        let program = std::env::current_exe().unwrap();
        let command = [program.to_str().unwrap(), "--exact", "as_the_program", "--nocapture"];
        self.spawn("client", "c", "client.log", &command, &arguments);
        self.until("the socket", 5, || self.path("run/minke/network.sock").exists());
    }

    fn dnsmasq(&mut self, range: &str, more: &[&str]) {
        let leases = format!("--dhcp-leasefile={}", self.path("leases").display());
        let range = format!("--dhcp-range={range}");
        let mut command = vec!["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0"];
        command.extend([
            "--interface=srv",
            "--bind-interfaces",
            "--no-ping",
            "--log-facility=-",
            "--log-dhcp",
        ]);
        command.extend(["--user=root", "--pid-file", &leases, &range]);
        command.extend(more);
        self.spawn("server", "s", "server.log", &command, "");
    }

    fn responder(&mut self, arguments: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/responder.py");
        let mut command = vec!["/usr/bin/python3", script.to_str().unwrap(), "srv"];
        command.extend(arguments);
        self.spawn("server", "s", "responder.log", &command, "");
        self.until("the responder", 10, || self.read("responder.log").contains("ready"));
    }

    fn stop(&mut self, what: &str) {
        for (_, child) in self.children.iter_mut().filter(|(name, _)| *name == what) {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.children.retain(|(name, _)| *name != what);
    }

    fn ip(&self, side: &str, arguments: &[&str]) -> Value {
        let namespace = self.namespace(side);
        let mut all = vec!["-j", "-n", &namespace];
        all.extend(arguments);
        minke_wire::json::parse_str(&run("ip", &all)).unwrap_or(Value::Null)
    }

    /// The global IPv4 addresses of `eth0`.
    fn addresses(&self) -> Vec<String> {
        let links = self.ip("c", &["-4", "address", "show", "dev", "eth0"]);
        let info = links.pointer("/0/addr_info").and_then(Value::as_array).cloned().unwrap_or_default();
        info.iter()
            .map(|entry| format!("{}/{}", entry["local"].as_str().unwrap(), entry["prefixlen"]))
            .collect()
    }

    fn status(&self) -> Value {
        let socket = self.path("run/minke/network.sock");
        let request = minke_wire::json::json!({ "command": "status" });
        minke_control::call(&socket, &request, Some(PATIENCE)).unwrap_or(Value::Null)
    }

    fn state(&self) -> String {
        self.status().pointer("/links/0/dhcp").and_then(Value::as_str).unwrap_or("?").to_owned()
    }

    #[track_caller]
    /// Waits for what takes at most so many seconds on an idle machine; a busy one may take more.
    fn until(&self, what: &str, seconds: u64, mut holds: impl FnMut() -> bool) {
        let seconds = seconds * 3 + 20;
        let end = Instant::now() + Duration::from_secs(seconds);
        while !holds() {
            assert!(
                Instant::now() < end,
                "{what} did not come within {seconds} s\n{}\n{}\n{}\n{:?} {:#}",
                self.read("client.log"),
                self.read("server.log"),
                self.read("responder.log"),
                self.addresses(),
                self.status(),
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        for side in ["s", "c"] {
            let _ = Command::new("ip").args(["netns", "delete", &self.namespace(side)]).status();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn count(text: &str, word: &str) -> usize {
    text.matches(word).count()
}

#[test]
fn an_address_is_obtained_set_up_renewed_and_asked_for_again() {
    let Some(mut lab) = Lab::new("a", "10.77.0.1/24") else { return };
    let options = [
        "--dhcp-authoritative",
        "--dhcp-option=option:router,10.77.0.1",
        "--dhcp-option=option:dns-server,10.77.0.1,10.77.0.2",
        "--dhcp-option=option:ntp-server,10.77.0.3",
        "--dhcp-option=option:domain-name,lan.test",
        "--dhcp-option=option:domain-search,eng.test,lan.test",
        "--dhcp-option=option:mtu,1400",
        "--dhcp-option=option:T1,4",
        "--dhcp-option=option:classless-static-route,0.0.0.0/0,10.77.0.1,172.20.0.0/16,10.77.0.9",
    ];
    lab.dnsmasq("10.77.0.50,10.77.0.50,255.255.255.0,2m", &options);
    // The user has no rights of its own: what is kept over the change must be enough.
    lab.client("--user nobody");
    lab.until("the address", 15, || lab.addresses() == ["10.77.0.50/24"]);
    lab.until("BOUND", 2, || lab.state() == "BOUND");
    // On a busy machine the client may have asked twice.
    let discovered = count(&lab.read("server.log"), "DHCPDISCOVER(srv)");

    let routes = lab.ip("c", &["-4", "route"]).to_string();
    for part in [r#""dst":"default","gateway":"10.77.0.1""#, r#""dst":"172.20.0.0/16","gateway":"10.77.0.9""#]
    {
        assert!(routes.contains(part), "{routes}");
    }
    assert_eq!(count(&routes, r#""metric":100"#), 2, "{routes}");
    assert_eq!(lab.ip("c", &["link", "show", "eth0"]).pointer("/0/mtu"), Some(&Value::from(1400)));
    assert!(lab.ip("c", &["link", "show", "lo"]).to_string().contains("LOWER_UP"));
    let resolver = "search eng.test lan.test\nnameserver 10.77.0.1\nnameserver 10.77.0.2\n";
    assert_eq!(lab.read("run/resolvconf/interface/NetworkManager"), resolver);
    let sources = "pool 10.77.0.3 iburst minpoll 14 maxpoll 14 maxsources 1\n";
    assert_eq!(lab.read("run/chrony/added_dhcp_eth0.sources"), sources);
    let online = minke_wire::json::json!({ "command": "wait-online" });
    let socket = lab.path("run/minke/network.sock");
    let answer = minke_control::call(&socket, &online, Some(PATIENCE)).unwrap();
    assert_eq!(answer["state"], "connected");
    assert_eq!(answer["links"][0]["address"], "10.77.0.50/24");
    assert!(!lab.read("client.log").contains("no user to become"), "{}", lab.read("client.log"));

    // T1 passes: the server is asked directly, and nothing is discovered.
    let before = count(&lab.read("server.log"), "DHCPACK(srv)");
    lab.until("the renewal", 8, || count(&lab.read("server.log"), "DHCPACK(srv)") > before);
    assert_eq!(count(&lab.read("server.log"), "DHCPDISCOVER(srv)"), discovered);
    assert_eq!(lab.addresses(), ["10.77.0.50/24"]);

    // The service starts anew: the address stays on the link and is asked for at once (INIT-REBOOT).
    lab.stop("client");
    assert_eq!(lab.addresses(), ["10.77.0.50/24"]);
    std::fs::remove_dir_all(lab.path("run")).unwrap();
    let before = count(&lab.read("server.log"), "DHCPACK(srv)");
    lab.client("");
    lab.until("the confirmation", 5, || count(&lab.read("server.log"), "DHCPACK(srv)") > before);
    // It has read the answer too, and knows what is on the link.
    lab.until("BOUND again", 5, || lab.state() == "BOUND");
    assert_eq!(count(&lab.read("server.log"), "DHCPDISCOVER(srv)"), discovered);

    // It starts anew on another network: the server refuses (NAK), and the old address goes.
    lab.stop("client");
    lab.stop("server");
    let s = lab.namespace("s");
    run("ip", &["-n", &s, "address", "flush", "dev", "srv"]);
    run("ip", &["-n", &s, "address", "add", "10.78.0.1/24", "dev", "srv"]);
    let _ = std::fs::remove_file(lab.path("leases"));
    lab.dnsmasq("10.78.0.60,10.78.0.60,255.255.255.0,2m", &["--dhcp-authoritative"]);
    lab.until("the second server", 5, || count(&lab.read("server.log"), "DHCP, IP range") >= 2);
    lab.client("");
    lab.until("the new address", 10, || lab.addresses() == ["10.78.0.60/24"]);
    assert!(lab.read("server.log").contains("DHCPNAK(srv)"), "{}", lab.read("server.log"));
    assert!(!lab.path("run/chrony/added_dhcp_eth0.sources").exists());
}

#[test]
fn a_server_that_vanishes_is_sought_and_in_the_end_the_address_goes() {
    let Some(mut lab) = Lab::new("b", "10.79.0.1/24") else { return };
    // So long that each state lasts for some seconds, and is seen on a busy machine.
    lab.responder(&["10.79.0.1", "10.79.0.7", "32"]);
    lab.client("");
    lab.until("the address", 10, || lab.addresses() == ["10.79.0.7/24"]);
    lab.stop("server");
    lab.until("RENEWING", 16, || lab.state() == "RENEWING");
    lab.until("REBINDING", 13, || lab.state() == "REBINDING");
    assert_eq!(lab.addresses(), ["10.79.0.7/24"]);
    lab.until("the end", 8, || lab.addresses().is_empty());
    lab.until("SELECTING", 2, || lab.state() == "SELECTING");
    assert_eq!(lab.read("run/resolvconf/interface/NetworkManager"), "");
    assert!(lab.read("client.log").contains("the lease has expired"));
    // It comes back.
    lab.responder(&["10.79.0.1", "10.79.0.8", "60"]);
    lab.until("the new address", 25, || lab.addresses() == ["10.79.0.8/24"]);
}

#[test]
fn a_pulled_cable_takes_the_address_after_a_while_and_a_new_one_brings_it_back() {
    let Some(mut lab) = Lab::new("c", "10.80.0.1/24") else { return };
    lab.dnsmasq("10.80.0.50,10.80.0.90,255.255.255.0,2m", &["--dhcp-option=option:ntp-server,10.80.0.3"]);
    // The time client: here it only hears what it is told, and never answers.
    std::fs::create_dir_all(lab.path("run/chrony")).unwrap();
    let clock = UnixListener::bind(lab.path("run/chrony/ntp.sock")).unwrap();
    clock.set_nonblocking(true).unwrap();
    let news = std::cell::RefCell::new(Vec::new());
    let told = || {
        let mut words = news.borrow_mut();
        while let Ok((mut stream, _)) = clock.accept() {
            let mut line = String::new();
            stream.read_to_string(&mut line).unwrap();
            words.push(minke_wire::json::parse_str(&line).unwrap()["command"].as_str().unwrap().to_owned());
        }
        words.join(" ")
    };
    let sources = lab.path("run/chrony/added_dhcp_eth0.sources");
    lab.client("");
    lab.until("the address", 15, || lab.addresses().len() == 1);
    lab.until("the time server", 2, || sources.exists());
    lab.until("the news", 2, || told() == "reload online");
    let address = lab.addresses();
    // On a busy machine the client may have asked twice.
    let discovered = count(&lab.read("server.log"), "DHCPDISCOVER(srv)");
    let s = lab.namespace("s");
    run("ip", &["-n", &s, "link", "set", "srv", "down"]);
    lab.until("NO-CARRIER", 3, || lab.state() == "NO-CARRIER");
    assert_eq!(lab.addresses(), address, "a short loss does no harm");
    lab.until("the removal", 8, || lab.addresses().is_empty());
    lab.until("no time server", 2, || !sources.exists());
    lab.until("the news", 2, || told() == "reload online reload");
    run("ip", &["-n", &s, "link", "set", "srv", "up"]);
    lab.until("the same address", 10, || lab.addresses() == address);
    lab.until("the news", 2, || told() == "reload online reload reload online");
    assert!(sources.exists());
    assert_eq!(count(&lab.read("server.log"), "DHCPDISCOVER(srv)"), discovered, "INIT-REBOOT was enough");
    // The link itself goes and comes: all is forgotten, then found again.
    let c = lab.namespace("c");
    run("ip", &["-n", &c, "link", "delete", "eth0"]);
    lab.until("no link", 3, || lab.status()["links"].as_array().is_some_and(Vec::is_empty));
    assert_eq!(lab.read("run/resolvconf/interface/NetworkManager"), "");
}

#[test]
fn of_two_servers_one_is_taken() {
    let Some(mut lab) = Lab::new("d", "10.81.0.1/24") else { return };
    lab.dnsmasq("10.81.0.50,10.81.0.90,255.255.255.0,2m", &["--dhcp-authoritative"]);
    lab.responder(&["10.81.0.2", "10.81.0.7", "60"]);
    lab.client("");
    lab.until("an address", 15, || lab.addresses().len() == 1);
    lab.until("BOUND", 2, || lab.state() == "BOUND");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((lab.addresses().len(), lab.state().as_str()), (1, "BOUND"));
    assert_eq!(count(&lab.read("client.log"), "from DHCP server"), 1, "{}", lab.read("client.log"));
}

#[test]
fn garbage_is_survived_and_a_proper_offer_found_in_it() {
    let Some(mut lab) = Lab::new("e", "10.82.0.1/24") else { return };
    lab.responder(&["10.82.0.1", "10.82.0.7", "60", "garbage"]);
    lab.client("");
    lab.until("the address", 30, || lab.addresses() == ["10.82.0.7/24"]);
    lab.until("BOUND", 2, || lab.state() == "BOUND");
    assert!(count(&lab.read("responder.log"), "got 1") >= 3);
    // Garbage on the control socket is refused, and the service goes on.
    let socket = lab.path("run/minke/network.sock");
    let nonsense = minke_wire::json::json!({ "command": ["status"] });
    let answer = minke_control::call(&socket, &nonsense, Some(PATIENCE));
    assert!(matches!(answer, Err(minke_control::Error::Refused(_))), "{answer:?}");
    assert_eq!(lab.state(), "BOUND");
}
