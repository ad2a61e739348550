//! Requests, responses, and what a server tells its owner.

use minke_wire::http::Headers;
use std::time::Duration;

/// A request that a server received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method, for instance `GET`.
    pub method: String,
    /// The path, percent-decoded; it starts with a slash.
    pub path: String,
    /// The query's fields in order, decoded.
    pub query: Vec<(String, String)>,
    /// The header fields.
    pub headers: Headers,
    /// The whole body; empty when the body is streamed.
    pub body: Vec<u8>,
}

/// A request whose body is not read yet.
pub type Head = Request;

impl Request {
    /// The value of the first query field of this name.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// A response: one that a server sends, or one that a client received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header fields, without those about length and connection, which the server adds.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// A response without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Headers::new(), body: Vec::new() }
    }

    /// A response of plain text.
    pub fn text(status: u16, text: &str) -> Self {
        Self::with_type(status, "text/plain; charset=utf-8", text.as_bytes().to_vec())
    }

    /// A response whose body is a JSON document.
    pub fn json(status: u16, body: Vec<u8>) -> Self {
        Self::with_type(status, "application/json", body)
    }

    /// A response of the media type `kind`.
    pub fn with_type(status: u16, kind: &str, body: Vec<u8>) -> Self {
        let mut headers = Headers::new();
        headers.push("Content-Type", kind);
        Self { status, headers, body }
    }
}

/// The name of a connection within its server; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conn(pub(crate) u64);

/// How the body of a request reaches the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyMode {
    /// In [`Request::body`]; a longer one than this many bytes is answered with 413.
    Memory(usize),
    /// Piece by piece, as [`Event::Body`].
    Stream,
}

/// What happened on a server.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A request to answer, once. Until then no other comes from this connection.
    Request {
        /// The connection.
        conn: Conn,
        /// The request, whole, or without its body when that is streamed.
        request: Request,
    },
    /// A piece of a streamed body, never empty.
    Body {
        /// The connection.
        conn: Conn,
        /// The bytes.
        data: Vec<u8>,
    },
    /// The end of a streamed body.
    BodyEnd {
        /// The connection.
        conn: Conn,
    },
    /// The queue of a streamed answer, which had not gone out at once, is empty now.
    Drained {
        /// The connection.
        conn: Conn,
    },
    /// The connection ended before its request was answered: stop working for it.
    Closed {
        /// The connection.
        conn: Conn,
    },
}

/// What a server allows its peers.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most bytes of a request's head, and of what a client sends ahead of an answer.
    pub head: usize,
    /// Most connections at a time. One more takes the place of the longest idle one, or is answered with 503.
    pub connections: usize,
    /// Time from the first byte of a request to the end of its head and of a body that is kept in memory.
    pub request: Duration,
    /// Time without progress of a streamed body, or of an answer that the peer does not read.
    pub stall: Duration,
    /// Time between requests.
    pub idle: Duration,
    /// Bytes of a streamed answer that may wait for a slow reader, beside the last piece.
    pub queued: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: 16 * 1024,
            connections: 64,
            request: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            idle: Duration::from_secs(120),
            queued: 256 * 1024,
        }
    }
}
