//! What `dns status` tells.

use super::Daemon;
use minke_wire::json::{Value, json};
use minke_wire::micros::Micros;

/// What happened since the start, beside what the resolver counts.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Connections of clients.
    pub(super) connections: u64,
    /// Connections to servers.
    pub(super) links: u64,
    /// Questions that went by TCP as the answer was too long or doubtful.
    pub(super) by_tcp: u64,
    /// Answers that nobody had asked for.
    pub(super) strays: u64,
    /// Clients that were told that there is no room for their questions.
    pub(super) refused: u64,
}

impl Daemon {
    /// The answer to `status`; [`minke_control::dns`] says what it means.
    pub(super) fn report(&self, now: Micros) -> Value {
        let settings = self.resolver.settings();
        let mut servers = Vec::new();
        let groups = self.upstreams.groups.iter().chain([&self.upstreams.fallback]);
        for (place, members) in groups.enumerate() {
            let domain = match place >= self.upstreams.groups.len() {
                true => "fallback".to_owned(),
                false => settings.names_of(place),
            };
            for member in members {
                servers.extend(self.report_server(*member, &domain, now));
            }
        }
        let mut listen = Vec::new();
        for listener in self.listeners.iter().flatten() {
            listen.push(Value::String(listener.address.to_string()));
        }
        let (entries, bytes) = self.resolver.cached();
        let counters = self.resolver.counters();
        json!({
            "listen": Value::Array(listen),
            "servers": Value::Array(servers),
            "cache": { "entries": entries, "bytes": bytes, "limit": settings.cache.bytes },
            "pending": self.questions.len(),
            "counters": {
                "queries": counters.queries,
                "local": counters.local,
                "hits": counters.hits,
                "negative_hits": counters.negative_hits,
                "stale": counters.stale,
                "prefetches": counters.prefetches,
                "misses": counters.misses,
                "evictions": counters.evictions,
                "foreign": counters.foreign,
                "letters": counters.letters,
                "failures": counters.failures,
                "rebinding": counters.rebinding,
                "unrelated": counters.unrelated,
                "strays": self.counts.strays,
                "by_tcp": self.counts.by_tcp,
                "connections": self.counts.connections,
                "server_connections": self.counts.links,
                "refused": self.counts.refused,
            },
        })
    }

    fn report_server(&self, place: usize, domain: &str, now: Micros) -> Option<Value> {
        let (upstream, health) = (self.upstreams.all.get(place)?, self.upstreams.health.get(place)?);
        let state = match health.rtt {
            _ if health.is_held(now) => "down",
            None => "untried",
            Some(_) => "good",
        };
        Some(json!({
            "domain": domain,
            "address": upstream.server.to_string(),
            "state": state,
            "rtt_us": health.rtt.map(|(smooth, _)| u64::from(smooth)),
            "sent": health.queries,
            "failed": health.timeouts.wrapping_add(health.failures),
        }))
    }
}
