//! A guest that starts two minutes wrong, between honest servers (chronyd) and bad paths on the machine that runs the
//! test. Guest and servers are in a network namespace of their own: QEMU's user network leads from the guest to the
//! namespace's addresses, port 123 included.

use crate::guest::{FASTEST, booted, direct, number, power_off, sh, start, until};
use minke_image::guest::Guest;
use minke_tests::in_namespace;
use minke_tests::relay::{Jitter, Path, Relay, Way};
use minke_tests::time_net::{RELAY, Scratch, address, relays, several};
use minke_wire::civil::Civil;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SERVERS: u8 = 4;

/// Seconds since 1970 here.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

/// Nanoseconds that the guest's clock lacks, by a question of its own. Waiting for a processor makes up for no more
/// than some tens of milliseconds of the answer.
fn offset(guest: &mut Guest) -> i64 {
    let query = format!("ntp query {} --count 3 --timeout 30 --json", address(RELAY, 1).ip());
    number(guest, &query, "offset_ns")
}

fn assert_right(guest: &mut Guest) {
    let offset = offset(guest);
    assert!(offset.abs() < 100_000_000, "{offset} ns\n{}", sh(guest, "ntp status"));
}

/// Waits for the time client, which no boot waits for; if that is in vain, it says why.
fn wait_synchronised(guest: &mut Guest) {
    let script = "for i in $(seq 180); do chronyc waitsync 1 0.1 > /dev/null 2>&1 && echo synchronised && exit 0; sleep 1; done; \
        ntp status; timesync status; journalctl -b -o short-monotonic --no-pager -u chronyd -u timesync-https";
    let said = sh(guest, script);
    assert_eq!(said.trim(), "synchronised");
}

#[test]
fn a_wrong_clock_is_set_and_steered_and_told_of() {
    in_namespace(|| {
        let scratch = Scratch::new("vm");
        let _servers = several(&scratch.0, SERVERS);
        let way = Way { delay: 2_000, jitter: Jitter::Uniform(1_000), loss: 20, ..Way::default() };
        let paths = relays(&[Path::both(way); SERVERS as usize]);
        let names: Vec<String> =
            (1..=SERVERS).map(|number| address(RELAY, number).ip().to_string()).collect();
        let mut settings = direct(FASTEST);
        let config = format!(
            r#"{{"ntpServers":"{}","os":{{"network":{{"connectivity":{{"uri":"null"}}}}}}}}"#,
            names.join(" ")
        );
        settings.config = Some(config.into_bytes());
        let behind = Civil::from_unix(now() - 120).to_string().replace(' ', "T");
        settings.options = vec!["-rtc".into(), format!("base={behind}")];
        let mut guest = start(settings);
        booted(&mut guest);

        // Set at once, and told to everybody who asks.
        wait_synchronised(&mut guest);
        assert_right(&mut guest);
        let journal = "journalctl -b -u chronyd -o cat --no-pager";
        // Less than two minutes where the build is younger than that: no clock begins before it.
        until(&mut guest, &format!("{journal} | grep -q 'the clock is set by [1-9]'"));
        until(&mut guest, "chronyc -n sources | grep -q '^^\\*'");
        until(&mut guest, "chronyc tracking | grep -q 'Leap status *: Normal'");
        until(&mut guest, "ntp status | grep -q '^Synchronised to 10.77.2.'");
        until(&mut guest, "ntp status --json | grep -q '\"synchronized\": true'");
        until(&mut guest, "timedatectl show -p NTPSynchronized --value | grep -qx yes");
        // The kernel's own doing, by its flag.
        until(&mut guest, "d=$(( $(date +%s) - $(cat /sys/class/rtc/rtc0/since_epoch) )); [ ${d#-} -le 2 ]");

        // What an earlier run has learned of the oscillator lasts over a boot, and is where the next one begins.
        sh(
            &mut guest,
            "systemctl stop chronyd && echo '            1.500000             0.010000' > /var/lib/chrony/drift && sync",
        );
        power_off(&mut guest);
        guest.restart().unwrap();
        booted(&mut guest);
        wait_synchronised(&mut guest);
        assert_right(&mut guest);
        sh(&mut guest, "chronyc tracking | grep -q '^Frequency *: 1\\.[45][0-9]* ppm fast'");
        assert!(sh(&mut guest, "cat /var/lib/chrony/drift").starts_with("1."));

        nobody_answers(&mut guest, &paths, way);

        // They are back, and nobody needs to do anything.
        paths.iter().for_each(|path| path.set(Path::both(way)));
        wait_synchronised(&mut guest);
        assert_right(&mut guest);
        power_off(&mut guest);
    });
}

/// A synchronised client whose servers fall silent, or that is told to be offline: the health check forces a poll. As long
/// as the clock is right that is all; when it is not, the service is started again (spec os §5.6.6, §5.6.7). Nothing but
/// the servers' silence tells the client.
fn nobody_answers(guest: &mut Guest, paths: &[Relay], way: Way) {
    let count = "journalctl -b -u chronyd -o cat --no-pager | grep -c";
    let forced = "'No online NTP sources - forcing poll'";
    let lost = "'NTP time lost synchronization - restarting chronyd'";
    let followed = "chronyc -n sources | grep -q '^^\\*'";
    let unmoved = |guest: &mut Guest, restarts: &str| {
        let found = sh(guest, "systemctl show -p NRestarts --value chronyd");
        assert_eq!(
            found,
            restarts,
            "{}",
            sh(guest, "journalctl -b -u chronyd -o short-monotonic --no-pager")
        );
    };
    // A shorter watchdog than the four minutes of the unit, which a guest on a busy machine can still feed, and servers that
    // are asked more often.
    let lines: String = (1..=SERVERS)
        .map(|number| format!("server {} iburst minpoll 0 maxpoll 1\\n", address(RELAY, number).ip()))
        .collect();
    sh(guest, "config-json unset ntpServers");
    until(guest, "test ! -e /run/chrony/added_config.sources");
    sh(
        guest,
        &format!(
            "mkdir -p /run/systemd/system/chronyd.service.d; \
             printf '[Service]\\nWatchdogSec=60\\nRestartSec=1\\n' > /run/systemd/system/chronyd.service.d/test.conf; \
             systemctl stop chronyd; printf '{lines}' > /run/chrony/test.sources; \
             systemctl daemon-reload; systemctl start chronyd"
        ),
    );
    wait_synchronised(guest);
    until(guest, followed);
    let restarts = sh(guest, "systemctl show -p NRestarts --value chronyd");
    let before = sh(guest, &format!("{count} {forced}; true"));

    paths.iter().for_each(|path| path.set(Path::both(Way { loss: 1000, ..way })));
    until(guest, &format!("[ $({count} {forced}) -gt {before} ]"));
    let sources = sh(guest, "chronyc -n sources; ntp status");
    assert!(!sources.contains("\n^*") && !sources.contains("\n^+"), "{sources}");
    assert!(
        sources.contains("Synchronised, but no server is of use now; the last was 10.77.2."),
        "{sources}"
    );
    // Two checks later: the clock is right, and nobody starts anything.
    std::thread::sleep(Duration::from_secs(80));
    unmoved(guest, &restarts);
    paths.iter().for_each(|path| path.set(Path::both(way)));
    until(guest, followed);

    // Offline takes no silence to be found out.
    let before = sh(guest, &format!("{count} {forced}; true"));
    sh(guest, "chronyc offline");
    sh(guest, &format!("! {followed}"));
    until(guest, &format!("[ $({count} {forced}) -gt {before} ]"));
    unmoved(guest, &restarts);
    sh(guest, "chronyc online");
    until(guest, followed);

    // Wrong and without an answer, it is started again.
    sh(guest, &format!("! {count} {lost}"));
    paths.iter().for_each(|path| path.set(Path::both(Way { loss: 1000, ..way })));
    sh(guest, "date -s @$(($(date +%s) - 120))");
    until(guest, &format!("{count} {lost}"));
    until(guest, &format!("[ $(systemctl show -p NRestarts --value chronyd) -gt {restarts} ]"));
    until(guest, "ntp status | grep '^Not synchronised: '");
}
