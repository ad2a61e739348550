//! `dns query`: asks a server, this host's own as a rule, and shows what it says.

use crate::config::{Reader, Server, Settings, Transport, server};
use crate::{EXIT_USAGE, status};
use minke_applet::{Args, Flag, errln, log, print};
use minke_http::{Channel, Trust};
use minke_sys::{Context, clock, file, random, tcp};
use minke_wire::dns::{Class, Flags, Kind, Message, Name, Opt, Rcode, Records, Writer};
use minke_wire::json::{Value, json};
use minke_wire::text;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// `--server SERVER`
pub(crate) const SERVER_FLAG: Flag = Flag {
    short: None,
    long: "server",
    value: Some("SERVER"),
    help: "query: ask this one instead of /etc/resolv.conf's: ADDR[:PORT] or tls://ADDR[:PORT][#NAME]",
};
/// `--tcp`
pub(crate) const TCP_FLAG: Flag =
    Flag { short: None, long: "tcp", value: None, help: "query: ask by TCP at once" };

/// How long it may take in all.
const PATIENCE: Duration = Duration::from_secs(5);
/// After which time a datagram is sent once more.
const AGAIN: Duration = Duration::from_secs(2);
/// The longest datagram that is taken (RFC 9715).
const DATAGRAM: u16 = 1232;

/// A question, and what came of it.
struct Exchange {
    server: Server,
    query: Vec<u8>,
    response: Vec<u8>,
    /// It came over TCP or TLS.
    stream: bool,
    took: Duration,
}

/// `dns query NAME [TYPE]`.
pub(crate) fn run(args: &Args) -> u8 {
    let word = args.operand(1).unwrap_or_default();
    let (name, usual) = match word.parse::<IpAddr>() {
        Ok(address) => (Name::parse(&minke_wire::dns::reverse(address)), &[Kind::PTR][..]),
        Err(_) => (Name::parse(word), &[Kind::A, Kind::AAAA][..]),
    };
    let Some(name) = name else { return wrong("no name: ", word) };
    let kind = match args.operand(2) {
        None => None,
        Some(word) => match Kind::parse(word) {
            None => return wrong("no type of records: ", word),
            kind => kind,
        },
    };
    let server = match args.value(SERVER_FLAG.long) {
        None => own_server(),
        Some(word) => match server(word) {
            None => return wrong("no server: ", word),
            Some(server) => server,
        },
    };
    let mut found = false;
    for kind in kind.as_ref().map_or(usual, std::slice::from_ref) {
        match ask(&server, &name, *kind, args.has(TCP_FLAG.long)) {
            Ok(exchange) => found |= show(&exchange, args.has(status::JSON_FLAG.long)),
            Err(problem) => {
                log::error(format_args!("{problem}"));
                return 1;
            }
        }
    }
    u8::from(!found)
}

fn wrong(what: &str, word: &str) -> u8 {
    errln!("dns: {what}'{}'; see 'dns --help'", text::shown(word));
    EXIT_USAGE
}

/// The first server of `/etc/resolv.conf`, or this host's own.
fn own_server() -> Server {
    let mut reader = Reader::new(Settings { listen: Vec::new(), ..Settings::default() });
    reader.resolv_conf("", &file::text("/etc/resolv.conf"));
    let first = reader.settings.groups.swap_remove(0).into_iter().next();
    first.unwrap_or(Server::plain(Ipv4Addr::LOCALHOST.into()))
}

fn ask(server: &Server, name: &Name, kind: Kind, tcp: bool) -> Result<Exchange, String> {
    let (mut id, mut query) = ([0; 2], Vec::new());
    random::fill(&mut id).map_err(|error| error.to_string())?;
    let mut writer = Writer::new(&mut query, 512, u16::from_ne_bytes(id), Flags::RD.with(Flags::AD));
    writer.question(name.as_ref(), kind, Class::IN);
    writer.opt(&Opt { size: DATAGRAM, ..Opt::default() });
    let begun = clock::boottime();
    let until = begun.saturating_add(PATIENCE);
    let mut exchange =
        Exchange { server: server.clone(), query, response: Vec::new(), stream: tcp, took: Duration::ZERO };
    if server.transport == Transport::Plain {
        if !tcp {
            exchange.response = by_datagram(server.address, &exchange.query, until)?;
            exchange.stream =
                Message::parse(&exchange.response).is_some_and(|found| found.header.flags.has(Flags::TC));
        }
        if exchange.stream {
            exchange.response = by_tcp(server.address, &exchange.query, until)?;
        }
    } else {
        exchange.stream = true;
        exchange.response = by_tls(server, &exchange.query, until)?;
    }
    exchange.took = clock::boottime().saturating_sub(begun);
    Ok(exchange)
}

fn by_datagram(server: SocketAddr, query: &[u8], until: Duration) -> Result<Vec<u8>, String> {
    let asked =
        |result: std::io::Result<()>| result.context("ask", server).map_err(|error| error.to_string());
    let mut response = vec![0; 65535];
    let socket = minke_sys::batch::ask_udp(server).map_err(|error| error.to_string())?;
    minke_sys::channel::set_nonblocking(&socket, false).map_err(|error| error.to_string())?;
    loop {
        let left = until.saturating_sub(clock::boottime());
        if left.is_zero() {
            return Err(unanswered(server));
        }
        asked(socket.send(query).map(|_| ()))?;
        let again = clock::ahead(left.min(AGAIN));
        loop {
            let left = again.saturating_sub(clock::boottime());
            if left.is_zero() {
                break;
            }
            asked(socket.set_read_timeout(Some(left)))?;
            match socket.recv(&mut response) {
                Ok(length) if minke_wire::dns::answers(query, response.get(..length).unwrap_or_default()) => {
                    response.truncate(length);
                    return Ok(response);
                }
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return asked(Err(error)).map(|()| Vec::new()),
            }
        }
    }
}

fn unanswered(server: SocketAddr) -> String {
    format!("{server} does not answer")
}

/// The query with its length before it (RFC 1035 §4.2.2).
fn framed(query: &[u8]) -> Vec<u8> {
    let mut framed = u16::try_from(query.len()).unwrap_or(0).to_be_bytes().to_vec();
    framed.extend_from_slice(query);
    framed
}

/// Takes the whole message off what has come.
fn unframed(input: &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = input.split_first_chunk::<2>()?;
    rest.get(..u16::from_be_bytes(*length).into()).map(<[u8]>::to_vec)
}

fn connect(server: SocketAddr, until: Duration) -> Result<TcpStream, String> {
    let left = until.saturating_sub(clock::boottime());
    tcp::connect_within(server, left).map_err(|error| error.to_string())
}

/// Appends what comes next; an error at the end of the connection or of the time.
fn receive(
    stream: &mut TcpStream,
    server: SocketAddr,
    input: &mut Vec<u8>,
    until: Duration,
) -> Result<(), String> {
    let left = until.saturating_sub(clock::boottime()).max(Duration::from_millis(1));
    let mut buffer = [0; 4096];
    let read = stream.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut buffer));
    if read.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock) {
        return Err(unanswered(server));
    }
    match read.context("ask", server).map_err(|error| error.to_string())? {
        0 => Err(format!("{server} has ended the connection without an answer")),
        count => {
            input.extend_from_slice(buffer.get(..count).unwrap_or_default());
            Ok(())
        }
    }
}

fn by_tcp(server: SocketAddr, query: &[u8], until: Duration) -> Result<Vec<u8>, String> {
    let mut stream = connect(server, until)?;
    stream.write_all(&framed(query)).context("ask", server).map_err(|error| error.to_string())?;
    let mut input = Vec::new();
    loop {
        receive(&mut stream, server, &mut input, until)?;
        if let Some(response) = unframed(&input) {
            return Ok(response);
        }
    }
}

fn by_tls(server: &Server, query: &[u8], until: Duration) -> Result<Vec<u8>, String> {
    let address = server.address;
    let own = address.ip().to_string();
    let (host, trust) = match &server.transport {
        Transport::Strict(name) => (&**name, Some(Trust::default())),
        _ => (own.as_str(), None),
    };
    let failed = |error: minke_http::Error| format!("{server}: {error}");
    let mut channel = Channel::new(host, trust, clock::realtime()).map_err(failed)?;
    let mut stream = connect(address, until)?;
    channel.send(&framed(query)).map_err(failed)?;
    let (mut received, mut input) = (Vec::new(), Vec::new());
    loop {
        let outgoing = std::mem::take(channel.outgoing());
        stream.write_all(&outgoing).context("ask", address).map_err(|error| error.to_string())?;
        if let Some(response) = unframed(&input) {
            return Ok(response);
        }
        receive(&mut stream, address, &mut received, until)?;
        if !channel.advance(&received, &mut input).map_err(failed)? && unframed(&input).is_none() {
            return Err(format!("{server} has ended the session without an answer"));
        }
        received.clear();
    }
}

/// Shows what came; whether it holds what was asked for.
fn show(exchange: &Exchange, as_json: bool) -> bool {
    let Some(message) = Message::parse(&exchange.response)
        .filter(|_| minke_wire::dns::answers(&exchange.query, &exchange.response))
    else {
        log::error(format_args!("{}: the answer is no message that answers", exchange.server));
        return false;
    };
    let rcode = message.rcode(message.opt().as_ref());
    let sections = [
        ("answers", message.answers()),
        ("authorities", message.authorities()),
        ("additionals", message.additionals()),
    ];
    let micros = u64::try_from(exchange.took.as_micros()).unwrap_or(u64::MAX);
    if as_json {
        let mut value = json!({
            "server": exchange.server.to_string(),
            "rcode": rcode.to_string(),
            "authentic": message.header.flags.has(Flags::AD),
            "stream": exchange.stream,
            "bytes": exchange.response.len(),
            "time_us": micros,
        });
        for (name, records) in sections {
            value.make_object().insert(name, in_json(records));
        }
        print(&format!("{value:#}\n"));
    } else {
        let mut out = String::new();
        for (_, records) in sections {
            for record in records {
                if let Some(data) = record.data().filter(|_| record.kind != Kind::OPT) {
                    let _ = writeln!(
                        out,
                        "{} {} {} {} {data}",
                        record.name, record.ttl, record.class, record.kind
                    );
                }
            }
        }
        let _ = writeln!(
            out,
            "; {rcode} from {} in {}.{:03} ms, {} bytes{}",
            exchange.server,
            micros / 1000,
            micros % 1000,
            exchange.response.len(),
            if exchange.stream { " by TCP" } else { "" },
        );
        print(&out);
    }
    rcode == Rcode::NOERROR && message.answers().next().is_some()
}

fn in_json(records: Records<'_>) -> Value {
    let mut list = Vec::new();
    for record in records {
        if let Some(data) = record.data().filter(|_| record.kind != Kind::OPT) {
            list.push(json!({
                "name": record.name.to_string(),
                "ttl": record.ttl,
                "class": record.class.to_string(),
                "type": record.kind.to_string(),
                "data": data.to_string(),
            }));
        }
    }
    Value::Array(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    /// Answers so many questions, each by the address 192.0.2.1; what is longer than a datagram by TCP.
    fn serve(truncate: bool) -> (SocketAddr, std::thread::JoinHandle<()>) {
        // The port of the one may be taken for the other.
        let both = || {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            let tcp = TcpListener::bind(udp.local_addr().unwrap()).ok()?;
            Some((udp, tcp))
        };
        let (udp, tcp) = (0..100).find_map(|_| both()).unwrap();
        let address = udp.local_addr().unwrap();
        let answer = |query: &[u8], flags: Flags| {
            let asked = Message::parse(query).unwrap();
            let question = asked.question().unwrap();
            let mut out = Vec::new();
            let mut writer = Writer::new(&mut out, 4096, asked.header.id, Flags::QR.with(flags));
            writer.question(question.name, question.kind, question.class);
            if !flags.has(Flags::TC) {
                let data = minke_wire::dns::Data::A(Ipv4Addr::new(192, 0, 2, 1));
                let what = (question.name, question.kind, question.class);
                assert!(writer.record(minke_wire::dns::Section::Answer, what, 60, &data));
            }
            out
        };
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            let (length, client) = udp.recv_from(&mut buffer).unwrap();
            let query = &buffer[..length];
            // What answers another question is passed over.
            let mut stray = answer(query, Flags(0));
            stray[0] ^= 1;
            udp.send_to(&stray, client).unwrap();
            udp.send_to(&answer(query, if truncate { Flags::TC } else { Flags(0) }), client).unwrap();
            if truncate {
                let (mut stream, _) = tcp.accept().unwrap();
                let mut query = vec![0; length + 2];
                stream.read_exact(&mut query).unwrap();
                stream.write_all(&framed(&answer(&query[2..], Flags(0)))).unwrap();
            }
        });
        (address, thread)
    }

    #[test]
    fn by_datagram_and_by_tcp_when_it_is_too_long() {
        for truncate in [false, true] {
            let (address, thread) = serve(truncate);
            let server = Server { address, transport: Transport::Plain };
            let exchange = ask(&server, &Name::parse("a.example").unwrap(), Kind::A, false).unwrap();
            assert_eq!(exchange.stream, truncate);
            let message = Message::parse(&exchange.response).unwrap();
            assert_eq!(message.answers().next().unwrap().data().unwrap().to_string(), "192.0.2.1");
            assert!(show(&exchange, false) && show(&exchange, true));
            thread.join().unwrap();
        }
    }

    #[test]
    fn a_silent_connection_is_told_as_such() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let until = clock::ahead(Duration::from_secs(1));
        let error = by_tcp(server, b"question", until).unwrap_err();
        assert_eq!(error, format!("{server} does not answer"));
    }

    #[test]
    fn nobody_there_is_told_at_once() {
        // A port that the kernel gives nobody by itself.
        let address = "127.0.0.1:1".parse().unwrap();
        let name = Name::parse("a.example").unwrap();
        for (server, tcp) in [
            (Server { address, transport: Transport::Plain }, false),
            (Server { address, transport: Transport::Plain }, true),
            (Server { address, transport: Transport::Opportunistic }, false),
        ] {
            let Err(problem) = ask(&server, &name, Kind::A, tcp) else { panic!("{server}") };
            assert!(problem.contains("refused"), "{problem}");
        }
    }
}
