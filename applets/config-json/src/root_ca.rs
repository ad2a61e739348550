//! The fleet owner's own certificate authority (spec os §4.7, without its DEFECTs).
//!
//! `balenaRootCA` is kept in `/usr/share/ca-certificates/balena` on the state partition. Only that: the bundle that
//! programs and containers read at `/etc/ssl/certs` is made anew at each boot, of the image's current authorities and
//! this one, on a tmpfs that is bound over the folder. So a newer system's authorities are never hidden, a changed key
//! changes the bundle, and a removed one leaves it.

use minke_applet::log;
use minke_config::{Origin, Store};
use minke_sys::file;
use minke_sys::{Result, mount};
use minke_wire::mountinfo;
use std::path::Path;

/// The authority of the fleet's owner; also read by the supervisor (`NODE_EXTRA_CA_CERTS`).
const CUSTOM: &str = "usr/share/ca-certificates/balena/balenaRootCA.crt";
/// The authorities of the image, where nothing is mounted over them.
const SYSTEM: &str = "usr/share/ca-certificates/ca-certificates.crt";
/// What is bound over [`CERTIFICATES`].
const VOLATILE: &str = "run/minke/ssl-certs";
const CERTIFICATES: &str = "etc/ssl/certs";
const BUNDLE: &str = "ca-certificates.crt";
/// Most bytes of a bundle.
const LIMIT: usize = 4 << 20;

/// The PEM text of a `balenaRootCA`; the error completes a sentence about the key.
fn decode(value: &str) -> std::result::Result<Vec<u8>, &'static str> {
    let pem = minke_wire::base64::decode(value.as_bytes()).ok_or("is not base64")?;
    if minke_http::count_authorities(&pem) == 0 { Err("holds no certificate in PEM") } else { Ok(pem) }
}

/// Brings the bundle in line with `balenaRootCA`: `extract-balena-ca.service`, at boot and whenever the key changes. A
/// value that cannot be used is an error, and the authority of before stays.
pub(crate) fn apply(store: &Store, root: &Path) -> Result<u8> {
    let loaded = store.load();
    let custom = root.join(CUSTOM);
    let mut status = 0;
    match loaded.config.get("balenaRootCA") {
        Some(value) => match value.as_str().ok_or("should be a string").and_then(decode) {
            Ok(pem) => keep(&custom, &pem)?,
            Err(problem) => {
                log::error(format_args!("balenaRootCA {problem}; the authority of before stays"));
                status = 1;
            }
        },
        // A configuration that could not be read says nothing about the key.
        None if loaded.origin == Origin::Default && loaded.problem.is_some() => {}
        None => forget(&custom)?,
    }
    publish(root, &custom)?;
    Ok(status)
}

/// Power cut: the old or the new authority; the next boot compares again.
fn keep(custom: &Path, pem: &[u8]) -> Result<()> {
    if file::read_optional(custom, LIMIT)?.as_deref() == Some(pem) {
        return Ok(());
    }
    file::write_durable(custom, pem, 0o644)?;
    log::info(format_args!("balenaRootCA is installed"));
    Ok(())
}

fn forget(custom: &Path) -> Result<()> {
    if minke_sys::status::exists(custom) {
        file::remove_durable(custom)?;
        log::info(format_args!("balenaRootCA is removed"));
    }
    Ok(())
}

/// Makes the bundle of the system's authorities and the custom one. Containers that have the folder mounted see the new
/// file, because it is replaced in the folder that they have.
fn publish(root: &Path, custom: &Path) -> Result<()> {
    let (target, volatile) = (root.join(CERTIFICATES), root.join(VOLATILE));
    let bound = mountinfo::find(&mountinfo::parse(&mount::mountinfo()?), &target.to_string_lossy()).is_some();
    let custom = file::read_optional(custom, LIMIT)?;
    if custom.is_none() && !bound {
        return Ok(());
    }
    // The most that there can be: two bundles.
    let mut bundle = file::read_optional(&root.join(SYSTEM), LIMIT)?.unwrap_or_default();
    bundle.extend_from_slice(&custom.unwrap_or_default());
    let path = volatile.join(BUNDLE);
    file::make_folder(&volatile, 0o755)?;
    if file::read_optional(&path, LIMIT.saturating_mul(2))?.as_deref() != Some(bundle.as_slice()) {
        file::write_durable(&path, &bundle, 0o644)?;
    }
    if !bound {
        mount::bind(&volatile, &target, false)?;
        mount::remount_bind(&target, mount::Flags::RDONLY)?;
    }
    Ok(())
}
