//! Who asks us over the socket, and what for.

use crate::core::{Mdns, Question, Record, Service, Time};
use minke_control::mdns::{self, Event, Request, records_value};
use minke_control::{Limits, Server};
use minke_sys::Result;
use minke_wire::dns::{Data, Kind, Name};
use minke_wire::json::json;
use std::path::Path;

/// Connections at a time, bytes of a request, bytes that a slow reader may leave.
const LIMITS: Limits = Limits { connections: 64, request: 16 << 10, queued: 256 << 10 };
/// Questions at a time, and those of one who browses: what he asked, and what the answers lead to, four for each service.
pub(super) const ALL_QUESTIONS: usize = 1024;
const MOST_QUESTIONS: usize = 800;
/// Records of one answer.
const MOST_RECORDS: usize = 64;
/// Services that programs publish have numbers from here on, those of files lower ones.
pub(super) const FIRST_PUBLISHED: u32 = 1 << 16;

const NO_NAME: &str = "that is no name";

/// All of them.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) server: Server,
    asking: Vec<Asking>,
    publishing: Vec<Publishing>,
    next: u32,
    /// Who may publish, besides root.
    uid: u32,
}

/// One who asks.
#[derive(Debug)]
struct Asking {
    conn: u64,
    /// The first one is what was asked for.
    questions: Vec<Asked>,
    want: Want,
}

#[derive(Debug)]
struct Asked {
    number: u32,
    question: Question,
}

#[derive(Debug)]
enum Want {
    /// The records, once.
    Once(Vec<mdns::Record>),
    /// What comes and goes.
    Stream { types: bool, details: bool },
}

/// One who publishes.
#[derive(Debug)]
struct Publishing {
    conn: u64,
    id: u32,
    /// The instance's name that he was told.
    told: String,
}

impl Clients {
    pub(super) fn new(socket: &Path, uid: u32) -> Result<Self> {
        // Whoever is on this machine may ask; what is told there, everybody on the link can hear.
        let server = Server::bind(socket, 0o666, LIMITS)?;
        Ok(Self { server, asking: Vec::new(), publishing: Vec::new(), next: FIRST_PUBLISHED, uid })
    }

    /// A request came; one about the status is left to the caller.
    pub(super) fn request(&mut self, mdns: &mut Mdns, now: Time, conn: u64, request: Request, uid: u32) {
        match request {
            Request::Resolve(question) => self.ask(mdns, now, conn, &question, Want::Once(Vec::new())),
            Request::Browse(mdns::Browse { question, types, details }) => {
                self.ask(mdns, now, conn, &question, Want::Stream { types, details });
            }
            Request::Publish(service) if uid == 0 || uid == self.uid => {
                self.publish(mdns, now, conn, *service);
            }
            Request::Reconfirm(question) => match Name::parse(&question.name) {
                Some(name) => {
                    mdns.reconfirm(now, &name, Kind(question.kind));
                    self.server.finish(conn, &json!({}));
                }
                None => self.server.refuse(conn, NO_NAME),
            },
            Request::Publish(_) => self.server.refuse(conn, "only root may publish"),
            Request::Status => {}
        }
    }

    /// Who asked has gone.
    pub(super) fn closed(&mut self, mdns: &mut Mdns, now: Time, conn: u64) {
        if let Some(place) = self.asking.iter().position(|asking| asking.conn == conn) {
            let asking = self.asking.swap_remove(place);
            for asked in asking.questions {
                mdns.cancel(asked.number);
            }
        }
        if let Some(place) = self.publishing.iter().position(|publishing| publishing.conn == conn) {
            mdns.drop_service(now, self.publishing.swap_remove(place).id);
        }
    }

    /// A record that answers a question came or went.
    pub(super) fn record(
        &mut self,
        mdns: &mut Mdns,
        now: Time,
        (question, link, interface): (u32, u32, String),
        record: &Record,
        gone: bool,
    ) {
        let Some(place) = self.asking.iter().position(|asking| asking.has(question)) else { return };
        let Some(asking) = self.asking.get_mut(place) else { return };
        let told = mdns::Record {
            name: record.name.to_string(),
            kind: record.kind.0,
            ttl: record.ttl,
            data: record.data.clone(),
            interface,
        };
        match &mut asking.want {
            Want::Once(records) => {
                if !gone && records.len() < MOST_RECORDS {
                    records.push(told);
                }
            }
            Want::Stream { types, details } => {
                let follow = Follow { link, types: *types, details: *details, gone };
                asking.follow(mdns, now, record, &follow);
                let conn = asking.conn;
                self.server.send(conn, &Event { gone, record: told }.to_value());
                if self.server.queued(conn).is_none() {
                    self.closed(mdns, now, conn);
                }
            }
        }
    }

    /// A question that was asked once has its answers, or none.
    pub(super) fn done(&mut self, question: u32) {
        let Some(place) = self.asking.iter().position(|asking| asking.has(question)) else { return };
        let asking = self.asking.swap_remove(place);
        if let Want::Once(records) = asking.want {
            self.server.finish(asking.conn, &records_value(&records));
        }
    }

    /// Tells those who publish the names that stand now.
    pub(super) fn tell_names(&mut self, mdns: &Mdns) {
        if self.publishing.is_empty() {
            return;
        }
        for service in mdns.services() {
            let Some(publishing) = self.publishing.iter_mut().find(|publishing| publishing.id == service.id)
            else {
                continue;
            };
            if service.established && publishing.told != service.instance {
                publishing.told = service.instance.to_owned();
                self.server.send(publishing.conn, &json!({ "name": publishing.told }));
            }
        }
    }

    /// How many ask.
    pub(super) fn questions(&self) -> usize {
        self.asking.iter().map(|asking| asking.questions.len()).sum()
    }

    fn ask(&mut self, mdns: &mut Mdns, now: Time, conn: u64, question: &mdns::Question, want: Want) {
        let Some(name) = Name::parse(&question.name) else {
            return self.server.refuse(conn, NO_NAME);
        };
        let kind = Kind(question.kind);
        let question = Question { name, kind, link: None, once: matches!(want, Want::Once(_)) };
        let Some(number) = mdns.ask(now, question.clone()) else {
            return self.server.refuse(conn, "too many questions at a time");
        };
        self.asking.push(Asking { conn, questions: vec![Asked { number, question }], want });
    }

    fn publish(&mut self, mdns: &mut Mdns, now: Time, conn: u64, service: mdns::Service) {
        let id = self.next;
        self.next = self.next.wrapping_add(1).max(FIRST_PUBLISHED);
        let service = Service {
            instance: service.name,
            wildcards: false,
            kind: service.kind,
            subtypes: service.subtypes,
            port: service.port,
            txt: service.txt,
            target: None,
            ipv4: true,
            ipv6: true,
        };
        match mdns.set_service(now, id, service) {
            Ok(()) => self.publishing.push(Publishing { conn, id, told: String::new() }),
            Err(why) => self.server.refuse(conn, why),
        }
    }
}

/// What to do about what a record leads to.
struct Follow {
    /// Where it was heard.
    link: u32,
    types: bool,
    details: bool,
    gone: bool,
}

impl Asking {
    fn has(&self, question: u32) -> bool {
        self.questions.iter().any(|asked| asked.number == question)
    }

    /// Asks for what a record leads to, or no longer.
    fn follow(&mut self, mdns: &mut Mdns, now: Time, record: &Record, follow: &Follow) {
        let (target, kinds): (_, &[Kind]) = match Data::of(record.kind, &record.data) {
            Some(Data::Ptr(target))
                if target.labels().next().is_some_and(|label| label.starts_with(b"_")) =>
            {
                (target, if follow.types { &[Kind::PTR] } else { &[] })
            }
            Some(Data::Ptr(target)) if follow.details => (target, &[Kind::SRV, Kind::TXT]),
            Some(Data::Srv { target, .. }) if follow.details => (target, &[Kind::A, Kind::AAAA]),
            _ => return,
        };
        for kind in kinds {
            // Where it was heard, it is answered; a type has instances on each link.
            let link = Some(follow.link).filter(|_| *kind != Kind::PTR);
            let question = Question { name: target.to_name(), kind: *kind, link, once: false };
            let place = self.questions.iter().position(|asked| asked.question == question);
            match place {
                // Where an instance that is gone was matters no more. A host may have others, and those of a type say
                // farewell themselves.
                Some(place) if follow.gone && record.kind == Kind::PTR && *kind != Kind::PTR => {
                    mdns.cancel(self.questions.swap_remove(place).number);
                }
                None if !follow.gone && self.questions.len() < MOST_QUESTIONS => {
                    if let Some(number) = mdns.ask(now, question.clone()) {
                        self.questions.push(Asked { number, question });
                    }
                }
                _ => {}
            }
        }
    }
}
