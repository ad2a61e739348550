//! A running virtual machine: its console, its shell, its ports, its power.
//!
//! ```no_run
//! # use minke_image::{arch::Arch, guest::{Guest, Settings}};
//! # use std::{path::Path, time::Duration};
//! # fn main() -> minke_image::error::Result<()> {
//! let mut guest = Guest::start(Settings::new(Arch::Aarch64, Path::new("out/minke-aarch64-dev.img")))?;
//! guest.wait_for("minke demo: line 1", Duration::from_secs(120))?;
//! let output = guest.run("cat /etc/hostname", Duration::from_secs(20))?;
//! assert_eq!(output.status, 0);
//! guest.kill();
//! guest.restart()?;
//! # Ok(())
//! # }
//! ```

use crate::arch::Arch;
use crate::build::boot_folder;
use crate::console::Console;
use crate::error::{Context, Error, Result};
use crate::machine::{Machine, Start};
use crate::overlay::Overlay;
use crate::process::Process;
use crate::shell::{Output, SHELL_SIGN, Session};
use crate::tree::Scratch;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// QEMU opens its console socket within milliseconds; a machine under load may need more.
const CONNECT_LIMIT: Duration = Duration::from_secs(120);

/// Starts of QEMU before we give up finding ports that stay free.
const PORT_TRIES: u32 = 3;

/// How long QEMU may take to write down what it knows of a card.
const CARD_LIMIT: Duration = Duration::from_secs(30);

/// The emulated Pi's U-Boot stops now and then right before the kernel, so its start has a limit and some retries, the last
/// of which may take as long as on any machine.
const PI_KERNEL_LIMIT: Duration = Duration::from_secs(120);
const PI_KERNEL_TRIES: u32 = 3;
const PI_LAST_LIMIT: Duration = Duration::from_secs(600);

/// How to run a guest.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Architecture.
    pub arch: Arch,
    /// The image; it is never written.
    pub image: PathBuf,
    /// Its `.boot` folder.
    pub boot: PathBuf,
    /// Way to the kernel.
    pub start: Start,
    /// Run under KVM.
    pub kvm: bool,
    /// TCP ports of the guest that are to be reached from this machine.
    pub ports: Vec<u16>,
    /// More kernel arguments, for a direct start.
    pub arguments: String,
    /// More options for QEMU.
    pub options: Vec<String>,
    /// End QEMU where the machine would reset.
    pub no_reboot: bool,
    /// Show the console on standard output.
    pub echo: bool,
    /// Log every write and flush of the disk to this file, which each power-on makes anew. Not on the emulated Pi,
    /// whose disk is an SD card.
    pub write_log: Option<PathBuf>,
    /// Sectors of the disk, of 512 bytes, that cannot be written. Neither on the emulated Pi, nor together with the log.
    pub bad_sectors: Vec<u64>,
    /// Content of `config.json` on the overlay's boot partition.
    pub config: Option<Vec<u8>>,
    /// Where overlay and logs stay; without it they go away with the guest.
    pub keep: Option<PathBuf>,
}

impl Settings {
    /// A direct start with the supervisor's and the demo's ports forwarded.
    pub fn new(arch: Arch, image: &Path) -> Settings {
        Settings {
            arch,
            image: image.to_path_buf(),
            boot: boot_folder(image),
            start: if crate::balena::is_chain_of(&boot_folder(image)) {
                Start::Stage2
            } else {
                Start::Direct
            },
            kvm: false,
            ports: vec![48484, crate::demo::PORT],
            arguments: String::new(),
            options: Vec::new(),
            no_reboot: false,
            echo: false,
            write_log: None,
            bad_sectors: Vec::new(),
            config: None,
            keep: None,
        }
    }
}

/// A virtual machine with its disk. It ends with the value.
#[derive(Debug)]
pub struct Guest {
    settings: Settings,
    overlay: Overlay,
    folder: PathBuf,
    /// Holds the folder, when nobody wants to keep it.
    _scratch: Option<Scratch>,
    power: Power,
    session: Option<Session>,
}

/// What lasts from one power-on to the next.
#[derive(Debug)]
struct Power {
    process: Process,
    console: Console,
    forwards: Vec<Forward>,
}

/// A port of the guest and the one on loopback that leads to it.
#[derive(Debug)]
struct Forward {
    guest: u16,
    here: u16,
}

impl Guest {
    /// Makes an overlay on the image and powers the machine on.
    pub fn start(settings: Settings) -> Result<Guest> {
        let (folder, scratch) = match &settings.keep {
            Some(folder) => (folder.clone(), None),
            None => {
                let scratch = Scratch::new("guest")?;
                (scratch.path().to_path_buf(), Some(scratch))
            }
        };
        fs::create_dir_all(&folder).on("making", &folder)?;
        let overlay = Overlay::create(&settings.image, &folder.join("disk.qcow2"))?;
        if let Some(config) = &settings.config {
            overlay.write_config(config)?;
        }
        let power = power_on(&settings, &folder, overlay.path())?;
        let mut guest = Guest { settings, overlay, folder, _scratch: scratch, power, session: None };
        guest.see_kernel()?;
        Ok(guest)
    }

    /// Waits for `text` on the console, after what was found last; returns its line.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<String> {
        let found = self.power.console.wait_for(text, limit);
        self.explained(found)
    }

    /// Runs a command in the guest's root shell, on the serial console, and returns what it printed (both streams) and
    /// its status.
    pub fn run(&mut self, command: &str, limit: Duration) -> Result<Output> {
        let done = match self.session.take() {
            Some(session) => Ok(session),
            None => Session::open(&mut self.power.console, limit),
        };
        let result = done.and_then(|mut session| {
            let output = session.run(&mut self.power.console, command, limit)?;
            self.session = Some(session);
            Ok(output)
        });
        self.explained(result)
    }

    /// The shell on the console is another one than before.
    pub fn forget_shell(&mut self) {
        self.session = None;
    }

    /// Waits until the shell on the console is there. Whoever types earlier may make the serial port deaf.
    pub fn wait_for_shell(&mut self, limit: Duration) -> Result<()> {
        let found = self.power.console.wait_ever(SHELL_SIGN, limit);
        self.explained(found)
    }

    /// Types raw text on the console, after [`Guest::wait_for_shell`].
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.power.console.send(text)
    }

    /// Where this port of the guest answers on this machine.
    pub fn address(&self, port: u16) -> Option<SocketAddr> {
        let forward = self.power.forwards.iter().find(|forward| forward.guest == port)?;
        Some(SocketAddr::from((Ipv4Addr::LOCALHOST, forward.here)))
    }

    /// Cuts the power: what the guest had not handed to its disk is lost.
    pub fn kill(&mut self) {
        // Nothing makes an SD card flush what it was given, so QEMU writes down where on the card it lies when it ends in
        // order, and not before: killed, it would leave the card as it was at first.
        if self.settings.arch == Arch::Armv6 {
            self.power.process.terminate(CARD_LIMIT);
        }
        self.power.process.kill();
    }

    /// Powers the machine on again with the same disk; kills it first when it runs.
    pub fn restart(&mut self) -> Result<()> {
        self.restart_once()?;
        self.see_kernel()
    }

    /// What the next power-on goes by.
    pub fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// Waits until the guest has powered itself off.
    pub fn wait_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let tail = || self.power.console.tail();
        self.power
            .process
            .wait(limit)
            .ok_or_else(|| Error::Timeout { what: "power-off".into(), tail: tail() })
    }

    /// Is QEMU running?
    pub fn running(&mut self) -> bool {
        self.power.process.ended().is_none()
    }

    /// Everything on the console since the last power-on.
    pub fn console(&self) -> String {
        self.power.console.text()
    }

    /// The disk, for looking at it or changing it while the machine is off.
    pub fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    /// The folder with the disk, `console.log` and `qemu.log`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// QEMU's process id.
    pub fn id(&self) -> u32 {
        self.power.process.id()
    }

    fn restart_once(&mut self) -> Result<()> {
        self.kill();
        self.session = None;
        self.power = power_on(&self.settings, &self.folder, self.overlay.path())?;
        Ok(())
    }

    /// Sees to it that the emulated Pi has come to its kernel.
    fn see_kernel(&mut self) -> Result<()> {
        if self.settings.arch != Arch::Armv6 || self.settings.start != Start::Firmware {
            return Ok(());
        }
        for _ in 1..PI_KERNEL_TRIES {
            match self.power.console.wait_ever("Booting Linux", PI_KERNEL_LIMIT) {
                Err(Error::Timeout { .. }) => {
                    eprintln!("the emulated Pi did not come to its kernel; once more");
                    self.restart_once()?;
                }
                seen => return seen,
            }
        }
        self.power.console.wait_ever("Booting Linux", PI_LAST_LIMIT)
    }

    /// Adds QEMU's own messages to an error about a guest that is gone.
    fn explained<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| match error {
            Error::GuestGone { what, tail } => {
                let said = fs::read_to_string(self.folder.join("qemu.log")).unwrap_or_default();
                Error::GuestGone { what, tail: format!("{tail}\n{}", said.trim()) }
            }
            other => other,
        })
    }
}

/// Starts QEMU and connects to its console.
fn power_on(settings: &Settings, folder: &Path, disk: &Path) -> Result<Power> {
    let socket = folder.join("console");
    let log = folder.join("qemu.log");
    let mut tries = 0;
    loop {
        tries += 1;
        if let Some(log) = &settings.write_log {
            fs::File::create(log).on("making", log)?;
        }
        let forwards = free_ports(&settings.ports)?;
        let _ = fs::remove_file(&socket);
        let line = command_line(settings, folder, disk, &socket, &forwards)?;
        let mut process = Process::start(line, &log)?;
        let connected = Console::connect(&socket, CONNECT_LIMIT, settings.echo);
        match connected {
            Ok(console) => return Ok(Power { process, console, forwards }),
            // Somebody took one of the ports between our look and QEMU's start.
            Err(_) if process.ended().is_some() && tries < PORT_TRIES => {}
            Err(error) => {
                process.kill();
                let said = fs::read_to_string(&log).unwrap_or_default();
                return Err(Error::Tool {
                    command: "qemu".into(),
                    detail: format!("{error}\n{}", said.trim()),
                });
            }
        }
    }
}

fn command_line(
    settings: &Settings,
    folder: &Path,
    disk: &Path,
    socket: &Path,
    forwards: &[Forward],
) -> Result<Vec<String>> {
    let forwarding: String = forwards
        .iter()
        .map(|Forward { guest, here }| format!(",hostfwd=tcp:127.0.0.1:{here}-:{guest}"))
        .collect();
    let machine = Machine {
        arch: settings.arch,
        start: settings.start,
        kvm: settings.kvm,
        boot: &settings.boot,
        disk,
        write_log: settings.write_log.as_deref(),
        bad_sectors: &settings.bad_sectors,
        folder,
        forwards: &forwarding,
        arguments: &settings.arguments,
    };
    let mut line = machine.command()?;
    // The machine does not start before we are connected, so nothing that it prints is missed.
    let log = folder.join("console.log");
    let chardev = format!(
        "socket,id=console0,path={},server=on,wait=on,logfile={},logappend=on",
        socket.display(),
        log.display()
    );
    line.extend(["-chardev".into(), chardev, "-serial".into(), "chardev:console0".into()]);
    if settings.no_reboot {
        line.push("-no-reboot".into());
    }
    line.extend(settings.options.iter().cloned());
    Ok(line)
}

/// Ports on loopback that are free now. All are held until the last is found, so they differ.
fn free_ports(ports: &[u16]) -> Result<Vec<Forward>> {
    let mut held = Vec::new();
    let mut found = Vec::new();
    for port in ports {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context(|| "looking for a free port".into())?;
        let here = listener.local_addr().context(|| "looking for a free port".into())?.port();
        found.push(Forward { guest: *port, here });
        held.push(listener);
    }
    Ok(found)
}
