//! The clock at the boot and by HTTPS (spec os §5.1 to §5.5), with a real-time clock that says anything, and servers that
//! do. The servers are Python's on the machine that runs the test; the guest reaches them at 10.0.2.2.

use crate::guest::{FASTEST, booted, direct, first_line, number, power_off, sh, start, try_sh, until};
use minke_image::arch::Arch;
use minke_image::guest::{Guest, Settings};
use minke_tests::authority::Authority;
use minke_tests::relay::{Path as NetPath, Relay, Warp};
use minke_tests::server::Server;
use minke_tests::{Daemon, free_udp_port, project};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

/// A folder with an authority, and servers of its own.
struct Servers {
    authority: Authority,
    folder: PathBuf,
    web: Vec<Server>,
    time: Vec<Daemon>,
}

impl Servers {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("minke-time-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        Self { authority: Authority::new(&folder, 0..36_500), folder, web: Vec::new(), time: Vec::new() }
    }

    fn sh(&self, script: &str) -> String {
        let done = Command::new("sh").args(["-ec", script]).current_dir(&self.folder).output().unwrap();
        assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// A server whose certificate is valid between these days, counted from now; its URL.
    fn tls(&mut self, days: Range<i64>) -> String {
        let name = format!("s{}", self.web.len());
        self.authority.issue(&name, "IP:10.0.2.2", days);
        format!("https://10.0.2.2:{}", self.serve(&[&format!("{name}.pem"), &format!("{name}.key")]))
    }

    /// chronyd, which serves this machine's time and leaves its clock alone; its port.
    fn ntp(&mut self) -> u16 {
        let port = free_udp_port();
        let settings = format!(
            "local stratum 3\nport {port}\nbindaddress 127.0.0.1\nallow\ncmdport 0\nbindcmdaddress /\n\
             pidfile {}\n",
            self.folder.join("chronyd.pid").display()
        );
        std::fs::write(self.folder.join("chrony.conf"), settings).unwrap();
        let mut chronyd = Command::new("chronyd");
        chronyd.args(["-x", "-d", "-u", "root", "-f", "chrony.conf"]).current_dir(&self.folder);
        self.time.push(Daemon::start(chronyd.stdout(Stdio::null()).stderr(Stdio::null())));
        port
    }

    fn plain(&mut self) -> String {
        format!("http://10.0.2.2:{}", self.serve(&[]))
    }

    fn serve(&mut self, arguments: &[&str]) -> u16 {
        let script = project().join("applets/timesync/tests/server.py");
        let server = Server::start(&script, &[&["127.0.0.1"], arguments].concat(), &self.folder);
        let port = server.port;
        self.web.push(server);
        port
    }

    /// A `config.json` with this connectivity URI.
    fn config(&self, uri: &str) -> Vec<u8> {
        let authority = self.authority.base64();
        format!(r#"{{"balenaRootCA":"{authority}","os":{{"network":{{"connectivity":{{"uri":"{uri}"}}}}}}}}"#)
            .into_bytes()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The machine's real-time clock begins there at each power-on.
fn set_rtc(settings: &mut Settings, base: &str) {
    settings.options = vec!["-rtc".into(), format!("base={base}")];
}

/// Powers the guest off, in order, and on again with this time in its real-time clock.
pub(crate) fn restart(guest: &mut Guest, rtc: &str) {
    power_off(guest);
    set_rtc(guest.settings_mut(), rtc);
    guest.restart().unwrap();
    first_line(guest);
}

/// A time of this machine or the guest's in seconds since 1970.
fn seconds(text: &str) -> i64 {
    text.trim().parse().unwrap()
}

/// The guest's year, and whether its time is believed.
fn clock(guest: &mut Guest) -> (String, bool) {
    let year = sh(guest, "date -u +%Y");
    let (text, status) = try_sh(guest, "timesync status");
    assert_eq!(status == 0, !text.contains("not to be trusted"), "{text}");
    (year, status == 0)
}

fn journal(guest: &mut Guest, unit: &str) -> String {
    sh(guest, &format!("journalctl -b -u {unit} -o cat --no-pager"))
}

#[test]
fn whatever_the_real_time_clock_and_the_saved_one_say_the_clock_is_sane_or_said_not_to_be() {
    let mut settings = direct(FASTEST);
    set_rtc(&mut settings, "1970-01-01T00:00:00");
    let mut guest = start(settings);
    first_line(&mut guest);
    let stamp = sh(&mut guest, "cat /etc/timestamp");
    let built = stamp.get(..4).unwrap().to_owned();

    // An empty battery, and nothing saved: the build time, and no trust.
    assert_eq!(clock(&mut guest), (built.clone(), false));
    let text = journal(&mut guest, "fake-hwclock");
    assert!(text.contains("RTC time is in the past: it says 1970-01-01"), "{text}");
    sh(
        &mut guest,
        "timedatectl show -p NTPSynchronized --value | grep -qx no; timedatectl | grep -q 'RTC time: Thu 1970'",
    );
    // Targets and timers are there all the same.
    for unit in
        ["time-set.target", "time-sync.target", "time-sync-https-wait.target", "fake-hwclock-update.timer"]
    {
        until(&mut guest, &format!("[ $(systemctl show -p ActiveState --value {unit}) = active ]"));
    }
    // The reference's names.
    for unit in ["timeinit-buildtime", "timeinit-rtc", "fake-hwclock"] {
        assert_eq!(sh(&mut guest, &format!("systemctl show -p ActiveState --value {unit}")), "active");
    }
    // PID 1 itself began at the build time.
    let first = sh(
        &mut guest,
        "journalctl -b -o json --no-pager _PID=1 | head -1 | sed 's/.*\"__REALTIME_TIMESTAMP\":\"\\([0-9]*\\)......\".*/\\1/'",
    );
    let build = sh(
        &mut guest,
        "date -u -d \"$(sed 's/\\(....\\)\\(..\\)\\(..\\)\\(..\\)\\(..\\)\\(..\\)/\\1-\\2-\\3 \\4:\\5:\\6/' /etc/timestamp)\" +%s",
    );
    assert!(seconds(&first) >= seconds(&build), "{first} {build}");

    // Beyond 2038, and plausible. The saved clock is what a power cut may leave; no full hour repairs it.
    sh(
        &mut guest,
        "systemctl stop fake-hwclock fake-hwclock-update.timer; head -c 20 /dev/zero > /etc/fake-hwclock/fake-hwclock.data",
    );
    restart(&mut guest, "2039-03-04T05:06:07");
    assert_eq!(clock(&mut guest), ("2039".to_owned(), true));
    let text = journal(&mut guest, "fake-hwclock");
    assert!(text.contains("fake-hwclock.data is no time: it is not believed"), "{text}");
    assert!(sh(&mut guest, "timesync status").contains("saved clock: unreadable\nRTC: 2039-03-04"));
    // The next save repairs it, and orderly ends save.
    restart(&mut guest, "1970-01-01T00:00:00");
    assert_eq!(clock(&mut guest), ("2039".to_owned(), false));
    assert!(sh(&mut guest, "cat /etc/fake-hwclock/fake-hwclock.data").starts_with("2039-03-04"));

    // The far future, in both clocks: the kernel believes it, and we do not.
    sh(
        &mut guest,
        "systemctl stop fake-hwclock; echo 2105-01-01 00:00:00 > /etc/fake-hwclock/fake-hwclock.data",
    );
    restart(&mut guest, "2099-01-01T00:00:00");
    assert_eq!(clock(&mut guest), (built, false));
    let text = journal(&mut guest, "fake-hwclock");
    for clock in
        ["the system's clock says 2099-01-01", "the saved clock says 2105-01-01", "the RTC says 2099-01-01"]
    {
        assert!(text.contains(clock), "{text}");
    }
    // NTP knows better: from then on the clock is trusted, and saved, and the machine's own clock is right as well.
    let mut servers = Servers::new("ntp");
    let server = format!("server 10.0.2.2 port {} iburst", servers.ntp());
    sh(
        &mut guest,
        &format!("echo '{server}' > /run/chrony/test.sources; ntp reload; timesync wait --timeout 120"),
    );
    assert_eq!(sh(&mut guest, "cat /run/systemd/timesync/synchronized"), "NTP");
    let year = servers.sh("date -u +%Y");
    assert_eq!(clock(&mut guest), (year.clone(), true));
    let here = seconds(&servers.sh("date +%s"));
    assert!((seconds(&sh(&mut guest, "date +%s")) - here).abs() < 60);
    until(&mut guest, "timedatectl show -p NTPSynchronized --value | grep -qx yes");
    until(&mut guest, &format!("grep -q ^{year}- /etc/fake-hwclock/fake-hwclock.data"));
    until(&mut guest, &format!("timedatectl show -p RTCTimeUSec | grep -q ' {year}-'"));
    // The time client comes back when it dies, with the rights that it needs and no others.
    let old = sh(&mut guest, "systemctl show -p MainPID --value chronyd");
    sh(&mut guest, &format!("kill -9 {old}"));
    until(
        &mut guest,
        &format!(
            "p=$(systemctl show -p MainPID --value chronyd); [ \"$p\" != 0 ] && [ \"$p\" != {old} ] && \
             grep -q '^Uid:.101' /proc/$p/status && grep -q '^CapEff:.0000000002000400' /proc/$p/status"
        ),
    );
    // One that hangs is ended by the watchdog, and one that is well is not.
    sh(
        &mut guest,
        "mkdir -p /run/systemd/system/chronyd.service.d; \
         printf '[Service]\\nWatchdogSec=40\\nRestartSec=1\\n' > /run/systemd/system/chronyd.service.d/test.conf; \
         systemctl daemon-reload; systemctl restart chronyd",
    );
    let main = "systemctl show -p MainPID --value chronyd";
    let old = sh(&mut guest, main);
    assert_eq!(sh(&mut guest, &format!("sleep 60; {main}")), old, "{}", journal(&mut guest, "chronyd"));
    sh(&mut guest, &format!("kill -STOP {old}"));
    until(
        &mut guest,
        &format!("p=$(systemctl show -p MainPID --value chronyd); [ \"$p\" != 0 ] && [ \"$p\" != {old} ]"),
    );
    until(&mut guest, "journalctl -b -u chronyd -o cat --no-pager | grep -q watchdog");
    // Not for ever: the next boot begins here.
    restart(&mut guest, "1970-01-01T00:00:00");
    assert_eq!(clock(&mut guest), (year, false));
    power_off(&mut guest);
}

/// The time of a message since the boot, in seconds.
fn moment(guest: &mut Guest, unit: &str, text: &str) -> f64 {
    let found = until(
        guest,
        &format!(
            "journalctl -b -u {unit} -o json --no-pager | grep '{text}' > /tmp/moment && head -1 /tmp/moment | \
             sed 's/.*\"__MONOTONIC_TIMESTAMP\":\"\\([0-9]*\\)\".*/\\1/'"
        ),
    );
    found.parse::<f64>().unwrap_or_else(|_| panic!("'{text}' of {unit}: {found}")) / 1e6
}

#[test]
fn an_https_server_s_date_sets_the_clock_and_no_server_holds_the_boot() {
    let mut servers = Servers::new("https");
    let now = servers.tls(-1..30);
    let expired = servers.tls(-30..-1);
    let second = servers.tls(-1..30);
    let plain = servers.plain();
    let mut settings = direct(FASTEST);
    set_rtc(&mut settings, "2033-01-01T00:00:00");
    settings.config = Some(servers.config(&format!("{now}/never")));
    let mut guest = start(settings);
    booted(&mut guest);
    // The server is silent. The boot did not wait for it, and NTP not for long. On a busy machine a boot may take longer than
    // the attempt, but not each time.
    for is_last in [false, false, true] {
        until(
            &mut guest,
            "[ $(systemctl show -p ActiveState --value time-sync-https-wait.target) = active ]",
        );
        let up = moment(&mut guest, "NetworkManager", "NetworkManager.service: started");
        let multi_user = moment(&mut guest, "multi-user.target", "multi-user.target: reached");
        let waited =
            moment(&mut guest, "time-sync-https-wait.target", "time-sync-https-wait.target: reached");
        if multi_user < waited && waited - up < 45.0 {
            break;
        }
        assert!(!is_last, "{up} {multi_user} {waited}");
        power_off(&mut guest);
        guest.restart().unwrap();
        booted(&mut guest);
    }
    until(&mut guest, "systemctl status chronyd -n 0 | grep -q 'Active: a'");
    assert_eq!(clock(&mut guest), ("2033".to_owned(), true));
    // From here on the HTTPS date is alone.
    sh(&mut guest, "systemctl stop chronyd");

    let ask = |guest: &mut Guest, uri: &str, more: &str, says: &str| {
        let set = format!(
            "systemctl stop timesync-https; rm -f /run/systemd/timesync/synchronized /run/minke/timesync/https; date -u -s '2033-01-01 00:00:00'; \
             {more} config-json set os.network.connectivity.uri '{uri}'; systemctl start timesync-https"
        );
        let (text, status) = try_sh(guest, &set);
        assert_eq!(status, 0, "{uri}: {text}\n{}", journal(guest, "timesync-https"));
        until(
            guest,
            &format!("timesync status | grep -q '{says}' || timesync status --json | grep -q '{says}'"),
        );
        clock(guest)
    };
    let unset = ("2033".to_owned(), true);
    for (path, status) in [("portal", 200), ("moved", 302)] {
        for server in [&now, &plain] {
            let says = format!("status {status} instead of 204");
            assert_eq!(ask(&mut guest, &format!("{server}/{path}"), "", &says), unset);
        }
    }
    assert_eq!(ask(&mut guest, "null", "", "no connectivity URL is defined"), unset);
    assert_eq!(ask(&mut guest, &format!("{expired}/now"), "", "the certificate expired at"), unset);
    sh(&mut guest, "test ! -e /run/systemd/timesync/synchronized");

    // The clock is seven years ahead, so the certificate seems to have expired. Nobody else is there to ask.
    let this_year = servers.sh("date -u +%Y");
    let right = (this_year.clone(), true);
    assert_eq!(ask(&mut guest, &format!("{now}/now"), "", "set from 2033-01-01"), right);
    let here = seconds(&servers.sh("date +%s"));
    assert!((seconds(&sh(&mut guest, "date +%s")) - here).abs() < 60);
    assert_eq!(sh(&mut guest, "cat /run/systemd/timesync/synchronized"), "HTTPS");
    for text in ["Time synchronised via HTTPS.", "System time has gone back."] {
        until(&mut guest, &format!("journalctl -b -u timesync-https -o cat --no-pager | grep -q '{text}'"));
    }
    // RTC and saved clock follow.
    sh(&mut guest, &format!("timedatectl show -p RTCTimeUSec | grep -q ' {this_year}-'"));
    until(&mut guest, &format!("grep -q ^{this_year}- /etc/fake-hwclock/fake-hwclock.data"));
    // The program is gone, the unit is up.
    until(&mut guest, "systemctl status timesync-https -n 0 | grep -q 'active (exited)'");

    // The owner's cloud is asked as well: it agrees, or it does not.
    let cloud = |url: &str| format!("config-json set apiEndpoint '{url}';");
    let contradicts = "contradicts that of another server";
    let other = seconds(&servers.sh("date -d '10 days' +%s"));
    assert_eq!(
        ask(&mut guest, &format!("{now}/now"), &cloud(&format!("{second}/at/{other}")), contradicts),
        unset
    );
    assert_eq!(ask(&mut guest, &format!("{now}/now"), &cloud(&second), "set from 2033-01-01"), right);
    sh(&mut guest, "config-json unset apiEndpoint");
    // Without TLS.
    assert_eq!(ask(&mut guest, &format!("{plain}/now"), "", "set from 2033-01-01"), right);

    // Servers in config.json that are none.
    sh(&mut guest, "config-json set ntpServers 'a.example ../../etc/passwd 10.0.0.300 2001:db8::7 {}'");
    until(&mut guest, "grep -q 2001:db8::7 /run/chrony/added_config.sources");
    assert_eq!(
        sh(&mut guest, "cat /run/chrony/added_config.sources"),
        "pool a.example iburst minpoll 14 maxpoll 14 maxsources 1\npool 2001:db8::7 iburst minpoll 14 maxpoll 14 maxsources 1"
    );
    for word in ["10.0.0.300", "{}"] {
        let told = format!(
            "journalctl -b -u balena-ntp-config -o cat --no-pager | grep -qF \"'{word}' is ignored\""
        );
        until(&mut guest, &told);
    }
    sh(&mut guest, "config-json unset ntpServers");
    until(&mut guest, "test ! -e /run/chrony/added_config.sources");

    // The clock is saved every hour.
    let file = "/etc/fake-hwclock/fake-hwclock.data";
    sh(
        &mut guest,
        &format!("echo '2020-02-02 02:02:02' > {file}; date -u -s \"$(date -u '+%Y-%m-%d %H'):59:56\""),
    );
    until(&mut guest, &format!("grep -q ':00:[0-5][0-9]$' {file}"));

    // The next boot begins there.
    restart(&mut guest, "1970-01-01T00:00:00");
    assert_eq!(sh(&mut guest, "date -u +%Y"), this_year);
    power_off(&mut guest);
}

/// A processor of 32 bits, a kernel for it, and no real-time clock.
#[test]
fn a_32_bit_board_goes_on_after_2038() {
    let mut servers = Servers::new("2038");
    let at = seconds(&servers.sh("date -u -d '2039-06-07 08:09:10' +%s"));
    let days = (at - seconds(&servers.sh("date +%s"))) / 86_400;
    let later = servers.tls(days - 150..days + 500);
    let mut settings = direct(Arch::Armv6);
    settings.config = Some(servers.config("null"));
    let mut guest = start(settings);
    booted(&mut guest);
    assert!(sh(&mut guest, "timesync status; true").contains("\nRTC: none\n"));
    sh(&mut guest, "timedatectl | grep -q 'RTC time: n/a'");
    // Timers of the calendar and of the boot, which run out after the moment at which 32 bits are full.
    sh(
        &mut guest,
        "mkdir -p /run/systemd/system; \
         printf '[Service]\\nType=oneshot\\nExecStart=/bin/sh -c \"echo run >> /run/ticks\"\\n' > /run/systemd/system/tick.service; \
         printf '[Timer]\\nOnCalendar=*-*-* 03:14:10\\nAccuracySec=1s\\n' > /run/systemd/system/tick.timer; \
         systemctl daemon-reload; systemctl start tick.timer; \
         echo '2038-01-19 03:13:40' > /etc/fake-hwclock/fake-hwclock.data; fake-hwclock load",
    );
    until(
        &mut guest,
        "timedatectl show -p TimeUSec | grep -q '2038-01-19 03:[1-5]' && grep -q run /run/ticks",
    );
    // It ran when the clock was set, and runs once more half a minute later, however slow the board.
    until(&mut guest, "systemctl list-timers --no-legend tick.timer | grep -q '2038-01-20 03:14:10 UTC'");
    until(&mut guest, "test $(grep -c run /run/ticks) = 2");
    // Logs.
    sh(&mut guest, "logger after the end of time");
    until(
        &mut guest,
        "journalctl -b -o short-iso --no-pager | grep 'after the end of time' | grep -q '^2038-01-19T03:[1-5]'",
    );
    // Files, on FAT and on ext4.
    sh(&mut guest, "config-json set custom 1");
    until(&mut guest, "config-json status | grep '^In effect' | grep -q 'of 2038-01-19 03:'");
    until(&mut guest, "config-json status | grep '^Good copy' | grep -q 'of 2038-01-19 03:'");
    // Certificates, whose dates are beyond it as well.
    sh(&mut guest, &format!("config-json set os.network.connectivity.uri '{later}/at/{at}'"));
    // One attempt has ten seconds, which an emulated board on a busy machine may take for TLS.
    let ask = "for i in $(seq 20); do timesync https --once 2>&1 && exit 0; done; exit 1";
    let text = sh(&mut guest, ask);
    assert!(
        text.contains("Time synchronised via HTTPS.") && text.contains("new time: 2039-06-07 08:09:"),
        "{text}"
    );
    // A server's time beyond it, first asked and then followed, two hours later: the clock is set by the difference.
    let front = SocketAddr::from(([127, 0, 0, 1], free_udp_port()));
    let there = SocketAddr::from(([127, 0, 0, 1], servers.ntp()));
    let ahead = (at + 7_200 - seconds(&servers.sh("date +%s"))) * 1_000_000_000;
    let warp = Some(Warp { began: Instant::now(), ahead, ppb: 0 });
    let _relay = Relay::start(front, there, NetPath { warp, ..NetPath::default() }, 1);
    let query = format!("ntp query 10.0.2.2:{} --timeout 30 --json", front.port());
    let offset = number(&mut guest, &query, "offset_ns") / 1_000_000_000;
    assert!((6_900..7_500).contains(&offset), "{offset} s");
    sh(
        &mut guest,
        &format!(
            "systemctl stop chronyd; rm -f /run/chrony/*.sources; \
             echo 'server 10.0.2.2 port {} iburst' > /var/lib/chrony/chrony.conf; systemctl start chronyd",
            front.port()
        ),
    );
    until(
        &mut guest,
        "journalctl -b -u chronyd -o cat --no-pager | grep -q 'the clock is set by \\(69\\|7[0-4]\\)[0-9][0-9]\\.'",
    );
    until(&mut guest, "ntp status | grep -q '^  Last step .*, at 2039-06-07 10:'");
    until(&mut guest, "chronyc tracking | grep '^Ref time (UTC) .* Jun 07 10:.* 2039'");
    sh(&mut guest, "timedatectl show -p TimeUSec | grep 'Tue 2039-06-07 10:'");
    sh(&mut guest, "systemctl stop chronyd");
    sh(&mut guest, "timesync save; grep -q '^2039-06-07 10:' /etc/fake-hwclock/fake-hwclock.data");
    power_off(&mut guest);
    // The next boot begins there, also without a real-time clock.
    guest.restart().unwrap();
    booted(&mut guest);
    let text = sh(&mut guest, "timesync status; timedatectl show -p TimeUSec");
    assert!(text.contains("TimeUSec=Tue 2039-06-07 10:"), "{text}");
    power_off(&mut guest);
}
