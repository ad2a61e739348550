//! A world for the client: an oscillator that is wrong and wanders, the kernel's clock on it, servers behind paths that
//! delay, lose and lie. Weeks pass in seconds.

mod tests;
mod world;

use super::{Action, Beginning, Client, Now};
use crate::sources;
use minke_wire::ntp::{Leap, Packet, Short, Timestamp, mode};
use std::net::SocketAddr;
use std::path::Path;
pub(super) use world::World;

const SECOND: i64 = 1_000_000_000;

/// One server and the way to it.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub address: SocketAddr,
    /// Least delays there and back, in seconds.
    pub there: f64,
    pub back: f64,
    /// Mean of what is added, exponentially distributed, in seconds.
    pub jitter: f64,
    /// As a uniform number up to twice that instead.
    pub uniform: bool,
    /// It is added on the way there only, or on the way back only.
    pub one_way: Option<bool>,
    /// Share of lost datagrams.
    pub loss: f64,
    /// How wrong its clock is: at the beginning and how much more each second.
    pub error: f64,
    pub drift: f64,
    /// From this second on its clock is wrong by so much more.
    pub step: Option<(f64, f64)>,
    /// It is away between these seconds.
    pub away: Option<(f64, f64)>,
    pub leap: Leap,
    pub kiss: Option<[u8; 4]>,
    pub asked: u64,
}

impl Server {
    pub(super) fn new(number: u8, delay: f64, jitter: f64) -> Self {
        Self {
            address: SocketAddr::from(([192, 0, 2, number], 123)),
            there: delay / 2.0,
            back: delay / 2.0,
            jitter,
            uniform: false,
            one_way: None,
            loss: 0.01,
            error: 0.0,
            drift: 0.0,
            step: None,
            away: None,
            leap: Leap::None,
            kiss: None,
            asked: 0,
        }
    }
}

/// What a run showed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outcome {
    /// Root mean square and greatest error of the clock, in seconds, since [`Simulation::measure`].
    pub rms: f64,
    pub worst: f64,
    /// Seconds until the error stayed within 10 ms.
    pub good_after: f64,
}

pub(super) struct Simulation {
    pub world: World,
    pub client: Client,
    pub servers: Vec<Server>,
    /// Answers on their way: when they arrive, for which source, the bytes.
    flying: Vec<(i64, u64, Vec<u8>)>,
    sum: f64,
    count: f64,
    worst: f64,
    good_after: f64,
    pub log: Vec<String>,
    pub wakings: u64,
    pub steps: Vec<i64>,
}

impl Simulation {
    /// `list`: options of each server's line.
    pub(super) fn new(world: World, servers: Vec<Server>, list: &str, drift: Option<(f64, f64)>) -> Self {
        let mut world = world;
        let beginning =
            Beginning { drift, build: 1_790_000_000 * SECOND, synchronized: false, watch_only: false };
        let mut client = Client::new(world.now(), beginning);
        let text: String =
            servers.iter().map(|server| format!("server {} {list}\n", server.address.ip())).collect();
        let mut lines = Vec::new();
        sources::parse(&text, Path::new("test"), &mut lines);
        client.set_lines(world.now(), lines);
        Self {
            world,
            client,
            servers,
            flying: Vec::new(),
            sum: 0.0,
            count: 0.0,
            worst: 0.0,
            good_after: 0.0,
            log: Vec::new(),
            wakings: 0,
            steps: Vec::new(),
        }
    }

    /// From now on errors count.
    pub(super) fn measure(&mut self) {
        (self.sum, self.count, self.worst) = (0.0, 0.0, 0.0);
    }

    pub(super) fn outcome(&self) -> Outcome {
        Outcome { rms: (self.sum / self.count).sqrt(), worst: self.worst, good_after: self.good_after }
    }

    /// Lets `seconds` pass.
    pub(super) fn run(&mut self, seconds: f64) {
        let end = self.world.time() + (seconds * 1e9) as i64;
        // The clock is looked at some 2000 times, and at least each second of a short run.
        let look = ((end - self.world.time()) / 2000).max(SECOND / 2);
        let mut next_look = self.world.time() + look;
        loop {
            self.perform();
            let now = self.world.now();
            let due =
                self.client.deadline().map_or(i64::MAX, |due| self.world.time() + (due - now.boot).max(0));
            let arrival = self.flying.iter().map(|(at, ..)| *at).min().unwrap_or(i64::MAX);
            let at = due.min(arrival).min(next_look).min(end);
            self.world.advance(at);
            if at == next_look {
                next_look += look;
                self.look();
            }
            if at == arrival {
                let place = self.flying.iter().position(|(at, ..)| *at == arrival).unwrap();
                let (_, id, bytes) = self.flying.swap_remove(place);
                let now = self.world.now();
                self.wakings += 1;
                self.client.received(id, now, &bytes, now.real);
            } else if at == due {
                self.wakings += 1;
                let now = self.world.now();
                self.client.timer(now);
            }
            if at == end {
                return self.perform();
            }
        }
    }

    fn look(&mut self) {
        let error = self.world.error();
        self.sum += error * error;
        self.count += 1.0;
        self.worst = self.worst.max(error.abs());
        if error.abs() > 0.01 {
            self.good_after = self.world.time() as f64 * 1e-9 - self.world.began;
        }
    }

    fn perform(&mut self) {
        loop {
            let actions = self.client.take_actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    Action::Ask(id) => self.ask(id),
                    Action::Close(id) => self.flying.retain(|(_, source, _)| *source != id),
                    Action::Step(by) => {
                        self.steps.push(by);
                        self.world.step(by);
                        let now = self.world.now();
                        self.client.stepped(now);
                    }
                    Action::Steer(steering) => self.world.steer(&steering),
                    Action::Log(line) => self.log.push(line),
                    Action::Lost | Action::Resolve { .. } => {}
                }
            }
        }
    }

    fn ask(&mut self, id: u64) {
        self.flying.retain(|(_, source, _)| *source != id);
        let now = self.world.now();
        let numbers = [self.world.random.next(), self.world.random.next()];
        let (address, bytes) = self.client.ask(id, now, numbers).unwrap();
        self.client.was_sent(id, now, now.real);
        let random = &mut self.world.random;
        let server = self.servers.iter_mut().find(|server| server.address == address).unwrap();
        server.asked += 1;
        let seconds = (self.world.time) as f64 * 1e-9 - self.world.began;
        let away = server.away.is_some_and(|(from, to)| (from..to).contains(&seconds));
        if away || random.uniform() < server.loss * 2.0 - server.loss * server.loss {
            return;
        }
        let mut jam = || {
            if server.uniform {
                2.0 * server.jitter * random.uniform()
            } else {
                server.jitter * random.exponential()
            }
        };
        let there = server.there + if server.one_way == Some(false) { 0.0 } else { jam() };
        let back = server.back + if server.one_way == Some(true) { 0.0 } else { jam() };
        let (request, _) = Packet::decode(&bytes).unwrap();
        let at = self.world.time + (there * 1e9) as i64;
        let mut wrong = server.error + server.drift * seconds;
        if let Some((when, by)) = server.step
            && seconds >= when
        {
            wrong += by;
        }
        let received = at + (wrong * 1e9) as i64;
        let answer = Packet {
            leap: server.leap,
            version: 4,
            mode: mode::SERVER,
            stratum: if server.kiss.is_some() { 0 } else { 2 },
            precision: -23,
            rootdelay: Short::from_nanos(500_000),
            rootdisp: Short::from_nanos(500_000),
            refid: server.kiss.unwrap_or([10, 0, 0, 1]),
            reftime: Timestamp::from_nanos(received - 100 * SECOND),
            org: request.xmt,
            rec: Timestamp::from_nanos(received),
            xmt: Timestamp::from_nanos(received + 30_000),
            ..Packet::default()
        };
        let arrives = at + 30_000 + (back * 1e9) as i64;
        self.flying.push((arrives, id, answer.encode().to_vec()));
    }
}

/// All clocks, for the client.
pub(super) fn now_of(raw: i64, suspended: i64, real: i64, random: u64) -> Now {
    Now { boot: raw + suspended, suspended, raw, real, spread: 0, random }
}
