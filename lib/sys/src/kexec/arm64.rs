//! kexec_load(2) on 64-bit ARM: the places of kernel, initramfs and device tree are chosen here, and a few instructions
//! lead to the kernel (Linux Documentation/arch/arm64/booting.rst: x0 the device tree, x1 to x3 zero).

use super::last_error;
use crate::file::{read_bounded, text};
use crate::status::of_open;
use minke_wire::arm64_image::{self, Image, PAGE};
use minke_wire::fdt;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::fs::File;
use std::path::Path;
use std::ptr::null_mut;

/// The device tree that this kernel was given.
const TREE: &str = "/sys/firmware/fdt";

/// `struct kexec_segment` of include/linux/kexec.h.
#[repr(C)]
struct Segment {
    from: *const u8,
    from_length: usize,
    to: u64,
    to_length: u64,
}

/// A file's content, as long as this lives.
struct Mapped {
    start: *mut u8,
    length: usize,
}

impl Mapped {
    fn new(file: &File) -> Result<Self, Errno> {
        let length = of_open(file).map_err(|error| error.errno)?.length;
        let length = usize::try_from(length).map_err(|_| Errno::FBIG)?;
        // SAFETY: a new mapping where the kernel finds room.
        let start = unsafe { mmap(null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE, file, 0) }?;
        Ok(Self { start: start.cast(), length })
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: what `new` mapped; nothing points there any more.
        let _ = unsafe { munmap(self.start.cast(), self.length) };
    }
}

/// As [`super::load`]; `arguments` end with a zero.
pub fn load(kernel: &File, initramfs: Option<&File>, arguments: &[u8]) -> Result<(), Errno> {
    let mut head = [0; 64];
    std::os::unix::fs::FileExt::read_exact_at(kernel, &mut head, 0).map_err(|_| Errno::NOEXEC)?;
    let image = Image::parse(&head).ok_or(Errno::NOEXEC)?;
    let kernel = Mapped::new(kernel)?;
    let initramfs = initramfs.map(Mapped::new).transpose()?;
    let length = initramfs.as_ref().map_or(0, |mapped| mapped.length as u64);
    let places = arm64_image::place(&text("/proc/iomem"), image, length).ok_or(Errno::NOMEM)?;
    let tree = tree(arguments, initramfs.is_some().then_some((places.initramfs, length)))?;
    let entry = entry(places.kernel, places.tree);
    let mut segments = vec![
        Segment::new(kernel.start, kernel.length, places.kernel, image.size),
        Segment::new(tree.as_ptr(), tree.len(), places.tree, 0),
        Segment::new(entry.as_ptr().cast(), size_of_val(&entry), places.entry, 0),
    ];
    if let Some(mapped) = &initramfs {
        segments.push(Segment::new(mapped.start, mapped.length, places.initramfs, 0));
    }
    let (first, count) = (segments.as_ptr(), segments.len());
    // Where they go decides what the next kernel is, and nothing of this one's memory before its end.
    // SAFETY: `count` segments whose bytes live through the call, which copies them.
    let done = unsafe { libc::syscall(libc::SYS_kexec_load, places.entry, count, first, 0) };
    if done == 0 { Ok(()) } else { Err(last_error()) }
}

impl Segment {
    fn new(from: *const u8, from_length: usize, to: u64, least: u64) -> Self {
        let to_length = least.max(from_length as u64).next_multiple_of(PAGE);
        Self { from, from_length, to, to_length }
    }
}

/// This kernel's device tree with what the next one shall know.
fn tree(arguments: &[u8], initramfs: Option<(u64, u64)>) -> Result<Vec<u8>, Errno> {
    // A kernel that was started by ACPI has none, and takes none.
    let old = read_bounded(Path::new(TREE), fdt::LIMIT).map_err(|error| error.errno)?;
    let (first, last) = initramfs.map_or((Vec::new(), Vec::new()), |(start, length)| {
        (start.to_be_bytes().to_vec(), start.saturating_add(length).to_be_bytes().to_vec())
    });
    // The one before was wiped when it was read.
    let (mut place, mut seed) = (vec![0; 8], vec![0; 64]);
    for bytes in [&mut place, &mut seed] {
        crate::random::fill(bytes).map_err(|error| error.errno)?;
    }
    let properties = [
        ("bootargs", arguments.to_vec()),
        ("linux,initrd-start", first),
        ("linux,initrd-end", last),
        ("kaslr-seed", place),
        ("rng-seed", seed),
    ];
    fdt::set_chosen(&old, &properties).ok_or(Errno::INVAL)
}

/// The first instructions: `ldr x17, kernel; ldr x0, tree; mov x1, xzr; mov x2, xzr; mov x3, xzr; br x17`.
fn entry(kernel: u64, tree: u64) -> [u32; 10] {
    let (low, high) = (|place: u64| (place & 0xFFFF_FFFF) as u32, |place: u64| (place >> 32) as u32);
    [
        0x5800_00D1,
        0x5800_00E0,
        0xAA1F_03E1,
        0xAA1F_03E2,
        0xAA1F_03E3,
        0xD61F_0220,
        low(kernel),
        high(kernel),
        low(tree),
        high(tree),
    ]
}
