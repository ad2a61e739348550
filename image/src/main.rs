//! The command line of the image tool; `image/build`, `image/boot` and `image/shell` call it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(minke_image::commands::run(std::env::args_os().skip(1)))
}
