//! One small HTTP/1.1 server and client for all programs, over TCP and Unix sockets; the client also over TLS.
//!
//! [`Server`] lives in a daemon's event loop: it owns its connections and an inner poller, and answers come
//! back to it by connection id. [`Client`] blocks, with time-outs, for commands and worker threads. The
//! framing itself is in `minke_wire::http`. [`Session`] is a TLS session for another protocol, [`Channel`] one without a
//! socket.
//!
//! ```no_run
//! use minke_http::{BodyMode, Event, Limits, Response, Server};
//! let mut server = Server::new(|_| BodyMode::Memory(65_536), Limits::default())?;
//! server.listen_tcp("127.0.0.1:8080".parse().unwrap_or(([127, 0, 0, 1], 8080).into()))?;
//! // Add `&server` to the loop's poller; when it is readable:
//! for event in server.events() {
//!     if let Event::Request { conn, request } = event {
//!         server.respond(conn, Response::text(200, &request.path));
//!     }
//! }
//! # Ok::<(), minke_http::Error>(())
//! ```

#![forbid(unsafe_code)]

mod channel;
pub mod client;
mod error;
mod message;
mod resolve;
mod server;
mod session;
mod socket;
mod tls;
mod trust;
mod url;
mod wire;

pub use channel::Channel;
pub use client::Client;
pub use error::Error;
pub use message::{BodyMode, Conn, Event, Head, Limits, Request, Response};
pub use minke_wire::http::{Headers, escape};
pub use resolve::resolve;
pub use server::Server;
pub use session::{Dial, Session};
pub use trust::{BUNDLE, Distrust, Distrusted, Trust, count_authorities};
pub use url::Url;
