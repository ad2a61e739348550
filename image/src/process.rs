//! A QEMU process: started so that it ends when this process does, and ended only by its own id.

use crate::error::{Context, Error, Result};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

type Request = (Command, Sender<std::io::Result<Child>>);

/// A running process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts `line` with standard output and error in the file `log`.
    ///
    /// setpriv asks the kernel to kill the program when its parent dies. The kernel counts the thread that started it as
    /// the parent, so one thread, which lives as long as this process, starts them all; each in its caller's network namespace.
    pub fn start(line: Vec<String>, log: &Path) -> Result<Process> {
        let output = File::options().create(true).append(true).open(log).on("opening", log)?;
        let errors = output.try_clone().on("opening", log)?;
        let name = line.first().cloned().unwrap_or_default();
        let starter = starter();
        let mut words = Vec::new();
        let here = Network::current();
        if here.id != starter.network {
            words.extend(["nsenter".to_owned(), format!("--net={}", here.path.display()), "--".to_owned()]);
        }
        words.extend(["setpriv", "--pdeathsig", "KILL", "--"].map(str::to_owned));
        words.extend(line);
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let (answer, answered) = channel();
        let gone = || Error::Tool { command: name.clone(), detail: "the starting thread has ended".into() };
        let requests = starter.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.send((command, answer)).map_err(|_| gone())?;
        drop(requests);
        let child = answered.recv().map_err(|_| gone())?.context(|| format!("starting {name}"))?;
        Ok(Process { child, status: None })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + limit;
        while self.ended().is_none() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.status
    }

    /// Asks it to end (SIGTERM), and waits for that.
    pub fn terminate(&mut self, limit: Duration) {
        if self.ended().is_none() {
            let _ = Command::new("kill").args(["-TERM", &self.id().to_string()]).status();
            self.wait(limit);
        }
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            self.status = self.child.wait().ok();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The thread that starts all processes.
struct Starter {
    requests: Mutex<Sender<Request>>,
    /// Its network namespace; a caller in another one gets its process there.
    network: Option<PathBuf>,
}

fn starter() -> &'static Starter {
    static STARTER: OnceLock<Starter> = OnceLock::new();
    STARTER.get_or_init(|| {
        let (sender, requests) = channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, answer) in requests {
                let _ = answer.send(command.spawn());
            }
        });
        // A thread begins in the namespaces of the one that made it.
        Starter { requests: Mutex::new(sender), network: Network::current().id }
    })
}

/// The calling thread's network namespace.
struct Network {
    /// Where it is found as long as the thread lives.
    path: PathBuf,
    /// Tells it from others.
    id: Option<PathBuf>,
}

impl Network {
    fn current() -> Self {
        let thread = std::fs::read_link("/proc/thread-self").unwrap_or_default();
        let path = Path::new("/proc").join(thread).join("ns/net");
        Self { id: std::fs::read_link(&path).ok(), path }
    }
}
