//! NTS where nobody has told the device the time yet: a certificate that the clock alone contradicts is checked again at
//! the time that the server tells (SPECIFICATION.md, "Sane time at boot"). The server is chronyd on the machine that runs
//! the test; the guest reaches it at 10.0.2.2.

use crate::guest::{FASTEST, direct, first_line, power_off, sh, start, try_sh, until};
use crate::time::restart;
use minke_tests::authority::Authority;
use minke_tests::{Daemon, free_tcp_port, free_udp_port};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn host(folder: &Path, script: &str) -> String {
    let done = Command::new("sh").args(["-ec", script]).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// chronyd with NTS, the certificate `server.pem`, and no hand on this machine's clock. Its port of key exchanges.
fn server(folder: &Path) -> (Daemon, u16) {
    let port = free_udp_port();
    let exchange = free_tcp_port();
    let here = folder.display();
    let settings = format!(
        "local stratum 3\nport {port}\nntsport {exchange}\nbindaddress 127.0.0.1\nallow\ncmdport 0\nbindcmdaddress /\n\
         pidfile {here}/chronyd.pid\nntsserverkey {here}/server.key\nntsservercert {here}/server.pem\n"
    );
    std::fs::write(folder.join("chrony.conf"), settings).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-sys_time", "--", "chronyd", "-x", "-d", "-u", "root", "-f"]);
    let log = std::fs::File::create(folder.join("chronyd.log")).unwrap();
    (
        Daemon::start(command.arg(folder.join("chrony.conf")).stdout(log.try_clone().unwrap()).stderr(log)),
        exchange,
    )
}

#[test]
fn a_clock_that_is_decades_wrong_does_not_stop_nts() {
    let folder = Folder(std::env::temp_dir().join(format!("minke-vm-nts-{}", std::process::id())));
    // The authority is valid at every time that the guest believes in.
    let authority = Authority::new(&folder.0, -25_000..25_000);
    authority.issue("server", "IP:10.0.2.2", -2..3650);
    let (_server, port) = server(&folder.0);
    let mut guest = start(direct(FASTEST));
    first_line(&mut guest);
    // The authority is the owner's; the server is the only one.
    let certificates = "grep -c BEGIN /etc/ssl/certs/ca-certificates.crt";
    let count: u32 = sh(&mut guest, certificates).parse().unwrap();
    sh(&mut guest, &format!("config-json set balenaRootCA {}", authority.base64()));
    until(&mut guest, &format!("[ $({certificates}) = {} ]", count + 1));
    sh(&mut guest, "systemctl stop chronyd; rm -f /run/chrony/*.sources");
    let line = format!("server 10.0.2.2 nts ntsport {port} iburst minpoll 2 maxpoll 4");
    sh(&mut guest, &format!("echo '{line}' >/var/lib/chrony/chrony.conf"));
    // Nobody else tells the time.
    sh(&mut guest, "config-json set os.network.connectivity.uri null");
    // As at the first boot of a board without a clock, and as with one whose battery has failed upwards: its time is
    // plausible, so that nothing waits, and wrong.
    for wrong in ["1970-01-02", "2041-05-05"] {
        let forget = "systemctl stop chronyd; rm -f /var/lib/chrony/nts-*";
        if wrong.starts_with("1970") {
            sh(&mut guest, &format!("{forget}; rm -f /run/systemd/timesync/*"));
            sh(&mut guest, &format!("date -s '{wrong} 00:00:00'; ntp status >/dev/null 2>&1; true"));
            // The kernel's mark of a synchronised clock falls when the clock is set.
            sh(&mut guest, "systemctl start chronyd");
        } else {
            sh(&mut guest, forget);
            restart(&mut guest, &format!("{wrong}T00:00:00"));
            sh(&mut guest, "test -e /run/systemd/timesync/rtc && rm -f /run/chrony/*.sources");
            // The client comes when the HTTPS date has had its turn, which no container waits for.
            until(&mut guest, "ntp reload");
        }
        let near = |seconds: &str| {
            let now = host(&folder.0, "date +%s").parse::<i64>().unwrap();
            (seconds.parse::<i64>().unwrap_or(0) - now).abs() < 60
        };
        let signed = "ntp status --json | grep -q '\"authenticated\": true'";
        let (text, status) =
            try_sh(&mut guest, &format!("for i in $(seq 240); do {signed} && exit 0; sleep 1; done; exit 1"));
        let log = sh(&mut guest, "journalctl -u chronyd -o cat --no-pager | tail -30; ntp status; date");
        assert_eq!(status, 0, "{wrong}: {text}\n{log}");
        until(&mut guest, "chronyc tracking | grep -q '^Leap status *: Normal'");
        assert!(near(&sh(&mut guest, "date +%s")), "{wrong}: {log}");
        sh(&mut guest, "ls /var/lib/chrony/nts-10.0.2.2_*.json");
    }
    until(&mut guest, "timesync status | grep 'synchronised, by NTP'");
    let boot = sh(&mut guest, "timesync status");
    assert!(boot.contains("RTC: 2041-05-05"), "{boot}");
    power_off(&mut guest);
}
