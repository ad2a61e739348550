//! What the integration tests share: where the project and its built things are.

#![forbid(unsafe_code)]
// A test's helper fails the test that calls it.
#![allow(clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The folder of the project.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The release targets: name here, and the emulator with the oldest processor that the target is for.
pub const TARGETS: [(&str, &[&str]); 4] = [
    ("x86_64", &["qemu-x86_64-static", "-cpu", "qemu64"]),
    ("aarch64", &["qemu-aarch64-static", "-cpu", "cortex-a53"]),
    ("armv7", &["qemu-arm-static", "-cpu", "cortex-a7"]),
    ("armv6", &["qemu-arm-static", "-cpu", "arm1176"]),
];

/// The release binary of `target`, built if need be by `release/build`.
pub fn release(target: &str) -> PathBuf {
    let output = run(Command::new(project().join("release/build")).arg(target));
    PathBuf::from(text(&output).trim())
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, errors(&output));
    output
}

/// Standard output as text.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error as text.
pub fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
