//! Asking the cloud for the configuration of its services (spec os §4.6.3).

use super::services::LIMIT;
use minke_applet::{errln, log, outln};
use minke_config::Config;
use minke_control::time::{self, Woken};
use minke_http::client::Body;
use minke_http::{Client, Error, Trust, Url};
use minke_sys::clock;
use std::path::Path;
use std::time::Duration;

/// How long the cloud may stay silent, and how long one attempt may take altogether.
const SILENCE: Duration = Duration::from_secs(30);
const ATTEMPT: Duration = Duration::from_secs(90);

/// How long a join whose cloud's certificate has the wrong dates waits for a clock that knows better.
const CLOCK_LIMIT: Duration = Duration::from_secs(60);

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
    let endpoint = config.string("apiEndpoint").unwrap_or_default();
    let text = format!("{}/os/v1/config", endpoint.trim_end_matches('/'));
    let url = Url::parse(&text).map_err(|error| format!("apiEndpoint: {error}"))?;
    let bearer = format!("Bearer {}", config.string("deviceApiKey").unwrap_or_default());
    let client = Client::web(&url)
        .with_trust(Trust {
            bundle: root.join(minke_http::BUNDLE.trim_start_matches('/')),
            extra: custom_authority(config),
        })
        .with_names_of(root.join("etc"))
        .with_timeout(Some(SILENCE))
        .with_deadline(ATTEMPT)
        .with_limit(LIMIT);
    outln!("Fetching service configuration from {text}...");
    let (mut waited, mut told, mut again) = (0, String::new(), true);
    loop {
        let is_doubtful = time::is_doubtful();
        match client.request("GET", url.target, &[("Authorization", &bearer)], Body::None) {
            Ok(answer) if answer.status == 200 => {
                outln!("Service configuration retrieved");
                return Ok(answer.body);
            }
            Ok(answer) => return Err(format!("{text} answered with status {}", answer.status)),
            Err(error) => {
                let by_dates = matches!(&error, Error::Certificate(distrusted) if distrusted.is_by_dates());
                let error = match error.is_timeout() {
                    true => format!("{text}: no answer in time"),
                    false => error.to_string(),
                };
                if !patient {
                    if !(by_dates && is_doubtful && std::mem::take(&mut again)) {
                        return Err(error);
                    }
                    errln!("{error}; trying again when another clock has confirmed that");
                    if time::wait(time::is_synchronized, CLOCK_LIMIT, None) != Woken::Holds {
                        return Err(error);
                    }
                    continue;
                }
                if error != told {
                    errln!("{error}; trying again");
                    told = error;
                }
            }
        }
        let span = pause(waited);
        // A certificate that seemed to have expired may not when the clock is right.
        if time::is_synchronized() {
            clock::sleep(Duration::from_secs(span));
        } else {
            time::wait(time::is_synchronized, Duration::from_secs(span), None);
        }
        waited = waited.saturating_add(span);
    }
}

/// The authority of `balenaRootCA`. One that cannot be read is left out: the cloud's certificate will then say what is
/// missing.
fn custom_authority(config: &Config) -> Vec<u8> {
    let Some(text) = config.string("balenaRootCA") else { return Vec::new() };
    match crate::root_ca::decode(text) {
        Ok(pem) => pem,
        Err(problem) => {
            log::warn(format_args!("balenaRootCA {problem}"));
            Vec::new()
        }
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
