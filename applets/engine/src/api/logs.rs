//! `/containers/{id}/logs`: a container's lines, read back from the journal.
//!
//! A thread serves each reader: it takes the connection over and writes until there is no more, or, when it
//! follows, until the container or the reader is gone.

use super::{Call, frame_header};
use crate::engine::{Done, Engine};
use crate::error::{ApiError, Result};
use crate::fields::Fields;
use minke_control::journal::{Entry, Query};
use minke_sys::event::{Interest, Poller, Waker};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Log readers at a time.
const READER_LIMIT: usize = 32;
/// How long a reader is patient with a journal that does not answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// After the container's end the journal may still be at its last lines.
const LAST_LINES: Duration = Duration::from_millis(300);
/// The longest entry; a line has at most 16 KiB, and as an array of bytes five times that.
const ENTRY_LIMIT: usize = 1 << 20;
/// How long a client may take nothing.
const CLIENT_PATIENCE: Duration = Duration::from_secs(60);

struct Reader {
    journal: UnixStream,
    client: UnixStream,
    waker: Waker,
    raw: bool,
    streams: [bool; 2],
    timestamps: bool,
    follow: bool,
}

/// Answers in a thread.
pub fn answer(engine: &mut Engine, call: &Call<'_>) -> Result<()> {
    let container = engine.container_mut(call.name)?;
    let (id, raw, running) = (container.id.clone(), container.config.flag("Tty"), container.is_active());
    let streams = [call.flag("stdout"), call.flag("stderr")];
    if streams == [false, false] {
        return Err(ApiError::bad(format_args!("Bad parameters: you must choose at least one stream")));
    }
    if engine.followers.len() >= READER_LIMIT {
        return Err(ApiError::new(503, format_args!("too many readers of logs")));
    }
    let follow = call.flag("follow") && running;
    let path = &engine.options.journal_query;
    let journal = ask_journal(path, &journal_query(&id, call, follow)).map_err(|error| {
        ApiError::internal(format_args!("the journal does not answer at {}: {error}", path.display()))
    })?;
    let number = engine.next_serial();
    let (results, waker) = (engine.results, Waker::new()?);
    let theirs = waker.try_clone()?;
    let client = crate::engine::take_connection(engine.server, call.conn, "close", raw)?.into();
    engine.followers.push((number, id, waker));
    let reader =
        Reader { journal, client, waker: theirs, raw, streams, timestamps: call.flag("timestamps"), follow };
    let work = move || {
        let _ = reader.serve();
        results.push(Done::LogEnded(number));
    };
    minke_sys::thread::spawn("logs", Box::new(work)).map_err(|error| {
        engine.followers.pop();
        error.into()
    })
}

fn ask_journal(path: &Path, query: &Query) -> std::io::Result<UnixStream> {
    let mut socket = UnixStream::connect(path)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.write_all(format!("{}\n", query.to_value()).as_bytes())?;
    Ok(socket)
}

fn journal_query(id: &str, call: &Call<'_>, follow: bool) -> Query {
    let time = |name: &str| {
        let time = crate::time::parse_seconds(call.query(name)).filter(|time| !time.is_zero());
        time.map(minke_sys::clock::microseconds)
    };
    Query {
        matches: vec![("CONTAINER_ID_FULL".to_owned(), id.to_owned())],
        lines: minke_wire::text::number(call.query("tail")),
        since: time("since"),
        until: time("until"),
        follow,
        ..Query::default()
    }
}

impl Reader {
    fn serve(mut self) -> Result<()> {
        self.client.set_write_timeout(Some(CLIENT_PATIENCE))?;
        let poller = Poller::new()?;
        poller.add(&self.journal, 0, Interest::Read)?;
        poller.add(&self.client, 1, Interest::None)?;
        poller.add(&self.waker, 2, Interest::Read)?;
        let mut buffer = Vec::new();
        let mut limit = if self.follow { None } else { Some(PATIENCE) };
        let mut ready = Vec::new();
        loop {
            poller.wait(&mut ready, limit)?;
            if ready.is_empty() && limit.is_some() {
                return Ok(());
            }
            for event in &ready {
                match event.token {
                    // Gone: nobody reads any more.
                    1 => return Ok(()),
                    2 => {
                        self.waker.take();
                        limit = Some(LAST_LINES);
                    }
                    _ if event.readable && !self.take(&mut buffer)? => return Ok(()),
                    _ => {}
                }
            }
        }
    }

    /// Reads once and passes whole lines on. `false`: the journal has no more.
    fn take(&mut self, buffer: &mut Vec<u8>) -> Result<bool> {
        let mut chunk = vec![0u8; 16 * 1024];
        let count = self.journal.read(&mut chunk)?;
        buffer.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let mut out = Vec::new();
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line = buffer.get(..end).unwrap_or_default();
            if let Ok(value) = minke_wire::json::parse(line) {
                self.format(&Entry(value), &mut out);
            }
            buffer.drain(..=end);
        }
        self.client.write_all(&out)?;
        Ok(count > 0 && buffer.len() <= ENTRY_LIMIT)
    }

    fn format(&self, entry: &Entry, out: &mut Vec<u8>) {
        let Some(message) = entry.field("MESSAGE") else { return };
        let is_error = entry.text("PRIORITY").is_some_and(|priority| priority == "3");
        if !self.streams.get(usize::from(is_error)).is_some_and(|wanted| *wanted) {
            return;
        }
        let time = if self.timestamps {
            crate::time::rfc3339(Duration::from_micros(entry.realtime())) + " "
        } else {
            String::new()
        };
        let end: &[u8] = if self.raw { b"\r\n" } else { b"\n" };
        let line = [time.as_bytes(), &message, end].concat();
        if !self.raw {
            out.extend_from_slice(&frame_header(is_error, line.len()));
        }
        out.extend_from_slice(&line);
    }
}
