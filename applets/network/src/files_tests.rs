use super::*;

fn places(name: &str) -> Places {
    let root = std::env::temp_dir().join(format!("minke-network-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&root);
    let places = Places { run: root.join("run"), state: root.join("state"), profiles: root.join("profiles") };
    for folder in places.folders() {
        std::fs::create_dir_all(folder).unwrap();
    }
    places
}

fn lease(last: u8) -> Lease {
    Lease {
        address: Ipv4Addr::new(192, 0, 2, last),
        prefix: 24,
        server: Ipv4Addr::new(192, 0, 2, 1),
        routes: Vec::new(),
        dns_servers: Vec::new(),
        ntp_servers: Vec::new(),
        search: Vec::new(),
        mtu: None,
        start: std::time::Duration::ZERO,
        renewal: None,
        rebinding: None,
        expiry: None,
    }
}

fn read(path: PathBuf) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn names(priority: i32, servers: &[&str], search: &[&str]) -> Names {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Names { priority, servers: owned(servers), search: owned(search) }
}

#[test]
fn the_servers_of_all_links_in_order() {
    let places = places("resolver");
    let file = places.run.join("resolvconf/interface/NetworkManager");
    places.write_resolver(&[]);
    assert_eq!(read(file.clone()), "");
    let first = names(100, &["192.0.2.1", "9.9.9.9"], &["lan"]);
    let second = names(100, &["9.9.9.9", "1.1.1.1", "fe80::1%eth1"], &["lan", "example.org"]);
    places.write_resolver(&[first.clone(), second.clone()]);
    let text = "search lan example.org\nnameserver 192.0.2.1\nnameserver 9.9.9.9\nnameserver 1.1.1.1\nnameserver fe80::1%eth1\n";
    assert_eq!(read(file.clone()), text);
    // A lower priority comes first; a negative one alone counts, with those that are as low.
    let third = names(50, &["192.0.2.3"], &[]);
    places.write_resolver(&[first.clone(), third.clone()]);
    assert_eq!(
        read(file.clone()),
        "search lan\nnameserver 192.0.2.3\nnameserver 192.0.2.1\nnameserver 9.9.9.9\n"
    );
    let (fourth, fifth) = (names(-7, &["192.0.2.4"], &[]), names(-7, &["192.0.2.5"], &[]));
    places.write_resolver(&[first, second, fourth, third, names(-5, &["192.0.2.6"], &["x"]), fifth]);
    assert_eq!(read(file), "nameserver 192.0.2.4\nnameserver 192.0.2.5\n");
    std::fs::remove_dir_all(places.run.parent().unwrap()).unwrap();
}

#[test]
fn time_servers_come_and_go() {
    let places = places("time");
    places.write_time_servers("eth0", &[Ipv4Addr::new(192, 0, 2, 3)]);
    let path = places.run.join("chrony/added_dhcp_eth0.sources");
    assert_eq!(read(path.clone()), "pool 192.0.2.3 iburst minpoll 14 maxpoll 14 maxsources 1\n");
    places.write_time_servers("eth0", &[]);
    assert!(!path.exists());
    std::fs::remove_dir_all(places.run.parent().unwrap()).unwrap();
}

#[test]
fn an_address_is_remembered_and_garbage_is_not() {
    let places = places("lease");
    places.remember("eth0", &lease(7));
    let address = Ipv4Addr::new(192, 0, 2, 7);
    let both = Remembered { on_link: Some((address, 24)), known: Some(address) };
    assert_eq!(places.remembered("eth0"), both);
    places.forget("eth0");
    assert_eq!(places.remembered("eth0"), Remembered { on_link: None, known: Some(address) });
    // An address that a profile has is none to ask a server for.
    let fixed = Ipv4Addr::new(192, 0, 2, 8);
    places.remember("eth0", &Lease::fixed(fixed, 25, Vec::new()));
    assert_eq!(places.remembered("eth0"), Remembered { on_link: Some((fixed, 25)), known: Some(address) });
    places.forget("eth0");
    let none = Remembered { on_link: None, known: None };
    let path = places.state.join("internal-eth0.lease");
    for garbage in [&b""[..], b"ADDRESS=1.2.3", b"ADDRESS=1.2.3.4\nPREFIX=99\n", b"\xff\0\n", &[b'A'; 9999]] {
        std::fs::write(&path, garbage).unwrap();
        assert_eq!(places.remembered("eth0"), none, "{garbage:?}");
    }
    std::fs::remove_dir_all(places.run.parent().unwrap()).unwrap();
}
