//! Many hosts on one link that delays, loses, doubles, reorders, reflects and splits: names become and stay different,
//! and the link stays quiet.

use super::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Per mille, and milliseconds.
#[derive(Clone, Copy, Default)]
struct Quality {
    lost: u32,
    doubled: u32,
    reflected: u32,
    delay: u32,
}

const GOOD: Quality = Quality { lost: 0, doubled: 0, reflected: 0, delay: 5 };
const BAD: Quality = Quality { lost: 100, doubled: 100, reflected: 100, delay: 60 };

/// A reflector's address: nobody's.
const REFLECTOR: &str = "10.0.255.254:5353";
/// Without loss. A round of probes ends within 200 ms of waiting, 750 ms of probing and, for who lost a tie, another
/// second: 2 s with the way of the packets. Each name that somebody probes for in a round is somebody's at its end, so
/// that after as many rounds as there are hosts each has one. (They part much sooner, as they draw numbers from ranges
/// that double.) None comes to fifteen conflicts in ten seconds.
fn bound(hosts: usize) -> Time {
    hosts as Time * 2000
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Arrival {
    at: Time,
    order: u64,
    to: usize,
    from: String,
    bytes: Vec<u8>,
}

struct World {
    hosts: Vec<Mdns>,
    /// Who is in the same part hears each other.
    parts: Vec<u8>,
    on_the_way: BinaryHeap<Reverse<Arrival>>,
    quality: Quality,
    random: Random,
    now: Time,
    order: u64,
    packets: u64,
    /// What was told to the host of this number.
    told: Vec<(usize, Action)>,
}

fn address(host: usize) -> String {
    format!("10.0.{}.{}", host / 200, 1 + host % 200)
}

impl World {
    /// Hosts that all want the same name and offer a service, switched on within `spread`.
    fn new(seed: u64, count: usize, quality: Quality, spread: u32) -> Self {
        let mut world = Self {
            hosts: Vec::new(),
            parts: vec![0; count],
            on_the_way: BinaryHeap::new(),
            quality,
            random: Random::new(seed),
            now: 1000,
            order: 0,
            packets: 0,
            told: Vec::new(),
        };
        let mut starts: Vec<u32> = (0..count).map(|_| world.random.delay(0, spread)).collect();
        starts.sort_unstable();
        for (host, start) in starts.into_iter().enumerate() {
            world.run_until(1000 + Time::from(start));
            let mut mdns = Mdns::new(seed * 1000 + host as u64, Limits::default());
            mdns.set_host(world.now, "box");
            mdns.set_service(world.now, 0, ssh()).unwrap();
            world.hosts.push(mdns);
            world.plug(host);
        }
        world
    }

    fn plug(&mut self, host: usize) {
        let now = self.now;
        self.hosts[host].set_link(now, &link(1, &[&format!("{}/16", address(host))]));
        self.perform(host);
    }

    fn perform(&mut self, host: usize) {
        for action in self.hosts[host].take_actions() {
            let Action::Send { to, bytes, .. } = action else {
                self.told.push((host, action));
                continue;
            };
            self.packets += 1;
            let from = format!("{}:5353", address(host));
            for other in 0..self.hosts.len() {
                let wanted = to.ip().is_multicast() || to.ip().to_string() == address(other);
                if !wanted || self.parts[other] != self.parts[host] {
                    continue;
                }
                if other == host {
                    // The kernel hands it back, and loses nothing.
                    self.deliver(other, &from, &bytes, 0);
                    continue;
                }
                let Quality { lost, doubled, delay, .. } = self.quality;
                if self.random.below(1000) >= lost {
                    self.deliver(other, &from, &bytes, delay);
                }
                if self.random.below(1000) < doubled {
                    self.deliver(other, &from, &bytes, delay * 4);
                }
            }
            if self.random.below(1000) < self.quality.reflected {
                for other in 0..self.hosts.len() {
                    if self.parts[other] == self.parts[host] {
                        self.deliver(other, REFLECTOR, &bytes, self.quality.delay * 20);
                    }
                }
            }
        }
    }

    fn deliver(&mut self, to: usize, from: &str, bytes: &[u8], delay: u32) {
        let at = time::after(self.now, self.random.delay(u32::from(delay > 0), delay));
        self.order += 1;
        let (order, from, bytes) = (self.order, from.to_owned(), bytes.to_vec());
        self.on_the_way.push(Reverse(Arrival { at, order, to, from, bytes }));
    }

    fn run_until(&mut self, end: Time) {
        loop {
            let arrival = self.on_the_way.peek().map(|arrival| arrival.0.at);
            let timers = self.hosts.iter().enumerate();
            let timer = timers.filter_map(|(host, mdns)| Some((mdns.deadline()?, host))).min();
            let next = arrival.into_iter().chain(timer.map(|(at, _)| at)).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if arrival == Some(next) {
                let Some(Reverse(Arrival { to, from, bytes, .. })) = self.on_the_way.pop() else { break };
                let packet = Packet { link: 1, from: from.parse().unwrap(), to_group: true, bytes: &bytes };
                self.hosts[to].received(self.now, packet);
                self.perform(to);
            } else if let Some((_, host)) = timer {
                self.hosts[host].timer(self.now);
                self.perform(host);
            }
        }
        self.now = end;
    }

    fn run(&mut self, time: Time) {
        self.run_until(self.now + time);
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.hosts.iter().map(|host| host.host().to_owned()).collect();
        names.sort_unstable();
        names
    }

    /// Whether all names differ and have been found free.
    fn is_well(&self) -> bool {
        let mut names = self.names();
        names.dedup();
        names.len() == self.hosts.len()
            && self.hosts.iter().all(|host| host.services().iter().all(|service| service.established))
    }

    /// Lets time pass until all is well; how much.
    fn settle(&mut self, most: Time) -> Option<Time> {
        let begin = self.now;
        while !self.is_well() {
            if self.now > begin + most {
                return None;
            }
            self.run(100);
        }
        Some(self.now - begin)
    }

    fn ask(&mut self, host: usize, text: &str) {
        let (owner, kind) = text.split_once(' ').unwrap();
        let question =
            Question { name: name(owner), kind: Kind::parse(kind).unwrap(), link: None, once: false };
        self.hosts[host].ask(self.now, question).unwrap();
    }
}

#[test]
fn fifty_hosts_with_one_name_end_with_fifty() {
    let mut worst = 0;
    for seed in 1..=3 {
        let spread = [0, 100, 5000][seed as usize % 3];
        let mut world = World::new(seed, 50, GOOD, spread);
        let time = world.settle(bound(50)).unwrap_or_else(|| panic!("seed {seed}: {:?}", world.names()));
        worst = worst.max(time);
        let names = world.names();
        assert!(names.contains(&"box".to_owned()) && names.contains(&"box-2".to_owned()), "{names:?}");
        // Each rename takes three probes, three announcements and farewells.
        assert!(world.packets < 50 * 60, "seed {seed}: {} packets", world.packets);
        world.run(10_000);
        assert!(world.is_well() && world.names() == names, "seed {seed}: they stay");
        if seed == 1 {
            // One name is wanted by 49 others: each tries it ever more rarely, in vain.
            world.run(4 * 3_600_000);
            let before = world.packets;
            world.run(600_000);
            assert!(world.is_well() && world.names() == names);
            let per_minute = (world.packets - before) / 10;
            assert!(per_minute <= 10, "{per_minute} packets per minute");
        }
    }
    println!("50 hosts have 50 names after {worst} ms at most");
}

#[test]
fn few_hosts_get_the_numbers_that_people_expect() {
    for seed in 1..20 {
        let mut world = World::new(seed, 3, GOOD, 0);
        world.settle(bound(3)).unwrap();
        assert_eq!(world.names(), ["box", "box-2", "box-3"], "seed {seed}");
    }
}

#[test]
fn on_a_bad_link_names_become_different_all_the_same() {
    for seed in 1..=4 {
        let mut world = World::new(seed, 20, BAD, 100);
        world.settle(10 * bound(20)).unwrap_or_else(|| panic!("seed {seed}: {:?}", world.names()));
        // A tenth is lost: somebody may not hear that a name is taken, and it is found out later.
        world.run(600_000);
        let later = world.settle(10 * bound(20));
        assert!(later.is_some(), "seed {seed}: {:?}", world.names());
    }
}

#[test]
fn avahi_117_one_host_on_a_link_that_reflects_everything_keeps_its_name() {
    for seed in 1..=20 {
        let quality = Quality { reflected: 1000, doubled: 300, lost: 200, delay: 100 };
        let mut world = World::new(seed, 2, quality, 0);
        world.hosts[1].set_host(world.now, "other");
        world.ask(1, "box.local A");
        world.run(3_600_000);
        let name = world.hosts[0].host();
        assert!(name == "box", "seed {seed}: {name}");
        // The two began with the same name.
        assert!(world.hosts[0].counters.conflicts <= 2, "{:?}", world.hosts[0].counters);
    }
}

#[test]
fn two_parts_that_join_find_their_conflicts_when_names_are_used() {
    for seed in 1..=3 {
        let mut world = World::new(seed, 20, GOOD, 100);
        for host in 0..10 {
            world.parts[host] = 1;
            world.hosts[host].drop_link(world.now, 1);
            world.perform(host);
            world.plug(host);
        }
        // Each part has its own names, some the same.
        world.run(bound(20));
        assert!(!world.is_well(), "seed {seed}");
        world.parts = vec![0; 20];
        // Somebody on each side uses all names.
        for asker in [0, 19] {
            for number in 1..40 {
                world.ask(asker, &format!("{}.local A", registry::numbered("box", number, true)));
            }
        }
        world.settle(150_000).unwrap_or_else(|| panic!("seed {seed}: {:?}", world.names()));
    }
}

#[test]
fn the_wanted_name_is_had_by_one_again_when_its_owner_leaves() {
    for (seed, farewell) in [(1, true), (2, true), (3, false), (4, false)] {
        let mut world = World::new(seed, 10, GOOD, 0);
        world.settle(bound(10)).unwrap();
        let owner = world.hosts.iter().position(|host| host.host() == "box").unwrap();
        world.run(70_000);
        if farewell {
            world.hosts[owner].close(world.now);
            world.perform(owner);
        }
        world.parts[owner] = 9;
        world.run(if farewell { 20_000 } else { 400_000 });
        let has = |host: &&Mdns| host.host() == "box";
        let heirs: Vec<_> = world
            .hosts
            .iter()
            .enumerate()
            .filter(|(host, _)| *host != owner)
            .map(|(_, host)| host)
            .filter(has)
            .collect();
        assert_eq!(heirs.len(), 1, "seed {seed}: {:?}", world.names());
        // And it is never without an owner or with two for longer than a moment.
        world.run(60_000);
        assert!(world.is_well() || !farewell, "seed {seed}: {:?}", world.names());
    }
}

#[test]
fn browsing_costs_a_packet_per_host_and_then_almost_nothing() {
    let mut world = World::new(1, 50, GOOD, 0);
    world.settle(bound(50)).unwrap();
    world.run(60_000);
    world.told.clear();
    let before = world.packets;
    world.ask(7, "_ssh._tcp.local PTR");
    world.run(60_000);
    let found =
        world.told.iter().filter(|(host, action)| *host == 7 && matches!(action, Action::Found { .. }));
    assert_eq!(found.count(), 50);
    let first = world.packets - before;
    // Each host answers the first question; the later six know the answers already, in two packets each.
    assert!(first <= 50 + 7 * 3, "{first}");
    world.run(600_000);
    let before = world.packets;
    world.run(600_000);
    let per_minute = (world.packets - before) / 10;
    // 49 hosts try the wanted name now and then: three probes at most, and the owner's answers.
    assert!(per_minute <= 20, "{per_minute} packets per minute");
    println!("browsing 50 hosts: {first} packets in the first minute, then {per_minute} per minute");
}

#[test]
fn who_slept_while_another_took_his_name_gives_way_and_has_it_back_later() {
    let mut world = World::new(1, 2, GOOD, 0);
    world.settle(bound(2)).unwrap();
    let sleeper = world.hosts.iter().position(|host| host.host() == "box").unwrap();
    let other = 1 - sleeper;
    world.parts[sleeper] = 9;
    world.run(400_000);
    assert_eq!(world.hosts[other].host(), "box");
    world.parts[sleeper] = 0;
    world.hosts[sleeper].resumed(world.now);
    world.run(5000);
    assert_eq!(world.names(), ["box", "box-2"]);
    assert_eq!(world.hosts[sleeper].host(), "box-2");
    world.hosts[other].set_host(world.now, "kiosk");
    world.perform(other);
    world.run(80_000);
    assert_eq!(world.names(), ["box", "kiosk"], "the farewell tells him");
}
