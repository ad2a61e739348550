//! A leap second: the kernel of a guest inserts it, told by the time client, which heard of it from its servers; those
//! insert it as well. Neither is this machine's clock touched nor any that somebody relies on.

use crate::guest::{FASTEST, booted, direct, number, power_off, sh, start, until};
use minke_tests::in_namespace;
use minke_tests::time_net::{TRUE, address};
use minke_wire::ntp::{Leap, Packet, Timestamp};
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECOND: i64 = 1_000_000_000;
/// The end of 2026, in nanoseconds since 1970.
const MIDNIGHT: i64 = 1_798_761_600 * SECOND;
const SERVERS: u8 = 3;

/// This machine's time, in nanoseconds since 1970.
fn here() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

/// Servers of stratum 1 that agree, and whose day before [`MIDNIGHT`] is a second longer.
struct Servers {
    /// How far they are ahead of this machine.
    ahead: Arc<AtomicI64>,
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Servers {
    /// They begin so long before midnight.
    fn start(before: i64) -> Self {
        let ahead = Arc::new(AtomicI64::new(MIDNIGHT - before - here()));
        let end = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for number in 1..=SERVERS {
            let socket = UdpSocket::bind(address(TRUE, number)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let (ahead, end) = (Arc::clone(&ahead), Arc::clone(&end));
            threads.push(std::thread::spawn(move || serve(&socket, &ahead, &end)));
        }
        Self { ahead, end, threads }
    }

    /// So long before midnight it is now.
    fn set(&self, before: i64) {
        self.ahead.store(MIDNIGHT - before - here(), Ordering::Relaxed);
    }

    /// Nanoseconds until midnight.
    fn left(&self) -> i64 {
        MIDNIGHT - here() - self.ahead.load(Ordering::Relaxed)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok() || std::thread::panicking(), "a server failed");
        }
    }
}

fn serve(socket: &UdpSocket, ahead: &AtomicI64, end: &AtomicBool) {
    let time = || {
        let time = here() + ahead.load(Ordering::Relaxed);
        // 23:59:59 comes twice.
        Timestamp::from_nanos(if time < MIDNIGHT { time } else { time - SECOND })
    };
    let mut bytes = [0; 1024];
    while !end.load(Ordering::Relaxed) {
        let Ok((length, client)) = socket.recv_from(&mut bytes) else { continue };
        let rec = time();
        let Some((request, _)) = Packet::decode(&bytes[..length]) else { continue };
        let to_come = here() + ahead.load(Ordering::Relaxed) < MIDNIGHT;
        let answer = Packet {
            leap: if to_come { Leap::Insert } else { Leap::None },
            version: request.version,
            mode: 4,
            stratum: 1,
            poll: request.poll,
            precision: -20,
            refid: *b"TEST",
            reftime: rec,
            org: request.xmt,
            rec,
            xmt: time(),
            ..Packet::default()
        };
        let _ = socket.send_to(&answer.encode(), client);
    }
}

#[test]
fn the_kernel_inserts_an_announced_leap_second_and_nothing_else_happens() {
    in_namespace(|| {
        let servers = Servers::start(6 * 3600 * SECOND);
        let mut settings = direct(FASTEST);
        let config = r#"{"os":{"network":{"connectivity":{"uri":"null"}}}}"#;
        settings.config = Some(config.into());
        let mut guest = start(settings);
        booted(&mut guest);
        let mut list = String::from(
            "systemctl stop chronyd; rm -f /run/chrony/*.sources; : > /var/lib/chrony/chrony.conf",
        );
        for number in 1..=SERVERS {
            let ip = address(TRUE, number).ip();
            list.push_str(&format!(
                "; echo 'server {ip} iburst minpoll 2 maxpoll 3' >> /var/lib/chrony/chrony.conf"
            ));
        }
        sh(&mut guest, &format!("{list}; systemctl start chronyd"));
        until(&mut guest, "chronyc tracking | grep -q '^Leap status *: Insert second'");
        // Their clocks go on by hours, and so does the guest's; the rest is waited for.
        sh(&mut guest, "systemctl stop chronyd");
        servers.set(160 * SECOND);
        sh(&mut guest, "systemctl start chronyd");
        until(&mut guest, "chronyc tracking | grep -q '^Leap status *: Insert second'");
        until(&mut guest, "[ $(date +%H:%M) = 23:59 ]");
        assert!(servers.left() > 2 * SECOND, "the guest was too slow: {} ns", servers.left());
        // What set it is in the log by then.
        std::thread::sleep(Duration::from_nanos(servers.left().max(0).unsigned_abs() / 2));
        let set = "journalctl -b -u chronyd -o cat --no-pager | grep -c 'the clock is set'; true";
        let before = sh(&mut guest, set);
        let wait = Duration::from_nanos(servers.left().max(0).unsigned_abs()) + Duration::from_secs(3);
        std::thread::sleep(wait);
        until(
            &mut guest,
            "journalctl -b -k -o cat --no-pager | grep -q 'inserting leap second 23:59:60 UTC'",
        );
        until(&mut guest, "chronyc tracking | grep -q '^Leap status *: Normal'");
        // Asked four times and more since.
        std::thread::sleep(Duration::from_secs(30));
        let log = sh(&mut guest, "ntp status; journalctl -b -u chronyd -o short-monotonic --no-pager");
        assert_eq!(sh(&mut guest, set), before, "{log}");
        assert!(!log.contains("somebody"), "{log}");
        until(&mut guest, "ntp status | grep -q '^Synchronised to 10.77.0.'");
        let query = format!("ntp query {} --count 3 --timeout 30 --json", address(TRUE, 1).ip());
        let offset = number(&mut guest, &query, "offset_ns");
        // A leap second too few or too many is a whole one.
        assert!(offset.abs() < SECOND / 4, "{offset} ns\n{log}");
        power_off(&mut guest);
    });
}
