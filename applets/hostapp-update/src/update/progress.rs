//! What a person, the journal and the cloud see of an update.
//!
//! The cloud gets the reference's percentages and words (spec os §15.11.1), from a thread of its own, one request at a
//! time and one in [`PAUSE`] at most: a cloud that does not answer holds nobody up.

use crate::cloud::Cloud;
use minke_applet::log;
use minke_sys::{clock, stdio, thread};
use minke_wire::json::json;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Between two requests to the cloud.
const PAUSE: Duration = Duration::from_secs(10);
/// How long the end waits for a request that is under way.
const LAST: Duration = Duration::from_secs(12);
/// Between two changes of the line on a terminal, and between two lines elsewhere.
const REDRAW: Duration = Duration::from_millis(250);
const LINES: Duration = Duration::from_secs(10);

/// Where transfers lie among the percentages of the whole.
const FROM: u8 = 50;
const TO: u8 = 85;

/// Tells of an update.
pub struct Progress {
    json: bool,
    terminal: bool,
    /// Something stands on the terminal's line.
    drawn: bool,
    begun: Duration,
    told: Option<Duration>,
    first: Option<(Duration, u64)>,
    cloud: Option<Reporter>,
}

struct Reporter {
    cloud: Cloud,
    sent: Option<Duration>,
    next: Option<(u8, String)>,
    /// From now on without a thread.
    alone: bool,
    /// Whether a request is under way; whether the last that ended has failed.
    state: Arc<Mutex<(bool, bool)>>,
}

impl Progress {
    /// Of an update that begins now. `json`: a JSON object a line on standard output.
    pub fn new(json: bool, cloud: Option<Cloud>) -> Self {
        let cloud = cloud.map(|cloud| Reporter {
            cloud,
            sent: None,
            next: None,
            alone: false,
            state: Arc::default(),
        });
        let terminal = !json && stdio::is_terminal();
        Self { json, terminal, drawn: false, begun: clock::boottime(), told: None, first: None, cloud }
    }

    /// A step of the update, which stands at `percent` of the whole.
    pub fn step(&mut self, percent: u8, text: &str) {
        self.end_line();
        self.first = None;
        if self.json {
            minke_applet::outln!("{}", json!({ "percentage": percent, "state": text }).to_text());
        } else {
            log::info(format_args!("{text}"));
        }
        journal(6, text);
        self.tell_cloud(percent, text);
    }

    /// `done` of `total` bytes were taken; 0: nobody knows of how many.
    pub fn bytes(&mut self, done: u64, total: u64) {
        let now = clock::boottime();
        // Where nobody looks on, the first line comes when there is something to say.
        self.told = self.told.or((!self.terminal && !self.json).then_some(now));
        let (since, base) = *self.first.get_or_insert((now, done));
        let pause = if self.terminal { REDRAW } else { LINES };
        if done != total && self.told.is_some_and(|told| now.saturating_sub(told) < pause) {
            return;
        }
        self.told = Some(now);
        let share = done.saturating_mul(u64::from(TO - FROM)).checked_div(total).unwrap_or(0);
        let percent = FROM.saturating_add(u8::try_from(share).unwrap_or(TO)).min(TO);
        if self.json {
            let line = json!({ "percentage": percent, "state": "download", "done": done, "total": total });
            minke_applet::outln!("{}", line.to_text());
        } else {
            let spent = clock::milliseconds(now.saturating_sub(since)).max(1);
            let rate = done.saturating_sub(base).saturating_mul(1000) / spent;
            let text = format!("{} of {}, {}/s", Bytes(done), Bytes(total), Bytes(rate));
            if self.terminal {
                self.drawn = true;
                let _ = stdio::error(format!("\r{text}\x1b[K").as_bytes());
            } else {
                log::info(format_args!("{text}"));
            }
        }
        self.tell_cloud(percent, "Running OS update");
    }

    /// Something that does not stop the update.
    pub fn warn(&mut self, text: &str) {
        self.end_line();
        log::warn(format_args!("{text}"));
        journal(4, text);
    }

    /// The end of an update that failed, for the journal and the cloud; who called says it on the terminal.
    pub fn failed(&mut self, why: &str) {
        self.end_line();
        if self.json {
            minke_applet::outln!(
                "{}",
                json!({ "percentage": 100, "state": "failed", "error": why }).to_text()
            );
        }
        journal(3, why);
        self.tell_cloud(100, "OS update failed");
    }

    /// Waits until the cloud has heard the last of it, or does not answer. From now on this process has one thread, as
    /// who forks must.
    pub fn settle(&mut self) {
        self.end_line();
        let Some(reporter) = &mut self.cloud else { return };
        let end = clock::boottime().saturating_add(LAST);
        while reporter.state().0 && clock::boottime() < end {
            clock::sleep(Duration::from_millis(50));
        }
        reporter.alone = true;
        reporter.send();
    }

    /// The time since the update began.
    pub fn spent(&self) -> Duration {
        clock::boottime().saturating_sub(self.begun)
    }

    fn end_line(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let _ = stdio::error(b"\n");
        }
    }

    fn tell_cloud(&mut self, percent: u8, text: &str) {
        let Some(reporter) = &mut self.cloud else { return };
        reporter.next = Some((percent, text.to_owned()));
        let now = clock::boottime();
        if reporter.alone {
            return reporter.send();
        }
        if reporter.state().0 || reporter.sent.is_some_and(|sent| now.saturating_sub(sent) < PAUSE) {
            return;
        }
        reporter.sent = Some(now);
        reporter.send();
    }
}

impl Reporter {
    fn send(&mut self) {
        let Some((percent, text)) = self.next.take() else { return };
        let record =
            json!({ "provisioning_progress": percent, "provisioning_state": text, "status": "configuring" });
        let (busy, failed) = self.state();
        if self.alone {
            // Nobody waits twice for a cloud that does not answer.
            if !busy && !failed {
                note(&self.state, self.cloud.patch(&record));
            }
            return;
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 = true;
        let (cloud, state) = (self.cloud.clone(), Arc::clone(&self.state));
        let work = move || note(&state, cloud.patch(&record));
        if let Err(error) = thread::spawn("cloud", Box::new(work)) {
            note(&self.state, Err(error.to_string()));
        }
    }

    fn state(&self) -> (bool, bool) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request has ended. The first that fails after one that did not is told of.
fn note(state: &Mutex<(bool, bool)>, result: Result<(), String>) {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let had_failed = std::mem::replace(&mut *state, (false, result.is_err())).1;
    if let Err(why) = result
        && !had_failed
    {
        log::warn(format_args!("the cloud does not hear of this: {why}"));
    }
}

/// Megabytes with one digit after the point; small numbers as kilobytes.
struct Bytes(u64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 < 1_000_000 {
            return write!(f, "{} kB", self.0.div_ceil(1000));
        }
        write!(f, "{}.{} MB", self.0 / 1_000_000, self.0 / 100_000 % 10)
    }
}

/// Tells the journal what a person sees on a terminal; where standard error is the journal, it has it already.
fn journal(priority: u8, text: &str) {
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        return;
    }
    let Ok(socket) = UnixDatagram::unbound() else { return };
    let _ = minke_sys::channel::set_nonblocking(&socket, true);
    let _ = socket.send_to(format!("<{priority}>hostapp-update: {text}").as_bytes(), "/dev/log");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_cloud_hears_the_last_word_when_it_has_heard_something_since_it_failed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let root = std::env::temp_dir().join(format!("minke-update-progress-{}", std::process::id()));
        std::fs::create_dir_all(root.join("mnt/boot")).unwrap();
        let config = json!({
            "apiEndpoint": format!("http://{address}"), "uuid": "u", "deviceApiKey": "k",
            "deviceId": 7,
        });
        std::fs::write(root.join("mnt/boot/config.json"), config.to_text()).unwrap();
        let cloud = Cloud::of(&root).unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        let server = std::thread::spawn(move || {
            let mut heard = Vec::new();
            for status in ["500 X", "200 OK", "200 OK"] {
                let (mut socket, _) = listener.accept().unwrap();
                let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
                while !request.ends_with(b"}") {
                    let count = socket.read(&mut buffer).unwrap();
                    request.extend_from_slice(&buffer[..count]);
                }
                write!(socket, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
                let text = String::from_utf8(request).unwrap();
                heard.push(text.rsplit_once('\n').unwrap().1.to_owned());
            }
            heard
        });
        let mut progress = Progress::new(false, Some(cloud));
        for (percent, failed) in [(25, true), (50, false)] {
            progress.tell_cloud(percent, "on its way");
            let reporter = progress.cloud.as_mut().unwrap();
            while reporter.state().0 {
                clock::sleep(Duration::from_millis(10));
            }
            assert_eq!(reporter.state().1, failed);
            // The pause is over.
            reporter.sent = None;
        }
        progress.cloud.as_mut().unwrap().sent = Some(clock::boottime());
        progress.tell_cloud(90, "the last word");
        progress.settle();
        // Where the last word did not come, this ends the server.
        let _ = TcpStream::connect(address).and_then(|mut stray| stray.write_all(b"\n}"));
        let heard = server.join().unwrap();
        assert!(heard[0].contains("25") && heard[2].contains("the last word"), "{heard:?}");
    }
}
