//! The forwarder `dns` between the clients and the servers of others.

mod answers;
mod caching;
mod carried;
mod failing;
mod flood;
mod message;
mod names;
mod poison;
mod reload;
mod resolvers;
mod tls;
mod upstream;

use message::{A, ANSWER, Message, Reply, query};
use minke_tests::dns_lab::{ask, here, in_system};
use std::net::Ipv4Addr;
use upstream::{Act, Asked};

/// An answer with one address, which lives for `ttl` seconds.
fn address(asked: &Asked, ttl: u32, last: u8) -> Vec<u8> {
    Reply::to(&asked.query, ANSWER).own(A, ttl, &[192, 0, 2, last]).0
}

/// The play of a server that gives every name the address 192.0.2.7 for five minutes.
fn honest(asked: &Asked) -> Vec<Act> {
    vec![Act::Say(address(asked, 300, 7))]
}

/// Asks the forwarder for an address over UDP.
fn look_up(name: &str) -> Message {
    Message::read(&ask(here(), &query(name.len() as u16, name, A)))
}

/// Asks the forwarder that runs by the system's files.
fn look_up_in_system(name: &str, kind: u16) -> Message {
    Message::read(&ask(in_system(), &query(name.len() as u16, name, kind)))
}

/// The addresses in the answer.
fn addresses(message: &Message) -> Vec<Ipv4Addr> {
    let octets = |data: &[u8]| <[u8; 4]>::try_from(data).unwrap();
    message.answers(A).iter().map(|record| octets(&record.data).into()).collect()
}

/// The usual one.
const GOOD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

/// The seed of this run, to be repeated by `MINKE_SEED`.
fn seed() -> u64 {
    let given = std::env::var("MINKE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
    println!("MINKE_SEED={seed}");
    seed
}
