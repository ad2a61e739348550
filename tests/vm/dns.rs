//! Names on a whole system: for the host, for containers on networks of their own, by the servers that `config.json` and
//! the network name, and while these change, fall silent or come back. Guest and servers (dnsmasq) are in a network
//! namespace of their own; the guest's DHCP names a server besides, QEMU's, which leads nowhere from there.

use crate::guest::{FASTEST, direct, first_line, sh, start, try_sh};
use minke_image::guest::Guest;
use minke_tests::{Daemon, in_namespace};
use std::process::Command;

/// dnsmasq at 10.77.0.`number`, which knows these names and no others, each for two seconds.
fn server(number: u8, names: &[&str]) -> Daemon {
    let mut command = Command::new("dnsmasq");
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
    ]);
    command.args(["--bind-interfaces", "--log-facility=-", "--pid-file="]);
    command.arg(format!("--listen-address=10.77.0.{number}"));
    for name in names {
        command.arg(format!("--host-record={name},2"));
    }
    Daemon::start(&mut command)
}

/// Waits for a command to succeed, for at most so many seconds.
fn within(guest: &mut Guest, seconds: u32, command: &str) {
    let line = format!("for i in $(seq {}); do ({command}) && exit 0; sleep 0.2; done; exit 1", seconds * 5);
    let (text, status) = try_sh(guest, &line);
    if status != 0 {
        let log = sh(
            guest,
            "dns status; cat /run/dnsmasq.servers /run/resolvconf/interface/*; \
                             journalctl -b -u dnsmasq -o short-monotonic --no-pager | tail -n 40; true",
        );
        panic!("'{command}' did not come true within {seconds} s: {text}\n{log}");
    }
}

/// A command that succeeds when a name has this address.
fn has(name: &str, address: &str) -> String {
    format!("dns query {name} A | grep -q ' A {address}$'")
}

/// The log of the running forwarder, as fleets' tests look at it.
const LOG: &str = "journalctl -b -u dnsmasq -o cat --no-pager";
const PROCESS: &str = "systemctl show -p MainPID --value dnsmasq";

#[test]
fn names_for_the_host_by_servers_that_come_and_go() {
    in_namespace(|| {
        let mut first = server(1, &["up.corp,192.0.2.1"]);
        let _second = server(2, &["nas.lan,192.0.2.9", "up.corp,192.0.2.2"]);
        let mut settings = direct(FASTEST);
        settings.config = Some(br#"{"hostname":"cellar","dnsServers":"10.77.0.1"}"#.to_vec());
        let mut guest = start(settings);
        first_line(&mut guest);
        let guest = &mut guest;
        within(guest, 30, &has("up.corp", "192.0.2.1"));
        within(guest, 10, &format!("{LOG} | grep -q 'using nameserver 10.77.0.1#53'"));
        assert_eq!(sh(guest, "cat /etc/resolv.conf"), "nameserver 127.0.0.2\noptions timeout:15");
        within(guest, 10, "nslookup up.corp | grep -q 192.0.2.1");
        assert_eq!(try_sh(guest, "dns query none.corp").1, 1);

        // Nobody: a user of its own, no rights, few system calls.
        let process = sh(guest, PROCESS);
        let state = sh(guest, &format!("grep -E '^(Uid|Cap...|NoNewPrivs|Seccomp):' /proc/{process}/status"));
        for line in state.lines() {
            let (key, value) = line.split_once(':').unwrap();
            let expected = match key {
                "Uid" => "102\t102\t102\t102",
                "CapBnd" => "0000000000000400",
                "NoNewPrivs" => "1",
                "Seccomp" => "2",
                _ => "0000000000000000",
            };
            assert_eq!(value.trim(), expected, "{state}");
        }
        assert_eq!(state.lines().count(), 8, "{state}");
        // Spec os §7.2.
        assert_eq!(sh(guest, &format!("cat /proc/{process}/oom_score_adj")), "-1000");

        // The host's own name, and what it is after a change.
        within(guest, 10, &has("cellar", "10.0.2.15"));
        sh(guest, "config-json set hostname attic");
        within(guest, 10, &has("attic", "10.0.2.15"));
        assert_eq!(try_sh(guest, "dns query cellar A").1, 1);

        // Other servers: at once, told in the log, by the same process.
        sh(guest, "config-json set dnsServers '10.77.0.1 /lan/10.77.0.2'");
        within(guest, 10, &format!("{LOG} | grep -q '10.77.0.2#53.* lan'"));
        within(guest, 10, &has("nas.lan", "192.0.2.9"));
        within(guest, 10, &has("up.corp", "192.0.2.1"));
        sh(guest, "config-json set dnsServers 10.77.0.2");
        within(guest, 10, &format!("{} && {}", has("up.corp", "192.0.2.2"), has("nas.lan", "192.0.2.9")));
        sh(guest, "config-json set dnsServers null");
        within(
            guest,
            10,
            "[ -z \"$(tr -d '[:space:]' < /run/dnsmasq.servers)\" ] && ! dns status | grep -q '10.77\\|8.8.8.8'",
        );
        assert_eq!(sh(guest, &format!("{LOG} | grep -c 'no server\\|bad address' || true")), "0");
        within(guest, 10, "dns status | grep -q 10.0.2.3#53");

        // A VPN's server, then the configured one again.
        sh(guest, "echo nameserver 10.77.0.1 | resolvconf -a tun0");
        within(guest, 10, &has("up.corp", "192.0.2.1"));
        sh(guest, "resolvconf -d tun0; config-json set dnsServers 10.77.0.1");
        within(guest, 10, &has("up.corp", "192.0.2.1"));

        // A profile's server instead of DHCP's, as soon as it is written, or copied from the boot partition; then neither.
        let profiles = "/etc/NetworkManager/system-connections";
        let lines = r"[connection]\ntype=ethernet\n[ipv4]\ndns=10.77.0.2;\nignore-auto-dns=true\n";
        sh(guest, &format!("umask 077; printf '{lines}' > {profiles}/office"));
        within(guest, 10, &has("nas.lan", "192.0.2.9"));
        within(guest, 10, &format!("{LOG} | grep -q 'using nameserver 10.77.0.2#53'"));
        within(guest, 10, "network status | grep -q 'dns 10.77.0.2$' && ! dns status | grep -q 10.0.2.3");
        sh(guest, &format!("rm {profiles}/office"));
        within(guest, 10, "dns status | grep -q 10.0.2.3#53 && ! dns status | grep -q 10.77.0.2");
        sh(guest, &format!("printf '{lines}' > /mnt/boot/system-connections/office"));
        sh(guest, "systemctl restart balena-net-config && rm /mnt/boot/system-connections/office");
        assert_eq!(sh(guest, &format!("stat -c %a {profiles}/office {profiles}/README.ignore")), "600\n600");
        within(guest, 10, "dns status | grep -q 10.77.0.2");
        sh(guest, &format!("chmod 644 {profiles}/office"));
        within(guest, 10, "dns status | grep -q 10.0.2.3#53 && ! dns status | grep -q 10.77.0.2");
        within(guest, 10, "journalctl -b -o cat --no-pager | grep -q 'office is not used: others than root'");
        sh(guest, &format!("rm {profiles}/office"));
        assert_eq!(sh(guest, PROCESS), process);

        // Its server is silent: the last answer serves. It is back with another one: that serves.
        drop(first);
        sh(guest, "sleep 3");
        within(guest, 10, &has("up.corp", "192.0.2.1"));
        first = server(1, &["up.corp,192.0.2.7"]);
        within(guest, 60, &has("up.corp", "192.0.2.7"));
        assert_eq!(sh(guest, PROCESS), process);

        // There is no network: the same.
        sh(guest, "ip link set eth0 down && sleep 3");
        within(guest, 10, &has("up.corp", "192.0.2.7"));
        sh(guest, "ip link set eth0 up && dns flush");
        within(guest, 60, &has("up.corp", "192.0.2.7"));
        assert_eq!(sh(guest, PROCESS), process);

        // It ends in an evil way and is started again.
        sh(guest, &format!("kill -9 {process}"));
        within(guest, 10, &has("up.corp", "192.0.2.7"));
        assert_ne!(sh(guest, PROCESS), process);
        within(guest, 10, "systemctl is-active -q dnsmasq");
        sh(guest, "systemctl reload dnsmasq && dns flush && dns flush up.corp");
        // What scripts do to dnsmasq: its process by its file, counters into the log, files read again.
        let process = sh(guest, PROCESS);
        assert_eq!(sh(guest, "cat /run/dnsmasq.pid"), process);
        sh(guest, "for signal in USR1 USR2 HUP; do kill -$signal $(cat /run/dnsmasq.pid); done; sleep 1");
        within(guest, 10, &format!("{LOG} | grep -q '\"queries\":'"));
        assert_eq!(sh(guest, PROCESS), process);
        drop(first);
    });
}

/// Makes and starts a container on a network, by the engine's API.
fn container(guest: &mut Guest, name: &str, network: &str, alias: &str) {
    let body = format!(
        r#"{{"Image":"minke/demo:1","HostConfig":{{"NetworkMode":"{network}"}},"NetworkingConfig":{{"EndpointsConfig":{{"{network}":{{"Aliases":["{alias}"]}}}}}}}}"#
    );
    post(guest, &format!("containers/create?name={name}"), &body);
    sh(guest, &format!("balena start {name}"));
}

fn post(guest: &mut Guest, path: &str, body: &str) {
    let header = "Content-Type: application/json";
    sh(
        guest,
        &format!(
            "wget -q -O /dev/null --header '{header}' --post-data '{body}' 'http://127.0.0.1:2375/{path}'"
        ),
    );
}

/// A question from within a container, by its own resolver.
fn from(container: &str, name: &str) -> String {
    let process =
        format!("$(balena inspect {container} | sed -n 's/.*\"Pid\": *\\([0-9]*\\).*/\\1/p' | head -n 1)");
    format!("nsenter -t {process} -m -n /bin/busybox nslookup {name}")
}

#[test]
fn containers_find_each_other_the_host_and_the_world() {
    in_namespace(|| {
        let _server = server(1, &["up.corp,192.0.2.1"]);
        let mut settings = direct(FASTEST);
        settings.config =
            Some(br#"{"hostname":"cellar","dnsServers":"10.77.0.1","developmentMode":true}"#.to_vec());
        let mut guest = start(settings);
        first_line(&mut guest);
        let guest = &mut guest;
        within(guest, 30, &has("up.corp", "192.0.2.1"));
        sh(guest, "ip -4 addr show resin-dns | grep -q 10.114.102.1/24");
        for network in ["one", "two"] {
            post(guest, "networks/create", &format!(r#"{{"Name":"{network}"}}"#));
        }
        container(guest, "web", "one", "www");
        container(guest, "app", "one", "application");
        container(guest, "db", "two", "store");
        let address = |guest: &mut Guest, name: &str| {
            let line = format!(
                "balena inspect {name} | sed -n 's/.*\"IPAddress\": *\"\\([0-9.]*\\)\".*/\\1/p' | grep . | head -n 1"
            );
            sh(guest, &line)
        };
        let (web, gateway) =
            (address(guest, "web"), address(guest, "web").rsplit_once('.').unwrap().0.to_owned() + ".1");
        let resolver = sh(guest, &from("app", "x").replace("nslookup x", "cat /etc/resolv.conf"));
        assert_eq!(resolver.trim(), "nameserver 10.114.102.1");
        // On the same network by name, by alias and by id; from another network and from the host not at all.
        let id = sh(
            guest,
            "balena ps -q | head -c 0; balena inspect web | sed -n 's/.*\"Id\": *\"\\(.\\{12\\}\\).*/\\1/p' | head -n 1",
        );
        for name in ["web", "www", &id] {
            within(guest, 10, &format!("{} | grep -q {web}", from("app", name)));
        }
        for name in ["web", "www"] {
            assert_ne!(try_sh(guest, &from("db", name)).1, 0, "{name}");
            assert_eq!(try_sh(guest, &format!("dns query {name} A")).1, 1, "{name}");
        }
        within(guest, 10, &format!("{} | grep -q 192.0.2.1", from("db", "up.corp")));
        within(guest, 10, &format!("{} | grep -q 192.0.2.1", from("app", "up.corp")));
        // The host, by the address that the container reaches.
        within(guest, 10, &format!("{} | grep -q {gateway}", from("app", "cellar")));
        sh(guest, "config-json set hostname attic");
        within(guest, 10, &format!("{} | grep -q {gateway}", from("app", "attic")));
        // Whoever is on an internal network has names as well, and no way out; `.local` is for containers too.
        post(guest, "networks/create", r#"{"Name":"inner","Internal":true}"#);
        container(guest, "vault", "inner", "safe");
        within(guest, 10, &format!("{} | grep -q 192.0.2.1", from("vault", "up.corp")));
        within(guest, 10, &format!("{} | grep -q 10.0.2.15", from("vault", "attic.local")));
        let routes = sh(guest, &from("vault", "x").replace("/bin/busybox nslookup x", "ip route"));
        assert!(routes.contains("10.114.102.1 via") && !routes.contains("default"), "{routes}");
        // A container goes, and its name with it.
        sh(guest, "balena rm -f web");
        within(guest, 10, &format!("! {}", from("app", "www")));
        sh(guest, "grep -q ' db ' /run/minke/names/engine && ! grep -q web /run/minke/names/engine");
    });
}
