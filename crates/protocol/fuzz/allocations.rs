//! Holds decoding to its bound of allocations.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use klamm_protocol::reader::{ALLOCATION_BASE, ALLOCATION_PER_BYTE};

struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATED.try_with(|total| total.set(total.get() + layout.size()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Runs `decode` of an input of `len` bytes and counts what it allocates, freed or not.
pub fn assert_bounded<T>(len: usize, decode: impl FnOnce() -> T) -> T {
    let before = ALLOCATED.get();
    let value = decode();
    let allocated = ALLOCATED.get() - before;
    let bound = ALLOCATION_BASE + ALLOCATION_PER_BYTE * len;
    assert!(allocated <= bound, "{allocated} bytes allocated for an input of {len}");
    value
}
