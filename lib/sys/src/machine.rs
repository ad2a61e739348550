//! Which machine the kernel runs on: uname(2).

/// The machine's name as the kernel gives it: `armv6l`, `armv7l`, `aarch64`, `x86_64`.
pub fn name() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}
