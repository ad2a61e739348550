use super::*;
use std::fs;

fn folder(name: &str) -> PathBuf {
    let root = std::env::temp_dir().join(format!("minke-dns-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&root);
    for folder in ["run/resolvconf/interface", "etc/dnsmasq.d", "run/minke/names"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    root
}

fn servers(settings: &Settings) -> Vec<String> {
    settings.groups[0].iter().map(|server| server.address.ip().to_string()).collect()
}

#[test]
fn the_systems_files() {
    let root = folder("read");
    let mut source = Source::below(&root);
    let write = |path: &str, text: &str| fs::write(root.join(path), text).unwrap();
    let settings = source.read();
    assert_eq!(servers(&settings), [""; 0]);
    assert_eq!(settings.fallback, Settings::default().fallback);
    write("run/dnsmasq.servers", "\n# fallback: x\nserver=8.8.4.4\n");
    write("run/resolvconf/interface/NetworkManager", "search lan\nnameserver 10.0.0.1\n");
    write("run/resolvconf/interface/tun0", "nameserver 10.0.0.2\n");
    write("run/resolvconf/interface/.tun1.new", "nameserver 10.0.0.3\n");
    write("etc/dnsmasq.d/a.conf", "server=10.0.0.4\nserver=nonsense\naddn-hosts=/nowhere\n");
    write("etc/dnsmasq.d/README", "read me\n");
    write("etc/hosts", "10.0.0.9 nas\n");
    write("run/minke/names/engine", "172.17.0.0/16 172.17.0.2 db\n");
    let settings = source.read();
    assert_eq!(servers(&settings), ["10.0.0.4", "10.0.0.1", "10.0.0.2"]);
    assert_eq!(settings.fallback.len(), 1);
    assert_eq!((settings.hosts.len(), settings.networks.len(), settings.search.len()), (1, 1, 1));
    assert_eq!(source.told.len(), 1);
    assert!(source.told[0].ends_with("a.conf:2: no server: server=nonsense"), "{:?}", source.told);
    let own = fs::read_to_string(HOST_NAME).unwrap();
    assert_eq!(settings.host_name, parse::host_name(own.trim()));
    // "null": none at all, and nothing to complain about.
    write("run/dnsmasq.servers", "\n");
    write("etc/dnsmasq.d/a.conf", "no-resolv\n");
    let settings = source.read();
    assert_eq!((servers(&settings).len(), settings.fallback.len(), source.told.len()), (0, 0, 0));
    fs::remove_dir_all(root).unwrap();
}

#[test]
fn files_that_are_too_long_or_no_files() {
    let root = folder("odd");
    let mut source = Source::below(&root);
    fs::write(root.join("etc/hosts"), "10.0.0.1 a\n".repeat(100_000)).unwrap();
    fs::create_dir(root.join("etc/dnsmasq.d/x.conf")).unwrap();
    fs::write(root.join("run/dnsmasq.servers"), b"server=\xff\xfe\nserver=9.9.9.9\n").unwrap();
    let settings = source.read();
    assert_eq!(servers(&settings), ["9.9.9.9"]);
    assert_eq!((settings.hosts.len(), source.told.len()), (0, 3), "{:?}", source.told);
    fs::remove_dir_all(root).unwrap();
}
