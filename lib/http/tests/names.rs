//! Names are looked up by servers of `resolv.conf`, in a network namespace of the test's own.

#![allow(clippy::unwrap_used, clippy::panic)]

use minke_http::client::Body;
use minke_http::{Client, Url};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn a_name_is_looked_up_past_dead_servers_and_over_tcp() {
    const NAME: &str = "a_name_is_looked_up_past_dead_servers_and_over_tcp";
    if std::env::var_os("MINKE_TEST_INSIDE").is_none() {
        let status = Command::new("unshare")
            .args(["--net", "--pid", "--fork", "--kill-child"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture", "--test-threads=1"])
            .env("MINKE_TEST_INSIDE", "1")
            .status();
        assert!(status.unwrap().success());
        return;
    }
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dns.py");
    let mut server = Command::new("/usr/bin/python3").arg(script).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();

    let etc = std::env::temp_dir().join(format!("minke-names-{}", std::process::id()));
    std::fs::create_dir_all(&etc).unwrap();
    // Nobody listens at the first; the second does not exist here.
    std::fs::write(
        etc.join("resolv.conf"),
        "nameserver 127.0.0.3\nnameserver 192.0.2.1\nnameserver 127.0.0.2\n",
    )
    .unwrap();
    let get = |name: &str, limit: u64| {
        let url = format!("http://{name}:8080/");
        let client = Client::web(&Url::parse(&url).unwrap()).with_names_of(&etc);
        let client = client.with_deadline(Duration::from_secs(limit));
        client
            .request("GET", "/", &[], Body::None)
            .map(|answer| answer.status)
            .map_err(|error| error.to_string())
    };
    // The web server has no IPv6 address: its refusal leads on to the IPv4 address.
    for name in ["both.test", "four.test", "late.test", "BOTH.test."] {
        assert_eq!(get(name, 20), Ok(204), "{name}");
    }
    assert_eq!(get("none.test", 20).unwrap_err(), "none.test: there is no such name");
    assert_eq!(get("broken.test", 20).unwrap_err(), "broken.test: the DNS server could not find the name");
    server.kill().unwrap();
    server.wait().unwrap();
    let begun = Instant::now();
    assert_eq!(get("both.test", 2).unwrap_err(), "both.test: no DNS server answers; is there a network?");
    assert!(begun.elapsed() < Duration::from_secs(20));
    std::fs::remove_dir_all(etc).unwrap();
}
