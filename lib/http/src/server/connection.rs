//! One connection as a state machine over bytes: what arrived goes in, events and bytes to send come out.
//! No socket and no clock here; times are arguments.

use crate::message::{BodyMode, Conn, Event, Head, Limits, Request, Response};
use minke_wire::http::{
    BodyDecoder, Framing, LAST_CHUNK, RequestHead, parse_request, parse_target, reason, request_framing,
    write_chunk, write_response_head,
};
use minke_wire::http::{HeadError, Headers};
use std::time::Duration;

/// How long a connection that is being closed waits for the peer's end, so that a reset does not take away
/// the answer that the peer has not read yet (RFC 9112, section 9.6).
const LINGER: Duration = Duration::from_secs(2);

/// Where the reading side stands.
#[derive(Debug)]
enum Receive {
    /// Before or in a head.
    Head,
    /// In a body that is kept in memory, up to this many bytes.
    Memory(Box<Request>, BodyDecoder, usize),
    /// In a body that is streamed.
    Stream(BodyDecoder),
    /// The request is complete; what comes now is a request sent ahead.
    Complete,
    /// Nothing more is read as a request.
    Stopped,
}

/// Where the answering side stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// No request waits for an answer.
    None,
    /// A request was delivered.
    Due,
    /// A streamed answer has begun.
    Streaming { chunked: bool },
}

#[derive(Debug)]
pub(crate) struct Connection {
    id: Conn,
    pub(crate) input: Vec<u8>,
    pub(crate) output: Vec<u8>,
    receive: Receive,
    answer: Answer,
    /// The request's method is HEAD: its answer has no body.
    bodiless: bool,
    minor_version: u8,
    keep_alive: bool,
    /// The owner does not want more of a streamed body for now.
    pub(crate) paused: bool,
    /// The owner must hear when the queue is empty.
    notify_drained: bool,
    /// When the present request began.
    began: Duration,
    /// When something last moved.
    moved: Duration,
    /// Set once the last byte is queued: closes after it went out and the peer's end came, or at this time.
    closing: Option<Duration>,
}

impl Connection {
    pub(crate) fn new(id: Conn, now: Duration) -> Self {
        Self {
            id,
            input: Vec::new(),
            output: Vec::new(),
            receive: Receive::Head,
            answer: Answer::None,
            bodiless: false,
            minor_version: 1,
            keep_alive: true,
            paused: false,
            notify_drained: false,
            began: now,
            moved: now,
            closing: None,
        }
    }

    /// Whether bytes may be read from the peer now.
    pub(crate) fn wants_input(&self, limits: &Limits) -> bool {
        !self.paused && (self.closing.is_some() || self.input.len() < limits.head)
    }

    /// Whether it waits between two requests, so that it may be closed to make room.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_between_requests() && self.input.is_empty() && self.output.is_empty()
    }

    fn is_between_requests(&self) -> bool {
        matches!(self.receive, Receive::Head) && self.answer == Answer::None && self.closing.is_none()
    }

    pub(crate) fn last_moved(&self) -> Duration {
        self.moved
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Whether the owner works for this connection, and so must hear of its end.
    pub(crate) fn is_known(&self) -> bool {
        self.answer != Answer::None || matches!(self.receive, Receive::Stream(_))
    }

    pub(crate) fn is_streaming(&self) -> bool {
        matches!(self.answer, Answer::Streaming { .. })
    }

    pub(crate) fn awaits_answer(&self) -> bool {
        self.answer == Answer::Due && matches!(self.receive, Receive::Complete)
    }

    /// When something is to be done if nothing moves until then.
    pub(crate) fn deadline(&self, limits: &Limits) -> Option<Duration> {
        let after = |start: Duration, time: Duration| Some(start.saturating_add(time));
        if self.closing.is_some() {
            return self.closing;
        }
        if !self.output.is_empty() {
            return after(self.moved, limits.stall);
        }
        match self.receive {
            Receive::Head if self.input.is_empty() => after(self.moved, limits.idle),
            Receive::Head | Receive::Memory(..) => after(self.began, limits.request),
            Receive::Stream(_) if !self.paused => after(self.moved, limits.stall),
            _ => None,
        }
    }

    /// The deadline has passed. Returns whether the connection is to be dropped at once.
    pub(crate) fn expire(&mut self, now: Duration) -> bool {
        let slow_request = self.output.is_empty()
            && match self.receive {
                Receive::Head => !self.input.is_empty(),
                Receive::Memory(..) => true,
                _ => false,
            };
        if self.closing.is_some() || !slow_request {
            return true;
        }
        self.refuse(408, now);
        false
    }

    /// Bytes came from the peer.
    pub(crate) fn received(&mut self, data: &[u8], now: Duration) {
        if self.closing.is_some() {
            return;
        }
        if self.is_between_requests() && self.input.is_empty() {
            self.began = now;
        }
        self.moved = now;
        self.input.extend_from_slice(data);
    }

    /// This many bytes of `output` went out.
    pub(crate) fn sent(&mut self, count: usize, now: Duration, events: &mut Vec<Event>) {
        self.moved = now;
        self.output.drain(..count.min(self.output.len()));
        if self.output.is_empty() {
            // A large answer must not hold its memory while the connection idles.
            self.output.shrink_to(4096);
            if std::mem::take(&mut self.notify_drained) && self.is_streaming() {
                events.push(Event::Drained { conn: self.id });
            }
        }
    }

    /// The output did not go out at once.
    pub(crate) fn blocked(&mut self) {
        self.notify_drained = true;
    }

    /// Takes from `input` all that can be taken now.
    pub(crate) fn advance(
        &mut self,
        mode: fn(&Head) -> BodyMode,
        limits: &Limits,
        now: Duration,
        events: &mut Vec<Event>,
    ) {
        while self.closing.is_none() && !self.paused && self.advance_once(mode, limits, now, events) {}
    }

    fn advance_once(
        &mut self,
        mode: fn(&Head) -> BodyMode,
        limits: &Limits,
        now: Duration,
        events: &mut Vec<Event>,
    ) -> bool {
        match std::mem::replace(&mut self.receive, Receive::Stopped) {
            Receive::Head => {
                self.receive = Receive::Head;
                // One request at a time: the next head waits for the answer.
                self.answer == Answer::None && self.read_head(mode, limits, now, events)
            }
            Receive::Memory(request, decoder, limit) => {
                self.read_memory(request, decoder, limit, now, events)
            }
            Receive::Stream(decoder) => self.read_stream(decoder, now, events),
            other => {
                self.receive = other;
                false
            }
        }
    }

    fn read_head(
        &mut self,
        mode: fn(&Head) -> BodyMode,
        limits: &Limits,
        now: Duration,
        events: &mut Vec<Event>,
    ) -> bool {
        let parsed = match parse_request(&self.input) {
            Ok(None) if self.input.len() >= limits.head => Err(HeadError::TooLarge),
            Ok(None) => return false,
            Ok(Some((_, length))) if length > limits.head => Err(HeadError::TooLarge),
            Ok(Some((head, length))) => request_framing(&head).map(|framing| (head, length, framing)),
            Err(error) => Err(error),
        };
        let (head, length, framing) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return self.refuse(error.status(), now),
        };
        self.input.drain(..length.min(self.input.len()));
        self.keep_alive = head.keeps_alive();
        self.bodiless = head.method == "HEAD";
        self.minor_version = head.minor_version;
        let expects = head.minor_version >= 1 && head.headers.has_token("expect", "100-continue");
        let Some(request) = decode(head) else { return self.refuse(400, now) };
        let decoder = BodyDecoder::new(framing);
        match mode(&request) {
            BodyMode::Memory(limit) if matches!(framing, Framing::Length(length) if exceeds(length, limit)) =>
            {
                return self.refuse(413, now);
            }
            BodyMode::Memory(limit) => {
                self.receive = Receive::Memory(Box::new(request), decoder, limit);
            }
            BodyMode::Stream => {
                self.answer = Answer::Due;
                self.receive = Receive::Stream(decoder);
                events.push(Event::Request { conn: self.id, request });
            }
        }
        if expects && framing != Framing::Length(0) && self.input.is_empty() {
            write_response_head(100, &Headers::new(), &mut self.output);
        }
        true
    }

    fn read_memory(
        &mut self,
        mut request: Box<Request>,
        mut decoder: BodyDecoder,
        limit: usize,
        now: Duration,
        events: &mut Vec<Event>,
    ) -> bool {
        let Ok(used) = decoder.decode(&self.input, &mut request.body) else { return self.refuse(400, now) };
        self.consume(used);
        if request.body.len() > limit {
            return self.refuse(413, now);
        }
        if !decoder.is_done() {
            self.receive = Receive::Memory(request, decoder, limit);
            return false;
        }
        self.receive = Receive::Complete;
        self.answer = Answer::Due;
        events.push(Event::Request { conn: self.id, request: *request });
        true
    }

    fn read_stream(&mut self, mut decoder: BodyDecoder, now: Duration, events: &mut Vec<Event>) -> bool {
        let mut data = Vec::new();
        let Ok(used) = decoder.decode(&self.input, &mut data) else {
            events.push(Event::Closed { conn: self.id });
            // A head in the middle of a streamed answer would be read as part of it.
            if self.is_streaming() {
                self.close(now);
                return false;
            }
            return self.refuse(400, now);
        };
        self.consume(used);
        if !data.is_empty() {
            events.push(Event::Body { conn: self.id, data });
        }
        if !decoder.is_done() {
            self.receive = Receive::Stream(decoder);
            return false;
        }
        self.receive = Receive::Complete;
        events.push(Event::BodyEnd { conn: self.id });
        true
    }

    fn consume(&mut self, used: usize) {
        self.input.drain(..used.min(self.input.len()));
        if self.input.is_empty() {
            self.input.shrink_to(4096);
        }
    }

    /// Answers a request that cannot be taken, and closes.
    fn refuse(&mut self, status: u16, now: Duration) -> bool {
        self.keep_alive = false;
        self.bodiless = false;
        self.receive = Receive::Stopped;
        self.answer = Answer::Due;
        self.respond(&Response::text(status, reason(status)), now);
        false
    }

    /// Queues the answer to the present request.
    pub(crate) fn respond(&mut self, response: &Response, now: Duration) {
        if self.answer != Answer::Due {
            return;
        }
        let mut headers = response.headers.clone();
        if !is_bodiless(response.status) {
            headers.push("Content-Length", &response.body.len().to_string());
        }
        self.write_head(response.status, headers);
        if !self.bodiless && !is_bodiless(response.status) {
            self.output.extend_from_slice(&response.body);
        }
        self.answer = Answer::None;
        self.after_answer(now);
    }

    /// Queues the head of a streamed answer.
    pub(crate) fn start_stream(&mut self, status: u16, headers: &Headers) {
        if self.answer != Answer::Due {
            return;
        }
        let chunked = self.minor_version >= 1;
        let mut headers = headers.clone();
        if chunked {
            headers.push("Transfer-Encoding", "chunked");
        } else {
            self.keep_alive = false;
        }
        self.write_head(status, headers);
        self.answer = Answer::Streaming { chunked };
    }

    /// Queues a piece of a streamed answer. Returns whether a streamed answer is going on.
    pub(crate) fn send(&mut self, data: &[u8]) -> bool {
        let Answer::Streaming { chunked } = self.answer else { return false };
        match (self.bodiless, chunked) {
            (true, _) => {}
            (false, true) => write_chunk(data, &mut self.output),
            (false, false) => self.output.extend_from_slice(data),
        }
        true
    }

    /// Ends a streamed answer.
    pub(crate) fn finish(&mut self, now: Duration) {
        let Answer::Streaming { chunked } = self.answer else { return };
        if chunked && !self.bodiless {
            self.output.extend_from_slice(LAST_CHUNK);
        }
        self.answer = Answer::None;
        self.after_answer(now);
    }

    fn write_head(&mut self, status: u16, mut headers: Headers) {
        // A body that is still coming would be read as the next request.
        if !matches!(self.receive, Receive::Complete) {
            self.keep_alive = false;
        }
        match (self.keep_alive, self.minor_version) {
            (false, _) => headers.push("Connection", "close"),
            (true, 0) => headers.push("Connection", "keep-alive"),
            (true, _) => {}
        }
        write_response_head(status, &headers, &mut self.output);
    }

    /// The next request, or the end.
    fn after_answer(&mut self, now: Duration) {
        if !self.keep_alive {
            return self.close(now);
        }
        self.receive = Receive::Head;
        self.began = now;
        self.moved = now;
    }

    /// Nothing more is answered; what is queued still goes out.
    pub(crate) fn close(&mut self, now: Duration) {
        self.answer = Answer::None;
        self.receive = Receive::Stopped;
        self.paused = false;
        self.input = Vec::new();
        self.closing = Some(minke_sys::clock::after(now, LINGER));
    }
}

/// Status codes whose answer has no body (RFC 9110, section 6.4.1).
fn is_bodiless(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

fn exceeds(length: u64, limit: usize) -> bool {
    usize::try_from(length).map_or(true, |length| length > limit)
}

fn decode(head: RequestHead) -> Option<Request> {
    let target = parse_target(&head.target)?;
    Some(Request {
        method: head.method,
        path: target.path,
        query: target.query,
        headers: head.headers,
        body: Vec::new(),
    })
}
