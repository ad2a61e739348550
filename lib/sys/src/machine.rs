//! Which machine the kernel runs on: uname(2).

/// How many processors this process may use.
pub fn processors() -> u32 {
    // std's function also reads control groups, which costs 2 kB.
    rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count().max(1))
}

/// The machine's name as the kernel gives it: `armv6l`, `armv7l`, `aarch64`, `x86_64`.
pub fn name() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}
