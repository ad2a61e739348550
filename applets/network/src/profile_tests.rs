use super::*;
use minke_wire::netlink::ARPHRD_ETHER;

const MAC: [u8; 6] = [2, 0, 0x5e, 0x10, 0, 1];

fn link(name: &str) -> Link {
    Link {
        index: 2,
        name: name.to_owned(),
        kind: None,
        hardware: ARPHRD_ETHER,
        flags: 0,
        mtu: 1500,
        mac: Some(MAC),
        master: None,
        oper_state: 6,
    }
}

fn read(text: &str) -> Rc<Profile> {
    Profile::read("p", text).unwrap_or_else(|| panic!("{text}"))
}

/// The name of the profile that a link is given.
fn chosen(files: &[(&str, &str)], link: &Link, taken: &str) -> String {
    let profiles = all(files.iter().copied(), &[]);
    match choose(&profiles, link, &|profile| profile.name == taken) {
        Choice::Profile(profile) => profile.name.clone(),
        Choice::Usual => "usual".to_owned(),
        Choice::Off => "off".to_owned(),
        Choice::Open => "open".to_owned(),
    }
}

#[test]
fn a_profile_is_for_the_links_that_it_names() {
    let eth0 = link("eth0");
    for (text, fits) in [
        ("[connection]\n", true),
        ("[connection]\ninterface-name=eth0\n", true),
        ("[connection]\ninterface-name=eth1\n", false),
        ("[connection]\ninterface-name=\n", true),
        ("[ethernet]\nmac-address=02:00:5E:10:00:01\n", true),
        ("[802-3-ethernet]\nmac-address=02-00-5e-10-00-01\n", true),
        ("[ethernet]\nmac-address=02:00:5e:10:00:02\n", false),
        ("[connection]\ninterface-name=eth0\n[ethernet]\nmac-address=02:00:5e:10:00:02\n", false),
    ] {
        assert_eq!(read(text).fits(&eth0), fits, "{text}");
    }
}

#[test]
fn of_several_profiles_the_first_by_priority_that_is_free_and_may_come_up() {
    let eth0 = link("eth0");
    let (plain, low) = ("[connection]\n", "[connection]\nautoconnect-priority=-5\n");
    let high = "[connection]\nautoconnect-priority=7\n";
    let own = "[connection]\ninterface-name=eth0\n";
    let off = "[connection]\nautoconnect=false\nautoconnect-priority=99\n";
    let other = "[connection]\ninterface-name=eth1\n";
    let many = "[connection]\nmulti-connect=3\n";
    for (files, taken, expected) in [
        (&[][..], "", "usual"),
        (&[("a", other)], "", "usual"),
        (&[("a", off)], "", "off"),
        (&[("a", plain)], "a", "off"),
        (&[("a", many)], "a", "a"),
        (&[("a", low), ("b", plain), ("c", high)], "", "c"),
        (&[("a", low), ("b", plain), ("c", high)], "c", "b"),
        (&[("a", low), ("b", plain)], "", "b"),
        (&[("a", plain), ("b", own)], "", "b"),
        (&[("a", high), ("b", own)], "", "a"),
        (&[("a", plain), ("b", plain)], "", "a"),
        (&[("a", off), ("b", plain)], "", "b"),
    ] {
        assert_eq!(chosen(files, &eth0, taken), expected, "{files:?} {taken}");
    }
}

#[test]
fn an_unchanged_file_is_the_same_profile() {
    let old = all([("a", "[connection]\n"), ("b", "[ethernet]\n")].into_iter(), &[]);
    let new = all([("a", "[connection]\n"), ("b", "[ethernet]\n#\n")].into_iter(), &old);
    let same: Vec<bool> = (0..2)
        .map(|place| Choice::Profile(Rc::clone(&old[place])).is(&Choice::Profile(Rc::clone(&new[place]))))
        .collect();
    assert_eq!(same, [true, false]);
    assert!(Choice::Off.is(&Choice::Off) && !Choice::Off.is(&Choice::Usual));
}

#[test]
fn servers_of_names() {
    let profile = read(
        "[ipv4]\ndns=1.1.1.1;9.9.9.9#dns.quad9.net;2001:db8::1;nonsense;8.8.8.8;\ndns-search=lan;~corp;a b;;x\\ny;\n\
         dns-priority=-3\nignore-auto-dns=true\n\
         [ipv6]\ndns=fe80::1%eth0;2001:db8::53;fe80::2%a b;\ndns-search=six.test\n",
    );
    let [v4, v6] = &profile.names;
    assert_eq!(v4.servers, ["1.1.1.1", "9.9.9.9", "8.8.8.8"]);
    assert_eq!((v4.search.join(" "), v4.priority), ("lan".to_owned(), -3));
    assert_eq!(v6.servers, ["fe80::1%eth0", "2001:db8::53"]);
    assert_eq!((v6.search.join(" "), v6.priority), ("six.test".to_owned(), 100));
    assert!(profile.ignores_dhcp_names && !read("").ignores_dhcp_names);
    assert_eq!(read("[ipv4]\ndns-priority=0\n").names[0].priority, 100);
}

#[test]
fn addresses() {
    let of = |text: &str| read(text).addressing.clone();
    assert_eq!(of("[connection]\n"), Addressing::Dhcp);
    assert_eq!(of("[ipv4]\nmethod=auto\n"), Addressing::Dhcp);
    for method in ["disabled", "shared", "link-local"] {
        assert_eq!(of(&format!("[ipv4]\nmethod={method}\n")), Addressing::Nothing, "{method}");
    }
    let ip = Ipv4Addr::new;
    let fixed = |prefix, gateway: Option<u8>| {
        let routes = gateway.map(|last| (Ipv4Addr::UNSPECIFIED, 0, ip(192, 0, 2, last)));
        Addressing::Fixed(Lease::fixed(ip(192, 0, 2, 7), prefix, routes.into_iter().collect()))
    };
    for (lines, expected) in [
        ("address1=192.0.2.7/24,192.0.2.1\n", fixed(24, Some(1))),
        ("address1=192.0.2.7/16\n", fixed(16, None)),
        ("address1=192.0.2.7\n", fixed(24, None)),
        ("addresses=192.0.2.7;25;192.0.2.1;\n", fixed(25, Some(1))),
        ("address=192.0.2.7/24\ngateway=192.0.2.2\n", fixed(24, Some(2))),
        ("address1=192.0.2.7/24,192.0.2.1\ngateway=192.0.2.2\n", fixed(24, Some(2))),
        ("address1=192.0.2.7/24,0.0.0.0\n", fixed(24, None)),
    ] {
        assert_eq!(of(&format!("[ipv4]\nmethod=manual\n{lines}")), expected, "{lines}");
    }
}

/// What would make a profile serve a link that it is not for, or leave a link without an address, makes it no profile.
#[test]
fn profiles_that_are_not_used() {
    for text in [
        "[connection\n",
        "id=x\n",
        "[ethernet]\nmac-address=02:00:5e\n",
        "[ethernet]\nmac-address=02:00:5e:10:00:01:02\n",
        "[connection]\ninterface-name=\\x\n",
        "[connection]\nautoconnect=perhaps\n",
        "[connection]\nmaster=br0\n",
        "[match]\ndriver=e1000\n",
        "[ethernet]\nmac-address-blacklist=02:00:5e:10:00:02;\n",
        "[ipv4]\nmethod=manual\naddress1=192.0.2.3/33\n",
        "[ipv4]\nmethod=manual\naddress1=192.0.2.3/24,192.0.2.1,5\n",
        "[ipv4]\nmethod=manual\naddress1=192.0.2.3/24\ngateway=::1\n",
        "[ipv4]\nmethod=manual\n",
        "[ipv4]\nmethod=manual\naddress1=192.0.2.300/24\n",
        "[ipv4]\nmethod=manual\naddress1=192.0.2.3/24,nowhere\n",
    ] {
        assert!(Profile::read("p", text).is_none(), "{text}");
    }
    // A value without that power is as one that is not there.
    let text = "[connection]\nautoconnect-priority=high\n[ipv4]\nignore-auto-dns=perhaps\nroute-metric=-1\n";
    let profile = read(text);
    assert_eq!((profile.priority, profile.ignores_dhcp_names, profile.metric), (0, false, None));
}
