//! The asking side: blocking, with a time limit.

use crate::{Error, LINE_LIMIT};
use minke_sys::Context;
use minke_wire::json::Value;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Sends `request` to the socket at `path` and returns the answer. `limit` bounds each read and write;
/// `None` waits for ever (a job may take its time).
pub fn call(path: &Path, request: &Value, limit: Option<Duration>) -> Result<Value, Error> {
    let mut answers = stream(path, request, limit)?;
    answers.next().unwrap_or_else(|| Err(Error::Answer(path.into())))
}

/// Sends `request` and reads answers, one a line, until the server closes.
pub fn stream(path: &Path, request: &Value, limit: Option<Duration>) -> Result<Stream, Error> {
    let mut socket = UnixStream::connect(path).on("ask", path)?;
    socket.set_read_timeout(limit).on("ask", path)?;
    socket.set_write_timeout(limit).on("ask", path)?;
    let mut line = request.to_text();
    line.push('\n');
    socket.write_all(line.as_bytes()).on("ask", path)?;
    Ok(Stream { path: path.into(), socket, input: Vec::new() })
}

/// Sends `request` to the socket at `path` and does not wait: neither for a queue that is full nor for the answer. For
/// daemons that tell another one something, which is not there perhaps.
pub fn tell(path: &Path, request: &Value) -> Result<(), Error> {
    let mut socket = UnixStream::from(minke_sys::socket::connect_now(path)?);
    let mut line = request.to_text();
    line.push('\n');
    socket.write_all(line.as_bytes()).on("tell", path)?;
    Ok(())
}

/// The answers to one request.
#[derive(Debug)]
pub struct Stream {
    path: Box<Path>,
    socket: UnixStream,
    /// What was read beyond the last answer.
    input: Vec<u8>,
}

impl Stream {
    /// Ends the stream from another thread or keeps its descriptor for an event loop.
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }
}

impl Iterator for Stream {
    type Item = Result<Value, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let rest = self.input.split_off(end.saturating_add(1));
                let line = std::mem::replace(&mut self.input, rest);
                return Some(self.decode(&line));
            }
            if self.input.len() >= LINE_LIMIT {
                self.input.clear();
                return Some(Err(Error::Answer(self.path.clone())));
            }
            let mut chunk = [0u8; 4096];
            match self.socket.read(&mut chunk) {
                Ok(0) if self.input.is_empty() => return None,
                // The last line may lack its end.
                Ok(0) => self.input.push(b'\n'),
                Ok(count) => self.input.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Some(Err(error).on("ask", &self.path).map_err(Error::from)),
            }
        }
    }
}

impl Stream {
    fn decode(&self, line: &[u8]) -> Result<Value, Error> {
        let value = minke_wire::json::parse(line).map_err(|_| Error::Answer(self.path.clone()))?;
        match value.get("error").and_then(Value::as_str) {
            Some(why) => Err(Error::Refused(why.into())),
            None => Ok(value),
        }
    }
}
