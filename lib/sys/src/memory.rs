//! The program's memory: one list of free blocks per size, all cut from common ground.
//!
//! A daemon here holds some tens of kilobytes. An allocator with a region per size or thread touches a page for
//! each; this one fills pages one after the other. Blocks are never joined: a size that was needed once is kept
//! for the next need; when the program is at rest, the large ones among them give back their pages. What is larger than [`LARGEST`] comes from the kernel and goes back to it.
//!
//! The lock is held by no process that forks: `process::Spawn`'s child allocates nothing, and
//! `namespace::fork` refuses in a process with threads.

use crate::rest::{give_back, whole_pages};
use rustix::mm::{MapFlags, MremapFlags, ProtFlags, mmap_anonymous, mremap, munmap};
use std::alloc::{GlobalAlloc, Layout};
use std::ptr::{NonNull, null_mut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The largest block of a list, in bytes.
const LARGEST: usize = 16 << 10;
/// 16, 24, 32, 48, 64, 96, … up to [`LARGEST`].
const SIZES: usize = 21;
/// What every block is aligned to; a layout that wants more gets pages.
const ALIGNMENT: usize = 8;
/// How much ground the kernel is asked for; it becomes memory page by page, when touched.
const GROUND: usize = 64 << 10;

/// The smallest block, by its place, that may have a whole page behind its first bytes.
const LARGE: usize = 17;

/// The program's allocator, for `#[global_allocator]`.
#[derive(Debug)]
pub struct Memory;

static MEMORY: Allocator = Allocator::new();

/// Gives the kernel back the pages of free blocks.
pub(crate) fn trim() {
    MEMORY.blocks().trim();
}

#[derive(Debug, Default)]
struct Allocator(Mutex<Blocks>);

#[derive(Debug)]
struct Blocks {
    /// The first free block of each size; each begins with the address of the next.
    free: [*mut u8; SIZES],
    /// Ground that has not been cut yet, and how much.
    ground: *mut u8,
    left: usize,
}

// SAFETY: the pointers lead to memory that no thread owns.
unsafe impl Send for Blocks {}

impl Default for Blocks {
    fn default() -> Self {
        Self::new()
    }
}

impl Allocator {
    const fn new() -> Self {
        Self(Mutex::new(Blocks::new()))
    }

    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// SAFETY: as the allocator behind it.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by the caller's word.
        unsafe { MEMORY.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by the caller's word.
        unsafe { MEMORY.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: by the caller's word.
        unsafe { MEMORY.dealloc(block, layout) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: by the caller's word.
        unsafe { MEMORY.realloc(block, layout, size) }
    }
}

// SAFETY: blocks that are given out do not overlap and are as large and aligned as asked; nothing here panics.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match place(layout) {
            Some(place) => self.blocks().take(place).0,
            None => pages(layout.size()),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(place) = place(layout) else { return pages(layout.size()) };
        let (block, is_new) = self.blocks().take(place);
        if is_new || block.is_null() {
            return block;
        }
        // A buffer that holds a packet now and then becomes memory as far as that one fills it.
        // The others of its pages are zero in one go; to write them costs about as much.
        let (mut end, whole) = (layout.size(), whole_pages(block, size_at(place)));
        // SAFETY: nobody owns the block but the caller, who wants it zero.
        if place >= LARGE && unsafe { give_back(block, &whole) } {
            let (behind, past) = (whole.end, block.addr().wrapping_add(end));
            if behind < past {
                // SAFETY: the part behind the whole pages, within the block.
                unsafe { block.with_addr(behind).write_bytes(0, past - behind) };
            }
            end = end.min(whole.start.wrapping_sub(block.addr()));
        }
        // SAFETY: a block of that place has room for the layout.
        unsafe { block.write_bytes(0, end) };
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match place(layout) {
            Some(place) => self.blocks().give(place, block),
            // SAFETY: the caller gives back what `pages` gave out for this layout.
            None => drop(unsafe { munmap(block.cast(), layout.size()) }),
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller gives a size that is right for the alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (place(layout), place(wanted)) {
            (Some(old), Some(new)) if old == new => return block,
            (None, None) => {
                let (old, may_move) = (layout.size(), MremapFlags::MAYMOVE);
                // SAFETY: the caller gives the block up; it is whole pages.
                let moved = unsafe { mremap(block.cast(), old, size, may_move) };
                return moved.map_or(null_mut(), <*mut _>::cast);
            }
            _ => {}
        }
        // SAFETY: the layout is not empty, as the caller's must not be.
        let new = unsafe { self.alloc(wanted) };
        if !new.is_null() {
            // SAFETY: two blocks, each at least as large as the smaller of the sizes.
            unsafe { new.copy_from_nonoverlapping(block, layout.size().min(size)) };
            // SAFETY: the caller gives the block up.
            unsafe { self.dealloc(block, layout) };
        }
        new
    }
}

/// Which list has the blocks for `layout`; `None` is whole pages.
fn place(layout: Layout) -> Option<usize> {
    if layout.size() > LARGEST || layout.align() > ALIGNMENT {
        return None;
    }
    let most = layout.size().max(16).wrapping_sub(1);
    let power = most.checked_ilog2().unwrap_or(0);
    let upper_half = (most >> power.saturating_sub(1)) & 1;
    let place = usize::try_from(power).unwrap_or(0).wrapping_mul(2).wrapping_add(upper_half);
    // 15 is in the upper half of its power, 3: place 7, and the first list.
    Some(place.wrapping_sub(7))
}

/// How large the blocks at `place` are.
const fn size_at(place: usize) -> usize {
    (if place.is_multiple_of(2) { 16 } else { 24 }) << (place / 2)
}

fn pages(size: usize) -> *mut u8 {
    let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: a new mapping where the kernel finds room.
    let pages = unsafe { mmap_anonymous(null_mut(), size, access, flags) };
    pages.map_or(null_mut(), <*mut _>::cast)
}

impl Blocks {
    const fn new() -> Self {
        Self { free: [null_mut(); SIZES], ground: null_mut(), left: 0 }
    }

    /// A block, and whether it was never used: its bytes are zero then.
    fn take(&mut self, place: usize) -> (*mut u8, bool) {
        let Some(first) = self.free.get_mut(place) else { return (null_mut(), true) };
        let Some(block) = NonNull::new(*first) else { return (self.cut(size_at(place)), true) };
        // SAFETY: a free block begins with the address of the next, and is aligned for it.
        *first = unsafe { block.cast::<*mut u8>().read() };
        (block.as_ptr(), false)
    }

    fn give(&mut self, place: usize, block: *mut u8) {
        let Some(first) = self.free.get_mut(place) else { return };
        // SAFETY: the block belongs to nobody now; the smallest one has room for an address.
        unsafe { block.cast::<*mut u8>().write(*first) };
        *first = block;
    }

    /// Behind its first bytes a free block holds nothing: its whole pages go.
    fn trim(&self) {
        for (place, first) in self.free.iter().enumerate().skip(LARGE) {
            let mut next = *first;
            while let Some(block) = NonNull::new(next) {
                // SAFETY: every block has room for an address.
                let behind = unsafe { block.as_ptr().add(size_of::<*mut u8>()) };
                let room = size_at(place).wrapping_sub(size_of::<*mut u8>());
                // SAFETY: a free block holds nothing behind that.
                unsafe { give_back(behind, &whole_pages(behind, room)) };
                // SAFETY: a free block begins with the address of the next.
                next = unsafe { block.cast::<*mut u8>().read() };
            }
        }
    }

    fn cut(&mut self, size: usize) -> *mut u8 {
        if self.left < size {
            crate::rest::disturb();
            // What is left over stays untouched: no memory, only addresses.
            let ground = pages(GROUND);
            if ground.is_null() {
                return ground;
            }
            (self.ground, self.left) = (ground, GROUND);
        }
        let block = self.ground;
        // SAFETY: within the ground, as `left` says.
        self.ground = unsafe { block.add(size) };
        self.left = self.left.wrapping_sub(size);
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 8).unwrap()
    }

    #[test]
    fn every_size_has_a_block_that_holds_it_and_wastes_less_than_half() {
        for size in 1..=LARGEST {
            let place = place(layout(size)).unwrap();
            assert!(place < SIZES && size_at(place) >= size, "{size}: {place}");
            assert!(size <= 16 || size_at(place) * 2 < size * 3, "{size}: {}", size_at(place));
        }
        assert_eq!((place(layout(1)), place(layout(16)), place(layout(17))), (Some(0), Some(0), Some(1)));
        assert_eq!(size_at(SIZES - 1), LARGEST);
        assert_eq!(place(layout(LARGEST + 1)), None);
        assert_eq!(place(Layout::from_size_align(8, 16).unwrap()), None);
    }

    #[test]
    fn blocks_keep_their_bytes_through_any_order_of_calls_in_many_threads() {
        static ALLOCATOR: Allocator = Allocator::new();
        let work = |seed: u64| {
            let mut state = seed;
            let mut random = |below: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                usize::try_from(state % below).unwrap()
            };
            let mut held: Vec<(*mut u8, usize, u8)> = Vec::new();
            // SAFETY: each block is used within its size and given back once, with its layout.
            let check = |(block, size, mark): (*mut u8, usize, u8)| unsafe {
                assert!(std::slice::from_raw_parts(block, size).iter().all(|byte| *byte == mark));
                assert_eq!(block as usize % 8, 0);
            };
            for _ in 0..20_000 {
                let size = 1 + if random(8) == 0 { random(60_000) } else { random(300) };
                let mark = u8::try_from(random(256)).unwrap();
                match random(4) {
                    0 | 1 if held.len() < 200 => {
                        let zeroed = random(2) == 0;
                        let get = if zeroed { Allocator::alloc_zeroed } else { Allocator::alloc };
                        // SAFETY: as above.
                        let block = unsafe { get(&ALLOCATOR, layout(size)) };
                        if zeroed {
                            check((block, size, 0));
                        }
                        // SAFETY: as above.
                        unsafe { block.write_bytes(mark, size) };
                        held.push((block, size, mark));
                    }
                    2 if !held.is_empty() => {
                        let (block, old, was) = held.swap_remove(random(held.len() as u64));
                        check((block, old, was));
                        // SAFETY: as above.
                        let block = unsafe { ALLOCATOR.realloc(block, layout(old), size) };
                        check((block, old.min(size), was));
                        // SAFETY: as above.
                        unsafe { block.write_bytes(mark, size) };
                        held.push((block, size, mark));
                    }
                    _ if !held.is_empty() => {
                        let (block, size, mark) = held.swap_remove(random(held.len() as u64));
                        check((block, size, mark));
                        // SAFETY: as above.
                        unsafe { ALLOCATOR.dealloc(block, layout(size)) };
                    }
                    _ => {}
                }
            }
            held.into_iter().for_each(check);
        };
        std::thread::scope(|scope| {
            for seed in 1..=4 {
                scope.spawn(move || work(seed * 0x9e37_79b9));
            }
        });
    }

    #[test]
    fn free_blocks_lose_their_pages_and_stay_in_their_lists() {
        let allocator = Allocator::new();
        // SAFETY: the layout is not empty.
        let blocks = [0; 3].map(|_| unsafe { allocator.alloc(layout(LARGEST)) });
        for block in blocks {
            // SAFETY: as large as that, and given back once, with its layout.
            unsafe { block.write_bytes(7, LARGEST) };
            // SAFETY: as above.
            unsafe { allocator.dealloc(block, layout(LARGEST)) };
        }
        allocator.blocks().trim();
        for expected in blocks.iter().rev() {
            // SAFETY: the layout is not empty.
            let block = unsafe { allocator.alloc(layout(LARGEST)) };
            assert_eq!(block, *expected);
            // SAFETY: a block of that size, written or zero.
            let bytes = unsafe { std::slice::from_raw_parts(block, LARGEST) };
            assert!(bytes.iter().filter(|byte| **byte == 0).count() >= LARGEST - (8 << 10));
        }
    }

    #[test]
    fn what_is_given_back_is_used_again() {
        let allocator = Allocator::new();
        // SAFETY: the layout is not empty.
        let take = |size| unsafe { allocator.alloc(layout(size)) };
        let first = take(100);
        // SAFETY: given out for this layout, and given back once.
        unsafe { allocator.dealloc(first, layout(100)) };
        assert_eq!(take(120), first);
    }
}
