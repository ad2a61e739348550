//! Asking the mDNS responder (`mdns run`): who has a name, which services are there, and publishing one.
//!
//! The socket is [`SOCKET`]. A request is an object with one member:
//!
//! | request | answer |
//! |---|---|
//! | `{"resolve": {"name", "kind"}}` | one line `{"records": [RECORD…]}`, empty when nobody answered within about a second |
//! | `{"browse": {"name", "kind", "types", "details"}}` | one [`Event`] a line, until the asking side closes |
//! | `{"publish": {"name", "type", …}}` | a line `{"name": NAME}` when it stands, again after each rename, until the asking side closes; then it is withdrawn |
//! | `{"reconfirm": {"name", "kind"}}` | `{}`: what is remembered of it is asked for anew, and forgotten after 10 s of silence (RFC 6762 §10.4) |
//! | `{"status": {}}` | how the responder does, see below |
//!
//! Names are texts with the escapes of RFC 1035 §5.1, kinds and classes the numbers of DNS, data the bytes of the record
//! without compression, in base64.
//!
//! The status has `host`, the name in use (`board.local`, or another one while somebody else has it), and `wanted`, the one
//! that it shall be; `interfaces` on which it answers, each with its `name` and the `addresses` published there; `services`,
//! each with its instance's `name` in use, `type`, `port`, `file` (empty for that of a program) and `established` when it
//! stands on every interface; since the start, `conflicts` (names that had to give way) and packets `received`, `sent` and
//! `dropped` (not looked at, as they were no mDNS, from elsewhere or too many); and `cached`, records of others that it
//! remembers, and `questions` that are asked continuously.

use crate::{Error, Stream, call, stream};
use minke_wire::base64;
use minke_wire::json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// Where the responder answers.
pub const SOCKET: &str = "/run/minke/mdns/mdns.sock";

/// How long it may take for an answer: a question is asked again after 250 ms and after 750 ms, and given up after about 1 s.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The most records of one answer that are read.
const MOST_RECORDS: usize = 256;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Who has a name: once.
    Resolve(Question),
    /// What comes and goes under a name.
    Browse(Browse),
    /// A service, as long as the connection stays.
    Publish(Box<Service>),
    /// What was told does not work: is it still so?
    Reconfirm(Question),
    /// How things are.
    Status,
}

/// A name and the kind of its records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Question {
    /// The name, `board.local` for instance.
    pub name: String,
    /// The number of the kind (RFC 1035 §3.2.2): 1 A, 28 AAAA, 255 any.
    pub kind: u16,
}

/// A continuous question.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Browse {
    /// What is asked.
    pub question: Question,
    /// The answers name types of services (RFC 6763 §9): each is asked for its instances.
    pub types: bool,
    /// The answers name instances: each is asked for its place, its texts and its host's addresses.
    pub details: bool,
}

/// A service to publish (RFC 6763).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Service {
    /// The instance's name, which people see: `Board in the hall`. It changes when another one has it.
    pub name: String,
    /// The type: `_http._tcp`.
    pub kind: String,
    /// Subtypes, each a whole name: `_printer._sub._http._tcp`, or its first label alone.
    pub subtypes: Vec<String>,
    /// The TCP or UDP port.
    pub port: u16,
    /// Strings such as `path=/`, each up to 255 bytes.
    pub txt: Vec<Vec<u8>>,
}

/// A record that somebody on the link has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Whose it is.
    pub name: String,
    /// The number of its kind.
    pub kind: u16,
    /// How long it is to be believed from now on, in seconds.
    pub ttl: u32,
    /// Its data; names in them are whole.
    pub data: Vec<u8>,
    /// The interface that it was heard on, `eth0`; addresses that begin with fe80 mean nothing without it.
    pub interface: String,
}

/// Something came, changed or went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// It is gone: its owner said so, or is silent.
    pub gone: bool,
    /// What.
    pub record: Record,
}

impl Request {
    /// The request line.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Resolve(Question { name, kind }) => json!({ "resolve": { "name": name, "kind": kind } }),
            Self::Browse(Browse { question: Question { name, kind }, types, details }) => {
                json!({ "browse": { "name": name, "kind": kind, "types": types, "details": details } })
            }
            Self::Publish(service) => {
                let txt: Value = service.txt.iter().map(|text| bytes_value(text)).collect();
                json!({ "publish": {
                    "name": service.name,
                    "type": service.kind,
                    "subtypes": service.subtypes,
                    "port": service.port,
                    "txt": txt,
                } })
            }
            Self::Reconfirm(Question { name, kind }) => {
                json!({ "reconfirm": { "name": name, "kind": kind } })
            }
            Self::Status => json!({ "status": {} }),
        }
    }

    /// Reads a request; `None` for what is none.
    pub fn from_value(value: &Value) -> Option<Self> {
        if let Some(question) = value.get("resolve") {
            return Some(Self::Resolve(Question::from_value(question)?));
        }
        if let Some(question) = value.get("reconfirm") {
            return Some(Self::Reconfirm(Question::from_value(question)?));
        }
        if let Some(browse) = value.get("browse") {
            let flag = |name| flag(browse, name);
            let question = Question::from_value(browse)?;
            return Some(Self::Browse(Browse { question, types: flag("types"), details: flag("details") }));
        }
        if let Some(service) = value.get("publish") {
            let mut txt = Vec::new();
            for text in list(service, "txt") {
                txt.push(bytes(text)?);
            }
            return Some(Self::Publish(Box::new(Service {
                name: service.get("name")?.as_str()?.to_owned(),
                kind: service.get("type")?.as_str()?.to_owned(),
                subtypes: texts(service, "subtypes"),
                port: u16::try_from(service.get("port")?.as_u64()?).ok()?,
                txt,
            })));
        }
        value.get("status").map(|_| Self::Status)
    }
}

impl Question {
    fn from_value(value: &Value) -> Option<Self> {
        let kind = u16::try_from(value.get("kind")?.as_u64()?).ok()?;
        Some(Self { name: value.get("name")?.as_str()?.to_owned(), kind })
    }
}

impl Record {
    /// One member of `records`.
    pub fn to_value(&self) -> Value {
        json!({
            "name": self.name,
            "kind": self.kind,
            "ttl": self.ttl,
            "data": bytes_value(&self.data),
            "interface": self.interface,
        })
    }

    /// Reads one; `None` when it makes no sense.
    pub fn from_value(value: &Value) -> Option<Self> {
        Some(Self {
            name: value.get("name")?.as_str()?.to_owned(),
            kind: u16::try_from(value.get("kind")?.as_u64()?).ok()?,
            ttl: u32::try_from(value.get("ttl")?.as_u64()?).ok()?,
            data: bytes(value.get("data")?)?,
            interface: text(value, "interface"),
        })
    }
}

/// The answer to [`Request::Resolve`].
pub fn records_value(records: &[Record]) -> Value {
    let records: Value = records.iter().map(Record::to_value).collect();
    json!({ "records": records })
}

/// Reads the answer to [`Request::Resolve`]; what makes no sense is left out. For callers that don't block.
pub fn records(answer: &Value) -> Vec<Record> {
    let mut records = Vec::new();
    for value in list(answer, "records").iter().take(MOST_RECORDS) {
        records.extend(Record::from_value(value));
    }
    records
}

impl Event {
    /// The line.
    pub fn to_value(&self) -> Value {
        json!({ "gone": self.gone, "record": self.record.to_value() })
    }

    /// Reads a line; `None` when it makes no sense.
    pub fn from_value(value: &Value) -> Option<Self> {
        Some(Self { gone: flag(value, "gone"), record: Record::from_value(value.get("record")?)? })
    }
}

/// Asks the responder at `socket` (usually [`SOCKET`]) who has a name. No records: nobody answered.
pub fn resolve(socket: &Path, question: Question) -> Result<Vec<Record>, Error> {
    call(socket, &Request::Resolve(question).to_value(), Some(ANSWER_LIMIT)).map(|answer| records(&answer))
}

/// Asks the responder at `socket` how it does.
pub fn status(socket: &Path) -> Result<Value, Error> {
    call(socket, &Request::Status.to_value(), Some(ANSWER_LIMIT))
}

/// Tells the responder at `socket` that what it told of a name does not work.
pub fn reconfirm(socket: &Path, question: Question) -> Result<(), Error> {
    call(socket, &Request::Reconfirm(question).to_value(), Some(ANSWER_LIMIT)).map(|_| ())
}

/// What comes and goes, line by line. Each is read by [`Event::from_value`].
pub fn browse(socket: &Path, browse: Browse) -> Result<Stream, Error> {
    stream(socket, &Request::Browse(browse).to_value(), None)
}

/// Publishes a service as long as the stream is held. Its lines tell the name that it got, in `name`.
pub fn publish(socket: &Path, service: Service) -> Result<Stream, Error> {
    stream(socket, &Request::Publish(Box::new(service)).to_value(), None)
}

fn flag(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_bool).unwrap_or_default()
}

#[inline(never)]
fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn texts(value: &Value, name: &str) -> Vec<String> {
    let mut texts = Vec::new();
    for value in list(value, name) {
        texts.extend(value.as_str().map(str::to_owned));
    }
    texts
}

fn bytes_value(bytes: &[u8]) -> Value {
    let mut text = base64::encode_unpadded(bytes);
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    Value::String(text)
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    base64::decode(value.as_str()?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::parse_str;

    fn again(value: &Value) -> Value {
        parse_str(&value.to_string()).unwrap()
    }

    #[test]
    fn requests_come_back() {
        let question = Question { name: "a\\.b.local".into(), kind: 255 };
        let browse = Browse { question: question.clone(), types: true, details: false };
        let service = Service {
            name: "Board \"1\"".into(),
            kind: "_http._tcp".into(),
            subtypes: vec!["_printer".into()],
            port: 65535,
            txt: vec![b"path=/".to_vec(), Vec::new(), vec![0, 255]],
        };
        for request in [
            Request::Resolve(question.clone()),
            Request::Reconfirm(question),
            Request::Browse(browse),
            Request::Publish(Box::new(service)),
            Request::Status,
        ] {
            assert_eq!(Request::from_value(&again(&request.to_value())), Some(request));
        }
        for text in [
            "{}",
            "[]",
            r#"{"resolve":{"name":"a"}}"#,
            r#"{"reconfirm":{"kind":1}}"#,
            r#"{"resolve":{"name":"a","kind":65536}}"#,
            r#"{"publish":{"name":"a","type":"_b._tcp","port":1,"txt":["*"]}}"#,
            r#"{"browse":{"kind":1}}"#,
        ] {
            assert_eq!(Request::from_value(&parse_str(text).unwrap()), None, "{text}");
        }
    }

    #[test]
    fn answers_come_back() {
        let record = Record {
            name: "a.local".into(),
            kind: 1,
            ttl: u32::MAX,
            data: vec![10, 0, 0, 1],
            interface: "eth0".into(),
        };
        let answer = again(&records_value(&[record.clone(), record.clone()]));
        assert_eq!(records(&answer), [record.clone(), record.clone()]);
        assert!(records(&parse_str(r#"{"records":[{"name":1},7]}"#).unwrap()).is_empty());
        let event = Event { gone: true, record };
        assert_eq!(Event::from_value(&again(&event.to_value())), Some(event));
    }
}
