//! OpenNTPD in a guest, where it may steer a clock: it serves nobody before it has.

use crate::guest::{booted, direct, power_off, sh, start, until};
use minke_image::arch::Arch;
use minke_tests::foreign::{self, FOLDER};
use minke_tests::in_namespace;
use minke_tests::time_net::{Scratch, TRUE, address, several};
use std::time::Duration;

/// Its user and folders. It looks for them, and for the service's number, in files that the image has read-only or not
/// at all.
const BEGIN: &str = "for unit in chronyd timesync-https; do systemctl stop $unit; done
    mkdir jail /run/upper /run/work && chmod 755 . jail
    mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work /etc
    echo ntpd:x:612:612::$PWD/jail:/bin/false >> /etc/passwd
    echo ntpd:x:612: >> /etc/group; echo ntp 123/udp > /etc/services
    mount -t tmpfs tmpfs /var/lib && mkdir -p /var/lib/openntpd/run /var/lib/openntpd/db
    printf 'listen on 127.0.0.1\\nserver 10.77.0.1\\n' > ntpd.conf
    LD_LIBRARY_PATH=$PWD setsid ./ntpd -d -f ntpd.conf > ntpd.log 2>&1 < /dev/null &
    sleep 2; cat ntpd.log; pidof ntpd";

#[test]
#[ignore = "OpenNTPD takes four minutes until it calls itself synchronised"]
fn openntpd_that_steers_a_clock_is_asked_and_followed() {
    in_namespace(|| {
        let scratch = Scratch::new("openntpd-vm");
        let _true = several(&scratch.0, 1);
        let _files = foreign::serve(&scratch.0, &["ntpd"]);
        let mut settings = direct(Arch::X86_64);
        let config = br#"{"developmentMode":true,"ntpServers":"10.77.0.1","os":{"network":{"connectivity":{"uri":"null"}}}}"#;
        settings.config = Some(config.to_vec());
        let mut guest = start(settings);
        booted(&mut guest);
        // From half a second it would slew for twenty minutes, and serve nobody meanwhile.
        until(&mut guest, "chronyc waitsync 1 0.1 > /dev/null");
        foreign::fetch(&mut guest);
        println!("{}", sh(&mut guest, &format!("set -e; cd {FOLDER}; {BEGIN}")));
        // It answers, and says itself that it is not to be believed.
        let early = guest.run("ntp query 127.0.0.1", Duration::from_secs(30)).unwrap();
        println!("before: {} {}", early.status, early.text());
        assert_ne!(early.status, 0);
        let wait = format!(
            "cd {FOLDER}; i=0; until ntp query 127.0.0.1 2> /dev/null; do sleep 5; i=$((i+1)); [ $i -lt 120 ] || {{ cat ntpd.log; exit 1; }}; done"
        );
        println!("{}", guest.run(&wait, Duration::from_secs(900)).unwrap().text());
        // Followed by our daemon, beside the server that it follows; its clock is the same, so there is no offset.
        let follow = format!(
            "cd {FOLDER}; mkdir lists state
             printf 'server 127.0.0.1 iburst minpoll 4\\nserver {} iburst minpoll 4\\n' > lists/test.sources
             setsid ntp run --no-clock --config /dev/null --sources $PWD/lists --state $PWD/state --socket $PWD/sock > ntp.log 2>&1 < /dev/null &
             i=0; until ntp sources --socket $PWD/sock | grep '^[*+].*127.0.0.1'; do sleep 1; i=$((i+1)); [ $i -lt 60 ] || \
                 {{ ntp sources --socket $PWD/sock; cat ntp.log; exit 1; }}; done",
            address(TRUE, 1).ip()
        );
        println!("{}", sh(&mut guest, &follow));
        power_off(&mut guest);
    });
}
