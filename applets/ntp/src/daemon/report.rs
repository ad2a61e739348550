//! The client's state as people and programs ask for it.

use super::kernel::Kernel;
use crate::client::select::Verdict;
use crate::client::source::Source as Server;
use crate::client::{Client, Now};
use crate::nanos::{Nanos, nanos, whole};
use minke_control::ntp::{Source, State, Status, Step};
use std::net::IpAddr;

pub(crate) fn status(client: &Client, kernel: &Kernel, now: Now) -> Box<Status> {
    let clock = &client.clock;
    let report = &clock.report;
    let synchronized = clock.is_synchronized(now);
    let mut status = Box::new(Status {
        synchronized,
        watch_only: kernel.watches_only(),
        online: client.online,
        leap: if synchronized { report.leap as u8 } else { 3 },
        reference_time_ns: report.updated.map(|_| report.updated_real),
        system_offset_ns: clock.remaining(now).unwrap_or(0),
        last_offset_ns: nanos(report.last_offset),
        rms_offset_ns: nanos(report.rms_offset),
        frequency_ppb: nanos(clock.drift().0),
        residual_frequency_ppb: nanos(report.residual_frequency),
        skew_ppb: nanos(clock.drift().1),
        update_interval_ms: report.interval / 1_000_000,
        last_step: report.last_step.map(|(time_ns, by_ns)| Step { time_ns, by_ns }),
        next_poll_s: client.deadline().map(|due| due.since(now.boot).max(0).unsigned_abs() / 1_000_000_000),
        ..Status::default()
    });
    if let Some(state) = kernel.state() {
        status.kernel_status = state.status.cast_unsigned();
        status.kernel_max_error_us = state.maxerror;
    }
    if let Some(reference) = report.reference {
        status.stratum = reference.stratum.saturating_add(1);
        status.refid = refid(reference.address);
        status.reference = reference.address.to_string();
        status.root_delay_ns = reference.delay;
        status.root_dispersion_ns = reference.dispersion.after(nanos(clock.error(now)));
    }
    for server in &client.sources {
        status.sources.push(source(server, client, now));
    }
    for (line, problem) in client.unresolved() {
        status.sources.push(Source {
            name: line.host.clone(),
            port: line.port,
            pool: line.pool,
            nts: line.options.nts,
            online: client.online,
            leap: 3,
            poll: line.options.minpoll,
            problem: problem.to_owned(),
            ..Source::default()
        });
    }
    status
}

fn source(server: &Server, client: &Client, now: Now) -> Source {
    let filter = &server.filter;
    let samples = filter.samples();
    let mut one = Source {
        name: server.name.clone(),
        address: server.address.ip().to_string(),
        port: server.address.port(),
        pool: server.pool,
        nts: server.options.nts,
        online: client.online && !server.denied,
        state: match server.verdict {
            Some(Verdict::Selected) => State::Selected,
            Some(Verdict::Combined) => State::Combined,
            Some(Verdict::Outlier) => State::Outlier,
            Some(Verdict::Falseticker) => State::Falseticker,
            None => State::Unusable,
        },
        leap: 3,
        poll: server.interval(),
        reach: server.reach,
        jitter_ns: nanos(filter.deviation()),
        samples: u64::try_from(samples.len()).unwrap_or(0),
        sent: server.sent,
        received: server.received,
        valid: server.valid,
        kiss: server
            .kiss
            .map(|code| minke_wire::text::shown(&String::from_utf8_lossy(&code)))
            .unwrap_or_default(),
        problem: server.problem.to_owned(),
        ..Source::default()
    };
    if let Some(last) = server.last {
        one.authenticated = last.authenticated;
        one.interleaved = last.interleaved;
        one.leap = last.packet.leap as u8;
        one.stratum = last.packet.stratum;
        one.refid = u32::from_be_bytes(last.packet.refid);
        one.last_rx_s = Some(now.boot.since(last.at).max(0).unsigned_abs() / 1_000_000_000);
        one.offset_ns = last.offset;
        one.delay_ns = last.delay;
        one.root_delay_ns = i64::try_from(last.packet.rootdelay.to_nanos()).unwrap_or(0);
        one.root_dispersion_ns = i64::try_from(last.packet.rootdisp.to_nanos()).unwrap_or(0);
    }
    if let Some(estimate) = filter.estimate() {
        one.frequency_ppb = nanos(estimate.frequency - client.clock.drift().0);
        one.skew_ppb = nanos(estimate.frequency_variance.sqrt());
        one.current_offset_ns = client.clock.offset_of(estimate, now);
        let deviation = estimate.offset_variance.sqrt();
        one.error_ns = nanos(deviation + server.root_distance().min(16.0) + filter.least_delay() / 2.0);
    }
    if let (Some(first), Some(last)) = (samples.first(), samples.last()) {
        one.span_s = whole(last.time - first.time).unsigned_abs();
        one.runs = runs(server);
    }
    one
}

/// Runs of answers to one side of what they say together.
fn runs(server: &Server) -> u64 {
    let Some(estimate) = server.filter.estimate() else { return 0 };
    let (mut runs, mut before) = (0u64, None);
    for sample in server.filter.samples() {
        let above = sample.offset > estimate.offset + estimate.frequency * (sample.time - estimate.time);
        runs = runs.saturating_add((before != Some(above)).into());
        before = Some(above);
    }
    runs
}

/// The reference id of one who follows this server (RFC 5905 §7.3): its IPv4 address; of IPv6, where a hash is asked for,
/// its last bytes.
fn refid(server: IpAddr) -> u32 {
    match server {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => address.to_bits() as u32,
    }
}
