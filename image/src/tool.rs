//! Runs host programs: the file system makers, apt, QEMU's image tool. Each has a time limit, and its output
//! appears only when it fails.

use crate::error::{Error, Result};
use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long a host program may take unless told otherwise. Compressing a root image is the longest.
const LIMIT: Duration = Duration::from_secs(300);

/// How often a running program is looked at.
const POLL: Duration = Duration::from_millis(2);

/// How much of a failed program's output goes into the error.
const SHOWN_OUTPUT: usize = 2000;

/// One host program to be run.
#[derive(Debug)]
pub struct Tool {
    command: Command,
    limit: Duration,
    input: Vec<u8>,
}

impl Tool {
    /// The program `name`, found on the path or in the system's administration folders, with a fixed locale and time zone,
    /// so that its output does not depend on the user's settings.
    pub fn new(name: &str) -> Tool {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(name);
        command.env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin"));
        command.env("LC_ALL", "C").env("TZ", "UTC");
        Tool { command, limit: LIMIT, input: Vec::new() }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Tool {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Tool {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Tool {
        self.command.env(name, value);
        self
    }

    /// Runs it in this folder.
    #[must_use]
    pub fn folder(mut self, folder: &Path) -> Tool {
        self.command.current_dir(folder);
        self
    }

    /// Gives it another time limit.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Tool {
        self.limit = limit;
        self
    }

    /// What it reads on standard input.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Tool {
        self.input = input.into();
        self
    }

    /// Runs it; standard output comes back as bytes. An exit status other than 0 is an error.
    pub fn bytes(self) -> Result<Vec<u8>> {
        let name = self.line();
        let output = self.output()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let mut detail = format!("{}", output.status);
        for stream in [&output.stdout, &output.stderr] {
            let text = String::from_utf8_lossy(stream);
            let from = text.char_indices().rev().nth(SHOWN_OUTPUT).map_or(0, |(at, _)| at);
            let text = text.get(from..).unwrap_or_default().trim();
            if !text.is_empty() {
                detail.push('\n');
                detail.push_str(text);
            }
        }
        Err(Error::Tool { command: name, detail })
    }

    /// Runs it; standard output comes back as text.
    pub fn text(self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.bytes()?).into_owned())
    }

    /// Runs it for its effect.
    pub fn run(self) -> Result<()> {
        self.bytes().map(drop)
    }

    /// The command line in words, for messages.
    fn line(&self) -> String {
        let mut line = self.command.get_program().to_string_lossy().into_owned();
        for argument in self.command.get_args() {
            line.push(' ');
            line.push_str(&argument.to_string_lossy());
        }
        line
    }

    /// Runs it and returns whatever came out, also for a failure.
    pub fn output(mut self) -> Result<Output> {
        let line = self.line();
        let program = self.command.get_program().to_string_lossy().into_owned();
        let failed =
            |error: std::io::Error| Error::Tool { command: program.clone(), detail: missing(&error) };
        self.command.stdin(if self.input.is_empty() { Stdio::null() } else { Stdio::piped() });
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().map_err(failed)?;
        let input = std::mem::take(&mut self.input);
        let stdin = child.stdin.take();
        let writer = std::thread::spawn(move || {
            use std::io::Write;
            // A program that does not read all of its input says so by its own exit status.
            if let Some(mut stdin) = stdin {
                let _ = stdin.write_all(&input);
            }
        });
        let stdout = reader(child.stdout.take());
        let stderr = reader(child.stderr.take());
        let status = wait(&mut child, self.limit, &line)?;
        let _ = writer.join();
        Ok(Output {
            status,
            stdout: stdout.join().unwrap_or_default(),
            stderr: stderr.join().unwrap_or_default(),
        })
    }
}

fn missing(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "not installed; image/setup installs what is needed".into(),
        _ => error.to_string(),
    }
}

fn reader(stream: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn wait(child: &mut Child, limit: Duration, line: &str) -> Result<std::process::ExitStatus> {
    let end = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() < end => std::thread::sleep(POLL),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                let detail = format!("no end within {} s", limit.as_secs());
                return Err(Error::Tool { command: line.into(), detail });
            }
            Err(source) => return Err(Error::Io { what: format!("waiting for {line}"), source }),
        }
    }
}
