use super::*;
use std::fs;
use std::time::Instant;

/// Waits until it is time to read; panics when nothing comes of a change.
fn told(watch: &mut Watch) {
    let outer = Poller::new().unwrap();
    outer.add(&*watch, 1, Interest::Read).unwrap();
    let (mut ready, until) = (Vec::new(), Instant::now() + Duration::from_secs(20));
    loop {
        outer.wait(&mut ready, Some(Duration::from_secs(20))).unwrap();
        assert!(Instant::now() < until, "not told");
        if watch.take() {
            return;
        }
    }
}

/// In a process of its own, as the name is the machine's, or that of its UTS namespace.
#[test]
#[ignore = "changes the host name: another test runs it in a namespace"]
fn the_host_name() {
    let root = std::env::temp_dir().join(format!("minke-dns-{}-name", std::process::id()));
    let mut watch = Watch::new(&Source::below(&root)).unwrap().unwrap();
    assert!(std::process::Command::new("hostname").arg("other").status().unwrap().success());
    told(&mut watch);
    assert!(!watch.take());
    fs::remove_dir_all(root).unwrap();
}

#[test]
fn a_change_of_the_host_name_is_told() {
    let mut command = std::process::Command::new("unshare");
    command.arg("--uts").arg(std::env::current_exe().unwrap());
    command.args(["--exact", "--ignored", "config::watch::tests::the_host_name"]);
    let output = command.output().unwrap();
    // A name of no test would pass.
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}

#[test]
fn changes_of_what_counts_are_told_once() {
    let root = std::env::temp_dir().join(format!("minke-dns-{}-watch", std::process::id()));
    let _ = fs::remove_dir_all(&root);
    let mut watch = Watch::new(&Source::below(&root)).unwrap().unwrap();
    let quiet = |watch: &mut Watch| {
        std::thread::sleep(PAUSE * 3);
        !watch.take()
    };
    assert!(quiet(&mut watch));
    fs::write(root.join("run/other"), "x").unwrap();
    fs::write(root.join("run/.dnsmasq.servers.new"), "x").unwrap();
    fs::write(root.join("etc/passwd"), "x").unwrap();
    fs::write(root.join("run/minke/names/.engine.new"), "x").unwrap();
    assert!(quiet(&mut watch));
    fs::rename(root.join("run/.dnsmasq.servers.new"), root.join("run/dnsmasq.servers")).unwrap();
    told(&mut watch);
    for number in 0..20 {
        fs::write(root.join(format!("run/resolvconf/interface/eth{number}")), "x").unwrap();
    }
    told(&mut watch);
    fs::rename(root.join("run/minke/names/.engine.new"), root.join("run/minke/names/engine")).unwrap();
    told(&mut watch);
    fs::remove_file(root.join("run/minke/names/engine")).unwrap();
    told(&mut watch);
    fs::write(root.join("etc/hosts"), "x").unwrap();
    told(&mut watch);
    fs::write(root.join("etc/dnsmasq.d/a.conf"), "x").unwrap();
    told(&mut watch);
    assert!(quiet(&mut watch));
    fs::remove_dir_all(root).unwrap();
}
