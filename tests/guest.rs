//! Guests for the tests.

// A test's helper fails the test that calls it.
#![allow(clippy::panic, clippy::unwrap_used)]

use crate::{given, outside, project, run};
use minke_image::arch::Arch;
use minke_image::demo;
use minke_image::guest::{Guest, Settings};
use minke_image::machine::Start;
use minke_wire::json::{Value, parse_str};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// An emulated boot, or a command in the guest, may take this long on a busy machine.
pub const BOOT: Duration = Duration::from_secs(600);
/// One answer on a forwarded port.
pub const COMMAND: Duration = Duration::from_secs(60);
/// The architecture whose guest boots fastest under emulation.
pub const FASTEST: Arch = Arch::Aarch64;

/// The development image with the demo app, built once in a test process.
pub fn image(arch: Arch) -> PathBuf {
    static BUILT: Mutex<BTreeMap<&'static str, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let make = || build(arch, &format!("minke-{}-dev.img", arch.name()), &[]);
    built.entry(arch.name()).or_insert_with(make).clone()
}

/// A development image with options of its own.
pub fn build(arch: Arch, name: &str, options: &[&str]) -> PathBuf {
    let path = project().join("out").join(name);
    let mut command = Command::new(project().join("image/build"));
    command.arg(arch.name()).arg("--dev").args(options).arg("-o").arg(&path);
    if let Some(minke) = given(arch.name()) {
        command.arg("--minke").arg(minke);
    }
    outside(|| run(&mut command));
    path
}

/// A guest that starts with the kernel, without firmware.
pub fn direct(arch: Arch) -> Settings {
    settings(arch, &image(arch), Start::Direct)
}

/// A guest that starts with the firmware and the boot loader.
pub fn firmware(arch: Arch) -> Settings {
    settings(arch, &image(arch), Start::Firmware)
}

/// A guest on an image of the test's own.
pub fn settings(arch: Arch, image: &Path, start: Start) -> Settings {
    Settings { start, ..Settings::new(arch, image) }
}

/// Powers a guest on.
pub fn start(settings: Settings) -> Guest {
    Guest::start(settings).unwrap_or_else(|error| panic!("{error}"))
}

/// Waits for a text on the console.
pub fn wait(guest: &mut Guest, text: &str) -> String {
    guest.wait_for(text, BOOT).unwrap_or_else(|error| panic!("{error}"))
}

/// Waits for the preloaded container's first line.
pub fn first_line(guest: &mut Guest) {
    wait(guest, demo::FIRST_LINE);
}

/// Waits until PID 1 has started everything: a serial port that hears something before its driver is up may
/// stay deaf.
pub fn booted(guest: &mut Guest) {
    wait(guest, "multi-user.target: reached");
}

/// Runs a command that must succeed, and returns what it printed.
pub fn sh(guest: &mut Guest, command: &str) -> String {
    let (text, status) = try_sh(guest, command);
    assert_eq!(status, 0, "'{command}' printed: {text}");
    text.trim().to_owned()
}

/// Runs a command and returns what it printed and its status.
pub fn try_sh(guest: &mut Guest, command: &str) -> (String, u8) {
    let output = guest.run(command, BOOT).unwrap_or_else(|error| panic!("{command}: {error}"));
    (output.text(), output.status)
}

/// A number in the JSON that a command prints.
pub fn number(guest: &mut Guest, command: &str, member: &str) -> i64 {
    let text = sh(guest, command);
    let value = parse_str(&text).unwrap_or_else(|_| panic!("{text}"));
    value.get(member).and_then(Value::as_i64).unwrap_or_else(|| panic!("{text}"))
}

/// Runs a command in the guest again and again until it succeeds.
pub fn until(guest: &mut Guest, command: &str) -> String {
    sh(guest, &format!("for i in $(seq 240); do ({command}) && exit 0; sleep 1; done; exit 1"))
}

/// Powers the guest off in order and waits until it is off.
pub fn power_off(guest: &mut Guest) {
    guest.wait_for_shell(BOOT).unwrap_or_else(|error| panic!("{error}"));
    // The shell goes away under the command.
    guest.send("\npoweroff\n").unwrap();
    let status = guest.wait_end(BOOT).unwrap_or_else(|error| panic!("{error}"));
    assert!(status.success(), "qemu: {status}");
}

/// `GET path` on a forwarded port: the whole answer.
pub fn get(guest: &Guest, port: u16, path: &str) -> std::io::Result<String> {
    let address = guest.address(port).ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    let mut stream = TcpStream::connect_timeout(&address, COMMAND)?;
    stream.set_read_timeout(Some(COMMAND))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: device\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// As [`get`], again and again until the answer contains `text`.
pub fn get_until(guest: &Guest, port: u16, path: &str, text: &str) -> String {
    let end = Instant::now() + BOOT;
    loop {
        let last = match get(guest, port, path) {
            Ok(answer) if answer.contains(text) => return answer,
            Ok(answer) => answer,
            Err(error) => error.to_string(),
        };
        assert!(Instant::now() < end, "no '{text}' from port {port}{path}: {last}");
        std::thread::sleep(Duration::from_millis(500));
    }
}
