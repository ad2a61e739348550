//! The local HTTP API (spec supervisor §1): pure, from a request and the view to a response.

mod auth;
mod status;

pub use status::state_status;

use crate::view::View;
use minke_http::{Request, Response};
use std::time::Duration;

/// What answers depend on besides the view.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// No cloud is configured: every request passes (§1.3.1).
    pub unmanaged: bool,
    /// Time since boot.
    pub now: Duration,
    /// The poll interval of the target; an apply that takes twice as long is stuck (§1.10).
    pub poll_interval: Duration,
}

/// Answers a request, in the order of §1.1.4.
pub fn answer(request: &Request, view: &View, context: &Context) -> Response {
    let is_get = matches!(request.method.as_str(), "GET" | "HEAD");
    match request.path.as_str() {
        "/ping" if is_get => return Response::text(200, "OK"),
        "/v1/healthy" if is_get && is_healthy(view, context) => return Response::text(200, "OK"),
        "/v1/healthy" if is_get => return Response::text(500, "Unhealthy"),
        _ => {}
    }
    let open = context.unmanaged || view.local_mode;
    let Some(access) = auth::access(request, &view.keys, open) else {
        return Response::text(401, "Unauthorized");
    };
    match request.path.as_str() {
        "/v2/state/status" if is_get => {
            Response::json(200, state_status(view, access).to_string().into_bytes())
        }
        _ => Response::text(404, "Not Found"),
    }
}

/// Whether the engine loop makes progress (§1.10). The cloud does not count: a watchdog must not end a
/// download because the network is bad.
pub fn is_healthy(view: &View, context: &Context) -> bool {
    let limit = context.poll_interval.saturating_mul(2);
    view.apply_since.is_none_or(|since| context.now.saturating_sub(since) < limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_http::Headers;

    fn ask(method: &str, path: &str, view: &View, unmanaged: bool) -> (u16, String) {
        let context =
            Context { unmanaged, now: Duration::from_secs(5000), poll_interval: Duration::from_secs(900) };
        let request = Request {
            method: method.into(),
            path: path.into(),
            query: vec![],
            headers: Headers::new(),
            body: vec![],
        };
        let response = answer(&request, view, &context);
        (response.status, String::from_utf8(response.body).unwrap())
    }

    #[test]
    fn what_needs_no_key() {
        let view = View::default();
        assert_eq!(ask("GET", "/ping", &view, false), (200, "OK".into()));
        assert_eq!(ask("GET", "/v1/healthy", &view, false), (200, "OK".into()));
        let since = |seconds| View { apply_since: Some(Duration::from_secs(seconds)), ..View::default() };
        assert_eq!(ask("GET", "/v1/healthy", &since(3201), false).0, 200);
        assert_eq!(ask("GET", "/v1/healthy", &since(3200), false), (500, "Unhealthy".into()));
    }

    #[test]
    fn without_a_key_a_managed_device_tells_nothing_not_even_what_exists() {
        let view = View::default();
        for path in ["/v2/state/status", "/nothing"] {
            assert_eq!(ask("GET", path, &view, false), (401, "Unauthorized".into()));
        }
        assert_eq!(ask("POST", "/ping", &view, false).0, 401);
        assert_eq!(ask("GET", "/v2/state/status", &View { local_mode: true, ..view.clone() }, false).0, 200);
        assert_eq!(ask("GET", "/nothing", &view, true).0, 404);
        assert_eq!(ask("POST", "/v2/state/status", &view, true).0, 404);
    }
}
