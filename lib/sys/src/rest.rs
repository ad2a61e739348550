//! A daemon that has come to rest gives back the memory that its start, or rare work, has used.
//!
//! The kernel maps 64 KiB of a program around every place that runs (`fault_around_bytes`): a daemon soon has all the code
//! of its start mapped, and such pages were half of what all daemons weigh together. They are clean, stay in the page
//! cache for as long as nobody needs the room, and are mapped again where something runs.
//!
//! That happens some seconds after the start, and then again after twice the time each: a daemon that sleeps is woken for
//! it some ten times in its first hour, and then hardly ever. Where more memory was taken since, it begins anew.

use rustix::mm::{Advice, madvise};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// How long after a start, or a disturbance, something is given back for the first time, in seconds.
const SOON: u32 = 4;
/// The longest time between two such moments, in seconds: eighteen hours.
const SELDOM: u32 = 1 << 16;
/// How far below its present end the first thread's stack may have been used, in bytes. The kernel lets no mapping begin
/// within 1 MiB below that stack (`stack_guard_gap`).
const STACK: usize = 120 << 10;
/// What the function that gives it back, and those that it calls, use of it, in bytes.
const FRAMES: usize = 2 << 10;
/// The size of a page. Where pages are larger, the kernel refuses most of what is given back, and nothing is lost.
const PAGE: usize = 4 << 10;

/// There was work since the last sleep that is not everyday's. A program begins with such work.
static DISTURBED: AtomicBool = AtomicBool::new(true);
/// When to give back, in seconds since boot.
static DUE: AtomicU32 = AtomicU32::new(0);
/// How long before that it was decided, in seconds.
static PAUSE: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" {
    // The linker's names for where the program's read-only part begins and ends.
    safe static __executable_start: u8;
    safe static etext: u8;
}

/// Something beyond the everyday happens: more memory is taken, a process is started.
pub(crate) fn disturb() {
    DISTURBED.store(true, Relaxed);
}

/// How long a sleep that begins may last before something is given back. Gives back if it is time.
pub(crate) fn left() -> Duration {
    let now = u32::try_from(crate::clock::boottime().as_secs()).unwrap_or(u32::MAX);
    let disturbed = DISTURBED.swap(false, Relaxed);
    let (pause, due, is_time) = next(disturbed, PAUSE.load(Relaxed), DUE.load(Relaxed), now);
    if is_time {
        settle();
    }
    PAUSE.store(pause, Relaxed);
    DUE.store(due, Relaxed);
    Duration::from_secs(due.saturating_sub(now).into())
}

/// The next pause and its end, and whether it is time to give back.
fn next(disturbed: bool, pause: u32, due: u32, now: u32) -> (u32, u32, bool) {
    let is_time = !disturbed && now >= due;
    let pause = match (disturbed, is_time) {
        (true, _) => SOON,
        (_, true) => pause.saturating_mul(2).min(SELDOM),
        _ => return (pause, due, false),
    };
    (pause, now.saturating_add(pause), is_time)
}

fn settle() {
    let (code, end) = (&raw const __executable_start, &raw const etext);
    // SAFETY: the program's file, unchanged. What lies between its parts is no mapping of anybody's.
    unsafe { give_back(code, &whole_pages(code, end.addr().wrapping_sub(code.addr()))) };
    crate::memory::trim();
    // The stacks of other threads have no such gap below them; a process with threads forks for an exec alone.
    if rustix::thread::gettid() == rustix::process::getpid() {
        let here = 0_u8;
        let lowest = (&raw const here).wrapping_sub(STACK);
        // SAFETY: stack that no function uses, or no mapping at all.
        unsafe { give_back(lowest, &whole_pages(lowest, STACK - FRAMES)) };
    }
}

/// The addresses of the pages that lie within so many bytes as a whole.
pub(crate) fn whole_pages(start: *const u8, length: usize) -> Range<usize> {
    let down = |address: usize| address & !(PAGE - 1);
    let end = down(start.addr().wrapping_add(length));
    down(start.addr().wrapping_add(PAGE - 1)).min(end)..end
}

/// Gives back pages: those of a file are as it is from now on, others zero. `false`: at least some stay as they are.
///
/// # Safety
/// Nobody relies on what they hold, unless they are pages of a file that nobody wrote to.
pub(crate) unsafe fn give_back(within: *const u8, pages: &Range<usize>) -> bool {
    let start = within.with_addr(pages.start).cast_mut().cast();
    // SAFETY: by the caller's word.
    !pages.is_empty() && unsafe { madvise(start, pages.len(), Advice::LinuxDontNeed) }.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

    #[test]
    fn pauses_double_until_something_happens() {
        let (mut pause, mut due, _) = next(true, 0, 0, 100);
        let mut times = Vec::new();
        for now in 100..100 + 24 * 3600 {
            let is_time;
            (pause, due, is_time) = next(false, pause, due, now);
            assert!(due > now && due - now <= SELDOM);
            times.extend(is_time.then_some(now - 100));
        }
        assert_eq!(times[..4], [4, 12, 28, 60]);
        assert_eq!((times.len(), pause), (14, SELDOM));
        assert_eq!(next(true, pause, due, 90_000), (SOON, 90_004, false));
    }

    #[test]
    fn whole_pages_are_those_between_the_ends() {
        let at = |address: usize| std::ptr::without_provenance::<u8>(address);
        assert_eq!(whole_pages(at(0x1000), 0x2000), 0x1000..0x3000);
        assert_eq!(whole_pages(at(0x1001), 0x2ffe), 0x2000..0x3000);
        assert_eq!(whole_pages(at(0x1fff), 0x2001), 0x2000..0x4000);
        assert!(whole_pages(at(0x1001), 0x1ffe).is_empty());
        assert!(whole_pages(at(0x1800), 0x100).is_empty());
    }

    #[test]
    fn what_is_given_back_is_zero_and_its_neighbours_stay() {
        let (access, size) = (ProtFlags::READ | ProtFlags::WRITE, 4 * PAGE);
        // SAFETY: a new mapping where the kernel finds room.
        let pages = unsafe { mmap_anonymous(std::ptr::null_mut(), size, access, MapFlags::PRIVATE) };
        let pages: *mut u8 = pages.unwrap().cast();
        // SAFETY: within the mapping, which nobody else knows.
        unsafe { pages.write_bytes(7, size) };
        let middle = whole_pages(pages.wrapping_add(1), size - 2);
        // SAFETY: as above.
        assert!(unsafe { give_back(pages, &middle) });
        // SAFETY: as above; bytes may be read as they are.
        let bytes = unsafe { std::slice::from_raw_parts(pages, size) };
        let expected = |place: usize| if (PAGE..3 * PAGE).contains(&place) { 0 } else { 7 };
        assert!(bytes.iter().enumerate().all(|(place, byte)| *byte == expected(place)));
    }

    /// KiB of this program's file that this process has mapped, after each of its pages was read if `all`.
    fn mapped(all: bool) -> u64 {
        let path = std::env::current_exe().unwrap();
        let (mut ours, mut sum) = (false, 0);
        for line in std::fs::read_to_string("/proc/self/smaps").unwrap().lines() {
            let (range, rest) = line.split_once(' ').unwrap();
            if let Some((start, end)) = range.split_once('-') {
                ours = line.ends_with(path.to_str().unwrap()) && rest.starts_with("r-");
                let address = |text| usize::from_str_radix(text, 16).unwrap();
                for page in (address(start)..address(end)).step_by(PAGE).filter(|_| ours && all) {
                    // SAFETY: the kernel says that it can be read.
                    let _ = unsafe { std::ptr::with_exposed_provenance::<u8>(page).read_volatile() };
                }
            }
            if let Some(size) = line.strip_prefix("Rss:").filter(|_| ours) {
                sum += size.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
            }
        }
        sum
    }

    /// In a process of its own: the code of other tests, which run meanwhile, comes back at once.
    #[test]
    fn code_goes_and_comes_back() {
        const ALONE: &str = "MINKE_TEST_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "rest::tests::code_goes_and_comes_back"]).env(ALONE, "1");
            let said = command.output().unwrap();
            let said = [said.stdout, said.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
            // A name of no test would pass.
            return assert!(said.contains("1 passed"), "{said}");
        }
        mapped(true);
        let before = mapped(false);
        settle();
        let after = mapped(false);
        // What it takes to find out is mapped again.
        assert!(before > 1000 && after * 4 < before * 3, "{before} KiB, then {after}");
    }
}
