//! The owner's profiles: servers of names beside DHCP's or in their place, addresses set by hand, files that change while
//! the service runs. It runs as a user who may not read them.

use super::{Lab, count, run};
use minke_wire::json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

impl Lab {
    /// Writes a profile as NetworkManager wants it.
    fn profile(&self, name: &str, text: &str) {
        let path = self.path("profiles").join(name);
        fs::create_dir_all(self.path("profiles")).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }

    /// `network reload`, whose log is returned.
    fn reload(&self) -> String {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "as_the_program", "--nocapture"])
            .env("NETWORK_ARGUMENTS", format!("reload {}", self.places()))
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{log}");
        log
    }

    fn resolver(&self) -> String {
        self.read("run/resolvconf/interface/NetworkManager")
    }

    fn word(&self, pointer: &str) -> String {
        self.status().pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned()
    }

    fn routes(&self) -> String {
        self.ip("c", &["-4", "route"]).to_string()
    }
}

const OFFICE: &str = "[connection]\nid=Office\ntype=ethernet\ninterface-name=eth0\n";

#[test]
fn servers_of_names_come_before_dhcps_or_in_their_place() {
    let Some(mut lab) = Lab::new("f", "10.83.0.1/24") else { return };
    let options = [
        "--dhcp-authoritative",
        "--dhcp-option=option:dns-server,10.83.0.1",
        "--dhcp-option=option:domain-name,lan.test",
    ];
    lab.dnsmasq("10.83.0.50,10.83.0.50,255.255.255.0,2m", &options);
    let names = "[ipv4]\nmethod=auto\ndns=192.0.2.53;192.0.2.54;\ndns-search=corp.test;\n";
    let six = "[ipv6]\nmethod=auto\ndns=2001:db8::53;fe80::53%eth0;\n";
    lab.profile("office.nmconnection", &format!("{OFFICE}{names}{six}"));
    // Of another link, of another kind, and a sample: none is ours.
    lab.profile("Wired connection 1", &OFFICE.replace("eth0", "eth9"));
    lab.profile(
        "wifi",
        "[connection]\ntype=wifi\n[wifi]\nssid=x\n[wifi-security]\npsk=secret\n[ipv4]\ndns=192.0.2.99;\n",
    );
    lab.profile("sample.ignore", &format!("{OFFICE}[ipv4]\ndns=192.0.2.98;\n"));
    lab.client("--user nobody");
    let own = "nameserver 192.0.2.53\nnameserver 192.0.2.54\n";
    let own_six = "nameserver 2001:db8::53\nnameserver fe80::53%eth0\n";
    let dhcp = "nameserver 10.83.0.1\n";
    let both = format!("search corp.test lan.test\n{own}{dhcp}{own_six}");
    lab.until("all servers", 15, || lab.resolver() == both);
    assert_eq!(lab.addresses(), ["10.83.0.50/24"]);
    assert_eq!((lab.word("/links/0/profile"), lab.state()), ("office.nmconnection".into(), "BOUND".into()));
    let asked = count(&lab.read("server.log"), "DHCPDISCOVER(srv)");

    // The file changes: the owner's servers alone. Nobody is asked for an address again.
    lab.profile("office.nmconnection", &format!("{OFFICE}{names}ignore-auto-dns=true\n"));
    assert!(!lab.reload().contains("WARN"));
    assert_eq!(lab.resolver(), format!("search corp.test\n{own}"));
    lab.profile("office.nmconnection", &format!("{OFFICE}[ipv4]\nmethod=auto\nignore-auto-dns=true\n"));
    lab.reload();
    assert_eq!(lab.resolver(), "");

    // Nonsense in it: told, with file and line; DHCP goes on. Nonsense in one value takes that value alone.
    let usual = format!("search lan.test\n{dhcp}");
    lab.profile("office.nmconnection", &format!("{OFFICE}[ipv4]\nnonsense\n"));
    let log = lab.reload();
    let line = "profiles/office.nmconnection is not used: line 6: neither a group nor a key";
    assert_eq!((count(&log, "WARN"), count(&log, line)), (1, 1), "{log}");
    assert_eq!(lab.resolver(), usual);
    lab.profile(
        "office.nmconnection",
        &format!("{OFFICE}[ipv4]\ndns=192.0.2.53;x y;192.0.2.54;\ndhcp-client-id=7\n"),
    );
    lab.reload();
    assert_eq!(lab.resolver(), format!("search lan.test\n{own}{dhcp}"));
    let log = lab.read("client.log");
    assert!(log.contains("profile office.nmconnection: ipv4.dns: 'x?y' is no address"), "{log}");
    assert!(log.contains("profile office.nmconnection: not supported yet: ipv4.dhcp-client-id"), "{log}");

    // Others could have written it; what is no file; somebody else's: one line each, and DHCP goes on.
    let path = lab.path("profiles/office.nmconnection");
    lab.profile("office.nmconnection", &format!("{OFFICE}{names}"));
    for mode in [0o644, 0o620, 0o606] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let log = lab.reload();
        assert_eq!((count(&log, "WARN"), count(&log, "others than root may")), (1, 1), "{mode:o} {log}");
        assert_eq!(lab.resolver(), usual, "{mode:o}");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    lab.reload();
    assert_eq!(lab.resolver(), format!("search corp.test lan.test\n{own}{dhcp}"));
    std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
    assert_eq!(count(&lab.reload(), "others than root may"), 1);
    assert_eq!(lab.resolver(), usual);
    fs::remove_file(&path).unwrap();
    run("mkfifo", &["-m", "600", path.to_str().unwrap()]);
    assert_eq!(count(&lab.reload(), "no regular file"), 1);
    fs::remove_file(&path).unwrap();
    lab.profile("office.nmconnection", &"#".repeat(9_000));
    assert_eq!(count(&lab.reload(), "too long"), 1);
    for number in 0..70 {
        lab.profile(&format!("many{number}"), &OFFICE.replace("eth0", "eth9"));
    }
    assert_eq!(count(&lab.reload(), "only the first 64 profiles"), 1);
    fs::remove_dir_all(lab.path("profiles")).unwrap();
    assert_eq!(lab.reload().find("WARN"), None);
    assert_eq!(lab.resolver(), usual);

    assert_eq!(lab.addresses(), ["10.83.0.50/24"]);
    assert_eq!(count(&lab.read("server.log"), "DHCPDISCOVER(srv)"), asked);
    assert_eq!(count(&lab.read("client.log"), "address removed"), 0, "{}", lab.read("client.log"));
    // The secrets of other kinds of network did not leave root's hands.
    assert!(!lab.read("client.log").contains("wifi"));
}

const BY_HAND: &str = "[ipv4]\nmethod=manual\naddress1=10.84.0.7/24,10.84.0.1\n\
                       route-metric=55\ndns=192.0.2.53;\ndns-search=corp.test;\n";

#[test]
fn an_address_set_by_hand_needs_no_server_and_may_change_while_it_runs() {
    let Some(mut lab) = Lab::new("g", "10.84.0.1/24") else { return };
    lab.dnsmasq(
        "10.84.0.50,10.84.0.50,255.255.255.0,2m",
        &["--dhcp-authoritative", "--dhcp-option=option:dns-server,10.84.0.1"],
    );
    lab.profile("office", &format!("{OFFICE}{BY_HAND}"));
    lab.client("--user nobody");
    lab.until("the address", 10, || lab.addresses() == ["10.84.0.7/24"]);
    lab.until("MANUAL", 2, || lab.state() == "MANUAL");
    let routes = lab.routes();
    assert!(routes.contains(r#""dst":"default","gateway":"10.84.0.1""#), "{routes}");
    assert_eq!(count(&routes, r#""metric":55"#), 1, "{routes}");
    assert_eq!(lab.resolver(), "search corp.test\nnameserver 192.0.2.53\n");
    assert_eq!(lab.word("/state"), "connected");
    assert_eq!(count(&lab.read("server.log"), "DHCPDISCOVER"), 0);

    // Of the same address the routes change.
    lab.profile("office", &format!("{OFFICE}{}", BY_HAND.replace("=55", "=66")));
    lab.reload();
    let routes = lab.routes();
    assert_eq!((count(&routes, r#""metric":66"#), count(&routes, r#""metric":55"#)), (1, 0), "{routes}");

    // The service starts anew: the address stays where it is.
    lab.stop("client");
    assert_eq!(lab.addresses(), ["10.84.0.7/24"]);
    lab.spawn("monitor", "c", "monitor.log", &["ip", "-4", "monitor", "address"], "");
    lab.client("--user nobody");
    lab.until("MANUAL", 5, || lab.state() == "MANUAL");
    assert!(!lab.read("monitor.log").contains("Deleted"), "{}", lab.read("monitor.log"));
    assert_eq!(lab.addresses(), ["10.84.0.7/24"]);
    assert!(!lab.path("state/internal-eth0.lease").exists());

    // The cable: gone for a while, the address goes; then it is back.
    let s = lab.namespace("s");
    run("ip", &["-n", &s, "link", "set", "srv", "down"]);
    lab.until("the removal", 12, || lab.addresses().is_empty());
    lab.until("no servers", 2, || lab.resolver().is_empty());
    run("ip", &["-n", &s, "link", "set", "srv", "up"]);
    lab.until("the address", 5, || lab.addresses() == ["10.84.0.7/24"]);
    lab.until("the servers", 2, || lab.resolver() == "search corp.test\nnameserver 192.0.2.53\n");

    // Other files: DHCP, nothing at all, another address.
    lab.profile("office", &format!("{OFFICE}[ipv4]\nmethod=auto\nnever-default=true\n"));
    lab.reload();
    lab.until("the lease", 15, || lab.addresses() == ["10.84.0.50/24"]);
    lab.until("DHCP's server", 2, || lab.resolver() == "nameserver 10.84.0.1\n");
    assert!(!lab.routes().contains(r#""dst":"default""#), "{}", lab.routes());
    lab.profile("office", &format!("{OFFICE}[ipv4]\nmethod=disabled\n"));
    lab.reload();
    assert_eq!((lab.addresses().len(), lab.state().as_str(), lab.resolver().as_str()), (0, "OFF", ""));
    lab.profile(
        "office",
        &format!(
            "{OFFICE}{}",
            BY_HAND.replace("address1=10.84.0.7/", "address1=10.84.0.8/24\naddress2=10.84.0.9/")
        ),
    );
    lab.reload();
    assert_eq!(lab.addresses(), ["10.84.0.8/24"]);
    assert!(lab.read("client.log").contains("profile office: not supported yet: ipv4.address2"));
    lab.profile("office", &format!("{OFFICE}autoconnect=false\n{BY_HAND}"));
    lab.reload();
    assert_eq!((lab.addresses().len(), lab.state().as_str()), (0, "OFF"));
    fs::remove_file(lab.path("profiles/office")).unwrap();
    lab.reload();
    lab.until("the lease", 15, || lab.addresses() == ["10.84.0.50/24"]);
    lab.until("the default route", 2, || lab.routes().contains(r#""dst":"default""#));
}

#[test]
fn a_profile_serves_one_link_and_then_the_other() {
    let Some(mut lab) = Lab::new("h", "10.85.0.1/24") else { return };
    let (s, c) = (lab.namespace("s"), lab.namespace("c"));
    run("ip", &["-n", &s, "link", "add", "srv1", "type", "veth", "peer", "eth1", "netns", &c]);
    lab.profile("any", "[ethernet]\n[ipv4]\nmethod=manual\naddress1=10.85.0.7/24\ndns=192.0.2.53;\n");
    lab.client("--interface eth1 --user nobody");
    let links =
        |link: &str| lab.ip("c", &["-4", "address", "show", "dev", link]).to_string().contains("10.85.0.7");
    lab.until("the address", 10, || links("eth0"));
    run("ip", &["-n", &s, "link", "set", "srv1", "up"]);
    lab.until("the second link", 5, || {
        lab.read("client.log").contains("eth1: no profile that is made for it is free")
    });
    assert!(links("eth0") && !links("eth1"));
    // A reload moves nothing.
    lab.reload();
    assert!(links("eth0") && !links("eth1"));
    run("ip", &["-n", &s, "link", "set", "srv", "down"]);
    lab.until("the address on the other link", 15, || links("eth1") && !links("eth0"));
    lab.until("its servers", 2, || lab.resolver() == "nameserver 192.0.2.53\n");
    // One that names the link and is as important comes first, and leaves the other to the other link.
    lab.profile(
        "own",
        "[connection]\ntype=ethernet\ninterface-name=eth1\n[ipv4]\nmethod=manual\naddress1=10.85.0.8/24\n",
    );
    lab.reload();
    let all = || lab.ip("c", &["-4", "address"]).to_string();
    assert!(all().contains("10.85.0.8") && !all().contains("10.85.0.7"), "{}", all());
    run("ip", &["-n", &s, "link", "set", "srv", "up"]);
    lab.until("both", 5, || links("eth0") && all().contains("10.85.0.8"));
}
