//! The date of a web server, against Python's with certificates that `openssl` makes. No clock is set.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::{DAY, Lab, YEAR, now};
use minke_tests::authority::Authority;
use minke_tests::program;
use std::process::Command;

/// The program itself: this executable is it as well.
#[test]
fn entry() {
    program::entry(minke_timesync::APPLET.programs);
}

/// What the clock is set to in a line of [`minke_timesync`], in seconds since 1970.
fn new_time(text: &str) -> i64 {
    let time = text.split("new time: ").nth(1).unwrap();
    let done = Command::new("date").args(["-u", "+%s", "-d", &time[..19]]).output().unwrap();
    String::from_utf8(done.stdout).unwrap().trim().parse().unwrap()
}

fn is_set_to(answer: &(bool, String), time: i64) {
    let (done, text) = answer;
    assert!(*done && text.contains("Time synchronised via HTTPS."), "{text}");
    assert!((time..time + 20).contains(&new_time(text)), "{text}");
}

fn fails_by(answer: &(bool, String), why: &str) {
    let (done, text) = answer;
    assert!(!*done && text.contains(why) && !text.contains("Time synchronised"), "{text}");
}

#[test]
fn plain_http_is_asked_and_everything_but_204_is_somebody_else() {
    let mut lab = Lab::new("plain");
    let port = lab.serve(&[]);
    let ask = |path: &str| lab.ask(&format!("http://host.test:{port}{path}"), "");
    let (done, text) = ask("/now");
    assert!(done && text.contains("System time is already synchronised."), "{text}");
    let later = now() + 100 * DAY;
    is_set_to(&ask(&format!("/at/{later}")), later);
    let earlier = now() - 600;
    let answer = ask(&format!("/at/{earlier}"));
    is_set_to(&answer, earlier);
    assert!(answer.1.contains("System time has gone back."), "{}", answer.1);
    for (path, status) in [("/portal", 200), ("/moved", 302), ("/missing", 404)] {
        fails_by(&ask(path), &format!("answered with status {status} instead of 204"));
    }
    fails_by(&ask(&format!("/at/{}", now() - 2 * YEAR)), "is earlier than this system's build");
    for path in ["/none", "/garbage"] {
        let (done, text) = ask(path);
        assert!(done && text.contains("gives no date"), "{text}");
    }
    let before = std::time::Instant::now();
    fails_by(&ask("/never"), "");
    assert!(before.elapsed().as_secs() < 50);
    let (done, text) = lab.ask("null", r#","apiEndpoint":"https://host.test""#);
    assert!(
        done && text.contains("Connectivity URL not defined - skipping HTTPS synchronisation."),
        "{text}"
    );
    let (done, text) = lab.ask("ftp://x", "");
    assert!(done && text.contains("skipping HTTPS synchronisation."), "{text}");
}

#[test]
fn a_certificate_must_hold_at_the_date_that_it_vouches_for() {
    let mut lab = Lab::new("tls");
    let now = now();
    let (valid, later) = (lab.tls(-1..30), lab.tls(365..2 * 365));
    let expired = lab.tls(-30..-1);
    let (ancient, remote) = (lab.tls(-3 * 365..-2 * 365), lab.tls(30 * 365..31 * 365));
    let ask = |port: u16, path: &str| lab.ask(&format!("https://host.test:{port}{path}"), "");
    let at = |time: i64| format!("/at/{time}");
    // The usual case.
    is_set_to(&ask(valid, &at(now + 20 * DAY)), now + 20 * DAY);
    // The server's clock is wrong, or somebody has its key: its certificate contradicts it.
    fails_by(&ask(valid, &at(now + 100 * DAY)), "the certificate expired at");
    fails_by(&ask(valid, &at(now - 100 * DAY)), "the certificate is valid from");
    // Our clock is wrong: it stands before the certificate's time, and behind it.
    is_set_to(&ask(later, &at(now + YEAR + 50 * DAY)), now + YEAR + 50 * DAY);
    is_set_to(&ask(expired, &at(now - 10 * DAY)), now - 10 * DAY);
    // The certificate has really expired, or is not valid yet.
    fails_by(&ask(expired, "/now"), "the certificate expired at");
    fails_by(&ask(later, "/now"), "the certificate is valid from");
    // It holds at no plausible time.
    fails_by(&ask(ancient, &at(now - 2 * YEAR - DAY)), "the certificate expired at");
    fails_by(&ask(remote, &at(now + 30 * YEAR + DAY)), "the certificate is valid from");
    // An unknown issuer is no matter of the clock.
    Authority::new(&lab.root.0, 0..9);
    lab.sh("cp ca.pem etc/ssl/certs/ca-certificates.crt");
    for port in [valid, later, expired] {
        fails_by(&ask(port, &at(now + 20 * DAY)), "issuer is unknown");
    }
}

#[test]
fn a_long_jump_is_confirmed_by_a_second_server() {
    let mut lab = Lab::new("second");
    let now = now();
    lab.built(now - 2 * YEAR);
    let (first, second) = (lab.tls(-5 * 365..40 * 365), lab.tls(-5 * 365..40 * 365));
    let plain = lab.serve(&[]);
    let ask = |time: i64, other: &str| {
        lab.ask(&format!("https://host.test:{first}/at/{time}"), &format!(r#","apiEndpoint":"{other}""#))
    };
    let agreeing = |time: i64| format!("https://host.test:{second}/at/{time}");
    for time in [now - 30 * DAY, now + 6 * YEAR, now + 25 * YEAR] {
        is_set_to(&ask(time, &agreeing(time + 30)), time);
        fails_by(&ask(time, &agreeing(time + 300)), "contradicts that of another server");
        // One that does not answer is waited for.
        fails_by(&ask(time, "https://host.test:1"), "no second server confirms the date");
    }
    // A date that needs no confirmation is not held up by it.
    is_set_to(&ask(now + YEAR, "https://host.test:1"), now + YEAR);
    // Nobody else to ask: the same server again is no second, nor is one without a certificate.
    for other in [format!("https://host.test:{first}"), format!("http://host.test:{plain}")] {
        is_set_to(&ask(now - 30 * DAY, &other), now - 30 * DAY);
        fails_by(&ask(now + 25 * YEAR, &other), "is more than 20 years after this system's build");
    }
}
