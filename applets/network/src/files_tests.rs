use super::*;

fn places(name: &str) -> Places {
    let root = std::env::temp_dir().join(format!("minke-network-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&root);
    let places = Places { run: root.join("run"), state: root.join("state") };
    for folder in places.folders() {
        std::fs::create_dir_all(folder).unwrap();
    }
    places
}

fn lease(last: u8, dns: &[[u8; 4]], search: &[&str]) -> Lease {
    Lease {
        address: Ipv4Addr::new(192, 0, 2, last),
        prefix: 24,
        server: Ipv4Addr::new(192, 0, 2, 1),
        routes: Vec::new(),
        dns_servers: dns.iter().map(|bytes| Ipv4Addr::from(*bytes)).collect(),
        ntp_servers: Vec::new(),
        search: search.iter().map(|name| (*name).to_owned()).collect(),
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

#[test]
fn the_servers_of_all_links_in_order() {
    let places = places("resolver");
    let file = places.run.join("resolvconf/interface/NetworkManager");
    places.write_resolver(&[]);
    assert_eq!(read(file.clone()), "");
    let first = lease(7, &[[192, 0, 2, 1], [9, 9, 9, 9]], &["lan"]);
    let second = lease(8, &[[9, 9, 9, 9], [1, 1, 1, 1], [1, 0, 0, 1]], &["lan", "example.org"]);
    places.write_resolver(&[&first, &second]);
    let text = "search lan example.org\nnameserver 192.0.2.1\nnameserver 9.9.9.9\nnameserver 1.1.1.1\nnameserver 1.0.0.1\n";
    assert_eq!(read(file), text);
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
    places.remember("eth0", &lease(7, &[], &[]));
    let address = Ipv4Addr::new(192, 0, 2, 7);
    let both = Remembered { on_link: Some((address, 24)), known: Some(address) };
    assert_eq!(places.remembered("eth0"), both);
    places.forget("eth0");
    assert_eq!(places.remembered("eth0"), Remembered { on_link: None, known: Some(address) });
    let none = Remembered { on_link: None, known: None };
    let path = places.state.join("internal-eth0.lease");
    for garbage in [&b""[..], b"ADDRESS=1.2.3", b"ADDRESS=1.2.3.4\nPREFIX=99\n", b"\xff\0\n", &[b'A'; 9999]] {
        std::fs::write(&path, garbage).unwrap();
        assert_eq!(places.remembered("eth0"), none, "{garbage:?}");
    }
    std::fs::remove_dir_all(places.run.parent().unwrap()).unwrap();
}
