//! `image/boot`: builds, boots, shows, and says how to reach the device.

use super::options::{Boot, demo_image};
use super::shell::settings;
use crate::build;
use crate::cache::Cache;
use crate::demo;
use crate::error::{Context, Error, Result};
use crate::guest::Guest;
use crate::progress;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The supervisor's port (spec supervisor §1.1.1).
const SUPERVISOR_PORT: u16 = 48484;

/// How long the published port may take to answer after the container's first line: the network may come up later.
const PORT_LIMIT: Duration = Duration::from_secs(60);

/// How long an orderly power-off may take.
const OFF_LIMIT: Duration = Duration::from_secs(90);

/// How long the shell may take to appear after the container's first line.
const SHELL_LIMIT: Duration = Duration::from_secs(60);

/// Limit for one connection.
const CONNECTION_LIMIT: Duration = Duration::from_secs(5);

/// Boots the image and watches it.
pub fn run(cache: &Cache, options: &Boot) -> Result<u8> {
    let image = match &options.image {
        Some(image) => image.clone(),
        None => build::build(cache, &demo_image(options.arch))?.image,
    };
    let mut settings = settings(cache, options.arch, &image, true);
    settings.echo = true;
    settings.no_reboot = options.once;
    let step = progress::announce(format!(
        "boot {} in QEMU{}",
        image.display(),
        if settings.kvm { " (KVM)" } else { "" }
    ));
    let mut guest = Guest::start(settings)?;
    guest.wait_for(demo::FIRST_LINE, options.limit)?;
    println!();
    step.done("the container printed its first line");
    let answer = ask_demo(&guest)?;
    println!("\nFrom outside, the container's port answers: {answer}");
    if options.once {
        return power_off(guest);
    }
    tell(&guest);
    // Until Ctrl-C, which ends QEMU with us, or until the guest goes away.
    while guest.running() {
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("\nThe guest has ended.");
    Ok(0)
}

fn power_off(mut guest: Guest) -> Result<u8> {
    let step = progress::step("power off");
    guest.wait_for_shell(SHELL_LIMIT)?;
    guest.send("\npoweroff\n")?;
    let status = guest.wait_end(OFF_LIMIT)?;
    println!();
    step.done("");
    if status.success() { Ok(0) } else { Err(Error::Invalid(format!("QEMU ended with {status}"))) }
}

/// Asks the demo's web server through the forwarded port until it answers.
fn ask_demo(guest: &Guest) -> Result<String> {
    let address = guest.address(demo::PORT);
    let address = address.ok_or_else(|| Error::Invalid("the demo's port is not forwarded".into()))?;
    let end = Instant::now() + PORT_LIMIT;
    loop {
        match get(address) {
            Ok(body) if body.contains(demo::PAGE) => return Ok(body.trim().to_owned()),
            Ok(_) | Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(500)),
            Ok(body) => {
                return Err(Error::Invalid(format!("the container's port answers something else: {body}")));
            }
            Err(error) => return Err(error),
        }
    }
}

/// One HTTP request; returns the body.
fn get(address: SocketAddr) -> Result<String> {
    let what = || format!("asking http://{address}/");
    let mut stream = TcpStream::connect_timeout(&address, CONNECTION_LIMIT).context(what)?;
    stream.set_read_timeout(Some(CONNECTION_LIMIT)).context(what)?;
    stream.write_all(format!("GET / HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).context(what)?;
    let mut answer = Vec::new();
    stream.take(1 << 16).read_to_end(&mut answer).context(what)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

fn tell(guest: &Guest) {
    println!("\nThe device runs. From this machine:");
    for (port, what) in [
        (SUPERVISOR_PORT, "supervisor API  curl http://ADDRESS/ping"),
        (demo::PORT, "demo container  curl http://ADDRESS/"),
    ] {
        if let Some(address) = guest.address(port) {
            println!("  {}", what.replace("ADDRESS", &address.to_string()));
        }
    }
    println!("  console log     {}", guest.folder().join("console.log").display());
    println!("  a root shell    image/shell -- COMMAND (in a machine of its own)");
    println!("Ctrl-C ends it.\n");
}
