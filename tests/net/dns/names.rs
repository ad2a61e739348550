//! Which server is asked for which name, and what is known here.

use super::message::{A, AAAA, ANSWER, Message, NXDOMAIN, PTR, Reply, query, wire};
use super::upstream::{Act, Asked, Upstream};
use super::{GOOD, address, addresses, honest, look_up_in_system as look_up};
use minke_tests::dns_lab::{Dig, Lab, dig, in_system, server, soon};
use minke_tests::{Daemon, in_namespace, release, run};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

/// The play of a server that gives every name the address 192.0.2.LAST.
fn gives(last: u8) -> impl Fn(&Asked) -> Vec<Act> + Send + Sync {
    move |asked| vec![Act::Say(address(asked, 300, last))]
}

fn last(message: &Message) -> Vec<u8> {
    addresses(message).iter().map(|address| address.octets()[3]).collect()
}

fn add_address(address: &str) {
    run(Command::new("ip").args(["address", "add", address, "dev", "lo"]));
}

/// Where a resolver for want of others is, in the test's namespace.
fn everywhere() -> SocketAddr {
    add_address("8.8.8.8/32");
    (Ipv4Addr::new(8, 8, 8, 8), 53).into()
}

#[test]
fn domains_have_servers_of_their_own() {
    in_namespace(|| {
        let lab = Lab::new("split");
        let standard = Upstream::start(server(1), gives(1));
        let corporate = Upstream::start(server(2), gives(2));
        let deeper = Upstream::start(server(3), gives(3));
        let _forwarder = lab.by_files(
            "server=10.77.1.1\nserver=/corp.test/10.77.1.2\nserver=/deep.corp.test/10.77.1.3\n\
             server=/out.corp.test/#\nserver=/nowhere.test/\nrev-server=192.168.7.0/24,10.77.1.2\n",
            "address=/blocked.test/192.0.2.99\n",
        );
        for (name, number) in [
            ("corp.test", 2),
            ("a.b.CORP.test", 2),
            ("xcorp.test", 1),
            ("corp.test.other.test", 1),
            ("deep.corp.test", 3),
            ("a.deep.corp.test", 3),
            ("a.out.corp.test", 1),
            ("any.test", 1),
            ("www.blocked.test", 99),
        ] {
            assert_eq!(last(&look_up(name, A)), [number], "{name}");
        }
        assert_eq!(look_up("a.nowhere.test", A).rcode(), NXDOMAIN);
        look_up("9.7.168.192.in-addr.arpa", PTR);
        assert!(corporate.count("9.7.168.192.in-addr.arpa.") > 0);
        assert!(
            standard
                .asked()
                .iter()
                .all(|asked| !asked.name().contains("nowhere") && !asked.name().contains("blocked"))
        );
        assert_eq!(standard.count("a.b.corp.test."), 0);
        // Its own servers and no others, even when they fail.
        drop(deeper);
        assert_eq!(look_up("lost.deep.corp.test", A).rcode(), 2);
        assert_eq!(standard.count("lost.deep.corp.test.") + corporate.count("lost.deep.corp.test."), 0);
    });
}

#[test]
fn private_and_special_names_go_nowhere() {
    in_namespace(|| {
        let lab = Lab::new("special");
        let upstream = Upstream::start(server(1), honest);
        let _forwarder = lab.by_files("server=10.77.1.1\n", "");
        for name in [
            "1.1.168.192.in-addr.arpa",
            "9.8.7.10.in-addr.arpa",
            "1.0.16.172.in-addr.arpa",
            "1.0.31.172.in-addr.arpa",
            "1.1.254.169.in-addr.arpa",
            "1.2.0.192.in-addr.arpa",
            "8.b.d.0.1.0.0.2.ip6.arpa",
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
            "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.e.f.ip6.arpa",
        ] {
            assert_eq!(look_up(name, PTR).rcode(), NXDOMAIN, "{name}");
        }
        for name in ["x.invalid", "facebookcorewwwi.onion", "printer", "nobody.local", "x.nobody.local"] {
            assert_eq!(look_up(name, A).rcode(), NXDOMAIN, "{name}");
        }
        for name in ["localhost", "LOCALHOST", "any.localhost"] {
            assert_eq!(addresses(&look_up(name, A)), [Ipv4Addr::LOCALHOST], "{name}");
            assert_eq!(
                look_up(name, AAAA).answers(AAAA)[0].data,
                Vec::from(std::net::Ipv6Addr::LOCALHOST.octets())
            );
        }
        assert_eq!(dig("@127.0.0.2 -x 127.0.0.1").answers(), ["localhost."]);
        assert!(upstream.asked().is_empty(), "{:?}", upstream.asked().first());
        // Public ones do.
        for name in [
            "8.8.8.8.in-addr.arpa",
            "1.0.32.172.in-addr.arpa",
            "1.0.15.172.in-addr.arpa",
            "1.1.1.11.in-addr.arpa",
        ] {
            look_up(name, PTR);
            assert!(upstream.count(&format!("{name}.")) > 0, "{name}");
        }
        assert_eq!(addresses(&look_up("localhost.test", A)), [GOOD]);
    });
}

#[test]
fn a_plain_name_is_sought_in_the_search_domains() {
    in_namespace(|| {
        let lab = Lab::new("search");
        let upstream = Upstream::start(server(1), |asked| match asked.name().as_str() {
            "printer.lan.test." | "nas.office.test." => honest(asked),
            _ => vec![Act::Say(Reply::to(&asked.query, ANSWER | NXDOMAIN).soa("test", 300).0)],
        });
        lab.write(
            "run/resolvconf/interface/NetworkManager",
            "search lan.test office.test\nnameserver 10.77.1.1\n",
        );
        let _forwarder = lab.by_files("", "");
        let mut counts = Vec::new();
        for _ in 0..2 {
            for name in ["printer", "nas", "NAS"] {
                let answer = look_up(name, A);
                assert_eq!(
                    (answer.name.trim_end_matches('.'), addresses(&answer)),
                    (name, vec![GOOD]),
                    "{answer:?}"
                );
            }
            assert_eq!(look_up("nobody", A).rcode(), NXDOMAIN);
            counts.push(upstream.count("printer.lan.test."));
        }
        let asked = upstream.asked();
        assert!(asked.iter().all(|asked| asked.name().ends_with(".test.")), "no plain name leaves the house");
        assert_eq!(counts[0], counts[1], "from the cache then");
    });
}

#[test]
fn hosts_and_the_hosts_own_name() {
    in_namespace(|| {
        let lab = Lab::new("hosts");
        lab.write("etc/hosts", "127.0.0.1 localhost\n10.77.5.5 nas.lan.test nas # the box\nfd77::5 nas.lan.test\n10.77.5.6 pair\n10.77.5.7 pair\n");
        let upstream = Upstream::start(server(1), honest);
        let _forwarder = lab.by_files("server=10.77.1.1\n", "");
        for name in ["nas.lan.test", "nas", "NAS.lan.test"] {
            assert_eq!(addresses(&look_up(name, A)), [Ipv4Addr::new(10, 77, 5, 5)], "{name}");
        }
        assert_eq!(look_up("nas.lan.test", AAAA).answers(AAAA).len(), 1);
        assert_eq!(addresses(&look_up("pair", A)).len(), 2);
        let none = look_up("nas", 16);
        assert_eq!((none.rcode(), none.answers(16).len()), (0, 0));
        assert_eq!(dig("@127.0.0.2 -x 10.77.5.5").answers(), ["nas.lan.test."]);
        assert_eq!(dig("@127.0.0.2 -x fd77::5").answers(), ["nas.lan.test."]);
        let own = addresses(&look_up("board", A));
        assert!(!own.is_empty(), "the host's own name");
        assert!(!addresses(&look_up("BOARD", A)).is_empty());
        assert!(upstream.asked().is_empty(), "{:?}", upstream.asked().first());
    });
}

#[test]
fn containers_know_the_names_of_their_network() {
    in_namespace(|| {
        let lab = Lab::new("containers");
        for address in ["172.17.0.1/16", "172.18.0.1/16"] {
            add_address(address);
        }
        lab.write(
            "run/minke/names/engine",
            "172.17.0.0/16 172.17.0.2 web 0123456789ab\n172.17.0.0/16 172.17.0.3 db postgres\n172.18.0.0/16 172.18.0.2 web\n",
        );
        let upstream = Upstream::start(server(1), honest);
        let _forwarder = lab.by_files("server=10.77.1.1\n", "");
        let from = |client: &str, name: &str| dig(&format!("@127.0.0.2 -b {client} {name} A"));
        assert_eq!(from("172.17.0.1", "db").answers(), ["172.17.0.3"]);
        assert_eq!(from("172.17.0.1", "postgres").answers(), ["172.17.0.3"]);
        assert_eq!(from("172.17.0.1", "0123456789ab").answers(), ["172.17.0.2"]);
        assert_eq!(from("172.17.0.1", "web").answers(), ["172.17.0.2"]);
        assert_eq!(from("172.18.0.1", "web").answers(), ["172.18.0.2"]);
        assert_eq!(from("172.18.0.1", "db").status(), "NXDOMAIN");
        assert_eq!(from("127.0.0.1", "db").status(), "NXDOMAIN", "the host sees none");
        // A container that starts is known at once, one that is gone is not any more.
        lab.write("run/minke/names/engine", "172.17.0.0/16 172.17.0.9 fresh\n");
        assert!(soon(|| from("172.17.0.1", "fresh").answers() == ["172.17.0.9"]));
        assert_eq!(from("172.17.0.1", "db").status(), "NXDOMAIN");
        assert!(upstream.asked().is_empty(), "{:?}", upstream.asked().first());
    });
}

/// A host of the network that has a route to the containers' resolver is not answered there; containers and the host are.
#[test]
fn the_containers_resolver_is_for_containers_alone() {
    in_namespace(|| {
        let lab = Lab::new("strangers");
        let _upstream = Upstream::start(server(1), honest);
        // Each client is a namespace of its own, held open by a process.
        let clients = ["container", "stranger"]
            .map(|name| (name, Daemon::start(&mut lab.inside(name, &["unshare", "--net", "sleep", "300"]))));
        let enter = |name: &str| {
            let id = clients.iter().find(|(known, _)| *known == name).unwrap().1.id();
            format!("nsenter --net --target {id}")
        };
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        for (name, client) in &clients {
            let path = format!("/proc/{}/ns/net", client.id());
            assert!(soon(|| std::fs::read_link(&path).is_ok_and(|one| one != own)), "{name}");
        }
        lab.sh(&format!(
            "ip link add resin-dns type bridge; ip address add 10.114.102.1/24 dev resin-dns; ip link set resin-dns up
             ip link add lan type veth peer name eth0 netns {stranger}; ip address add 10.88.0.1/24 dev lan; ip link set lan up
             {outside} sh -ec 'ip link set eth0 up; ip address add 10.88.0.2/24 dev eth0; ip route add default via 10.88.0.1'",
            stranger = clients[1].1.id(),
            outside = enter("stranger"),
        ));
        let _forwarder = lab.by_files("server=10.77.1.1\n", "listen-address=10.88.0.1\n");
        let from = |client: &str, words: &str, seconds: u8| {
            let mut words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            words.extend([format!("+time={seconds}"), "+tries=1".to_owned()]);
            let mut line: Vec<String> = enter(client).split(' ').map(str::to_owned).collect();
            line.push("dig".to_owned());
            line.append(&mut words);
            Dig(minke_tests::text(&Command::new(&line[0]).args(&line[1..]).output().unwrap()))
        };
        for way in ["", " +tcp"] {
            let closed = from("stranger", &format!("@10.114.102.1 board.test A{way}"), 2);
            assert_eq!(closed.status(), "", "{way}");
            // Where the owner lets everybody ask, everybody may.
            let open = from("stranger", &format!("@10.88.0.1 board.test A{way}"), 10);
            assert_eq!(open.answers(), ["192.0.2.7"], "{way}");
            assert_eq!(dig(&format!("@10.114.102.1 board.test A{way}")).answers(), ["192.0.2.7"], "the host");
        }
        // A network that is made only now.
        lab.sh(&format!(
            "ip link add br-0123456789ab type bridge; ip address add 172.18.0.1/16 dev br-0123456789ab; ip link set br-0123456789ab up
             ip link add port type veth peer name eth0 netns {container}; ip link set port master br-0123456789ab; ip link set port up
             {inside} sh -ec 'ip link set eth0 up; ip address add 172.18.0.2/16 dev eth0; ip route add default via 172.18.0.1'",
            container = clients[0].1.id(),
            inside = enter("container"),
        ));
        for way in ["", " +tcp"] {
            let asked = format!("@10.114.102.1 board.test A{way}");
            assert!(soon(|| from("container", &asked, 2).answers() == ["192.0.2.7"]), "{way}");
            assert_eq!(from("stranger", &asked, 2).status(), "", "{way}");
        }
    });
}

#[test]
fn the_fallback_is_asked_for_want_of_others_alone() {
    in_namespace(|| {
        let lab = Lab::new("fallback");
        let fallback = Upstream::start(everywhere(), gives(8));
        let network = Upstream::start(server(1), gives(1));
        lab.write("run/resolvconf/interface/NetworkManager", "nameserver 10.77.1.1\n");
        let _forwarder = lab.by_files("# fallback\nserver=8.8.8.8\n", "");
        let mut silent = false;
        for number in 0..50 {
            let begun = Instant::now();
            let answer = last(&look_up(&format!("host-{number}.test"), A));
            // One that says nothing for so long has somebody else asked, however busy the machine is.
            silent |= begun.elapsed() >= Duration::from_millis(1_500);
            assert!(answer == [1] || silent, "{answer:?}");
        }
        assert!(silent || fallback.asked().is_empty(), "8.8.8.8 is asked although there is another");
        drop(network);
        for number in 0..5 {
            assert_eq!(last(&look_up(&format!("lost-{number}.test"), A)), [8]);
        }
        let network = Upstream::start(server(1), gives(1));
        assert!(soon(|| {
            let number = network.asked().len() + fallback.asked().len();
            last(&look_up(&format!("back-{number}.test"), A)) == [1]
        }));
        // Without a network there is no other.
        lab.sh("rm run/resolvconf/interface/NetworkManager");
        assert!(soon(|| {
            let number = network.asked().len() + fallback.asked().len();
            last(&look_up(&format!("none-{number}.test"), A)) == [8]
        }));
        // "null": none is none.
        lab.write("run/dnsmasq.servers", "\n");
        assert!(soon(|| {
            let number = network.asked().len() + fallback.asked().len();
            look_up(&format!("null-{number}.test"), A).rcode() == 2
        }));
        let before = fallback.asked().len();
        look_up("null.test", A);
        assert_eq!(fallback.asked().len(), before);
    });
}

#[test]
fn a_vpns_servers_can_be_the_only_ones() {
    in_namespace(|| {
        let lab = Lab::new("resolvconf");
        let network = Upstream::start(server(1), gives(1));
        let own = Upstream::start(server(2), gives(2));
        let vpn = Upstream::start(server(3), gives(3));
        lab.write("run/resolvconf/interface/NetworkManager", "nameserver 10.77.1.1\nsearch lan.test\n");
        let _forwarder = lab.by_files("server=10.77.1.2\n", "");
        let binary = release("x86_64");
        let resolvconf = |input: &str, words: &str| {
            let script = format!("printf '{input}' | '{}' resolvconf {words}", binary.display());
            let status = lab.inside("resolvconf", &["sh", "-ec", &script]).status().unwrap();
            let said = std::fs::read_to_string(lab.path("resolvconf.log")).unwrap();
            assert!(status.success(), "{words}: {said}");
            said
        };
        let mut number = 0;
        let mut ask = || {
            number += 1;
            last(&look_up(&format!("host-{number}.test"), A))
        };
        assert!([[1], [2]].contains(&[ask()[0]]));
        resolvconf("search office.test\\nnameserver 10.77.1.3\\n", "-x -a tun0");
        assert!(soon(|| ask() == [3]));
        let before = (network.asked().len(), own.asked().len());
        for _ in 0..20 {
            assert_eq!(ask(), [3]);
        }
        assert_eq!(last(&look_up("nas", A)), [3]);
        assert!(vpn.count("nas.office.test.") > 0);
        assert_eq!(vpn.count("nas.lan.test."), 0);
        // Not even when they are silent.
        vpn.set(|_| Vec::new());
        assert_eq!(look_up("lost.test", A).rcode(), 2);
        assert_eq!((network.asked().len(), own.asked().len()), before, "others were asked");
        assert!(resolvconf("", "-l").contains("nameserver 10.77.1.3"));
        // It goes, and the others are back.
        resolvconf("", "-d tun0");
        assert!(soon(|| matches!(ask()[..], [1 | 2])));
        // Without -x all are equal.
        vpn.set(gives(3));
        resolvconf("nameserver 10.77.1.3\\n", "-a tun0");
        drop((network, own));
        assert!(soon(|| ask() == [3]));
    });
}

#[test]
fn private_addresses_of_public_names_are_refused_if_wished() {
    in_namespace(|| {
        let lab = Lab::new("rebinding");
        let _upstream = Upstream::start(server(1), |asked| {
            let data: &[u8] = match asked.name().as_str() {
                "ten.test." => &[10, 0, 0, 1],
                "loop.test." => &[127, 0, 0, 1],
                "link.test." => &[169, 254, 1, 1],
                "nas.friend.test." => &[192, 168, 1, 1],
                "mapped.test." => &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 1],
                "six.test." => &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                _ => &[192, 0, 2, 7],
            };
            vec![Act::Say(Reply::to(&asked.query, ANSWER).own(asked.message.kind, 300, data).0)]
        });
        let _forwarder =
            lab.by_files("server=10.77.1.1\n", "stop-dns-rebind\nrebind-domain-ok=/friend.test/\n");
        for _ in 0..2 {
            for (name, kind) in [
                ("ten.test", A),
                ("loop.test", A),
                ("link.test", A),
                ("mapped.test", AAAA),
                ("six.test", AAAA),
            ] {
                assert!(look_up(name, kind).answers(kind).is_empty(), "{name}");
            }
            assert_eq!(addresses(&look_up("nas.friend.test", A)), [Ipv4Addr::new(192, 168, 1, 1)]);
            assert_eq!(addresses(&look_up("public.test", A)), [GOOD]);
        }
    });
}

/// Without the option private addresses are as good as others: nothing is blocked or rewritten.
#[test]
fn nothing_is_rewritten() {
    in_namespace(|| {
        let lab = Lab::new("rewritten");
        let _upstream = Upstream::start(server(1), |asked| {
            let reply = Reply::to(&asked.query, ANSWER).own(A, 300, &[192, 168, 1, 1]);
            vec![Act::Say(reply.own(A, 300, &[0, 0, 0, 0]).0)]
        });
        let _forwarder = lab.by_files("server=10.77.1.1\n", "");
        assert_eq!(addresses(&look_up("lan.test", A)).len(), 2);
        let bytes = minke_tests::dns_lab::ask(in_system(), &query(1, "lan.test", A));
        assert_eq!(bytes[12..12 + wire("lan.test").len()], wire("lan.test"));
    });
}
