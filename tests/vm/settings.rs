//! Every key of `config.json` that something reacts to, set on a running system in the ways in which people and
//! programs set it, with its effect within the time that spec os §4.4.8 gives; and what a broken file does (§4.5).

use crate::guest::{FASTEST, direct, first_line, power_off, sh, start, try_sh};
use minke_image::arch::Arch;
use minke_image::cache::Cache;
use minke_image::guest::Guest;
use minke_image::tree::{Scratch, walk};
use minke_tests::run;
use std::process::Command;

/// How a key gets into the file.
#[derive(Debug, Clone, Copy)]
enum By {
    /// `config-json set`, which writes by fatrw's protocol.
    Set,
    /// A new file that is renamed over the old one, as `jq … > new && mv new config.json` does.
    Rename,
    /// The file is opened, truncated and written, as most editors and `cat > config.json` do.
    InPlace,
}

/// Sets a key, to JSON.
fn set(guest: &mut Guest, by: By, key: &str, value: &str) {
    let change = |path: &str| format!("config-json --config-path={path} set --json {key} '{value}'");
    let edit = format!("fatrw read /mnt/boot/config.json > /tmp/edit.json && {}", change("/tmp/edit.json"));
    sh(
        guest,
        &match by {
            By::Set => change("/mnt/boot/config.json"),
            By::Rename => {
                format!("{edit} && cp /tmp/edit.json /mnt/boot/new && mv /mnt/boot/new /mnt/boot/config.json")
            }
            By::InPlace => format!("{edit} && cat /tmp/edit.json > /mnt/boot/config.json"),
        },
    );
}

/// Waits for a command to succeed, for at most so many seconds.
fn within(guest: &mut Guest, seconds: u32, what: &str, command: &str) {
    let line = format!("for i in $(seq {}); do ({command}) && exit 0; sleep 0.2; done; exit 1", seconds * 5);
    let (text, status) = try_sh(guest, &line);
    if status != 0 {
        let log = sh(guest, "journalctl -b -n 30 -o cat --no-pager; config-json status; true");
        panic!("{what}: '{command}' did not come true within {seconds} s: {text}\n{log}");
    }
}

/// A key, its value in JSON, the seconds, and a command that succeeds when it has taken effect.
type Row = (&'static str, &'static str, u32, &'static str);

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMUPVMYADSSx6wGPanqwKZMZ+DdQYc9ZlmtgcyKsUCpX me@home";

const ROWS: &[Row] = &[
    ("hostname", "\"cellar\"", 10, "[ $(hostname) = cellar ] && grep -qx cellar /etc/hostname"),
    ("hostname", "\"attic\"", 10, "[ $(hostname) = attic ] && grep -qx attic /etc/hostname"),
    (
        "dnsServers",
        "\"9.9.9.9 /lan/10.0.0.1#54\"",
        10,
        "[ \"$(tr '\\n' + < /run/dnsmasq.servers)\" = +server=9.9.9.9+server=/lan/10.0.0.1#54+ ]",
    ),
    // The forwarder has heard of it, and says so.
    (
        "dnsServers",
        "\"9.9.9.10 /lan/10.0.0.1#54\"",
        10,
        "journalctl -b -u dnsmasq -o cat --no-pager | grep -q 'using nameserver 9.9.9.10#53' && dns status | grep -q '10.0.0.1#54 .* lan'",
    ),
    ("hostname", "\"shed\"", 10, "dns query shed A | grep -q ' A 10.0.2.15'"),
    ("dnsServers", "\"null\"", 10, "[ -z \"$(tr -d '[:space:]' < /run/dnsmasq.servers)\" ]"),
    ("country", "\"DE\"", 10, "journalctl -b -u balena-net-config -o cat --no-pager | grep -q 'country DE'"),
    (
        "ntpServers",
        "\"a.example b.example\"",
        30,
        "grep -qx 'pool b.example iburst minpoll 14 maxpoll 14 maxsources 1' /run/chrony/added_config.sources",
    ),
    ("ntpServers", "\"10.0.2.2\"", 30, "chronyc -n sources | grep -q ' 10[.]0[.]2[.]2 '"),
    ("ntpServers", "\"\"", 30, "! test -e /run/chrony/added_config.sources"),
    (
        "apiEndpoint",
        "\"https://early.example.com/\"",
        10,
        "grep -qx uri=https://early.example.com/connectivity-check /etc/NetworkManager/conf.d/os-networkmanager.conf",
    ),
    (
        "os.network.connectivity.uri",
        "\"http://x.example/ok\"",
        30,
        "grep -qx uri=http://x.example/ok /etc/NetworkManager/conf.d/os-networkmanager.conf",
    ),
    (
        "os.network.connectivity.interval",
        "\"77\"",
        30,
        "grep -qx interval=77 /etc/NetworkManager/conf.d/os-networkmanager.conf",
    ),
    (
        "os.network.connectivity.response",
        "\"fine\"",
        30,
        "grep -qx response=fine /etc/NetworkManager/conf.d/os-networkmanager.conf",
    ),
    (
        "os.network.wifi.randomMacAddressScan",
        "false",
        30,
        "grep -qx wifi.scan-rand-mac-address=no /etc/NetworkManager/conf.d/os-networkmanager.conf",
    ),
    (
        "os.sshKeys",
        "[\"KEY\", \"bad\"]",
        10,
        "grep -qx 'KEY' /home/root/.ssh/authorized_keys && grep -q PasswordAuthentication=no /var/volatile/development-features",
    ),
    (
        "os.sshKeys",
        "[]",
        10,
        "! test -e /home/root/.ssh/authorized_keys && ! grep -q PasswordAuthentication=no /var/volatile/development-features",
    ),
    (
        "os.udevRules",
        "{\"56\": \"ENV{ID_FS_LABEL}==\\\"x\\\"\\nA\", \"57\": \"nonsense\"}",
        30,
        "grep -q 'ENV{ID_FS_LABEL}==\"x\"' /etc/udev/rules.d/56.rules && grep -qx nonsense /etc/udev/rules.d/57.rules",
    ),
    ("os.udevRules", "{}", 30, "[ \"$(ls /etc/udev/rules.d)\" = README ]"),
    ("apiKey", "\"provisioning\"", 10, "grep -qx provisioning /var/volatile/vpn-auth"),
    (
        "os.kernel.extraFirmwareVol",
        "\"fw\"",
        10,
        "[ $(cat /sys/module/firmware_class/parameters/path) = /var/lib/docker/volumes/fw/_data ] && grep -qx extra_os_firmware_class_path=firmware_class.path=/var/lib/docker/volumes/fw/_data /mnt/boot/extra_uEnv.txt",
    ),
    (
        "os.fan.profile",
        "\"quiet\"",
        10,
        "journalctl -b -u os-fan-profile -o cat --no-pager | grep -q 'os.fan.profile \"quiet\" is not supported'",
    ),
    ("listenPort", "48485", 30, "wget -q -O /dev/null http://127.0.0.1:48485/ping"),
    (
        "apiEndpoint",
        "\"https://api.example.com\"",
        10,
        "grep -q api.example.com /var/volatile/os-config.json",
    ),
];

#[test]
fn each_key_takes_effect_on_the_running_system() {
    let mut guest = start(direct(FASTEST));
    first_line(&mut guest);
    sh(&mut guest, "mkdir -p /var/lib/docker/volumes/fw/_data && echo remote > /etc/openvpn/openvpn.conf");
    let engine = sh(&mut guest, "systemctl show -p MainPID --value balena");
    let identity = sh(&mut guest, "config-json get uuid");
    for by in [By::Set, By::Rename, By::InPlace] {
        for (key, value, seconds, effect) in ROWS {
            set(&mut guest, by, key, &value.replace("KEY", KEY));
            within(&mut guest, *seconds, &format!("{key} {by:?}"), &effect.replace("KEY", KEY));
        }
        sh(
            &mut guest,
            "for k in apiEndpoint hostname dnsServers country apiKey os.network os.kernel os.fan listenPort; \
             do config-json unset $k; done",
        );
        within(&mut guest, 10, "host name by uuid", "[ $(hostname) = $(config-json get uuid | cut -c1-7) ]");
        within(&mut guest, 10, "default DNS server", "grep -qx server=8.8.8.8 /run/dnsmasq.servers");
        within(
            &mut guest,
            30,
            "no fragment",
            "! grep -q connectivity /etc/NetworkManager/conf.d/os-networkmanager.conf",
        );
        within(&mut guest, 10, "no firmware", "! grep -q firmware_class /mnt/boot/extra_uEnv.txt");
        within(&mut guest, 30, "usual port", "wget -q -O /dev/null http://127.0.0.1:48484/ping");
    }
    // The engine has gone on all the while (DEFECT 2464), and nobody is somebody else now.
    assert_eq!(sh(&mut guest, "systemctl show -p MainPID --value balena"), engine);
    assert_eq!(sh(&mut guest, "config-json get uuid"), identity);
    assert_eq!(sh(&mut guest, "ls -A /mnt/boot | grep -c 'config.json'"), "1");
    // Many edits at once: the last one counts, and no start limit stops the watching.
    sh(&mut guest, "for i in $(seq 30); do config-json set hostname name$i; done");
    within(&mut guest, 10, "a burst", "[ $(hostname) = name30 ]");
    set(&mut guest, By::InPlace, "hostname", "\"after\"");
    within(&mut guest, 10, "after a burst", "[ $(hostname) = after ]");
    // What nobody reacts to restarts nothing.
    let runs = "journalctl -b -o cat --no-pager | grep -c 'configuration changed' || true";
    let before = sh(&mut guest, runs);
    let mut commands =
        "config-json set --json mine '{\"a\":1}' && config-json set os.power.mode low".to_owned();
    for key in minke_config::keys().filter(|key| key.units.is_empty()) {
        let value = match key.path {
            "os.power.mode" => continue,
            "uuid" => "0123456789abcdef0123456789abcdef",
            _ => ["true", "7", "{}", "[]", "x"]
                .into_iter()
                .find(|value| minke_config::value_of(key.path, value).is_ok())
                .unwrap(),
        };
        commands.push_str(&format!(" && config-json set {} '{value}'", key.path));
    }
    sh(&mut guest, &commands);
    assert_eq!(
        sh(&mut guest, "config-json get persistentLogging; config-json get deviceApiKeys"),
        "true\n{}"
    );
    sh(&mut guest, "sleep 2");
    assert_eq!(sh(&mut guest, runs), before);
    assert_eq!(try_sh(&mut guest, "grep -q '/log/journal ' /proc/mounts").1, 1);
    // The keys that wait for a boot.
    power_off(&mut guest);
    guest.restart().unwrap();
    first_line(&mut guest);
    within(&mut guest, 30, "persistentLogging", "grep -q '/log/journal ' /proc/mounts");
    within(
        &mut guest,
        30,
        "persistentLogging",
        "journalctl -b -o cat --no-pager | grep -q 'Persistent logging activated.'",
    );
    within(
        &mut guest,
        30,
        "os.power.mode",
        "journalctl -b -o cat --no-pager | grep -q 'os.power.mode \"low\" is not supported'",
    );
    assert_eq!(sh(&mut guest, "hostname; config-json get uuid"), "after\n0123456789abcdef0123456789abcdef");
    sh(&mut guest, "config-json unset hostname");
    within(&mut guest, 10, "uuid", "[ $(hostname) = 0123456 ]");
}

/// What a file may be broken like (spec os §4.5), with what the log says.
const BROKEN: [(&str, &str); 5] = [
    (r#"{"hostname": "evil","#, "line 1 column 21"),
    ("", "is empty"),
    (r"\0\0\0\0", "NUL bytes"),
    ("[1]", "is an array"),
    (r#"{"hostname": "evil"} x"#, "line 1 column 22"),
];

#[test]
fn a_broken_file_takes_nothing_down() {
    let mut settings = direct(FASTEST);
    let config = format!(
        r#"{{"developmentMode":true,"hostname":"steady","dnsServers":"9.9.9.9","os":{{"sshKeys":["{KEY}"],"udevRules":{{"56":"a"}}}}}}"#
    );
    settings.config = Some(config.into_bytes());
    let mut guest = start(settings);
    first_line(&mut guest);
    let good = sh(&mut guest, "cat /mnt/boot/config.json");
    // Without `set -e`, which a shell ignores where it asks for the status.
    let up = "( set -x; for u in balena balena-supervisor NetworkManager systemd-journald os-sshkeys os-udevrules \
              balena-hostname balena-net-config development-features; do systemctl is-active -q $u || exit 1; done; \
              [ $(hostname) = steady ] && grep -q me@home /home/root/.ssh/authorized_keys && \
              test -e /etc/udev/rules.d/56.rules && test -e /var/volatile/development-features && \
              grep -qx server=9.9.9.9 /run/dnsmasq.servers ) 2>&1";
    let processes =
        "for u in balena balena-supervisor NetworkManager; do systemctl show -p MainPID --value $u; done";
    within(&mut guest, 60, "the boot", up);
    let before = sh(&mut guest, processes);
    let uuid = sh(&mut guest, "config-json get uuid");
    // At run time: nothing changes, and one line says where.
    for (content, found) in BROKEN {
        sh(&mut guest, &format!("printf '%b' '{content}' > /mnt/boot/config.json"));
        within(
            &mut guest,
            10,
            content,
            &format!("journalctl -b -p err -u config-json -o cat --no-pager | grep -q '{found}'"),
        );
        sh(&mut guest, up);
        if !content.trim_matches(['\\', '0']).is_empty() {
            // A person's work is not written over.
            assert_eq!(try_sh(&mut guest, "config-json set mine 1").1, 1, "{content}");
        }
        assert_eq!(sh(&mut guest, processes), before);
        sh(&mut guest, &format!("cat > /mnt/boot/config.json <<'END'\n{good}\nEND"));
        within(&mut guest, 10, "good again", "! config-json status | grep -q Problem");
    }
    sh(&mut guest, "rm /mnt/boot/config.json; sleep 2");
    sh(&mut guest, up);
    sh(&mut guest, &format!("cat > /mnt/boot/config.json <<'END'\n{good}\nEND"));
    // Values that make no sense.
    for (key, value) in [
        ("balenaRootCA", "\"%%% no base64\""),
        ("apiEndpoint", "\"no scheme\""),
        ("deviceApiKeys", "[]"),
        ("deviceType", "5"),
        ("listenPort", "\"x\""),
        ("os.udevRules", "{\"56\": \"a\", \"57\": \"@@ nonsense \\\"\"}"),
        ("ntpServers", "[1]"),
    ] {
        set(&mut guest, By::Set, key, value);
    }
    sh(&mut guest, "sleep 3");
    within(&mut guest, 60, "nonsense", up);
    for (fields, problem) in [
        (r#""apiEndpoint":5"#, "apiEndpoint is a number and should be a string"),
        (r#""apiEndpoint":"https://x","deviceType":5"#, "deviceType is a number and should be a string"),
        (r#""apiEndpoint":"https://x","balenaRootCA":[]"#, "balenaRootCA is an array and should be a string"),
        (r#""apiEndpoint":"https://x","deviceApiKey":1"#, "deviceApiKey is a number and should be a string"),
        (
            r#""apiEndpoint":"https://x","deviceApiKeys":"k""#,
            "deviceApiKeys is a string and should be an object",
        ),
        (r#""apiEndpoint":"no-scheme""#, "does not begin with https://"),
    ] {
        let command = format!(
            "echo '{{{fields}}}' > /tmp/wrong.json; os-config --config-path=/tmp/wrong.json update 2>&1"
        );
        let (text, status) = try_sh(&mut guest, &command);
        assert!(status == 1 && text.contains(problem), "{fields}: {status} {text}");
    }
    within(&mut guest, 30, "the API", "wget -q -O /dev/null http://127.0.0.1:48484/ping");
    // At boot.
    sh(&mut guest, &format!("cat > /mnt/boot/config.json <<'END'\n{good}\nEND"));
    within(
        &mut guest,
        10,
        "good again",
        "! config-json status | grep -q others && ! grep -q scheme /mnt/state/config.json.good",
    );
    // The last one is missing altogether.
    for (content, found) in
        BROKEN.into_iter().map(|(content, found)| (Some(content), found)).chain([(None, "")])
    {
        let change = match content {
            Some(content) => format!("printf '%b' '{content}' > /mnt/boot/config.json"),
            None => "rm /mnt/boot/config.json; sync".to_owned(),
        };
        sh(&mut guest, &change);
        power_off(&mut guest);
        guest.restart().unwrap();
        first_line(&mut guest);
        within(&mut guest, 60, &change, up);
        let lines = "journalctl -b -p warning -o cat --no-pager | grep '^.config-json.*config.json '";
        let lines = sh(&mut guest, lines);
        assert!(lines.lines().count() == 1 && lines.contains(found), "{change}: {lines}");
        assert_eq!(sh(&mut guest, "config-json get uuid 2> /dev/null"), uuid, "{change}");
        sh(&mut guest, &format!("cat > /mnt/boot/config.json <<'END'\n{good}\nEND"));
        sh(&mut guest, "sleep 1");
    }
}

/// `country` beside the kernel's simulated radios, which no image has: they are taken from the kernel's package, and the
/// database of rules from the build machine. (The kernels of the other machines are made for clouds, without Wi-Fi.)
#[test]
fn the_country_reaches_the_kernel() {
    const MODULES: [&str; 5] = ["rfkill", "libarc4", "cfg80211", "mac80211", "mac80211_hwsim"];
    let mut guest = start(direct(Arch::Armv7));
    first_line(&mut guest);
    sh(&mut guest, "config-json set country DE");
    within(
        &mut guest,
        30,
        "no Wi-Fi yet",
        "journalctl -b -u balena-net-config -o cat --no-pager | grep -q 'country DE has no effect: there is no Wi-Fi'",
    );
    sh(&mut guest, "config-json unset country");
    let kernel = sh(&mut guest, "uname -r");
    power_off(&mut guest);
    let scratch = Scratch::new("wifi").unwrap();
    let packages = Cache::open().unwrap().folder("apt/bookworm-armhf/debs").unwrap();
    let package = walk(&packages)
        .unwrap()
        .into_iter()
        .find(|(name, _)| name.starts_with(&format!("linux-image-{kernel}_")) && name.ends_with(".deb"));
    run(Command::new("dpkg-deb").arg("-x").arg(package.unwrap().1).arg(scratch.path()));
    let files = walk(scratch.path()).unwrap();
    for module in MODULES {
        let (_, path) = files.iter().find(|(name, _)| name.ends_with(&format!("/{module}.ko"))).unwrap();
        guest.overlay().write_boot_file(&format!("{module}.ko"), &std::fs::read(path).unwrap()).unwrap();
    }
    for name in ["regulatory.db", "regulatory.db.p7s"] {
        let content = std::fs::read(format!("/lib/firmware/{name}")).unwrap();
        guest.overlay().write_boot_file(name, &content).unwrap();
    }
    guest.restart().unwrap();
    first_line(&mut guest);
    sh(
        &mut guest,
        &format!(
            "printf /mnt/boot > /sys/module/firmware_class/parameters/path; \
             for m in {}; do o=; [ $m = cfg80211 ] && o=dyndbg=+p; busybox insmod /mnt/boot/$m.ko $o || exit 1; done",
            MODULES.join(" ")
        ),
    );
    for country in ["DE", "JP"] {
        set(&mut guest, By::Set, "country", &format!("\"{country}\""));
        let command = format!("dmesg | grep -q 'Regulatory domain changed to country: {country}'");
        within(&mut guest, 30, "country", &command);
    }
}
