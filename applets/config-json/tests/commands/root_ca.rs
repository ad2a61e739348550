//! `config-json root-ca` with a real bind mount, in a mount namespace of the test's own.

use crate::{Device, outcome, program};
use minke_tests::authority::Authority;
use minke_tests::{OWN_MOUNTS, inside};
use std::process::Command;

fn sh(script: &str) -> String {
    let done = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn the_owners_authority_comes_changes_and_goes() {
    if !inside(OWN_MOUNTS, "root_ca::the_owners_authority_comes_changes_and_goes") {
        return;
    }
    let device = Device::new("root-ca");
    let root = device.0.0.display();
    sh(&format!(
        "mkdir -p {root}/etc/ssl/certs {root}/usr/share/ca-certificates/balena {root}/run; cd {root}; \
         echo system | tee etc/ssl/certs/ca-certificates.crt > usr/share/ca-certificates/ca-certificates.crt"
    ));
    let [one, two] = ["one", "two"].map(|name| Authority::new(&device.0.0.join(name), 0..9));
    let read = |path: &str| device.read(path).unwrap();
    let apply = |config: &str| {
        device.put(config);
        outcome(program("config-json", &["--root", &root.to_string(), "root-ca"]).output().unwrap())
    };
    let with = |value: &str| format!(r#"{{"balenaRootCA":"{value}"}}"#);
    let bundle = || read("etc/ssl/certs/ca-certificates.crt");
    let custom = "usr/share/ca-certificates/balena/balenaRootCA.crt";
    let bound =
        || sh(&format!("grep -c ' {root}/etc/ssl/certs ' /proc/self/mountinfo || :")).trim().to_owned();

    assert_eq!(apply("{}"), (0, String::new(), String::new()));
    assert_eq!((bundle(), bound()), ("system\n".to_owned(), "0".to_owned()));
    let (status, _, log) = apply(&with(&one.base64()));
    assert_eq!((status, log.trim()), (0, "[config-json][INFO] balenaRootCA is installed"));
    assert_eq!(
        (read(custom), bundle(), bound()),
        (read("one/ca.pem"), format!("system\n{}", read("one/ca.pem")), "1".to_owned())
    );
    assert_eq!(apply(&with(&one.base64())), (0, String::new(), String::new()));

    // What cannot be used is told, and changes nothing.
    for (bad, problem) in [
        ("\"%%%\"", "is not base64"),
        ("\"aGVsbG8=\"", "holds no certificate in PEM"),
        ("5", "should be a string"),
        ("{}", "should be a string"),
    ] {
        let (status, _, log) = apply(&format!(r#"{{"balenaRootCA":{bad}}}"#));
        assert_eq!((status, log.lines().count()), (1, 1), "{log}");
        assert!(log.contains(&format!("balenaRootCA {problem}; the authority of before stays")), "{log}");
        assert_eq!((read(custom), bundle()), (read("one/ca.pem"), format!("system\n{}", read("one/ca.pem"))));
    }

    // At the next boot the system may be another one, with other authorities.
    sh(&format!(
        "cd {root}; umount etc/ssl/certs; rm -r run/minke; echo newer > usr/share/ca-certificates/ca-certificates.crt"
    ));
    assert_eq!(apply(&with(&one.base64())).0, 0);
    assert_eq!(bundle(), format!("newer\n{}", read("one/ca.pem")));
    // A container that has the folder sees the change.
    sh(&format!("mkdir {root}/container; mount --bind {root}/etc/ssl/certs {root}/container"));
    assert_eq!(apply(&with(&two.base64())).0, 0);
    assert_eq!((bundle(), bound()), (format!("newer\n{}", read("two/ca.pem")), "1".to_owned()));
    assert_eq!(read("container/ca-certificates.crt"), bundle());
    let (status, _, log) = apply("{}");
    assert_eq!((status, log.trim()), (0, "[config-json][INFO] balenaRootCA is removed"));
    assert_eq!(bundle(), "newer\n");
    assert!(!device.0.0.join(custom).exists());
    // A configuration that cannot be read says nothing about the key.
    apply(&with(&one.base64()));
    apply("{");
    assert_eq!(bundle(), format!("newer\n{}", read("one/ca.pem")));
    sh(&format!("umount {root}/container {root}/etc/ssl/certs"));
}
