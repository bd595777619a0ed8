//! What a hit costs beyond the clone of its value: no allocation, no runtime. Counted per thread by an allocator.
#![cfg(feature = "tokio")]

use samovar::{Cache, Policy, minutes};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches a constant-initialised thread local
// without a destructor, which allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above, that is from the system's allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn a_hit_allocates_nothing_and_needs_no_runtime() {
    let cache: Cache<String, u64> = Cache::builder().build();
    let policy = Policy::ttl(minutes(5));
    cache.insert("user:7".into(), 7, policy);
    cache.insert("user:8".into(), 8, policy);
    let got = allocations(|| {
        assert_eq!((cache.get("user:7"), cache.get("user:8"), cache.contains("user:7")), (Some(7), Some(8), true));
    });
    let awaited = allocations(|| {
        let hit = pin!(cache.get_or_load("user:7", policy, |_| async { Ok::<_, Infallible>(0) }));
        assert!(matches!(hit.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(7))));
    });
    let missed = allocations(|| assert_eq!(cache.get("nobody"), None));
    assert_eq!((got, awaited, missed), (0, 0, 0));
    assert!(allocations(|| cache.insert("user:9".into(), 9, policy)) > 0, "the allocator counts");
}
