use super::*;
use crate::client::Body;
use crate::{Client, Response};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A server in a thread, with a few routes that show what the tests ask for.
struct Fixture {
    address: SocketAddr,
    socket: std::path::PathBuf,
    stop: Arc<AtomicBool>,
    closed: Arc<Mutex<u32>>,
    thread: Option<JoinHandle<()>>,
}

const LARGE: usize = 3_000_000;

impl Fixture {
    fn new(limits: Limits) -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let socket = std::env::temp_dir().join(format!("minke-http-{}-{number}", std::process::id()));
        let mode = |head: &Head| match head.path.as_str() {
            "/upload" => BodyMode::Stream,
            _ => BodyMode::Memory(1000),
        };
        let mut server = Server::new(mode, limits).unwrap();
        let address = server.listen_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        server.listen_unix(&socket, 0o600, None).unwrap();
        let (stop, closed) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&closed));
        let thread = std::thread::spawn(move || run(&mut server, &stopped, &count));
        Self { address, socket, stop, closed, thread: Some(thread) }
    }

    fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn curl(&self, arguments: &[&str]) -> String {
        let output = Command::new("curl")
            .args(["-sS", "--max-time", "20"])
            .args(arguments.iter().map(|word| word.replace("URL", &format!("http://{}", self.address))))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn wait_closed(&self, wanted: u32) {
        for _ in 0..3000 {
            if *self.closed.lock().unwrap() == wanted {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{} closed, wanted {wanted}", self.closed.lock().unwrap());
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        self.thread.take().unwrap().join().unwrap();
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn run(server: &mut Server, stop: &AtomicBool, closed: &Mutex<u32>) {
    let poller = Poller::new().unwrap();
    poller.add(&*server, 1, Interest::Read).unwrap();
    let (mut ready, mut uploaded, mut stream_left) = (Vec::new(), 0, 0);
    while !stop.load(Ordering::Relaxed) {
        poller.wait(&mut ready, None).unwrap();
        for event in server.events() {
            match event {
                Event::Request { conn, request } => match request.path.as_str() {
                    "/upload" => uploaded = 0,
                    "/large" => {
                        let body = vec![b'x'; LARGE];
                        server.respond(conn, Response::with_type(200, "text/plain", body));
                    }
                    path @ ("/stream" | "/flood") => {
                        server.start_stream(conn, 200, &Headers::new());
                        // A flood is more than the kernel's socket buffers take.
                        stream_left = if path == "/flood" { 100 * LARGE } else { LARGE };
                        pump(server, conn, &mut stream_left);
                    }
                    "/hang" | "/wait" => {}
                    "/open" => server.start_stream(conn, 200, &Headers::new()),
                    "/upgrade" => {
                        let (fd, rest) = server.upgrade(conn).unwrap();
                        let mut stream = std::fs::File::from(fd);
                        stream.write_all(&Server::upgrade_head(101, &Headers::new())).unwrap();
                        stream.write_all(&rest).unwrap();
                    }
                    _ => {
                        let text = format!("{} {} {}", request.method, request.path, request.body.len());
                        server.respond(conn, Response::text(200, &text));
                    }
                },
                Event::Body { data, .. } => uploaded += data.len(),
                Event::BodyEnd { conn } => {
                    server.respond(conn, Response::text(200, &format!("uploaded {uploaded}")));
                }
                Event::Drained { conn } => pump(server, conn, &mut stream_left),
                Event::Closed { .. } => *closed.lock().unwrap() += 1,
            }
        }
    }
}

/// Sends until the queue holds something; the rest follows when it is drained.
fn pump(server: &mut Server, conn: Conn, left: &mut usize) {
    while *left > 0 {
        let count = (*left).min(10_000);
        let queued = server.send(conn, &vec![b'y'; count]).unwrap();
        *left -= count;
        if queued > 0 {
            return;
        }
    }
    server.finish(conn);
}

#[test]
fn curl_over_tcp_and_unix() {
    let fixture = Fixture::new(Limits::default());
    let socket = fixture.socket.to_str().unwrap();
    assert_eq!(fixture.curl(&["URL/a%20b?q=1"]), "GET /a b 0");
    assert_eq!(fixture.curl(&["--unix-socket", socket, "-d", "body", "http://x/p"]), "POST /p 4");
    // Two requests on one connection, then HTTP/1.0.
    let format = "-w%{num_connects} ";
    assert_eq!(fixture.curl(&[format, "URL/1", "URL/2"]), "GET /1 01 GET /2 00 ");
    assert_eq!(fixture.curl(&["-0", "URL/old"]), "GET /old 0");
    assert!(fixture.curl(&["-I", "URL/head"]).contains("Content-Length: 12\r\n"));
    assert_eq!(fixture.curl(&["URL/large"]).len(), LARGE);
    assert_eq!(fixture.curl(&["URL/stream"]).len(), LARGE);
    assert_eq!(fixture.curl(&["-0", "URL/stream"]).len(), LARGE);
}

#[test]
fn curl_uploads_chunked_and_with_expect() {
    let fixture = Fixture::new(Limits::default());
    let file = std::env::temp_dir().join(format!("minke-http-upload-{}", std::process::id()));
    std::fs::write(&file, vec![1u8; 5_000_000]).unwrap();
    let name = format!("@{}", file.display());
    let chunked = ["-H", "Transfer-Encoding: chunked", "--data-binary", &name, "URL/upload"];
    assert_eq!(fixture.curl(&chunked), "uploaded 5000000");
    let expect = ["-H", "Expect: 100-continue", "--expect100-timeout", "15", "--data-binary", &name];
    let start = std::time::Instant::now();
    assert_eq!(fixture.curl(&[&expect[..], &["URL/upload"]].concat()), "uploaded 5000000");
    // Without the interim answer curl would wait its 15 seconds.
    assert!(start.elapsed() < Duration::from_secs(10));
    let status = ["-o", "/dev/null", "-w%{http_code}"];
    assert_eq!(fixture.curl(&[&expect[..], &status, &["URL/small"]].concat()), "413");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn python_client_and_server() {
    let fixture = Fixture::new(Limits::default());
    let script = format!(
        "import http.client as h\nc=h.HTTPConnection('{}',timeout=20)\n\
         for p in ('/a','/large','/stream','/b'):\n c.request('PUT' if p=='/a' else 'GET',p,b'xyz' if p=='/a' else None)\n \
         r=c.getresponse(); b=r.read(); print(r.status,len(b),b[:9].decode())",
        fixture.address
    );
    let output = Command::new("python3").args(["-c", &script]).output().unwrap();
    let wanted = format!("200 8 PUT /a 3\n200 {LARGE} xxxxxxxxx\n200 {LARGE} yyyyyyyyy\n200 8 GET /b 0\n");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), wanted);

    // Python's server answers in HTTP/1.0, without a length for listings it makes up itself.
    let script = "import http.server as s,sys\nclass H(s.BaseHTTPRequestHandler):\n def do_GET(self):\n  \
        self.send_response(200); self.end_headers(); self.wfile.write(b'one\\ntwo\\r\\n')\n def log_message(*a): pass\n\
        x=s.HTTPServer(('127.0.0.1',0),H); print(x.server_port,flush=True); x.handle_request(); x.handle_request()";
    let mut child =
        Command::new("python3").args(["-c", script]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line)
        .unwrap();
    let client = Client::tcp(format!("127.0.0.1:{}", line.trim()).parse().unwrap());
    assert_eq!(client.request("GET", "/", &[], Body::None).unwrap().body, b"one\ntwo\r\n");
    let mut stream = client.stream("GET", "/", &[], Body::None).unwrap();
    assert_eq!(stream.next_line(100).unwrap().unwrap(), b"one");
    assert_eq!(stream.next_line(100).unwrap().unwrap(), b"two");
    assert_eq!(stream.next_line(100).unwrap(), None);
    child.wait().unwrap();
}

#[test]
fn our_client_streams_uploads_and_upgrades() {
    let fixture = Fixture::new(Limits::default());
    let client = Client::unix(&fixture.socket);
    let mut upload = std::io::repeat(7).take(1_000_000);
    let answer =
        client.request("POST", "/upload", &[], Body::Reader(&mut |buffer| upload.read(buffer))).unwrap();
    assert_eq!((answer.status, &*answer.body), (200, &b"uploaded 1000000"[..]));
    let small = client.clone().with_limit(1000);
    assert!(matches!(small.request("GET", "/large", &[], Body::None), Err(Error::TooLarge(1000))));
    let hasty = client.clone().with_timeout(Some(Duration::from_millis(50)));
    assert!(hasty.request("GET", "/hang", &[], Body::None).unwrap_err().is_timeout());
    let stream = client.upgrade("POST", "/upgrade", &[], Body::None).unwrap();
    assert_eq!(stream.status, 101);
    let nobody = Client::unix("/nonexistent/socket").request("GET", "/", &[], Body::None);
    assert!(nobody.unwrap_err().is_unreachable());
}

#[test]
fn pipelined_requests_are_answered_in_order_even_after_a_half_close() {
    let fixture = Fixture::new(Limits::default());
    let mut stream = TcpStream::connect(fixture.address).unwrap();
    let requests: String = (0..50).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    stream.write_all(requests.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let places: Vec<usize> = (0..50).map(|n| text.find(&format!("GET /{n} 0")).unwrap()).collect();
    assert!(places.is_sorted());
}

#[test]
fn what_is_no_proper_request_gets_its_status() {
    let fixture = Fixture::new(Limits { head: 2000, ..Limits::default() });
    for (request, status) in [
        ("nonsense\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/3.0\r\n\r\n".to_owned(), "505"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: br\r\n\r\n".to_owned(), "501"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n".to_owned(), "413"),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(2000)), "431"),
        (format!("GET /{}", "a".repeat(5000)), "431"),
        (
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n{}\r\n",
                "a".repeat(1001)
            ),
            "413",
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned(), "400"),
    ] {
        let answer = fixture.raw(&request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.60} -> {answer}");
        assert!(answer.contains("Connection: close"), "{answer}");
    }
}

#[test]
fn slow_requests_time_out_and_idle_connections_close() {
    let short = Duration::from_millis(300);
    let fixture = Fixture::new(Limits { idle: short, ..Limits::default() });
    assert_eq!(fixture.raw(""), "");
    // Here a client that writes late is not idle before.
    let fixture = Fixture::new(Limits { request: short, stall: short, ..Limits::default() });
    assert!(fixture.raw("GET / HTTP/1.1\r\nHo").starts_with("HTTP/1.1 408 "));
    // One byte now and then does not help.
    let mut stream = TcpStream::connect(fixture.address).unwrap();
    let start = std::time::Instant::now();
    let mut written = true;
    for byte in "GET / HTTP/1.1\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".bytes() {
        written = written && stream.write_all(&[byte]).is_ok();
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    assert!(text.starts_with("HTTP/1.1 408 ") || !written, "{text}");
    assert!(start.elapsed() < Duration::from_secs(40));
    // A body that stops coming ends the upload; an answer that nobody reads ends too.
    let mut upload = TcpStream::connect(fixture.address).unwrap();
    upload.write_all(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").unwrap();
    fixture.wait_closed(1);
    let mut reader = TcpStream::connect(fixture.address).unwrap();
    reader.write_all(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    fixture.wait_closed(2);
}

#[test]
fn a_client_that_goes_away_is_told_of() {
    let fixture = Fixture::new(Limits::default());
    let mut stream = TcpStream::connect(fixture.address).unwrap();
    stream.write_all(b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(stream.read(&mut [0; 100]).unwrap() > 0);
    drop(stream);
    fixture.wait_closed(1);
    let mut stream = UnixStream::connect(&fixture.socket).unwrap();
    stream.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    drop(stream);
    fixture.wait_closed(2);
}

#[test]
fn over_the_limit_the_longest_idle_connection_gives_way_and_busy_ones_do_not() {
    let fixture = Fixture::new(Limits { connections: 3, ..Limits::default() });
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(fixture.address).unwrap();
        stream.write_all(b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert!(stream.read(&mut [0; 100]).unwrap() > 0);
        busy.push(stream);
    }
    let mut idle = TcpStream::connect(fixture.address).unwrap();
    assert_eq!(fixture.curl(&["URL/room"]), "GET /room 0");
    assert_eq!(idle.read(&mut [0; 10]).unwrap(), 0);
    let mut third = TcpStream::connect(fixture.address).unwrap();
    third.write_all(b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(third.read(&mut [0; 100]).unwrap() > 0);
    assert!(fixture.raw("").starts_with("HTTP/1.1 503 "));
}

#[test]
fn mutated_byte_streams_never_panic() {
    let seed = b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n";
    let mode = |head: &Head| if head.path == "/upload" { BodyMode::Stream } else { BodyMode::Memory(10) };
    let (limits, now) = (Limits::default(), Duration::ZERO);
    let mut random = 1u64;
    let mut next = |bound: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap() % bound
    };
    for _ in 0..100_000 {
        let mut input = seed.to_vec();
        for _ in 0..=next(3) {
            let at = next(input.len());
            input[at] = next(256).to_le_bytes()[0];
        }
        let mut state = Connection::new(Conn(0), now);
        let mut events = Vec::new();
        for piece in input.chunks(1 + next(input.len())) {
            state.received(piece, now);
            state.advance(mode, &limits, now, &mut events);
            let asked = events.iter().any(|event| matches!(event, Event::Request { .. }));
            if asked && next(2) == 0 {
                state.respond(&Response::empty(200), now);
            }
            events.clear();
            let queued = state.output.len();
            state.sent(queued, now, &mut events);
        }
    }
}
