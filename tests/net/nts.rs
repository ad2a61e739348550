//! NTS and the server for the local network, with chronyd, ntpd-rs and ntpdig, in network namespaces.

use minke_tests::authority::Authority;
use minke_tests::relay::{Path as NetPath, Relay, Way};
use minke_tests::time_net::{RELAY, Scratch, TRUE, address, honest, ntpd_rs, ntpd_rs_program};
use minke_tests::{Daemon, errors, in_namespace, release, run, text};
use minke_wire::json::{Value, parse_str};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Far longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// Makes the authority `ca.pem` and, issued by it for these names, `server.pem` with `server.key`.
fn certificates(folder: &Path, names: &str) {
    Authority::new(folder, 0..99).issue("server", names, 0..50);
}

/// chronyd with NTS at address `number`; its NTP server is said to be at `named`.
fn nts_server(folder: &Path, number: u8, named: Option<std::net::IpAddr>) -> Daemon {
    let (key, certificate) = (folder.join("server.key"), folder.join("server.pem"));
    let mut more = format!("ntsserverkey {}\nntsservercert {}\n", key.display(), certificate.display());
    if let Some(named) = named {
        more.push_str(&format!("ntsntpserver {named}\n"));
    }
    honest(folder, address(TRUE, number), 2, &more)
}

fn ntp(folder: &Path, words: &str) -> Output {
    let mut command = Command::new(release("x86_64"));
    command.arg("ntp").args(words.split(' ')).arg("--trust").arg(folder.join("ca.pem"));
    command.current_dir(folder).output().unwrap()
}

/// Ours, with its list of servers in `lists/` and its state in `state/`.
struct Client {
    folder: PathBuf,
    _daemon: Daemon,
}

impl Client {
    fn start(folder: &Path, servers: &str, more: &[&str]) -> Self {
        let (lists, state) = (folder.join("lists"), folder.join("state"));
        for made in [&lists, &state] {
            std::fs::create_dir_all(made).unwrap();
        }
        std::fs::write(lists.join("test.sources"), servers).unwrap();
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(folder.join("client.log")).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-sys_time", "--"]).arg(release("x86_64"));
        command.args(["ntp", "run", "--no-clock", "--config", "/dev/null", "--sources"]).arg(&lists);
        command.arg("--state").arg(&state).arg("--socket").arg(folder.join("client.sock"));
        command.arg("--trust").arg(folder.join("ca.pem")).args(more);
        let daemon = Daemon::start(command.stdout(log.try_clone().unwrap()).stderr(log));
        Self { folder: folder.to_owned(), _daemon: daemon }
    }

    fn reload(&self) {
        let mut command = Command::new(release("x86_64"));
        run(command.args(["ntp", "reload", "--socket"]).arg(self.folder.join("client.sock")));
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("client.log")).unwrap_or_default()
    }

    /// Its sources by its own account.
    fn sources(&self) -> Vec<Value> {
        let mut command = Command::new(release("x86_64"));
        command.args(["ntp", "status", "--json", "--socket"]).arg(self.folder.join("client.sock"));
        let status = parse_str(&text(&command.output().unwrap())).unwrap_or(Value::Null);
        status["sources"].as_array().cloned().unwrap_or_default()
    }

    fn until(&self, what: &str, right: impl Fn(&[Value]) -> bool) {
        let end = Instant::now() + LIMIT;
        loop {
            let sources = self.sources();
            if right(&sources) {
                return;
            }
            let all = Value::Array(sources).to_text();
            assert!(Instant::now() < end, "not in time: {what}\n{all}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

fn number(source: &Value, key: &str) -> u64 {
    source[key].as_u64().unwrap_or(0)
}

fn is_authenticated(source: &Value) -> bool {
    source["authenticated"].as_bool() == Some(true)
}

const NAMES: &str = "IP:10.77.0.1,IP:10.77.0.2,IP:10.77.0.3";

#[test]
fn three_servers_with_nts_and_a_restart_without_key_exchange() {
    in_namespace(|| {
        let scratch = Scratch::new("nts-three");
        let folder = &scratch.0;
        certificates(folder, NAMES);
        let servers: Vec<Daemon> = (1..=3).map(|number| nts_server(folder, number, None)).collect();
        let list: String = (1..=3)
            .map(|number| format!("server 10.77.0.{number} nts iburst minpoll 0 maxpoll 2\n"))
            .collect();
        let client = Client::start(folder, &list, &[]);
        let all_good = |sources: &[Value]| {
            sources.len() == 3
                && sources.iter().all(|source| is_authenticated(source) && number(source, "valid") >= 4)
                && sources.iter().any(|source| source["state"].as_str() == Some("*"))
        };
        client.until("all are authenticated", all_good);
        let kept = |number: u8| folder.join(format!("state/nts-10.77.0.{number}_4460.json"));
        assert!((1..=3).all(|number| kept(number).exists()));
        drop(client);

        // Nobody trusts the servers any more; the kept keys still prove who they are.
        Authority::new(folder, 0..9);
        let client = Client::start(folder, &list, &[]);
        client.until("all are authenticated without an exchange", all_good);
        assert!(!client.log().contains("issuer is unknown"), "{}", client.log());
        // Nothing stays of a server that no list names any more.
        assert!((1..=3).all(|number| kept(number).exists()));
        let (first, _) = list.split_once('\n').unwrap();
        std::fs::write(folder.join("lists/test.sources"), first).unwrap();
        client.reload();
        client.until("one server is left", |sources| sources.len() == 1);
        assert!(kept(1).exists() && !kept(2).exists() && !kept(3).exists());
        drop(client);

        // Cookies that the servers do not know any more lead to an exchange, which fails now: no source, and no harm.
        drop(servers);
        let _servers: Vec<Daemon> = (1..=3).map(|number| nts_server(folder, number, None)).collect();
        let client = Client::start(folder, &list, &[]);
        client.until("the exchange is tried and refused", |_| {
            client.log().matches("the certificate's issuer is unknown").count() >= 3
        });
        assert!(client.sources().iter().all(|source| !is_authenticated(source)), "{:?}", client.sources());
    });
}

#[test]
fn nts_over_ipv6_with_key_exchange_and_time() {
    in_namespace(|| {
        let scratch = Scratch::new("nts-v6");
        let folder = &scratch.0;
        certificates(folder, "IP:fd77::1,IP:fd77::2");
        let (key, certificate) = (folder.join("server.key"), folder.join("server.pem"));
        let more = format!("ntsserverkey {}\nntsservercert {}\n", key.display(), certificate.display());
        let servers: Vec<Daemon> = (1..=2)
            .map(|number| honest(folder, format!("[fd77::{number}]:123").parse().unwrap(), 2, &more))
            .collect();
        // The command first, as it says best what is wrong.
        let end = Instant::now() + LIMIT;
        loop {
            let output = ntp(folder, "query --nts --json fd77::1");
            let answer = parse_str(&text(&output)).unwrap_or(Value::Null);
            if answer["synchronized"].as_bool() == Some(true) {
                assert_eq!(
                    (answer["address"].as_str(), answer["nts"].as_bool()),
                    (Some("fd77::1"), Some(true))
                );
                break;
            }
            assert!(Instant::now() < end, "{}", errors(&output));
            std::thread::sleep(Duration::from_millis(200));
        }
        assert!(
            errors(&ntp(folder, "query --nts --ipv4 fd77::1")).contains("no address of the wanted family")
        );
        let list =
            "server fd77::1 nts iburst minpoll 0 maxpoll 2\nserver fd77::2 nts iburst minpoll 0 maxpoll 2\n";
        let good = |sources: &[Value]| {
            sources.len() == 2
                && sources.iter().all(|source| is_authenticated(source) && number(source, "valid") >= 4)
                && sources.iter().any(|source| source["state"].as_str() == Some("*"))
        };
        let client = Client::start(folder, list, &[]);
        client.until("both are authenticated", good);
        drop(client);
        // Keys and cookies are kept for these addresses too: nobody trusts the servers any more, and nobody asks them.
        Authority::new(folder, 0..9);
        let client = Client::start(folder, list, &[]);
        client.until("both are authenticated without an exchange", good);
        assert!(!client.log().contains("issuer is unknown"), "{}", client.log());
        drop(servers);
    });
}

#[test]
fn what_a_path_does_to_signed_answers_never_counts() {
    in_namespace(|| {
        let scratch = Scratch::new("nts-path");
        let folder = &scratch.0;
        certificates(folder, NAMES);
        let bad = [
            Way { truncate: 1000, ..Way::default() },
            Way { corrupt: 1000, ..Way::default() },
            Way { duplicate: 1000, ..Way::default() },
        ];
        let mut servers = Vec::new();
        let mut relays = Vec::new();
        let mut list = String::new();
        for (way, number) in bad.into_iter().zip(1..) {
            let front = address(RELAY, number);
            servers.push(nts_server(folder, number, Some(front.ip())));
            let path = NetPath { down: way, ..NetPath::default() };
            relays.push(Relay::start(front, address(TRUE, number), path, number.into()));
            list.push_str(&format!("server 10.77.0.{number} nts iburst minpoll 0 maxpoll 0\n"));
        }
        let client = Client::start(folder, &list, &[]);
        // The path that doubles everything is good; each answer counts once. The others have been asked as often.
        client.until("one is good, the others were asked", |sources| {
            let at = |number: u8| {
                let name = format!("10.77.0.{number}");
                sources.iter().find(|source| source["name"].as_str() == Some(&name)).unwrap_or(&Value::Null)
            };
            number(at(3), "valid") >= 8 && number(at(1), "sent") >= 4 && number(at(2), "sent") >= 4
        });
        for source in client.sources() {
            let name = source["name"].as_str().unwrap();
            if name == "10.77.0.3" {
                assert_eq!(source["address"].as_str(), Some("10.77.2.3"));
                assert!(is_authenticated(&source) && number(&source, "valid") <= number(&source, "sent"));
            } else {
                assert!(!is_authenticated(&source) && number(&source, "valid") == 0, "{source:?}");
                assert_eq!(source["state"].as_str(), Some("?"));
            }
        }
        // Once the path is good, so is the server.
        relays[0].set(NetPath::default());
        client.until("the path has become good", |sources| {
            sources.iter().filter(|source| is_authenticated(source)).count() >= 2
        });
    });
}

#[test]
fn ntpd_rs_signs_its_answers_for_us() {
    let program = ntpd_rs_program();
    in_namespace(|| {
        let scratch = Scratch::new("nts-rs");
        let folder = &scratch.0;
        certificates(folder, NAMES);
        let at = |name: &str| folder.join(name).display().to_string();
        let config = format!(
            "[[server]]\nlisten = \"10.77.0.1:123\"\n[[nts-ke-server]]\nlisten = \"10.77.0.1:4460\"\n\
             certificate-chain-path = \"{}\"\nprivate-key-path = \"{}\"\n",
            at("server.pem"),
            at("server.key")
        );
        std::fs::write(folder.join("ntp.toml"), config).unwrap();
        let log = std::fs::File::create(folder.join("rs.log")).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-sys_time", "--"]).arg(program).arg("-c").arg(folder.join("ntp.toml"));
        let _server = Daemon::start(command.stdout(log.try_clone().unwrap()).stderr(log));
        let end = Instant::now() + LIMIT;
        loop {
            let output = ntp(folder, "query --nts --count 3 --json 10.77.0.1");
            let answer = parse_str(&text(&output)).unwrap_or(Value::Null);
            if answer["samples"].as_array().is_some_and(|samples| samples.len() == 3) {
                assert_eq!(answer["aead"].as_str(), Some("AEAD_AES_SIV_CMAC_256"));
                // It follows nobody here, and says so.
                assert_eq!(answer["synchronized"].as_bool(), Some(false));
                assert!(errors(&output).contains("is not synchronised"), "{}", errors(&output));
                break;
            }
            assert!(Instant::now() < end, "{}", errors(&output));
            std::thread::sleep(Duration::from_millis(200));
        }
    });
}

#[test]
fn ntpd_rs_is_followed_by_signed_answers() {
    ntpd_rs_program();
    in_namespace(|| {
        let scratch = Scratch::new("nts-rs-followed");
        let folder = &scratch.0;
        certificates(folder, "IP:10.77.0.4");
        let _true: Vec<Daemon> = (1..=3).map(|number| honest(folder, address(TRUE, number), 1, "")).collect();
        let (chain, key) = (folder.join("server.pem"), folder.join("server.key"));
        let exchange = format!(
            "[[nts-ke-server]]\nlisten = \"10.77.0.4:4460\"\ncertificate-chain-path = \"{}\"\n\
             private-key-path = \"{}\"\n",
            chain.display(),
            key.display()
        );
        let sources: Vec<_> = (1..=3).map(|number| address(TRUE, number)).collect();
        let _server = ntpd_rs(folder, address(TRUE, 4), &sources, &exchange);
        let client = Client::start(folder, "server 10.77.0.4 nts iburst minpoll 0 maxpoll 2\n", &[]);
        client.until("ntpd-rs is followed by what it signs", |sources| {
            sources.len() == 1
                && is_authenticated(&sources[0])
                && number(&sources[0], "valid") >= 4
                && sources[0]["state"].as_str() == Some("*")
        });
    });
}

/// How long is waited for what shall not come.
const SILENCE: Duration = Duration::from_millis(500);

/// Asks from an address of this namespace and says what came within this time: the answer's first bytes.
fn ask(from: &str, request: &[u8], patience: Duration) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((from, 0)).unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    socket.send_to(request, "10.77.3.1:123").unwrap();
    let mut buffer = vec![0; 2048];
    let (length, server) = socket.recv_from(&mut buffer).ok()?;
    assert_eq!(server.to_string(), "10.77.3.1:123", "answered from the address that was asked");
    buffer.truncate(length);
    Some(buffer)
}

#[test]
fn the_local_network_is_served_and_nobody_else() {
    in_namespace(|| {
        let scratch = Scratch::new("serve");
        let folder = &scratch.0;
        certificates(folder, NAMES);
        let request = |first: u8| [&[first][..], &[0; 47]].concat();
        let client = Client::start(
            folder,
            "server 10.77.0.1 port 1123 iburst minpoll 0 maxpoll 0\n",
            &["--allow", "10.77.4.0/24"],
        );
        client.until("it listens", |_| client.log().contains("serving time on UDP port 123"));
        // Nobody has told it the time yet.
        let answer = ask("10.77.4.1", &request(0x23), LIMIT).unwrap();
        assert_eq!((answer.len(), answer[0] >> 6, answer[0] & 7, answer[1]), (48, 3, 4, 16));
        let output = ntp(folder, "query 10.77.3.1");
        assert!(errors(&output).contains("no answer in time"), "{}", errors(&output));

        // At another port: our server has 123 of all addresses here.
        let _true = honest(folder, (address(TRUE, 1).ip(), 1123).into(), 2, "");
        client.until("it is synchronised", |sources| {
            sources.iter().any(|one| one["state"].as_str() == Some("*"))
        });
        let answer = ask("10.77.4.2", &request(0x1B), LIMIT).unwrap();
        assert_eq!((answer[0] >> 6, answer[0] >> 3 & 7, answer[1]), (0, 3, 3));
        assert_eq!(ask("10.77.5.1", &request(0x23), SILENCE), None, "another subnet");
        for mode in [0u8, 1, 2, 4, 5, 6, 7] {
            assert_eq!(ask("10.77.4.3", &request(0x20 | mode), SILENCE), None, "mode {mode}");
        }
        assert_eq!(ask("10.77.4.3", &[0x17, 0, 3, 42, 0, 0, 0, 0], SILENCE), None, "monlist");

        // As others see it: chronyd and ntpsec's ntpdig, asking from allowed addresses.
        let config = format!(
            "server 10.77.3.1 iburst\nbindacqaddress 10.77.4.4\ncmdport 0\nbindcmdaddress /\npidfile {}\n",
            folder.join("q.pid").display()
        );
        std::fs::write(folder.join("q.conf"), config).unwrap();
        let mut command = Command::new("setpriv");
        command.args([
            "--bounding-set=-sys_time",
            "--",
            "chronyd",
            "-Q",
            "-x",
            "-u",
            "root",
            "-t",
            "30",
            "-f",
        ]);
        let output = run(command.arg(folder.join("q.conf")));
        let said = errors(&output) + &text(&output);
        assert!(said.contains("System clock wrong by"), "{said}");
        // ntpdig asks from whatever address leads there.
        run(Command::new("ip").args(["route", "add", "local", "10.77.3.1", "dev", "lo", "src", "10.77.4.5"]));
        let output = Command::new("setpriv")
            .args(["--bounding-set=-sys_time", "--", "ntpdig", "-t", "5", "10.77.3.1"])
            .output()
            .unwrap();
        let said = errors(&output) + &text(&output);
        assert!(output.status.success() && said.contains("10.77.3.1 s3 no-leap"), "{said}");

        // Who asks too often hears that, and then little.
        let mut answers = Vec::new();
        let socket = UdpSocket::bind("10.77.4.9:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        for _ in 0..40 {
            socket.send_to(&request(0x23), "10.77.3.1:123").unwrap();
            let mut buffer = [0; 100];
            if let Ok((48, _)) = socket.recv_from(&mut buffer) {
                answers.push((buffer[1], buffer[12..16].to_vec()));
            }
        }
        let kisses = answers.iter().filter(|(stratum, code)| *stratum == 0 && code == b"RATE").count();
        assert!(answers.len() < 24 && (1..=12).contains(&kisses), "{answers:?}");
        assert!(ask("10.77.4.10", &request(0x23), LIMIT).is_some(), "others are served");

        // The device's own list may change under way.
        std::fs::write(folder.join("state/chrony.conf"), "allow 10.77.5.0/24\n").unwrap();
        client.reload();
        for from in ["10.77.5.1", "10.77.4.11"] {
            assert!(ask(from, &request(0x23), LIMIT).is_some(), "{from}");
        }
    });
}
