//! The loop with real sockets on the loopback: this thread is the clients and the servers, and turns the loop between.

use super::*;
use crate::config::{Server as Upstream, Transport};
use minke_wire::dns::{Class, Flags, Kind, Message, Name, Writer, id};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};

struct Lab {
    daemon: Daemon,
    root: PathBuf,
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn udp() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    socket
}

fn plain(address: SocketAddr) -> Upstream {
    Upstream { address, transport: Transport::Plain }
}

fn settings(servers: &[&UdpSocket]) -> Settings {
    let servers = servers.iter().map(|server| plain(server.local_addr().unwrap())).collect();
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    Settings { listen, groups: vec![servers], fallback: Vec::new(), ..Settings::default() }
}

fn daemon(root: &Path, settings: &Settings, socket: PathBuf) -> Result<Daemon> {
    let source = Source::below(root);
    let watch = Watch::new(&source)?;
    Daemon::new(source, watch, &settings.clone().into(), Some(socket))
}

impl Lab {
    fn new(test: &str, settings: &Settings) -> Self {
        let root = std::env::temp_dir().join(format!("minke-dns-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        let socket = root.join("control.sock");
        let daemon = daemon(&root, settings, socket).unwrap();
        Self { daemon, root }
    }

    /// Turns the loop until nothing happens any more. A busy kernel may bring the first datagram late.
    fn turn(&mut self) {
        let (mut ready, mut patience) = (Vec::new(), std::time::Duration::from_secs(1));
        loop {
            self.daemon.poller.wait(&mut ready, Some(patience)).unwrap();
            patience = std::time::Duration::from_millis(50);
            let now = super::now();
            for event in &ready {
                assert!(!self.daemon.handle(*event, now).unwrap());
            }
            self.daemon.settle(now);
            if ready.is_empty() {
                return;
            }
        }
    }

    fn address(&self) -> SocketAddr {
        self.daemon.listeners[0].as_ref().unwrap().tcp.local_addr().unwrap()
    }

    fn udp_address(&self) -> SocketAddr {
        let fd = self.daemon.listeners[0].as_ref().unwrap().udp.try_clone().unwrap();
        UdpSocket::from(fd).local_addr().unwrap()
    }

    fn client(&self) -> UdpSocket {
        let client = udp();
        client.connect(self.udp_address()).unwrap();
        client
    }

    fn stream(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        stream
    }
}

fn query(number: u16, name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, usize::MAX, number, Flags::RD);
    writer.question(Name::parse(name).unwrap().as_ref(), Kind::A, Class::IN);
    out
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).unwrap();
    message
}

/// The answer of a server: an address, or only a code with TC.
fn answer(asked: &[u8], code: u16, address: [u8; 4]) -> Vec<u8> {
    let question = Message::parse(asked).unwrap().question().unwrap();
    let mut out = Vec::new();
    let flags = Flags(Flags::QR.0 | Flags::RD.0 | Flags::RA.0 | code);
    let mut writer = Writer::new(&mut out, usize::MAX, id(asked).unwrap(), flags);
    writer.question(question.name, question.kind, question.class);
    if code == 0 {
        let data = minke_wire::dns::Data::Other(&address);
        writer.record(minke_wire::dns::Section::Answer, (question.name, Kind::A, Class::IN), 60, &data);
    }
    out
}

/// The question for a name at a server, and who asks it. Others are passed over: on a slow machine they come twice.
fn asked(server: &UdpSocket, name: &str) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 4096];
    loop {
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        if name_of(&buffer[..length]) == name {
            return (buffer[..length].to_vec(), from);
        }
    }
}

fn name_of(message: &[u8]) -> String {
    Message::parse(message).unwrap().question().unwrap().name.to_name().to_lower().to_string()
}

fn is_quiet(socket: &UdpSocket) -> bool {
    socket.set_nonblocking(true).unwrap();
    let quiet = socket.recv(&mut [0; 4096]).is_err();
    socket.set_nonblocking(false).unwrap();
    quiet
}

fn received(client: &UdpSocket) -> (u16, u8, Vec<u8>) {
    let mut buffer = [0; 4096];
    let length = client.recv(&mut buffer).unwrap();
    told(&buffer[..length])
}

/// Id, code and the first address of a response.
fn told(response: &[u8]) -> (u16, u8, Vec<u8>) {
    let message = Message::parse(response).unwrap();
    let address = message.answers().next().map(|record| record.raw().to_vec()).unwrap_or_default();
    (id(response).unwrap(), response[3] & 15, address)
}

const ONE: [u8; 4] = [192, 0, 2, 1];
const TWO: [u8; 4] = [192, 0, 2, 2];

#[test]
fn the_same_question_goes_out_once_and_the_answer_is_kept() {
    let server = udp();
    let mut lab = Lab::new("once", &settings(&[&server]));
    let clients = [lab.client(), lab.client(), lab.client()];
    for (number, client) in clients.iter().enumerate() {
        client.send(&query(number as u16, "www.example")).unwrap();
    }
    lab.turn();
    let (question, from) = asked(&server, "www.example");
    server.send_to(&answer(&question, 0, ONE), from).unwrap();
    lab.turn();
    for (number, client) in clients.iter().enumerate() {
        assert_eq!(received(client), (number as u16, 0, ONE.to_vec()));
    }
    let last = lab.client();
    last.send(&query(9, "WWW.example")).unwrap();
    lab.turn();
    assert_eq!(received(&last), (9, 0, ONE.to_vec()));
    let mut stream = lab.stream();
    stream.write_all(&framed(&query(10, "www.example"))).unwrap();
    lab.turn();
    assert_eq!(told(&read_framed(&mut stream)), (10, 0, ONE.to_vec()));
    assert_eq!(lab.daemon.resolver.counters().hits, 2);
    // On a slow machine it came twice, and the second answer is waited for.
    while lab.daemon.questions.len() > 0 {
        assert!(lab.daemon.questions.iter().all(|(_, question)| question.done));
        lab.turn();
    }
    assert_eq!(lab.daemon.waiting, 0);
}

#[test]
fn other_settings_lose_no_question_and_no_socket() {
    let (old, new) = (udp(), udp());
    let mut lab = Lab::new("reload", &settings(&[&old]));
    let (client, address) = (lab.client(), lab.udp_address());
    client.send(&query(1, "www.example")).unwrap();
    lab.turn();
    let (question, from) = asked(&old, "www.example");
    lab.daemon.apply(&settings(&[&new]).into(), super::now());
    assert_eq!(lab.udp_address(), address);
    let (again, by) = asked(&new, "www.example");
    // Nobody waits for the old server any more.
    old.send_to(&answer(&question, 0, TWO), from).unwrap();
    lab.turn();
    new.send_to(&answer(&again, 0, ONE), by).unwrap();
    lab.turn();
    assert_eq!(received(&client), (1, 0, ONE.to_vec()));
    assert!(is_quiet(&client));
}

#[test]
fn an_address_that_somebody_else_has_is_left_out() {
    let (server, other) = (udp(), udp());
    let taken = other.local_addr().unwrap();
    let both = Settings { listen: vec![taken, "127.0.0.1:0".parse().unwrap()], ..settings(&[&server]) };
    let lab = Lab::new("taken", &both);
    assert_eq!(lab.daemon.listeners.len(), 1);
    let one = Settings { listen: vec![taken], ..both };
    let socket = lab.root.join("other.sock");
    let error = daemon(&lab.root, &one, socket).err();
    assert!(error.unwrap().to_string().starts_with(&format!("listen on UDP {taken}: ")));
}

#[test]
fn a_server_that_refuses_or_is_not_there_gives_way_at_once() {
    let (first, second) = (udp(), udp());
    let mut lab = Lab::new("gives-way", &settings(&[&first, &second]));
    let client = lab.client();
    client.send(&query(1, "a.example")).unwrap();
    lab.turn();
    // Both are unknown and so both are asked.
    for (server, code) in [(&first, 5), (&second, 0)] {
        let (question, from) = asked(server, "a.example");
        server.send_to(&answer(&question, code, ONE), from).unwrap();
        lab.turn();
    }
    assert_eq!(received(&client), (1, 0, ONE.to_vec()));
    drop(first);
    client.send(&query(2, "b.example")).unwrap();
    lab.turn();
    let (question, from) = asked(&second, "b.example");
    second.send_to(&answer(&question, 0, TWO), from).unwrap();
    lab.turn();
    assert_eq!(received(&client), (2, 0, TWO.to_vec()));
}

#[test]
fn a_server_without_edns_is_asked_without_also_for_what_was_on_its_way() {
    let server = udp();
    let mut lab = Lab::new("edns", &settings(&[&server]));
    let client = lab.client();
    let names = ["a.example", "b.example"];
    for (number, name) in (1..).zip(names) {
        client.send(&query(number, name)).unwrap();
    }
    lab.turn();
    let has_opt = |question: &[u8]| Message::parse(question).unwrap().opt().is_some();
    for name in names {
        let (question, from) = asked(&server, name);
        assert!(has_opt(&question));
        server.send_to(&answer(&question, 1, ONE), from).unwrap();
        lab.turn();
    }
    for (number, name) in (1..).zip(names) {
        let (question, from) = loop {
            let (question, from) = asked(&server, name);
            if !has_opt(&question) {
                break (question, from);
            }
        };
        server.send_to(&answer(&question, 0, TWO), from).unwrap();
        lab.turn();
        assert_eq!(received(&client), (number, 0, TWO.to_vec()));
    }
}

#[test]
fn one_question_does_not_hold_a_lone_server_back_however_often_it_is_sent() {
    let server = udp();
    let mut lab = Lab::new("silent", &settings(&[&server]));
    lab.client().send(&query(1, "a.example")).unwrap();
    lab.turn();
    let begun = lab.daemon.questions.iter().next().unwrap().1.attempts[0].at;
    let mut last = begun;
    for tenth in 1..40 {
        last = begun.saturating_add(std::time::Duration::from_millis(100 * tenth).into());
        lab.daemon.expire_questions(last);
    }
    let question = lab.daemon.questions.iter().next().unwrap().1;
    assert!(question.attempts.len() > 1 && !question.done);
    assert!(!lab.daemon.upstreams.health[0].is_held(last));
}

#[test]
fn what_was_cut_off_is_asked_by_tcp_and_the_connection_is_used_again() {
    // The port of the one may be taken for the other.
    let both = || {
        let server = udp();
        let listener = TcpListener::bind(server.local_addr().unwrap()).ok()?;
        Some((server, listener))
    };
    let (server, listener) = (0..100).find_map(|_| both()).unwrap();
    let mut lab = Lab::new("tcp", &settings(&[&server]));
    let client = lab.client();
    let mut connection = None;
    for number in 1..4 {
        let name = format!("host-{number}.example");
        client.send(&query(number, &name)).unwrap();
        lab.turn();
        let (question, from) = asked(&server, &name);
        server.send_to(&answer(&question, Flags::TC.0, ONE), from).unwrap();
        lab.turn();
        let stream = connection.get_or_insert_with(|| listener.accept().unwrap().0);
        let question = read_framed(stream);
        assert_eq!(name_of(&question), name);
        stream.write_all(&framed(&answer(&question, 0, TWO))).unwrap();
        lab.turn();
        assert_eq!(received(&client), (number, 0, TWO.to_vec()));
        if number == 2 {
            // The server may close it; another one is made.
            connection = None;
            lab.turn();
        }
    }
    assert_eq!(lab.daemon.counts.links, 2);
}

#[test]
fn answers_on_one_connection_come_as_they_are_there() {
    let server = udp();
    let mut lab = Lab::new("order", &settings(&[&server]));
    let mut stream = lab.stream();
    let (first, second) = (query(1, "slow.example"), query(2, "quick.example"));
    let both = [framed(&first), framed(&second)].concat();
    // Cut anywhere.
    stream.write_all(&both[..33]).unwrap();
    lab.turn();
    stream.write_all(&both[33..]).unwrap();
    lab.turn();
    let slow = asked(&server, "slow.example");
    let (quick, from) = asked(&server, "quick.example");
    server.send_to(&answer(&quick, 0, TWO), from).unwrap();
    lab.turn();
    assert_eq!(told(&read_framed(&mut stream)), (2, 0, TWO.to_vec()));
    server.send_to(&answer(&slow.0, 0, ONE), slow.1).unwrap();
    // The client has nothing more to ask, and reads on.
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    lab.turn();
    assert_eq!(told(&read_framed(&mut stream)), (1, 0, ONE.to_vec()));
    lab.turn();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert_eq!(lab.daemon.clients.len(), 0);
}

#[test]
fn connections_are_bounded_and_idle_ones_make_room() {
    let server = udp();
    let mut lab = Lab::new("connections", &settings(&[&server]));
    let mut streams = Vec::new();
    for _ in 0..MOST_CLIENTS_OF_ONE + 10 {
        streams.push(lab.stream());
        if streams.len() % 16 == 0 {
            lab.turn();
        }
    }
    lab.turn();
    assert_eq!(lab.daemon.clients.len(), MOST_CLIENTS_OF_ONE);
    // The oldest have gone, the youngest is served.
    assert_eq!(streams[0].read(&mut [0]).unwrap(), 0);
    let mut last = streams.pop().unwrap();
    last.write_all(&framed(&query(1, "www.example"))).unwrap();
    lab.turn();
    let (question, from) = asked(&server, "www.example");
    server.send_to(&answer(&question, 0, ONE), from).unwrap();
    lab.turn();
    assert_eq!(told(&read_framed(&mut last)), (1, 0, ONE.to_vec()));
    // What is no message, or longer than any query, ends the connection.
    for bytes in [&b"\0\0"[..], b"\xff\xff", b"\0\x03abc"] {
        let mut stream = streams.pop().unwrap();
        stream.write_all(bytes).unwrap();
        lab.turn();
        let end = stream.read(&mut [0]);
        let reset = matches!(&end, Err(error) if error.kind() == ErrorKind::ConnectionReset);
        assert!(reset || matches!(end, Ok(0)), "{bytes:?}: {end:?}");
    }
}

#[test]
fn what_waits_is_bounded() {
    let server = udp();
    let mut lab = Lab::new("bounded", &settings(&[&server]));
    let clients: Vec<UdpSocket> = (0..4).map(|_| lab.client()).collect();
    for number in 0..600u16 {
        clients[usize::from(number) % 4].send(&query(number, &format!("host-{number}.example"))).unwrap();
        if number % 50 == 0 {
            lab.turn();
        }
    }
    lab.turn();
    assert!(lab.daemon.questions.len() <= MOST_OF_ONE + 1, "{}", lab.daemon.questions.len());
    assert_eq!(lab.daemon.waiting, lab.daemon.questions.len());
    assert!(lab.daemon.counts.refused >= 400);
    // Those that wait for the same are bounded, too.
    let crowd: Vec<UdpSocket> = (0..30).map(|_| lab.client()).collect();
    for number in 0..60u16 {
        for client in &crowd {
            client.send(&query(number, "host-1.example")).unwrap();
        }
        lab.turn();
    }
    assert!(lab.daemon.waiting <= MOST_WAITING);
    lab.daemon.ask_again(super::now());
    assert!(lab.daemon.waiting <= MOST_WAITING && lab.daemon.questions.len() <= MOST_OF_ONE + 1);
}
