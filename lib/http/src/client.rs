//! The client: blocking, one connection a request, every wait with a limit.

use crate::Error;
use crate::message::Response;
use crate::resolve::resolve;
use crate::socket::Socket;
use crate::tls::Tls;
use crate::trust::{Trust, Verifier};
use crate::url::Url;
use crate::wire::{Link, Wire};
use minke_sys::{Context, Errno, clock};
use minke_wire::http::{
    BodyDecoder, Headers, LAST_CHUNK, ResponseHead, parse_response, response_framing, write_chunk,
    write_request_head,
};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Most bytes of a response head.
const MAX_HEAD: usize = 32 * 1024;

/// Bytes of a request body that are sent at once.
const PIECE: usize = 8 * 1024;
/// How long one of several addresses may take to answer.
const ADDRESS_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection may take where no other limit was set: the kernel's own tries take about as long.
const CONNECT_LIMIT: Duration = Duration::from_secs(130);

/// Where a client connects to.
#[derive(Debug, Clone)]
enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
    Web(Box<Web>),
}

/// A server of the web.
#[derive(Debug, Clone)]
struct Web {
    tls: bool,
    host: Box<str>,
    port: u16,
    trust: Trust,
    clock: Option<Duration>,
    etc: PathBuf,
}

/// A client of one server.
#[derive(Debug, Clone)]
pub struct Client {
    address: Address,
    timeout: Option<Duration>,
    deadline: Option<Duration>,
    limit: usize,
}

/// What a request carries.
pub enum Body<'a> {
    /// Nothing.
    None,
    /// These bytes.
    Bytes(&'a [u8]),
    /// What the function fills into its buffer, chunked; 0 bytes are the end.
    Reader(&'a mut dyn FnMut(&mut [u8]) -> std::io::Result<usize>),
}

impl Client {
    /// A client of the server at a Unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::new(Address::Unix(path.into()))
    }

    /// A client of the server at a TCP address.
    pub fn tcp(address: SocketAddr) -> Self {
        Self::new(Address::Tcp(address))
    }

    /// A client of the server of a URL. The name is looked up for every request: in `/etc/hosts`, then by the servers of
    /// `/etc/resolv.conf`. Redirections are answers as others are. The URL's target is the caller's to send.
    pub fn web(url: &Url<'_>) -> Self {
        Self::new(Address::Web(Box::new(Web {
            tls: url.tls,
            host: url.host.into(),
            port: url.port,
            trust: Trust::default(),
            clock: None,
            etc: "/etc".into(),
        })))
    }

    fn new(address: Address) -> Self {
        Self { address, timeout: Some(Duration::from_secs(60)), deadline: None, limit: 8 * 1024 * 1024 }
    }

    /// Which authorities' certificates a web server may have (those of the system's bundle unless told).
    #[must_use]
    pub fn with_trust(mut self, trust: Trust) -> Self {
        if let Address::Web(web) = &mut self.address {
            web.trust = trust;
        }
        self
    }

    /// The time since 1970 that a web server's certificate is checked against (the system's clock unless told).
    #[must_use]
    pub fn with_clock(mut self, clock: Duration) -> Self {
        if let Address::Web(web) = &mut self.address {
            web.clock = Some(clock);
        }
        self
    }

    /// The folder of `hosts` and `resolv.conf` (`/etc` unless told).
    #[must_use]
    pub fn with_names_of(mut self, etc: impl Into<PathBuf>) -> Self {
        if let Address::Web(web) = &mut self.address {
            web.etc = etc.into();
        }
        self
    }

    /// How long a request may take altogether, from looking up the name to the last byte of the body (for ever, unless
    /// told).
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// How long the server may stay silent (60 s unless told; `None`: for ever).
    #[must_use]
    pub fn with_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    /// Most bytes of a body that [`Client::request`] keeps (8 MiB unless told).
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Sends a request and reads the whole response, of whatever status.
    pub fn request(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Body<'_>,
    ) -> Result<Response, Error> {
        self.stream(method, target, headers, body)?.read_all(self.limit)
    }

    /// Sends a request, reads the response's head, and leaves its body to be read.
    pub fn stream(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Body<'_>,
    ) -> Result<Box<Stream>, Error> {
        let mut link = self.connect()?;
        let close = [("Connection", "close")];
        let sent = send(&mut link, method, target, &self.host(), &[headers, &close], body);
        let mut stream = Stream::open(link, method);
        // A server that refuses a body answers before it has read it all: its answer says more than the
        // failed write.
        match (stream.read_head(), sent) {
            (Ok(()), _) => Ok(stream),
            (Err(_), Err(error)) | (Err(error), Ok(())) => Err(error),
        }
    }

    /// Asks to speak another protocol on the connection (`Upgrade: tcp`, as the engine API's attach does).
    /// With status 101 the stream's [`Stream::into_socket`] gives the connection.
    pub fn upgrade(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Body<'_>,
    ) -> Result<Box<Stream>, Error> {
        let mut link = self.connect()?;
        let asks = [("Connection", "Upgrade"), ("Upgrade", "tcp")];
        send(&mut link, method, target, &self.host(), &[headers, &asks], body)?;
        let mut stream = Stream::open(link, method);
        stream.read_head()?;
        Ok(stream)
    }

    fn connect(&self) -> Result<Link, Error> {
        let limit = self.timeout.unwrap_or(CONNECT_LIMIT);
        let until = self.deadline.map(minke_sys::clock::ahead);
        let socket = match &self.address {
            Address::Unix(path) => Socket::Unix(UnixStream::connect(path).on("connect to", path)?),
            Address::Tcp(address) => Socket::Tcp(minke_sys::tcp::connect_within(*address, limit)?),
            Address::Web(web) => {
                let socket = web.connect(until.unwrap_or(minke_sys::clock::ahead(limit)))?;
                let wire = Wire::new(socket, self.timeout, until)?;
                if !web.tls {
                    return Ok(Link::Plain(wire));
                }
                let clock = web.clock.unwrap_or_else(clock::realtime);
                return Ok(Link::Tls(Tls::open(
                    wire,
                    &web.host,
                    Verifier(Some(web.trust.clone())),
                    clock,
                    None,
                )?));
            }
        };
        Ok(Link::Plain(Wire::new(socket, self.timeout, until)?))
    }

    /// The value of the field `Host`.
    fn host(&self) -> String {
        match &self.address {
            Address::Web(web) => web.url().authority(),
            Address::Unix(_) | Address::Tcp(_) => "localhost".into(),
        }
    }
}

impl Web {
    fn url(&self) -> Url<'_> {
        Url { tls: self.tls, host: &self.host, port: self.port, target: "/" }
    }

    fn connect(&self, until: Duration) -> Result<Socket, Error> {
        let addresses = resolve(&self.etc, &self.host, until)?;
        Ok(Socket::Tcp(connect(&self.host, &addresses, self.port, until)?.0))
    }
}

/// Tries a host's addresses in turn, until a time since boot, and says which it was. The error is that of the last one.
pub(crate) fn connect(
    host: &str,
    addresses: &[IpAddr],
    port: u16,
    until: Duration,
) -> minke_sys::Result<(TcpStream, IpAddr)> {
    let mut failed = None;
    for address in addresses {
        let left = until.saturating_sub(clock::boottime());
        let limit = if addresses.len() > 1 { left.min(ADDRESS_LIMIT) } else { left };
        match minke_sys::tcp::connect_within(SocketAddr::new(*address, port), limit) {
            Ok(stream) => return Ok((stream, *address)),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| minke_sys::Error::new("connect to", host, Errno::HOSTUNREACH)))
}

fn send(
    link: &mut Link,
    method: &str,
    target: &str,
    host: &str,
    headers: &[&[(&str, &str)]],
    body: Body<'_>,
) -> Result<(), Error> {
    let mut fields = Headers::new();
    fields.push("Host", host);
    for (name, value) in headers.iter().copied().flatten() {
        fields.push(name, value);
    }
    match &body {
        // A method that usually has a body says so when it has none (RFC 9110, section 8.6).
        Body::None if matches!(method, "POST" | "PUT" | "PATCH") => fields.push("Content-Length", "0"),
        Body::None => {}
        Body::Bytes(bytes) => fields.push("Content-Length", &bytes.len().to_string()),
        Body::Reader(_) => fields.push("Transfer-Encoding", "chunked"),
    }
    let mut out = Vec::new();
    write_request_head(method, target, &fields, &mut out);
    if let Body::Bytes(bytes) = body {
        out.extend_from_slice(bytes);
    }
    link.write_all(&out)?;
    let Body::Reader(reader) = body else { return Ok(()) };
    let mut buffer = vec![0; PIECE];
    loop {
        let count = reader(&mut buffer).context("read", "the request body")?;
        out.clear();
        write_chunk(buffer.get(..count).unwrap_or_default(), &mut out);
        if count == 0 {
            out.extend_from_slice(LAST_CHUNK);
        }
        link.write_all(&out)?;
        if count == 0 {
            return Ok(());
        }
    }
}

/// A response whose body is being read.
#[derive(Debug)]
pub struct Stream {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: Headers,
    link: Link,
    method: Box<str>,
    input: Vec<u8>,
    /// Decoded body that was not taken yet.
    body: Vec<u8>,
    decoder: BodyDecoder,
    ended: bool,
}

impl Stream {
    fn open(link: Link, method: &str) -> Box<Self> {
        Box::new(Self {
            status: 0,
            headers: Headers::new(),
            link,
            method: method.into(),
            input: Vec::new(),
            body: Vec::new(),
            decoder: BodyDecoder::new(minke_wire::http::Framing::Length(0)),
            ended: false,
        })
    }

    fn read_head(&mut self) -> Result<(), Error> {
        loop {
            match parse_response(&self.input)? {
                Some((head, length)) => {
                    self.input.drain(..length.min(self.input.len()));
                    if matches!(head.status, 100 | 102..=199) {
                        continue;
                    }
                    return self.begin_body(head);
                }
                None if self.input.len() > MAX_HEAD => return Err(Error::Protocol("head too large")),
                None if !self.fill()? => return Err(Error::Truncated),
                None => {}
            }
        }
    }

    fn begin_body(&mut self, head: ResponseHead) -> Result<(), Error> {
        // After 101 the bytes are another protocol's, not a body.
        if head.status != 101 {
            self.decoder = BodyDecoder::new(response_framing(&self.method, &head)?);
            self.decode()?;
        }
        self.status = head.status;
        self.headers = head.headers;
        Ok(())
    }

    /// Reads once from the connection. `false`: it has ended.
    fn fill(&mut self) -> Result<bool, Error> {
        self.link.read_into(&mut self.input)
    }

    fn decode(&mut self) -> Result<(), Error> {
        let used = self.decoder.decode(&self.input, &mut self.body)?;
        self.input.drain(..used.min(self.input.len()));
        Ok(())
    }

    /// Reads more of the body. `false`: it is complete.
    fn more(&mut self) -> Result<bool, Error> {
        if self.ended || self.decoder.is_done() {
            return Ok(false);
        }
        if !self.fill()? {
            self.ended = true;
            return if self.decoder.may_end() { Ok(false) } else { Err(Error::Truncated) };
        }
        self.decode()?;
        Ok(true)
    }

    /// The next line without its end, or `None` after the last. A line longer than `limit` is an error.
    pub fn next_line(&mut self, limit: usize) -> Result<Option<Vec<u8>>, Error> {
        let mut searched = 0;
        loop {
            let fresh = self.body.get(searched..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|byte| *byte == b'\n') {
                let end = searched.saturating_add(at);
                let mut line: Vec<u8> = self.body.drain(..=end).collect();
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(Some(line));
            }
            if self.body.len() > limit {
                return Err(Error::TooLarge(limit));
            }
            searched = self.body.len();
            if !self.more()? {
                let rest = std::mem::take(&mut self.body);
                return Ok((!rest.is_empty()).then_some(rest));
            }
        }
    }

    /// The next piece of the body as it comes, or `None` after the last.
    pub fn next_piece(&mut self) -> Result<Option<Vec<u8>>, Error> {
        while self.body.is_empty() {
            if !self.more()? {
                return Ok(None);
            }
        }
        Ok(Some(std::mem::take(&mut self.body)))
    }

    /// Reads the rest of the body, which may have at most `limit` bytes.
    pub fn read_all(mut self, limit: usize) -> Result<Response, Error> {
        while self.more()? {
            if self.body.len() > limit {
                return Err(Error::TooLarge(limit));
            }
        }
        if self.body.len() > limit {
            return Err(Error::TooLarge(limit));
        }
        Ok(Response { status: self.status, headers: self.headers, body: self.body })
    }

    /// Changes how long the server may stay silent.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> Result<(), Error> {
        Ok(self.link.wire().set_silence(timeout)?)
    }

    /// The connection after [`Client::upgrade`] was granted, and what came on it already. (Of a TLS session it is the
    /// bare connection, which nobody can use: upgrades are for sockets of this machine.)
    pub fn into_socket(self) -> (OwnedFd, Vec<u8>) {
        (self.link.into_wire().socket.into(), self.input)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.wire().socket.as_fd()
    }
}
