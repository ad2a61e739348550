//! The units whose whole work is to put settings where their program looks for them: `config-json apply UNIT`.

use crate::{boot_copies, firmware};
use minke_applet::{EXIT_USAGE, errln, log, report};
use minke_config::{Config, Store};
use minke_control::ntp;
use minke_sys::mount::Flags;
use minke_sys::{Errno, Error, Result, file, mount, netlink, status};
use minke_wire::keyfile::Keyfile;
use std::path::Path;

/// A file that a unit makes of the settings.
struct Product {
    unit: &'static str,
    path: &'static str,
    mode: u32,
    /// Its content; `None`: there shall be no such file.
    content: fn(&Config) -> Option<String>,
}

const PRODUCTS: [Product; 4] = [
    Product { unit: "balena-net-config", path: "run/dnsmasq.servers", mode: 0o644, content: dns_servers },
    Product {
        unit: "balena-ntp-config",
        path: "run/chrony/added_config.sources",
        mode: 0o644,
        content: time_servers,
    },
    Product {
        unit: "os-networkmanager",
        path: "etc/NetworkManager/conf.d/os-networkmanager.conf",
        mode: 0o644,
        content: network_manager,
    },
    Product { unit: "prepare-openvpn", path: "var/volatile/vpn-auth", mode: 0o600, content: credentials },
];

/// What a unit does besides.
type Work = fn(&Config, &Path) -> Result<u8>;

const WORKS: [(&str, Work); 6] = [
    ("balena-net-config", |_, root| boot_copies::copy(root)),
    ("balena-net-config", |_, root| make_folders(root)),
    ("balena-net-config", set_country),
    ("balena-persistent-logs", keep_journal),
    ("os-fan-profile", |config, _| Ok(not_supported(config))),
    ("os-extra-firmware", firmware::apply),
];

/// Does the work of `unit`.
pub fn run(store: &Store, root: &Path, unit: &str) -> u8 {
    apply(&store.load().config, root, unit.strip_suffix(".service").unwrap_or(unit))
}

/// Does the work of `unit` by this configuration.
pub fn apply(config: &Config, root: &Path, unit: &str) -> u8 {
    let (mut known, mut worst) = (false, 0);
    for product in PRODUCTS.iter().filter(|product| product.unit == unit) {
        known = true;
        worst = worst.max(report(make(product, config, root)));
    }
    for (_, work) in WORKS.iter().filter(|(name, _)| *name == unit) {
        known = true;
        worst = worst.max(report(work(config, root)));
    }
    if !known {
        errln!("config-json: '{unit}' is no unit that config.json feeds by this command");
        return EXIT_USAGE;
    }
    worst
}

/// Brings a file into the state that the settings ask for. Power cut: it has the old or the new content; what lies
/// below `/run` and `/var/volatile` is made anew at the boot anyway.
fn make(product: &Product, config: &Config, root: &Path) -> Result<u8> {
    /// More than any of these files has.
    const LIMIT: usize = 4 << 20;
    let path = &root.join(product.path);
    let unit = product.unit;
    let Some(content) = (product.content)(config) else {
        if status::exists(path) {
            file::remove_durable(path)?;
            log::info(format_args!("{unit}: {} is removed", path.display()));
            tell(unit, root);
        }
        return Ok(0);
    };
    if file::read_optional(path, LIMIT).ok().flatten().as_deref() == Some(content.as_bytes()) {
        return Ok(0);
    }
    if let Some(folder) = path.parent().filter(|folder| !status::is_dir(folder)) {
        let mode = if unit == "balena-ntp-config" { 0o770 } else { 0o755 };
        // The umask takes bits away.
        file::make_folder(folder, mode).and_then(|()| file::set_mode(folder, mode))?;
    }
    file::write_durable(path, content.as_bytes(), product.mode)?;
    log::info(format_args!("{unit}: {} is written", path.display()));
    tell(unit, root);
    Ok(0)
}

/// Tells the program that reads the file, if it runs: it does not look by itself.
fn tell(unit: &str, root: &Path) {
    if unit == "balena-ntp-config" {
        let socket = root.join(ntp::SOCKET.trim_start_matches('/'));
        // One that does not run reads the file when it starts.
        let _ = minke_control::tell(&socket, &ntp::Command::Reload.to_value());
    }
}

/// A text for a line of a file of another program: control characters would make other lines of it.
fn line<'a>(config: &'a Config, key: &str) -> Option<&'a str> {
    let text = config.string(key)?;
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        log::warn(format_args!("{key} is ignored: it has a control character"));
        return None;
    }
    Some(text)
}

/// Spec os §7.4: an empty line, then `server=` per word; `null` gives none, and so no bad address. Without the key the
/// usual servers, of both families, under a comment by which the forwarder knows that nobody has asked for them.
fn dns_servers(config: &Config) -> Option<String> {
    const USUAL: &str = "\n# fallback: asked while no other server is known or none answers\nserver=8.8.8.8\nserver=2001:4860:4860::8888\n";
    let Some(words) = line(config, "dnsServers").filter(|words| !words.trim_ascii().is_empty()) else {
        return Some(USUAL.to_owned());
    };
    let mut text = "\n".to_owned();
    for word in words.split_whitespace().filter(|word| *word != "null") {
        text.push_str("server=");
        text.push_str(word);
        text.push('\n');
    }
    Some(text)
}

/// Spec os §5.6.3: a line per server. A word that can be no server is told and left out; the others count.
fn time_servers(config: &Config) -> Option<String> {
    /// More than anybody needs; the time client has to keep each.
    const MOST: usize = 32;
    let (mut text, mut count) = (String::new(), 0usize);
    for word in line(config, "ntpServers").unwrap_or_default().split_whitespace() {
        if !is_server(word) {
            let shown = minke_wire::text::shown(word.get(..64).unwrap_or(word));
            log::warn(format_args!("ntpServers: '{shown}' is ignored: it is neither a name nor an address"));
            continue;
        }
        if count == MOST {
            log::warn(format_args!("ntpServers: only the first {MOST} servers are used"));
            break;
        }
        count = count.saturating_add(1);
        text.push_str("pool ");
        text.push_str(word);
        text.push_str(" iburst minpoll 14 maxpoll 14 maxsources 1\n");
    }
    (!text.is_empty()).then_some(text)
}

/// Whether a word can name a server: an IP address, or labels as host names have them.
fn is_server(word: &str) -> bool {
    /// The longest name (RFC 1035 §2.3.4), without its last dot.
    const LONGEST: usize = 253;
    let name = word.strip_suffix('.').unwrap_or(word);
    let is_name = name.len() <= LONGEST && name.split('.').all(minke_config::is_host_name);
    // A last label of digits alone belongs to an address that is none.
    let last = name.rsplit('.').next().unwrap_or_default();
    word != "null" && is_name && !last.bytes().all(|byte| byte.is_ascii_digit())
        || word.parse::<std::net::IpAddr>().is_ok()
}

/// Spec os §11.3, §11.4.
fn network_manager(config: &Config) -> Option<String> {
    let mut file = Keyfile::default();
    file.comment("", "Made from config.json by os-networkmanager.service; changes here are lost");
    if let Some(uri) = minke_config::connectivity_uri(config) {
        let interval = config.number("os.network.connectivity.interval").unwrap_or(3600).to_string();
        let response = line(config, "os.network.connectivity.response").unwrap_or_default();
        for (key, value) in [("uri", uri.as_str()), ("interval", &interval), ("response", response)] {
            file.set("connectivity", key, value);
        }
    }
    let scan = "os.network.wifi.randomMacAddressScan";
    if config.get(scan).is_some() {
        let answer = if config.flag(scan) { "yes" } else { "no" };
        file.set("device", "wifi.scan-rand-mac-address", answer);
    }
    String::from_utf8(file.to_bytes()).ok()
}

/// Spec os §14.2: the name and password with which the VPN client logs in. Without both there is none.
fn credentials(config: &Config) -> Option<String> {
    let own = |variable: &str| std::env::var(variable).ok();
    let of = |key: &str| line(config, key).map(str::to_owned);
    let user = own("VPN_AUTH_USER").or_else(|| of("uuid"))?;
    let password = own("VPN_AUTH_PASSWORD").or_else(|| of("apiKey")).or_else(|| of("deviceApiKey"))?;
    Some(format!("{user}\n{password}\n"))
}

/// Folders of which the forwarder hears what changes in them. It may start before those who write there.
fn make_folders(root: &Path) -> Result<u8> {
    for folder in ["run/resolvconf/interface", "run/minke/names"] {
        file::make_folder(&root.join(folder), 0o755)?;
    }
    // The owner's own options; without a state partition there is no place for them.
    let own = root.join("mnt/state/root-overlay");
    if status::is_dir(&own) {
        file::make_folder(&own.join("etc/dnsmasq.d"), 0o755)?;
    }
    Ok(0)
}

/// Wi-Fi's regulatory domain (spec os §11.4). Without the key the driver's own stays.
fn set_country(config: &Config, root: &Path) -> Result<u8> {
    let Some(country) = config.string("country").filter(|country| !country.is_empty()) else { return Ok(0) };
    if country.len() != 2 || !country.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        log::warn(format_args!("country is ignored: it should be two letters, as in DE"));
        return Ok(0);
    }
    // The kernel is not part of another root.
    if root != Path::new("/") {
        return Ok(0);
    }
    match netlink::set_country(&country.to_ascii_uppercase()) {
        Ok(()) => log::info(format_args!("country is {country}")),
        Err(error) if error.errno == Errno::NOENT => {
            log::info(format_args!("country {country} has no effect: there is no Wi-Fi"));
        }
        Err(error) => return Err(error),
    }
    Ok(0)
}

/// `balena-persistent-logs.service` (spec os §10.4): the journal's folder on the data partition, which makes the
/// journal persistent. Once at a boot: what comes of a change waits for the next.
fn keep_journal(config: &Config, root: &Path) -> Result<u8> {
    let source = root.join("mnt/data/root-overlay/var/log/journal");
    let target = root.join("var/log/journal");
    let bound = status::is_dir(&target);
    match (config.flag("persistentLogging"), bound) {
        (false, false) => log::info(format_args!("Persistent logging deactivated.")),
        (false, true) => log::info(format_args!("Persistent logging ends with a reboot.")),
        (true, _) => {
            file::make_folder(&source, 0o755)?;
            file::make_folder(&target, 0o755)?;
            let same = |path: &Path| status::of(path).map(|status| (status.device, status.inode));
            if same(&source)? != same(&target)? {
                mount::bind(&source, &target, false)?;
                mount::remount_bind(&target, Flags::NODEV | Flags::NOSUID | Flags::NOEXEC)?;
            }
            file::sync_file_system(&source)?;
            log::info(format_args!("Persistent logging activated."));
        }
    }
    Ok(0)
}

/// What only some boards can.
fn not_supported(config: &Config) -> u8 {
    for key in ["os.fan.profile", "os.power.mode"] {
        if let Some(value) = config.get(key) {
            log::warn(format_args!("{key} {value} is not supported on this board"));
        }
    }
    0
}

/// An error of a setting that cannot be carried out.
pub(crate) fn refused(operation: &'static str, object: &Path) -> Error {
    Error::new(operation, object.display(), Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(of: fn(&Config) -> Option<String>, text: &str) -> String {
        of(&Config::parse(text.as_bytes()).unwrap()).unwrap_or_default()
    }

    #[test]
    fn resolvers() {
        let usual = made(dns_servers, "{}");
        assert!(usual.starts_with("\n# fallback"));
        assert!(usual.ends_with("\nserver=8.8.8.8\nserver=2001:4860:4860::8888\n"), "{usual}");
        for (text, expected) in [
            (r#"{"dnsServers":""}"#, usual.as_str()),
            (r#"{"dnsServers":" "}"#, &usual),
            (r#"{"dnsServers":7}"#, &usual),
            (r#"{"dnsServers":"1.1.1.1\nconf-file=/x"}"#, &usual),
            (r#"{"dnsServers":"8.8.8.8"}"#, "\nserver=8.8.8.8\n"),
            (r#"{"dnsServers":"null"}"#, "\n"),
            (
                r#"{"dnsServers":" /local/10.0.0.1  9.9.9.9#54 "}"#,
                "\nserver=/local/10.0.0.1\nserver=9.9.9.9#54\n",
            ),
        ] {
            assert_eq!(made(dns_servers, text), expected, "{text}");
        }
    }

    #[test]
    fn time_sources() {
        assert_eq!(made(time_servers, "{}"), "");
        assert_eq!(
            made(time_servers, r#"{"ntpServers":"a.example  b"}"#),
            "pool a.example iburst minpoll 14 maxpoll 14 maxsources 1\n\
             pool b iburst minpoll 14 maxpoll 14 maxsources 1\n"
        );
        let of = |servers: &str| made(time_servers, &format!(r#"{{"ntpServers":"{servers}"}}"#));
        for good in ["192.0.2.1", "2001:db8::1", "time.example.org.", "3.pool.ntp.org", &"a.".repeat(126)] {
            assert_eq!(of(good), format!("pool {good} iburst minpoll 14 maxpoll 14 maxsources 1\n"));
        }
        let long = "a.".repeat(127) + "a";
        for bad in ["null", "-x", "a..b", "a/b", "{a:1}", "a;b", "1.2.3", "256.1.1.1", "::g", "ü", &long] {
            assert_eq!(of(bad), "", "{bad}");
            assert_eq!(of(&format!("{bad} b")), of("b"), "{bad}");
        }
        assert_eq!(of(&"a.b ".repeat(1000)).lines().count(), 32);
    }

    #[test]
    fn the_fragment_of_networkmanager() {
        let body = |text: &str| made(network_manager, text).split_once('\n').unwrap().1.to_owned();
        assert_eq!(body("{}"), "");
        assert!(made(network_manager, "{}").starts_with("# "));
        assert_eq!(
            body(r#"{"apiEndpoint":"https://api.example.com/"}"#),
            "\n[connectivity]\nuri=https://api.example.com/connectivity-check\ninterval=3600\nresponse=\n"
        );
        let own = r#"{"apiEndpoint":"https://a","os":{"network":{
            "connectivity":{"uri":"http://b/x","interval":"60","response":"hello you"},
            "wifi":{"randomMacAddressScan":false}}}}"#;
        assert_eq!(
            body(own),
            "\n[connectivity]\nuri=http://b/x\ninterval=60\nresponse=hello you\n\
             \n[device]\nwifi.scan-rand-mac-address=no\n"
        );
        let off = r#"{"apiEndpoint":"https://a","os":{"network":{"connectivity":{"uri":"null"}}}}"#;
        assert_eq!(body(off), "");
        let scan = r#"{"os":{"network":{"wifi":{"randomMacAddressScan":true}}}}"#;
        assert_eq!(body(scan), "\n[device]\nwifi.scan-rand-mac-address=yes\n");
        let escaped = r#"{"os":{"network":{"connectivity":{"uri":" http://b/\\s"}}}}"#;
        assert!(body(escaped).contains("\nuri=\\shttp://b/\\\\s\n"), "{}", body(escaped));
        let bad = r#"{"os":{"network":{"connectivity":{"uri":"x\n[main]\nplugins=none"}}}}"#;
        assert_eq!(body(bad), "");
    }

    #[test]
    fn the_vpn_s_login() {
        assert_eq!(made(credentials, r#"{"uuid":"u"}"#), "");
        assert_eq!(made(credentials, r#"{"uuid":"u","deviceApiKey":"d"}"#), "u\nd\n");
        assert_eq!(made(credentials, r#"{"uuid":"u","deviceApiKey":"d","apiKey":"a"}"#), "u\na\n");
    }

    /// A keyfile, a servers file or a sources file has the lines that we make, whatever the values hold.
    #[test]
    fn no_value_makes_lines_of_its_own() {
        const PIECES: [&str; 16] = [
            "a", " ", "[main]", "\n", "\r", "\0", "=", "#", ";", "\t", "\u{1b}", "\u{85}", "\u{2028}",
            "null", "http://", "7",
        ];
        const KEYS: [&str; 6] = [
            "dnsServers",
            "ntpServers",
            "apiEndpoint",
            "os.network.connectivity.uri",
            "os.network.connectivity.response",
            "os.network.connectivity.interval",
        ];
        let mut seed = 1u64;
        let mut random = |limit: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % limit
        };
        for _ in 0..200 {
            let mut config = Config::default();
            for key in KEYS {
                let text: String = (0..random(8)).map(|_| PIECES[random(PIECES.len())]).collect();
                config.set(key, text.into());
            }
            let own = |text: &str, known: &[&str]| {
                for line in text.split(['\n', '\r']) {
                    assert!(
                        line.is_empty() || known.iter().any(|known| line.starts_with(known)),
                        "{line:?} of {config:?}"
                    );
                }
                assert!(!text.contains('\0'));
            };
            own(&dns_servers(&config).unwrap(), &["server=", "# fallback: "]);
            own(&time_servers(&config).unwrap_or_default(), &["pool "]);
            own(
                &network_manager(&config).unwrap(),
                &["# ", "[connectivity]", "[device]", "uri=", "interval=", "response="],
            );
        }
    }
}
