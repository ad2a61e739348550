//! The asking side: blocking, with a time limit.

use crate::{Error, LINE_LIMIT};
use minke_sys::Context;
use minke_wire::json::Value;
use std::io::{BufRead, BufReader, Read, Write};
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
    Ok(Stream { path: path.into(), reader: BufReader::new(socket) })
}

/// The answers to one request.
#[derive(Debug)]
pub struct Stream {
    path: Box<Path>,
    reader: BufReader<UnixStream>,
}

impl Stream {
    /// Ends the stream from another thread or keeps its descriptor for an event loop.
    pub fn socket(&self) -> &UnixStream {
        self.reader.get_ref()
    }
}

impl Iterator for Stream {
    type Item = Result<Value, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        let bound = u64::try_from(LINE_LIMIT).unwrap_or(u64::MAX);
        match self.reader.by_ref().take(bound).read_until(b'\n', &mut line).on("ask", &self.path) {
            Err(error) => Some(Err(error.into())),
            Ok(0) => None,
            Ok(_) => Some(self.decode(&line)),
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
