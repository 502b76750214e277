//! What an input may cost: memory, by an allocator that counts, and time, by a thread that watches.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Computing time after which an input counts as a hang.
pub const SLOW: Duration = Duration::from_secs(2);
/// Time on the clock after which it does, however little it computes.
const STUCK: Duration = Duration::from_secs(20);

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counting what is asked of it.
#[derive(Debug)]
pub struct Counting;

fn grown(bytes: usize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(held, Ordering::Relaxed);
}

// SAFETY: every call is handed on to the system's allocator as it came; the counters are no part of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller's promises are those that are asked here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller's promises are those that are asked here.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grown(size);
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those that are asked here.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those that are asked here.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs `work`; the bytes that were asked for beyond what was held before.
pub fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let made = work();
    (made, MOST.load(Ordering::Relaxed).saturating_sub(before))
}

/// Ends the process when an input takes too long.
#[derive(Debug)]
pub struct Watch {
    /// The number of the input that runs; zero between inputs.
    running: &'static AtomicU64,
}

impl Watch {
    /// Begins to watch, from a thread that lives as long as the process.
    pub fn start() -> std::io::Result<Self> {
        static RUNNING: AtomicU64 = AtomicU64::new(0);
        std::thread::Builder::new().name("watch".into()).spawn(watch)?;
        fn watch() {
            let mut seen = (0, Instant::now(), computed());
            loop {
                std::thread::sleep(Duration::from_millis(50));
                let number = RUNNING.load(Ordering::Relaxed);
                if number == 0 || number != seen.0 {
                    seen = (number, Instant::now(), computed());
                } else if computed() - seen.2 > SLOW || seen.1.elapsed() > STUCK {
                    eprintln!("an input takes more than {SLOW:?}");
                    std::process::exit(3);
                }
            }
        }
        Ok(Self { running: &RUNNING })
    }

    /// Input `number`, counted from one, runs from now on.
    pub fn begin(&self, number: u64) {
        self.running.store(number, Ordering::Relaxed);
    }

    /// It has ended.
    pub fn end(&self) {
        self.running.store(0, Ordering::Relaxed);
    }
}

/// Computing time of this process. Time on the clock would blame an input for what else the machine does.
fn computed() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
