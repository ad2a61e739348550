//! The VPN by Debian's OpenVPN, with the options that the cloud delivers (spec os §14), in a guest whose clock nobody has
//! confirmed yet. Its server is OpenVPN too, in the test's network namespace; the certificates have been valid since
//! before 1990, so that nothing but the unit's order keeps the client from its server. The same of the cloud, Python's web
//! server, which delivers the client's configuration, and of the supervisor, which registers the device.

use crate::guest::{booted, direct, power_off, sh, start, until};
use minke_image::arch::Arch;
use minke_tests::authority::Authority;
use minke_tests::cloud::{Cloud, FLEET_KEY};
use minke_tests::foreign::{self, FOLDER};
use minke_tests::time_net::{Scratch, TRUE, address, several};
use minke_tests::{Daemon, in_namespace};
use minke_wire::json::json;
use std::fs::{File, read_to_string};
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};

const SERVER: &str = "local 10.77.0.1
port 1194
proto tcp-server
dev tun
topology subnet
server 10.8.0.0 255.255.255.0
ca ca.pem
cert vpn.pem
key vpn.key
dh none
verify-client-cert none
username-as-common-name
script-security 2
auth-user-pass-verify ./login via-file
keepalive 2 20
comp-lzo
verb 3
";

/// As the open cloud API has it.
const CLIENT: &str = "client
remote 10.77.0.1 1194
resolv-retry infinite
remote-cert-tls server
tls-version-min 1.2
ca /etc/openvpn/ca.crt
auth-user-pass /var/volatile/vpn-auth
auth-retry none
script-security 2
up /etc/openvpn-misc/upscript.sh
up-restart
down /etc/openvpn-misc/downscript.sh
comp-lzo
dev resin-vpn
dev-type tun
proto tcp
nobind
persist-key
persist-tun
verb 3
user openvpn
group openvpn
reneg-bytes 0
reneg-pkts 0
reneg-sec 0
";

/// Days counted from now, from before 1990 on.
const EVER: Range<i64> = -14_000..36_500;

const UUID: &str = "0123456789abcdef0123456789abcdef";

/// The server; what it says goes to `server.log`, each login that it is given to `logins`.
fn server(folder: &Path, authority: &Authority) -> Daemon {
    // The client wants a server's certificate.
    let names = "DNS:vpn.test\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth";
    authority.issue("vpn", names, EVER);
    std::fs::write(folder.join("server.conf"), SERVER).unwrap();
    let login = "#!/bin/sh\necho $(cat $1) >> logins\n";
    std::fs::write(folder.join("login"), login).unwrap();
    let log = File::create(folder.join("server.log")).unwrap();
    let mut command = Command::new("sh");
    command.args(["-ec", "chmod 755 login; exec openvpn server.conf"]).current_dir(folder);
    Daemon::start(command.stdout(log).stderr(Stdio::inherit()))
}

/// The cloud, with the authority of the VPN's server.
fn cloud(folder: &Path, authority: &Authority) -> Cloud {
    authority.issue("cloud", "IP:10.0.2.2", EVER);
    std::fs::write(folder.join("openvpn.conf"), CLIENT).unwrap();
    std::fs::copy(folder.join("ca.pem"), folder.join("openvpn.ca")).unwrap();
    Cloud::start(folder, "cloud", 0)
}

#[test]
fn the_vpn_waits_for_the_clock_and_nothing_waits_for_it() {
    in_namespace(|| {
        let scratch = Scratch::new("vpn");
        let folder = scratch.0.as_path();
        let authority = Authority::new(folder, EVER);
        let _server = server(folder, &authority);
        let _time = several(folder, 1);
        let cloud = cloud(folder, &authority);
        let _files = foreign::serve(folder, &["openvpn"]);
        let mut settings = direct(Arch::X86_64);
        settings.options = vec!["-rtc".into(), "base=1970-01-01T00:00:00".into()];
        let config = json!({
            "developmentMode": true,
            "uuid": UUID,
            "deviceApiKey": "secret",
            "apiEndpoint": format!("https://10.0.2.2:{}", cloud.port()),
            "apiKey": FLEET_KEY,
            "applicationId": 7,
            "balenaRootCA": authority.base64(),
            "os": { "network": { "connectivity": { "uri": "null" } } },
        });
        settings.config = Some(config.to_text().into_bytes());
        let mut guest = start(settings);
        booted(&mut guest);
        let guest = &mut guest;
        let state = |unit: &str| format!("systemctl show -p ActiveState --value {unit}");
        let is = |unit: &str, wanted: &str| format!("[ $({}) = {wanted} ]", state(unit));
        // The cloud's certificate holds by any clock, and who does not wait gets its answer. There is no client yet.
        until(guest, "grep -q 10.77.0.1 /etc/openvpn/openvpn.conf && grep -q BEGIN /etc/openvpn/ca.crt");
        sh(guest, &is("openvpn", "inactive"));

        // The image's own folder is read-only; its client would be there at the boot.
        foreign::fetch(guest);
        sh(
            guest,
            &format!(
                "set -e; mkdir /run/upper /run/work
                 mount -t overlay overlay -o lowerdir=/usr/sbin,upperdir=/run/upper,workdir=/run/work /usr/sbin
                 printf '#!/bin/sh\\nLD_LIBRARY_PATH={FOLDER} exec {FOLDER}/openvpn \"$@\"\\n' > /usr/sbin/openvpn
                 chmod 755 /usr/sbin/openvpn",
            ),
        );
        // As at a boot: the target is reached, and the VPN has begun to wait.
        sh(
            guest,
            "systemctl stop multi-user.target NetworkManager; timeout 120 systemctl start multi-user.target",
        );
        sh(guest, &is("multi-user.target", "active"));
        until(guest, &is("openvpn", "activating"));
        // What the cloud delivers is put in place by a stop and a start, with that clock as well.
        // The cloud is asked again as well.
        let runs = "journalctl -b -u os-config -o cat --no-pager | grep -c ': started'";
        let before = sh(guest, runs);
        for _ in 0..2 {
            sh(guest, &format!("timeout 60 systemctl stop openvpn; {}", is("openvpn", "inactive")));
            sh(guest, "timeout 60 systemctl start --no-block prepare-openvpn openvpn");
            until(guest, &is("openvpn", "activating"));
        }
        until(guest, &format!("[ $({runs}) -gt {before} ]"));
        // Its five minutes begin anew, on however slow a machine.
        sh(guest, "systemctl restart balena-supervisor");
        let waits = "supervisor status | grep -q 'registration with the cloud: waiting for the time'";
        until(guest, waits);
        // The client's network is there, and its server would have it.
        until(guest, "nc -w 60 10.77.0.1 1194 < /dev/null");
        sh(guest, &format!("sleep 20; {}", is("openvpn", "activating")));
        sh(guest, "! pidof openvpn && ! timesync status > /dev/null && ! ls /run/openvpn/vpn_status/active");
        let log = || read_to_string(folder.join("server.log")).unwrap();
        // That was nc.
        assert_eq!(log().matches("TCP connection established").count(), 1, "{}", log());
        sh(guest, waits);
        let of_supervisor = || {
            let mut asked = cloud.requests();
            asked.retain(|asked| {
                asked["agent"].as_str().is_some_and(|agent| agent.starts_with("Supervisor/"))
            });
            asked
        };
        assert!(of_supervisor().is_empty(), "{:?}", of_supervisor());

        // NTP confirms the clock.
        sh(
            guest,
            &format!(
                "echo 'server {} iburst' > /run/chrony/test.sources; ntp reload; timesync wait --timeout 120",
                address(TRUE, 1).ip()
            ),
        );
        until(guest, "[ $(config-json get deviceId) = 1000 ] && [ -z \"$(config-json get apiKey)\" ]");
        assert_eq!(of_supervisor().len(), 1);
        assert_eq!(of_supervisor()[0]["request"], "POST /device/register");
        let up = "ls /run/openvpn/vpn_status/active";
        until(
            guest,
            &format!("{up} || {{ journalctl -b -u openvpn -o cat --no-pager | tail -n 20; false; }}"),
        );
        sh(guest, &is("openvpn", "active"));
        until(guest, "ping -c 1 -W 5 10.8.0.1 > /dev/null");
        assert!(log().contains("Peer Connection Initiated"), "{}", log());
        // The first login may have been made with the fleet's key, the next ones are made with the device's.
        until(guest, "tail -1 /var/volatile/vpn-auth | grep -qx secret");
        let logins = || read_to_string(folder.join("logins")).unwrap();
        let keys = [format!("{UUID} {FLEET_KEY}"), format!("{UUID} secret")];
        assert!(logins().lines().all(|login| keys.iter().any(|known| known == login)), "{}", logins());
        sh(guest, "[ $(cat /run/openvpn/openvpn.pid) = $(systemctl show -p MainPID --value openvpn) ]");
        let client = "/proc/$(cat /run/openvpn/openvpn.pid)";
        sh(
            guest,
            &format!("grep -q '^Uid:.106' {client}/status && grep -qx -- -1000 {client}/oom_score_adj"),
        );

        // It comes back when it is killed, and does not pass for up meanwhile.
        sh(
            guest,
            &format!(
                "kill -9 $(cat /run/openvpn/openvpn.pid)
                 for i in $(seq 600); do {up} 2> /dev/null || exit 0; sleep 0.1; done; exit 1"
            ),
        );
        until(guest, up);
        assert!(logins().ends_with(" secret\n"), "{}", logins());
        // The client's own scripts say the same of a new connection: it has no rights any more.
        sh(guest, "touch /run/before; kill -USR1 $(cat /run/openvpn/openvpn.pid)");
        until(guest, "[ /run/openvpn/vpn_status/active -nt /run/before ]");
        sh(guest, "[ $(stat -c %U /run/openvpn/vpn_status/active) = openvpn ]");
        sh(guest, "timeout 60 systemctl stop openvpn; [ -z \"$(ls /run/openvpn/vpn_status)\" ]");
        power_off(guest);
    });
}
