use super::*;

fn read(content: &str) -> Reader {
    let mut reader = Reader::new(Settings::default());
    reader.options("f", content);
    reader
}

fn good(content: &str) -> Settings {
    let reader = read(content);
    assert_eq!(reader.complaints, [""; 0], "{content}");
    reader.settings
}

fn wrong(content: &str) -> String {
    let reader = read(content);
    assert_eq!(reader.settings, Settings::default(), "{content}");
    assert_eq!(reader.complaints.len(), 1, "{content}");
    reader.complaints[0].clone()
}

fn plain(text: &str) -> Server {
    Server { address: text.parse().unwrap(), transport: Transport::Plain }
}

fn target(settings: &Settings, domain: &str) -> Option<Target> {
    let domain = super::domain(domain).unwrap();
    settings.domains.iter().find(|(known, _)| *known == domain).map(|(_, target)| target.clone())
}

#[test]
fn a_server_is_written_in_many_ways() {
    for (word, address) in [
        ("8.8.8.8", "8.8.8.8:53"),
        ("8.8.8.8#54", "8.8.8.8:54"),
        ("8.8.8.8:54", "8.8.8.8:54"),
        ("8.8.8.8#54@eth0", "8.8.8.8:54"),
        ("8.8.8.8@eth0", "8.8.8.8:53"),
        ("2001:db8::1", "[2001:db8::1]:53"),
        ("2001:db8::1#5353", "[2001:db8::1]:5353"),
        ("[2001:db8::1]", "[2001:db8::1]:53"),
        ("[2001:db8::1]:54", "[2001:db8::1]:54"),
        ("fe80::1%3", "[fe80::1%3]:53"),
        ("fe80::1%lo", "[fe80::1%1]:53"),
    ] {
        assert_eq!(server(word), Some(plain(address)), "{word}");
    }
    let tls = |address: &str, transport| Some(Server { address: address.parse().unwrap(), transport });
    assert_eq!(server("tls://1.1.1.1"), tls("1.1.1.1:853", Transport::Opportunistic));
    assert_eq!(server("tls://1.1.1.1#"), tls("1.1.1.1:853", Transport::Opportunistic));
    assert_eq!(server("tls://1.1.1.1#a.b"), tls("1.1.1.1:853", Transport::Strict("a.b".into())));
    assert_eq!(server("tls://[::1]:8853#a.b"), tls("[::1]:8853", Transport::Strict("a.b".into())));
    assert_eq!(server("tls://2001:db8::1#x"), tls("[2001:db8::1]:853", Transport::Strict("x".into())));
    for word in [
        "",
        "x",
        "8.8.8",
        "8.8.8.8#",
        "8.8.8.8#x",
        "8.8.8.8#0",
        "8.8.8.8#65536",
        "8.8.8.8:0",
        "fe80::1%none0",
        "1.1.1.1%1",
        "tls://",
        "tls://x",
        "tls:1.1.1.1",
        "[::1",
        "null",
        "/x/",
        "8.8.8.8 9.9.9.9",
    ] {
        assert_eq!(server(word), None, "{word}");
    }
}

#[test]
fn servers_for_all_and_for_domains() {
    let settings = good(
        "\nserver=9.9.9.9\nserver=9.9.9.9\n server = 10.0.0.1#54 # mine\n#server=1.2.3.4\n\
         server=/lan/Corp.Example/10.0.0.2\nserver=/lan/10.0.0.3\nserver=//10.0.0.4\n\
         server=/never/\nlocal=/home/\nserver=/out.lan/#\n",
    );
    assert_eq!(settings.groups[0], [plain("9.9.9.9:53"), plain("10.0.0.1:54")]);
    assert_eq!(target(&settings, "lan"), Some(Target::Servers(1)));
    assert_eq!(settings.groups[1], [plain("10.0.0.2:53"), plain("10.0.0.3:53")]);
    assert_eq!(target(&settings, "corp.example"), Some(Target::Servers(2)));
    assert_eq!(settings.groups[2], [plain("10.0.0.2:53")]);
    assert_eq!(settings.plain, Some(Target::Servers(3)));
    assert_eq!(settings.groups[3], [plain("10.0.0.4:53")]);
    assert_eq!(target(&settings, "never"), Some(Target::Local));
    assert_eq!(target(&settings, "home"), Some(Target::Local));
    assert_eq!(target(&settings, "out.lan"), Some(Target::Standard));
    assert_eq!(settings.fallback, Settings::default().fallback);
}

#[test]
fn servers_for_want_of_others_are_marked() {
    let mut reader = Reader::new(Settings { fallback: Vec::new(), ..Settings::default() });
    reader.options("f", "\n# fallback: said so\nserver=8.8.8.8\nserver=/a/1.1.1.1\n");
    reader.options("g", "server=9.9.9.9\n");
    assert_eq!(reader.settings.fallback, [plain("8.8.8.8:53")]);
    assert_eq!(reader.settings.groups, [vec![plain("9.9.9.9:53")], vec![plain("1.1.1.1:53")]]);
}

#[test]
fn only_spaces_are_no_complaint() {
    assert_eq!(good("\n"), Settings::default());
    assert_eq!(good(" \n\t\n\r\n# x"), Settings::default());
}

#[test]
fn a_wrong_line_changes_nothing_and_is_told_with_its_place() {
    assert_eq!(wrong("\n\nserver=nonsense"), "f:3: no server: server=nonsense");
    for line in [
        "server=",
        "server=127.0.0.2",
        "server=/a..b/1.1.1.1",
        "server=/a/x",
        "address=1.2.3.4",
        "address=/a/x",
        "address=//1.1.1.1",
        "cache-size=",
        "cache-size=-1",
        "min-cache-ttl=x",
        "host-record=a",
        "host-record=1.1.1.1",
        "cname=a",
        "listen-address=x",
        "rev-server=1.1.1.1",
        "rev-server=x,1.1.1.1",
        "rev-server=1.0.0.0/33,1.1.1.1",
        "rebind-domain-ok=/a..b/",
        "dhcp-range=1",
        "=",
        "\u{fc}\u{1b}[2J",
    ] {
        let complaint = wrong(line);
        assert!(complaint.starts_with("f:1: ") && complaint.is_ascii(), "{line}: {complaint}");
        assert!(!complaint.contains('\u{1b}'));
    }
    let many = "nonsense\n".repeat(1000);
    let complaints = read(&many).complaints;
    assert_eq!((complaints.len(), complaints[16].as_str()), (17, "f: 984 more lines are ignored"));
}

#[test]
fn other_options() {
    let settings = good(
        "cache-size=1000\nmin-cache-ttl=10\nmax-cache-ttl=600\nneg-ttl=30\nuse-stale-cache=3600\nstop-dns-rebind\n\
         rebind-domain-ok=/lan/.Home/\nlisten-address=10.0.0.1,::1\nlisten-address=127.0.0.2\ndomain-needed\nbogus-priv\n\
         host-record=nas,nas.lan,10.0.0.9,fd00::9,300\ncname=files,www,nas.lan,60\n",
    );
    assert_eq!(settings.cache.bytes, 300_000);
    assert_eq!(settings.cache.min_ttl, Micros::from_secs(10));
    assert_eq!(settings.cache.max_ttl, Micros::from_secs(600));
    assert_eq!(settings.cache.max_negative_ttl, Micros::from_secs(30));
    assert_eq!(settings.cache.stale, Micros::from_secs(3600));
    assert!(settings.rebind_protection);
    assert_eq!(settings.rebind_ok, [name("lan").unwrap(), name("home").unwrap()]);
    let listen: Vec<String> = settings.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["127.0.0.2:53", "10.114.102.1:53", "10.0.0.1:53", "[::1]:53"]);
    assert_eq!(settings.hosts.len(), 2);
    assert_eq!(settings.hosts[1].address, "fd00::9".parse::<IpAddr>().unwrap());
    assert_eq!(settings.hosts[1].names, [name("nas").unwrap(), name("nas.lan").unwrap()]);
    let alias = |alias: &str| (name(alias).unwrap(), name("nas.lan").unwrap());
    assert_eq!(settings.aliases, [alias("files"), alias("www")]);
    let reader = read("no-resolv\naddn-hosts=/x/hosts\ncache-size=0\ncache-size=99999999999");
    assert_eq!((reader.resolv, reader.more_hosts.as_slice()), (false, &["/x/hosts".to_owned()][..]));
    assert_eq!(reader.settings.cache.bytes, 16 << 20);
    assert_eq!(good("cache-size=0").cache.bytes, 0);
}

#[test]
fn addresses_of_domains() {
    let settings = good(
        "address=/A.b/c/10.0.0.1\naddress=/a.b/::1\naddress=/gone/\naddress=/zero/#\naddress=/#/1.2.3.4\n\
         address=/*.w/10.0.0.2\nserver=/c/#\n",
    );
    let of = |list: &[&str]| Some(Target::Addresses(list.iter().map(|text| text.parse().unwrap()).collect()));
    assert_eq!(target(&settings, "a.b"), of(&["10.0.0.1", "::1"]));
    assert_eq!(target(&settings, "c"), Some(Target::Standard));
    assert_eq!(target(&settings, "gone"), Some(Target::Local));
    assert_eq!(target(&settings, "zero"), of(&["0.0.0.0", "::"]));
    assert_eq!(target(&settings, "#"), of(&["1.2.3.4"]));
    assert_eq!(target(&settings, "w"), of(&["10.0.0.2"]));
}

#[test]
fn reverse_zones_of_subnets() {
    let zones = |text: &str| reverse_zones(subnet(text).unwrap());
    assert_eq!(zones("10.0.0.0/8"), ["10.in-addr.arpa"]);
    assert_eq!(zones("192.168.7.9/24"), ["7.168.192.in-addr.arpa"]);
    assert_eq!(zones("192.168.7.9"), ["9.7.168.192.in-addr.arpa"]);
    assert_eq!(zones("172.16.0.0/15"), ["16.172.in-addr.arpa", "17.172.in-addr.arpa"]);
    assert_eq!(zones("172.17.9.9/15"), ["16.172.in-addr.arpa", "17.172.in-addr.arpa"]);
    assert_eq!(zones("0.0.0.0/0"), ["in-addr.arpa"]);
    assert_eq!(zones("0.0.0.0/1").len(), 128);
    assert_eq!(zones("fd00::/8"), ["d.f.ip6.arpa"]);
    assert_eq!(zones("2001:db8::/31"), ["8.b.d.0.1.0.0.2.ip6.arpa", "9.b.d.0.1.0.0.2.ip6.arpa"]);
    assert_eq!(zones("::1").concat(), format!("1.{}ip6.arpa", "0.".repeat(31)));
    let settings = good("rev-server=10.0.0.0/8,10.0.0.1");
    assert_eq!(target(&settings, "10.in-addr.arpa"), Some(Target::Servers(1)));
}

#[test]
fn resolv_conf_files() {
    let mut reader = Reader::new(Settings::default());
    reader.resolv_conf(
        "f",
        "# x\nnameserver 10.0.0.1\nnameserver 10.0.0.1\nnameserver fe80::1%lo\nsearch Lan. corp.example\ndomain lan\n\
         options ndots:5\nsortlist 1\nnameserver\nnameserver 127.0.0.2\n",
    );
    assert_eq!(reader.settings.groups[0], [plain("10.0.0.1:53"), plain("[fe80::1%1]:53")]);
    assert_eq!(reader.settings.search, [name("lan").unwrap(), name("corp.example").unwrap()]);
    assert_eq!(reader.complaints.len(), 2, "{:?}", reader.complaints);
    assert!(reader.complaints[1].contains("this forwarder itself"));
}

#[test]
fn servers_that_are_to_be_the_only_ones() {
    let mut reader = Reader::new(Settings::default());
    reader.options("f", "server=9.9.9.9\nserver=/lan/10.0.0.1\n");
    for (file, server) in
        [("", "1.1.1.1"), (EXCLUSIVE_MARK, "10.8.0.1"), ("", "1.1.1.2"), (EXCLUSIVE_MARK, "10.9.0.1")]
    {
        reader.resolv_conf("g", &format!("{file}search a{server}\nnameserver {server}\n"));
    }
    let settings = &reader.settings;
    assert_eq!(settings.groups[0], [plain("10.8.0.1:53"), plain("10.9.0.1:53")]);
    assert_eq!((settings.groups.len(), settings.fallback.len(), settings.search.len()), (2, 0, 2));
}

#[test]
fn hosts_and_names_of_containers() {
    let mut reader = Reader::new(Settings::default());
    reader.hosts("f", "127.0.0.1\tlocalhost\n10.0.0.1 a A.b # c\nx y\n10.0.0.2\n");
    reader.networks("g", "172.17.0.0/16 172.17.0.2 db main_db_1 0123456789ab\n172.17.0.0/16 172.17.0.3 web\n172.18.0.0/16 172.18.0.2 db\nx\n");
    let settings = &reader.settings;
    assert_eq!((settings.hosts.len(), settings.networks.len()), (2, 2));
    assert_eq!(settings.hosts[1].names, [name("a").unwrap(), name("a.b").unwrap()]);
    let network = &settings.networks[0];
    assert_eq!((network.hosts.len(), network.hosts[0].names.len(), network.subnet.bits), (2, 3, 16));
    assert_eq!(reader.complaints, ["f:3: no address: x?y", "f:4: no name: 10.0.0.2", "g:4: no address: x"]);
}

/// Whatever stands in the files: no panic, and the limits hold.
#[test]
fn no_content_breaks_the_limits() {
    const PIECES: [&str; 30] = [
        "server=",
        "address=",
        "/",
        "//",
        "a.b",
        "lan",
        "10.0.0.1",
        "::1",
        "#",
        "53",
        "\n",
        " ",
        "@",
        "tls://",
        "%lo",
        "rev-server=",
        ",",
        "cname=",
        "host-record=",
        "=",
        "\0",
        "\u{fc}",
        "cache-size=",
        "99999",
        "nameserver ",
        "search ",
        "# fallback\n",
        "/0",
        "listen-address=",
        ".",
    ];
    let mut seed = 7u64;
    let mut random = |limit: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % limit
    };
    for _ in 0..3000 {
        let content: String = (0..random(60)).map(|_| PIECES[random(PIECES.len())]).collect();
        let mut reader = Reader::new(Settings::default());
        reader.options("f", &content);
        reader.resolv_conf("f", &content);
        reader.hosts("f", &content);
        reader.networks("f", &content);
        let settings = &reader.settings;
        assert!(settings.groups.iter().all(|group| group.len() <= MOST_SERVERS));
        assert!(settings.domains.len() <= MOST_DOMAINS && settings.groups.len() <= 1 + 2 * MOST_DOMAINS);
        assert!(reader.complaints.len() <= 4 * (MOST_COMPLAINTS + 1));
    }
    let mut many = String::new();
    for number in 0..100_000 {
        many.push_str(&format!(
            "server=/d{number}/10.0.0.1\nserver=10.0.{}.{}\nserver=//10.0.0.{}\n",
            number / 256 % 256,
            number % 256,
            number % 256
        ));
    }
    let settings = read(&many).settings;
    assert_eq!((settings.groups[0].len(), settings.domains.len()), (MOST_SERVERS, MOST_DOMAINS));
    assert!(settings.groups.len() <= MOST_DOMAINS + 2);
}
