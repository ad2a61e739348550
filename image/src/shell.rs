//! Commands in the guest's root shell over the serial console.
//!
//! The console carries kernel messages and logs too, so everything is framed: the command goes over as base64 in
//! acknowledged pieces, its output lies in a file, comes back as base64 in marked lines, and counts when its digest is right.

use crate::console::Console;
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};

/// Characters of a command in one line: far below what a terminal holds (4095).
const PIECE: usize = 600;

/// What BusyBox's shell says when it begins. Nothing may be typed before: a serial port (PL011) that fills up before
/// its driver reads it stays deaf.
pub const SHELL_SIGN: &str = "built-in shell (ash)";

/// How often the shell is called until it answers.
const CALL_AGAIN: Duration = Duration::from_secs(1);

/// How long the shell may take for one line of ours.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// Bytes of output that come over in one go, so that one garbled line costs little.
const BLOCK: u64 = 48 << 10;

/// Tries for one block.
const TRIES: u32 = 5;

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Standard output and standard error.
    pub bytes: Vec<u8>,
    /// Exit status.
    pub status: u8,
}

impl Output {
    /// The output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// The shell, once it has answered.
#[derive(Debug)]
pub struct Session {
    /// Numbers the exchanges, so that a late answer is never taken for another one's.
    count: u64,
}

impl Session {
    /// Waits for the shell and makes it quiet: no echo, no prompt.
    pub fn open(console: &mut Console, limit: Duration) -> Result<Session> {
        let end = Instant::now() + limit;
        let mut session = Session { count: 0 };
        console.wait_ever(SHELL_SIGN, limit)?;
        loop {
            // The quotes keep the terminal's echo of this line from looking like the answer.
            session.count += 1;
            console.send(&format!("\necho minke-\"here\"-{}\n", session.count))?;
            match console.wait_for(&format!("minke-here-{}", session.count), CALL_AGAIN) {
                Ok(_) => break,
                Err(Error::Timeout { tail, .. }) if Instant::now() >= end => {
                    return Err(Error::Timeout { what: "root shell on the console".into(), tail });
                }
                Err(Error::Timeout { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        // The loop reads lines without line editing, so nothing is echoed and no terminal query is sent.
        console.send("stty -echo -opost; while IFS= read -r minke; do eval \"$minke\"; done\n")?;
        session.exchange(console, ":", ANSWER_LIMIT)?;
        Ok(session)
    }

    /// Runs `command` under `sh`.
    pub fn run(&mut self, console: &mut Console, command: &str, limit: Duration) -> Result<Output> {
        self.exchange(console, "minke_command=", ANSWER_LIMIT)?;
        let encoded = base64(command.as_bytes());
        for piece in encoded.as_bytes().chunks(PIECE) {
            let piece = String::from_utf8_lossy(piece);
            self.exchange(console, &format!("minke_command=${{minke_command}}{piece}"), ANSWER_LIMIT)?;
        }
        let line = "printf %s \"$minke_command\" | base64 -d > /run/.minke-command; \
                    (cd /; exec sh /run/.minke-command) < /dev/null > /run/.minke-output 2>&1; minke_status=$?";
        self.exchange(console, line, limit)?;
        let answer =
            self.exchange(console, "minke_answer=$minke_status:$(wc -c < /run/.minke-output)", ANSWER_LIMIT)?;
        let (status, size) = answer.split_once(':').unwrap_or_default();
        let (Ok(status), Ok(size)) = (status.trim().parse(), size.trim().parse()) else {
            return Err(Error::Invalid(format!("the guest's shell answered '{answer}'")));
        };
        Ok(Output { bytes: self.fetch(console, size)?, status })
    }

    /// Sends one line and waits for its end; returns what it put into `minke_answer`.
    fn exchange(&mut self, console: &mut Console, line: &str, limit: Duration) -> Result<String> {
        self.count += 1;
        let number = self.count;
        // Three times, because a kernel message may fall into a line.
        let say = format!("echo minke-\"done\"-{number}-\"$minke_answer\"-");
        console.send(&format!("minke_answer=; {line}; {say}; {say}; {say}\n"))?;
        let mark = format!("minke-done-{number}-");
        let end = Instant::now() + limit;
        loop {
            let found = console.wait_for(&mark, end.saturating_duration_since(Instant::now()))?;
            let answer = found.split(&mark).nth(1).and_then(|rest| rest.split_once('-'));
            if let Some((answer, "")) = answer {
                return Ok(answer.to_owned());
            }
        }
    }

    fn fetch(&mut self, console: &mut Console, size: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut number = 0;
        while (bytes.len() as u64) < size {
            let mut tries = 0;
            let block = loop {
                tries += 1;
                match self.fetch_block(console, number)? {
                    Some(block) => break block,
                    None if tries < TRIES => {}
                    None => return Err(Error::Invalid("the output came over garbled, several times".into())),
                }
            };
            bytes.extend(block);
            number += 1;
        }
        Ok(bytes)
    }

    /// One block, or `None` when it came over garbled.
    fn fetch_block(&mut self, console: &mut Console, number: u64) -> Result<Option<Vec<u8>>> {
        self.count += 1;
        let mark = format!("minke-data-{}-", self.count);
        let take = format!(
            "dd if=/run/.minke-output of=/run/.minke-block bs={BLOCK} skip={number} count=1 2> /dev/null"
        );
        let show = format!("base64 < /run/.minke-block | sed 's/^/{mark}/'");
        let digest = "minke_answer=$(sha256sum < /run/.minke-block | cut -c -64)";
        console.skip();
        let before = console.text().len();
        let digest = self.exchange(console, &format!("{take}; {show}; {digest}"), ANSWER_LIMIT)?;
        let text = console.text();
        let shown = text.get(before..).unwrap_or(&text);
        let encoded: String = shown.lines().filter_map(|line| line.strip_prefix(&mark)).collect();
        let block = unbase64(&encoded);
        Ok(block.filter(|block| crate::cache::hex(&Sha256::digest(block)) == digest))
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let digit = (bits >> (18 - 6 * at)) as usize % 64;
            let digit = ALPHABET.get(digit).copied().unwrap_or(b'=');
            text.push(if at <= group.len() { digit.into() } else { '=' });
        }
    }
    text
}

/// The bytes of a base64 text, or `None` when it is none.
fn unbase64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = ALPHABET.iter().position(|known| *known == digit)?;
        bits = (bits << 6 | u32::try_from(value).ok()?) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn base64_both_ways() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
            assert_eq!(unbase64(text).unwrap(), bytes.as_bytes());
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unbase64(&base64(&all)).unwrap(), all);
        assert_eq!(unbase64("Zm9v!"), None);
    }

    struct Ends(std::process::Child);

    impl Drop for Ends {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// The whole protocol against the build machine's own shell on a pseudo-terminal, with a log that talks into it.
    #[test]
    fn commands_run_in_a_shell_on_a_terminal() {
        let scratch = crate::tree::Scratch::new("shell").unwrap();
        let path = scratch.join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mut console = Console::connect(&path, Duration::from_secs(1), false).unwrap();
        let (peer, _) = listener.accept().unwrap();
        let input = std::process::Stdio::from(std::os::fd::OwnedFd::from(peer.try_clone().unwrap()));
        let output = std::process::Stdio::from(std::os::fd::OwnedFd::from(peer));
        let shell = "(for n in $(seq 300); do sleep 0.05; echo 'kernel: noise'; done) & exec busybox sh -i";
        let mut command = std::process::Command::new("script");
        command
            .args(["-qfec", shell, "/dev/null"])
            .stdin(input)
            .stdout(output)
            .stderr(std::process::Stdio::null());
        let _child = Ends(command.spawn().unwrap());
        let limit = Duration::from_secs(20);
        let mut session = Session::open(&mut console, limit).unwrap();
        let output = session.run(&mut console, "echo 'two\nlines'; exit 3", limit).unwrap();
        assert_eq!((output.text().as_str(), output.status), ("two\nlines\n", 3));
        let long = format!("printf '%s' '{}' | wc -c; seq 30000; echo end >&2", "x".repeat(9000));
        let output = session.run(&mut console, &long, limit).unwrap();
        assert!(output.text().starts_with("9000\n1\n2\n"));
        assert!(output.text().ends_with("30000\nend\n"));
        assert_eq!(session.run(&mut console, "false", limit).unwrap(), Output { bytes: vec![], status: 1 });
    }
}
