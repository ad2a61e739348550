//! Addresses of a name: literals, `/etc/hosts`, then the servers of `/etc/resolv.conf` (resolv.conf(5)); on a device
//! that is our own forwarder. libc's resolver would bring 45 kB.

use crate::Error;
use crate::wire::Wire;
use minke_sys::{Context, clock, file, random};
use minke_wire::dns::Kind;
use minke_wire::dns::lookup::{Answer, answer, query};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// Bytes of a file or a response.
const LIMIT: usize = 64 * 1024;
/// As many servers as libc asks.
const MOST_SERVERS: usize = 3;
/// How long a server may take before the next one is asked.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often all servers are asked.
const ROUNDS: usize = 2;
const PORT: u16 = 53;

/// The addresses of a host in the order in which they should be tried: IPv6 and IPv4 by turns (RFC 8305 §4), so that
/// a network in which one of them leads nowhere costs one attempt. `etc` is the folder of `hosts` and `resolv.conf`,
/// `until` the time since boot at which the search ends. It blocks for 18 s at most. The error says what was wrong with
/// the name, or with the servers that should know it.
pub fn resolve(etc: &Path, host: &str, until: Duration) -> Result<Vec<IpAddr>, Error> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let hosts = file::read_optional(&etc.join("hosts"), LIMIT)?.unwrap_or_default();
    let mut found = in_hosts(&String::from_utf8_lossy(&hosts), host);
    if found.is_empty() {
        found = ask(&servers(etc), host, until)?;
    }
    let mut order = Vec::with_capacity(found.len());
    let (mut six, mut four) = (found.iter().filter(|a| a.is_ipv6()), found.iter().filter(|a| a.is_ipv4()));
    while order.len() < found.len() {
        order.extend(six.next());
        order.extend(four.next());
    }
    Ok(order)
}

fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let address = words.next().and_then(|word| word.parse().ok());
        if let Some(address) = address
            && words.any(|name| name.eq_ignore_ascii_case(host))
        {
            found.push(address);
        }
    }
    found
}

/// Without a server in the file, one on this machine is asked, as libc does.
fn servers(etc: &Path) -> Vec<IpAddr> {
    let mut servers = Vec::new();
    for line in file::text(etc.join("resolv.conf")).lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() == Some("nameserver") && servers.len() < MOST_SERVERS {
            servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()));
        }
    }
    if servers.is_empty() {
        servers.push(Ipv4Addr::LOCALHOST.into());
    }
    servers
}

fn ask(servers: &[IpAddr], host: &str, until: Duration) -> Result<Vec<IpAddr>, Error> {
    let wrong = |what: &str| Err(Error::Name(format!("{host}: {what}").into()));
    let mut ids = [0; 4];
    random::fill(&mut ids)?;
    let [a, b, c, d] = ids;
    let queries = (
        query(u16::from_be_bytes([a, b]), host, Kind::A),
        // The two differ, so that each response finds its query.
        query(u16::from_be_bytes([c, d ^ u8::from(a == c && b == d)]), host, Kind::AAAA),
    );
    let (Some(four), Some(six)) = queries else { return wrong("is no host name") };
    let queries = [four, six];
    let mut problem = "no DNS server answers; is there a network?";
    for _ in 0..ROUNDS {
        for server in servers {
            let limit = until.min(minke_sys::clock::ahead(PATIENCE));
            let server = SocketAddr::new(*server, PORT);
            let Ok(answers) = exchange(server, &queries, limit) else { continue };
            let mut found = Vec::new();
            for answer in answers.into_iter().flatten() {
                match answer {
                    Answer::Addresses(addresses) => {
                        problem = "the name has no address";
                        found.extend(addresses);
                    }
                    Answer::NoName => return wrong("there is no such name"),
                    Answer::Failed(_) | Answer::Truncated => {
                        problem = "the DNS server could not find the name";
                    }
                }
            }
            if !found.is_empty() {
                return Ok(found);
            }
        }
    }
    wrong(problem)
}

/// Sends both queries and waits for what one server answers. One answer is enough when the time is over.
fn exchange(
    server: SocketAddr,
    queries: &[Vec<u8>; 2],
    until: Duration,
) -> minke_sys::Result<[Option<Answer>; 2]> {
    let socket = minke_sys::batch::ask_udp(server)?;
    minke_sys::channel::set_nonblocking(&socket, false)?;
    for query in queries {
        socket.send(query).context("ask DNS server", server)?;
    }
    let mut answers = [None, None];
    let mut buffer = vec![0; 4096];
    while answers.iter().any(Option::is_none) {
        let left = until.saturating_sub(clock::boottime());
        if left.is_zero() {
            break;
        }
        socket.set_read_timeout(Some(left)).context("ask DNS server", server)?;
        let Ok(length) = socket.recv(&mut buffer) else { break };
        let response = buffer.get(..length).unwrap_or_default();
        for (query, place) in queries.iter().zip(&mut answers) {
            match answer(query, response) {
                Some(Answer::Truncated) => *place = over_tcp(server, query, until),
                Some(answer) => *place = Some(answer),
                None => {}
            }
        }
    }
    Ok(answers)
}

/// The same query over TCP, where a length stands before each message (RFC 1035 §4.2.2).
fn over_tcp(server: SocketAddr, message: &[u8], until: Duration) -> Option<Answer> {
    let mut wire = Wire::tcp(server, until.saturating_sub(clock::boottime()), Some(until)).ok()?;
    let mut out = u16::try_from(message.len()).ok()?.to_be_bytes().to_vec();
    out.extend_from_slice(message);
    wire.write_all(&out).ok()?;
    let mut length = [0; 2];
    wire.read_exact(&mut length).ok()?;
    let mut response = vec![0; u16::from_be_bytes(length).into()];
    wire.read_exact(&mut response).ok()?;
    answer(message, &response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_hosts_need_no_server() {
        let etc = std::env::temp_dir().join(format!("minke-resolve-{}", std::process::id()));
        std::fs::create_dir_all(&etc).unwrap();
        std::fs::write(
            etc.join("hosts"),
            "# x\n10.0.0.1 one One.two # two\nbad one\n10.0.0.2 one\n::1 one\n",
        )
        .unwrap();
        let found = |host: &str| resolve(&etc, host, Duration::ZERO).map_err(|error| error.to_string());
        assert_eq!(found("::1"), Ok(vec!["::1".parse().unwrap()]));
        assert_eq!(found("192.0.2.1"), Ok(vec!["192.0.2.1".parse().unwrap()]));
        let order = ["::1", "10.0.0.1", "10.0.0.2"].map(|text| text.parse::<IpAddr>().unwrap());
        assert_eq!(found("ONE"), Ok(order.to_vec()));
        assert_eq!(found("one.TWO").unwrap().len(), 1);
        assert_eq!(found("a b").unwrap_err(), "a b: is no host name");
        std::fs::write(
            etc.join("resolv.conf"),
            "nameserver 127.0.0.9\n#nameserver 1.1.1.1\nnameserver x\nsearch y\n",
        )
        .unwrap();
        assert_eq!(servers(&etc), ["127.0.0.9".parse::<IpAddr>().unwrap()]);
        assert!(found("none").unwrap_err().starts_with("none: no DNS server answers"));
        std::fs::remove_dir_all(etc).unwrap();
    }
}
