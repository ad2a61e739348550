//! Against the kernel, in network namespaces of their own. Without the right to make one they say so and
//! pass.

use super::*;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};

/// Runs `test` in a thread with a fresh network namespace.
fn in_fresh_namespace(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: unshare has no memory arguments; only this thread's namespace changes.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                eprintln!("skipped: a network namespace needs root");
                return;
            }
            test();
        });
        thread.join().unwrap();
    });
}

/// A process in a network namespace of its own, until it is dropped.
struct Elsewhere(Child);

impl Elsewhere {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["-n", "sh", "-c", "echo ready; read end"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }

    fn namespace(&self) -> File {
        File::open(format!("/proc/{}/ns/net", self.0.id())).unwrap()
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn route(destination: &str, prefix: u8, gateway: Option<&str>, interface: u32, metric: u32) -> RouteSpec {
    RouteSpec {
        destination: ip(destination),
        prefix,
        gateway: gateway.map(ip),
        interface,
        metric,
        source: None,
        protocol: minke_wire::netlink::RTPROT_DHCP,
    }
}

#[test]
fn a_container_network_bridge_veth_addresses_and_routes() {
    in_fresh_namespace(|| {
        let other = Elsewhere::new();
        let mut here = Route::new().unwrap();
        let bridge = here.create_bridge("balena0").unwrap();
        let port = here.create_veth("veth0", "eth0", Namespace::Process(other.0.id())).unwrap();
        here.set_master(port, Some(bridge)).unwrap();
        here.set_mtu(port, 1400).unwrap();
        here.add_address(bridge, ip("10.9.0.1"), 24, None).unwrap();
        here.set_up(bridge).unwrap();
        here.set_up(port).unwrap();

        let mut there = Route::new_in(other.namespace().as_fd()).unwrap();
        let peer = there.index_of("eth0").unwrap();
        there.set_mac(peer, [2, 0, 0, 0, 0, 9]).unwrap();
        there.set_up(peer).unwrap();
        there.add_address(peer, ip("10.9.0.2"), 24, Some(600)).unwrap();
        there.add_address(peer, ip("fd00::2"), 64, None).unwrap();
        there.replace_route(&route("0.0.0.0", 0, Some("10.9.0.1"), peer, 100)).unwrap();
        there.replace_route(&route("0.0.0.0", 0, Some("10.9.0.1"), peer, 100)).unwrap();
        there.replace_route(&route("192.0.2.0", 24, None, peer, 0)).unwrap();

        let veth = here.link("veth0").unwrap();
        assert_eq!((veth.master, veth.mtu, veth.kind.as_deref()), (Some(bridge), 1400, Some("veth")));
        assert!(veth.has_carrier());
        let eth0 = there.link("eth0").unwrap();
        assert_eq!((eth0.mac, eth0.hardware), (Some([2, 0, 0, 0, 0, 9]), 1));
        let addresses = there.addresses().unwrap();
        assert!(addresses.iter().any(|a| (a.address, a.prefix, a.interface) == (ip("10.9.0.2"), 24, peer)));
        assert!(addresses.iter().any(|a| a.address == ip("fd00::2")));
        let routes = there.routes().unwrap();
        let default: Vec<_> =
            routes.iter().filter(|r| r.prefix == 0 && r.destination.is_ipv4() && r.table == 254).collect();
        assert_eq!(default.len(), 1, "{default:?}");
        assert_eq!((default[0].gateway, default[0].metric), (Some(ip("10.9.0.1")), 100));

        there.delete_route(&route("0.0.0.0", 0, Some("10.9.0.1"), peer, 100)).unwrap();
        there.delete_address(peer, ip("10.9.0.2"), 24).unwrap();
        assert!(!there.addresses().unwrap().iter().any(|a| a.address == ip("10.9.0.2")));
        here.delete_link(port).unwrap();
        assert_eq!(there.link("eth0").unwrap_err().errno, Errno::NODEV);
        here.delete_link(bridge).unwrap();
    });
}

#[test]
fn a_link_moves_to_another_namespace_under_a_new_name() {
    in_fresh_namespace(|| {
        let other = Elsewhere::new();
        let mut here = Route::new().unwrap();
        here.create_veth("a", "b", Namespace::Current).unwrap();
        let b = here.index_of("b").unwrap();
        let namespace = other.namespace();
        here.move_link(b, Namespace::Descriptor(namespace.as_fd()), Some("eth0")).unwrap();
        assert_eq!(here.index_of("b").unwrap_err().errno, Errno::NODEV);
        let mut there = Route::new_in(namespace.as_fd()).unwrap();
        let eth0 = there.index_of("eth0").unwrap();
        there.set_name(eth0, "eth7").unwrap();
        assert_eq!(there.link("eth7").unwrap().index, eth0);
    });
}

#[test]
fn errors_say_what_was_attempted_and_what_the_kernel_says() {
    in_fresh_namespace(|| {
        let mut route_socket = Route::new().unwrap();
        route_socket.create_bridge("br9").unwrap();
        let twice = route_socket.create_bridge("br9").unwrap_err();
        assert_eq!(twice.errno, Errno::EXIST);
        assert!(twice.to_string().starts_with("create bridge br9: File exists"), "{twice}");
        let unreachable = route_socket.replace_route(&route("0.0.0.0", 0, Some("10.1.1.1"), 1, 0));
        let unreachable = unreachable.unwrap_err().to_string();
        assert!(unreachable.contains("(Nexthop has invalid gateway)") || unreachable.contains("Network is"));
        assert!(route_socket.create_bridge("a-name-that-is-too-long").is_err());
        // The socket still works after errors.
        assert_eq!(route_socket.links().unwrap().iter().filter(|link| link.name == "br9").count(), 1);
    });
}

#[test]
fn more_links_than_fit_one_datagram_are_listed() {
    in_fresh_namespace(|| {
        let mut socket = Route::new().unwrap();
        for number in 0..60 {
            socket.create_veth(&format!("a{number}"), &format!("b{number}"), Namespace::Current).unwrap();
        }
        let links = socket.links().unwrap();
        assert_eq!(links.iter().filter(|link| link.kind.as_deref() == Some("veth")).count(), 120);
    });
}

#[test]
fn a_monitor_tells_of_changes_and_reads_all_anew_after_a_loss() {
    in_fresh_namespace(|| {
        let mut socket = Route::new().unwrap();
        let mut monitor = Monitor::links_and_addresses().unwrap();
        let index = socket.create_bridge("br1").unwrap();
        socket.add_address(index, Ipv4Addr::new(10, 3, 0, 1).into(), 24, None).unwrap();
        let changes = monitor.read(&mut socket).unwrap();
        assert!(changes.iter().any(|c| matches!(c, Change::Link(link) if link.name == "br1")));
        assert!(changes.iter().any(|c| matches!(c, Change::Address(a) if a.address == ip("10.3.0.1"))));
        socket.delete_link(index).unwrap();
        let changes = monitor.read(&mut socket).unwrap();
        assert!(changes.contains(&Change::LinkGone(index)), "{changes:?}");

        crate::socket::set_receive_buffer(&monitor, 1).unwrap();
        for _ in 0..40 {
            let index = socket.create_bridge("br2").unwrap();
            socket.delete_link(index).unwrap();
        }
        socket.create_bridge("br3").unwrap();
        let mut changes = Vec::new();
        for _ in 0..4 {
            changes.extend(monitor.read(&mut socket).unwrap());
        }
        let resync = changes.iter().rposition(|change| *change == Change::Resync).expect("a loss");
        assert!(changes[resync..].iter().any(|c| matches!(c, Change::Link(link) if link.name == "br3")));
    });
}

#[test]
fn uevents_come_from_the_kernel_alone() {
    in_fresh_namespace(|| {
        let mut uevents = Uevents::new().unwrap();
        let forger = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::empty(),
            Some(rustix::net::netlink::KOBJECT_UEVENT),
        )
        .unwrap();
        let port = match rustix::net::getsockname(&uevents).unwrap().try_into() {
            Ok(address) => SocketAddrNetlink::pid(&address),
            Err(_) => panic!("no netlink address"),
        };
        let forged = b"add@/devices/forged\0ACTION=add\0SUBSYSTEM=net\0";
        rustix::net::sendto(
            &forger,
            forged,
            rustix::net::SendFlags::empty(),
            &SocketAddrNetlink::new(port, 0),
        )
        .unwrap();
        Route::new().unwrap().create_bridge("br4").unwrap();
        let mut seen = Vec::new();
        while let Received::Event(event) = uevents.read().unwrap() {
            seen.push((event.devpath.to_owned(), event.get("SUBSYSTEM").map(str::to_owned)));
        }
        assert!(seen.iter().any(|(path, subsystem)| path.ends_with("/net/br4") && subsystem.is_some()));
        assert!(!seen.iter().any(|(path, _)| path.contains("forged")), "{seen:?}");
    });
}

/// Every kernel has the family that knows the others; few build machines have Wi-Fi.
#[test]
fn a_family_that_is_not_there_is_no_entry() {
    let mut socket = Route::of(Some(rustix::net::netlink::GENERIC)).unwrap();
    let mut found = None;
    let request = minke_wire::netlink::get_family("nlctrl");
    socket
        .exchange(request, "find", &"nlctrl", &mut |message| found = minke_wire::netlink::family(message))
        .unwrap();
    assert_eq!(found, Some(16));
    if !std::path::Path::new("/sys/class/ieee80211").exists() {
        assert_eq!(super::set_country("DE").unwrap_err().errno, Errno::NOENT);
    }
}
