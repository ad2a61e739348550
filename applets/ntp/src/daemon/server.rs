//! Where the loop and the server for the local network meet.

use super::{Daemon, SERVER, report};
use crate::nanos::Nanos;
use crate::serve::{Facts, Server, Service};
use minke_applet::log;
use minke_sys::event::Interest;
use minke_wire::ntp::Leap;

/// How long what was found out about the clock is told to clients, in nanoseconds.
const FRESH: i64 = 1_000_000_000;

/// The server, if there is one.
#[derive(Debug, Default)]
pub(super) struct Serving {
    server: Option<(Service, Server)>,
    facts: Option<(i64, Facts)>,
}

impl Daemon {
    /// Serves whom the lists allow now.
    pub(super) fn open_server(&mut self) {
        let settings = &self.settings;
        let service = Service::read(&settings.allowed, [&settings.config, &settings.own()]);
        if self.serving.server.as_ref().is_some_and(|(old, _)| *old == service) {
            return;
        }
        self.serving.server = None;
        if service.allowed.is_empty() {
            return;
        }
        let opened = Server::open(&service).and_then(|server| {
            for (token, socket) in (SERVER..).zip(server.sockets()) {
                self.poller.add(socket, token, Interest::Read)?;
            }
            Ok(server)
        });
        match opened {
            Ok(server) => {
                log::info(format_args!("serving time on UDP port {}", service.port));
                self.serving.server = Some((service, server));
            }
            Err(error) => log::error(format_args!("{error}; nobody is served")),
        }
    }

    pub(super) fn serve_clients(&mut self, token: u64) {
        let now = self.kernel.now();
        let known = self.serving.facts.filter(|(at, _)| (0..FRESH).contains(&now.boot.since(*at)));
        let (at, facts) = known.unwrap_or_else(|| (now.boot, self.facts()));
        self.serving.facts = Some((at, facts));
        if let Some((_, server)) = &mut self.serving.server {
            server.serve(usize::try_from(token.saturating_sub(SERVER)).unwrap_or(0), &facts);
        }
    }

    /// What the clock is worth. It shows what it shows: what is left to be corrected counts as error.
    fn facts(&self) -> Facts {
        let status = report::status(&self.client, &self.kernel, self.kernel.now());
        let leap = match (status.synchronized, status.leap) {
            (true, 0) => Leap::None,
            (true, 1) => Leap::Insert,
            (true, 2) => Leap::Delete,
            _ => Leap::Unknown,
        };
        let positive = |value: i64| u64::try_from(value).unwrap_or(0);
        Facts {
            leap,
            stratum: status.stratum,
            refid: status.refid.to_be_bytes(),
            reftime: status.reference_time_ns.unwrap_or(0),
            rootdelay: positive(status.root_delay_ns),
            rootdisp: positive(status.root_dispersion_ns)
                .saturating_add(status.system_offset_ns.unsigned_abs())
                .saturating_add(positive(FRESH) / 10_000),
        }
    }
}
