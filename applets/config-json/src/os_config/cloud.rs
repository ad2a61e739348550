//! Asking the cloud for the configuration of its services (spec os §4.6.3).

use super::services::LIMIT;
use minke_applet::{errln, outln};
use minke_cloud::{Cloud, Error, Request};
use minke_config::Config;
use minke_control::time::{self, Woken};
use std::path::Path;
use std::time::Duration;

/// How long the cloud may stay silent, and how long one attempt may take altogether.
const SILENCE: Duration = Duration::from_secs(30);
const ATTEMPT: Duration = Duration::from_secs(90);

/// How long a join whose cloud's certificate has the wrong dates waits for a clock that knows better.
const JOIN_LIMIT: Duration = Duration::from_secs(60);

/// How long to wait before the next attempt, when so much was waited already; both in seconds.
fn pause(waited: u64) -> u64 {
    match waited {
        0..10 => 1,
        10..30 => 2,
        30..60 => 5,
        60..300 => 10,
        300.. => 30,
    }
}

/// Gets the configuration that the cloud of `config` has for this device. With `patient` a failed transport is tried
/// again until it works; an answer, of whatever status, ends it. Else it is tried again only when the clock was not confirmed
/// yet and contradicts the certificate's dates, once it is.
pub(crate) fn fetch(config: &Config, root: &Path, patient: bool) -> Result<Vec<u8>, String> {
    let cloud = Cloud::of(config, root).ok_or("apiEndpoint is not set")?;
    let request = Request {
        method: "GET",
        path: "os/v1/config",
        key: config.string("deviceApiKey").unwrap_or_default(),
        agent: "",
        document: None,
        silence: SILENCE,
        deadline: ATTEMPT,
        limit: LIMIT,
    };
    let address = cloud.address(request.path);
    outln!("Fetching service configuration from {address}...");
    let (mut waited, mut told, mut again) = (0, String::new(), true);
    loop {
        let is_doubtful = time::is_doubtful();
        let error = match cloud.ask(&request) {
            Ok(answer) => {
                outln!("Service configuration retrieved");
                return Ok(answer);
            }
            Err(error) => error,
        };
        let text = match &error {
            Error::Transport(error) if error.is_timeout() => format!("{address}: no answer in time"),
            error => error.to_string(),
        };
        if !matches!(error, Error::Transport(_)) {
            return Err(text);
        }
        if !patient {
            if !(error.is_by_dates() && is_doubtful && std::mem::take(&mut again)) {
                return Err(text);
            }
            errln!("{text}; trying again when another clock has confirmed that");
            if time::wait(time::is_synchronized, JOIN_LIMIT, None) != Woken::Holds {
                return Err(text);
            }
            continue;
        }
        if text != told {
            errln!("{text}; trying again");
            told = text;
        }
        let span = pause(waited);
        time::pause(Duration::from_secs(span));
        waited = waited.saturating_add(span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow() {
        let (mut waited, mut pauses) = (0, Vec::new());
        while waited < 400 {
            pauses.push(pause(waited));
            waited += pause(waited);
        }
        let count = |span| pauses.iter().filter(|pause| **pause == span).count();
        assert_eq!([1, 2, 5, 10, 30].map(count), [10, 10, 6, 24, 4]);
    }
}
