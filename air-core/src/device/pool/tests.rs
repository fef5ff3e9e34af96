#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::books::rounded;
use super::*;
use crate::device::Device;
use crate::device::uses::tests::Fake;

/// The heap as a device: memory of a fixed size, exact about what it gave and got back.
#[derive(Clone)]
struct Heap {
    given: Arc<Mutex<HashMap<u64, Box<[u8]>>>>,
    capacity: usize,
    asked: Arc<AtomicUsize>,
}

impl Heap {
    fn new(capacity: usize) -> Self {
        Self { given: Arc::default(), capacity, asked: Arc::default() }
    }

    fn given_bytes(&self) -> usize {
        self.given.lock().values().map(|memory| memory.len()).sum()
    }
}

impl Source for Heap {
    type Fence = Fake;

    fn allocate(&self, bytes: usize) -> Result<Option<u64>, DeviceError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.given_bytes() + bytes > self.capacity {
            return Ok(None);
        }
        let memory = vec![0_u8; bytes].into_boxed_slice();
        let address = memory.as_ptr().addr() as u64;
        self.given.lock().insert(address, memory);
        Ok(Some(address))
    }

    fn free(&self, address: u64, bytes: usize) {
        let memory = self.given.lock().remove(&address).unwrap();
        assert_eq!(memory.len(), bytes);
    }

    fn full(&self, bytes: usize, now: MemoryUse) -> DeviceError {
        DeviceError::OutOfMemory {
            device: Device::Cuda(0),
            asked_bytes: bytes as u64,
            in_use_bytes: now.in_use_bytes,
            free_bytes: (self.capacity - self.given_bytes()) as u64,
            limit_bytes: now.limit_bytes,
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Take { bytes: usize, stream: StreamId },
    TakeDone { bytes: usize },
    Use { which: usize, stream: StreamId, writes: bool },
    Drop { which: usize },
    Finish { which: usize },
    GiveBack,
    Limit(Option<u64>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let stream = 0..3_u64;
    let bytes = prop_oneof![Just(100_usize), Just(5000), Just(5100), Just(20_000), 1..30_000_usize];
    let step = prop_oneof![
        6 => (bytes.clone(), stream.clone()).prop_map(|(bytes, stream)| Step::Take { bytes, stream }),
        2 => bytes.prop_map(|bytes| Step::TakeDone { bytes }),
        5 => (any::<usize>(), stream, any::<bool>())
            .prop_map(|(which, stream, writes)| Step::Use { which, stream, writes }),
        6 => any::<usize>().prop_map(|which| Step::Drop { which }),
        3 => any::<usize>().prop_map(|which| Step::Finish { which }),
        1 => Just(Step::GiveBack),
        1 => prop::option::of(0..150_000_u64).prop_map(Step::Limit),
    ];
    prop::collection::vec(step, 1..120)
}

/// Work on a stream is done in order: what comes before something that is done is done.
fn settle(fences: &[(StreamId, Fake)]) {
    for stream in 0..3 {
        let own = fences.iter().rev().filter(|(by, _)| *by == stream).map(|(_, fence)| fence);
        own.skip_while(|fence| !fence.is_done()).for_each(Fake::finish);
    }
}

proptest! {
    /// Against the simplest account there is: what is held, what the heap gave, and every use that goes on.
    #[test]
    fn the_books_are_exact_and_nothing_is_handed_out_twice(steps in steps()) {
        const CAPACITY: usize = 120_000;
        let heap = Heap::new(CAPACITY);
        let pool = Pool::new(heap.clone(), None);
        let mut held: Vec<(Held<Heap>, usize)> = Vec::new();
        // By address: the uses that go on, also of memory that is no longer held.
        let mut uses: HashMap<u64, Vec<(StreamId, Fake)>> = HashMap::new();
        let mut fences: Vec<(StreamId, Fake)> = Vec::new();
        let (mut limit, mut peak) = (None, 0);
        for step in steps {
            match step {
                Step::Take { bytes, stream } => {
                    let before = held.iter().map(|(_, bytes)| bytes).sum::<usize>();
                    let taken = pool.take(bytes, stream);
                    settle(&fences);
                    match taken {
                        Ok(memory) => {
                            prop_assert!(held.iter().all(|(other, _)| other.address() != memory.address()));
                            let going_on = uses.entry(memory.address()).or_default();
                            going_on.retain(|(by, fence)| *by != stream && !fence.is_done());
                            prop_assert!(going_on.is_empty());
                            held.push((memory, rounded(bytes)));
                        }
                        Err(error) => {
                            // Only where it does not fit with nothing kept, and it says how much there is.
                            let then = before + rounded(bytes);
                            prop_assert!(then > CAPACITY || limit.is_some_and(|limit| then as u64 > limit));
                            prop_assert_eq!(heap.given_bytes(), before);
                            let expected = DeviceError::OutOfMemory {
                                device: Device::Cuda(0),
                                asked_bytes: bytes as u64,
                                in_use_bytes: before as u64,
                                free_bytes: (CAPACITY - before) as u64,
                                limit_bytes: limit,
                            };
                            prop_assert_eq!(error, expected);
                        }
                    }
                }
                Step::TakeDone { bytes } => {
                    let taken = pool.take_done(bytes);
                    settle(&fences);
                    if let Ok(memory) = taken {
                        prop_assert!(held.iter().all(|(other, _)| other.address() != memory.address()));
                        let going_on = uses.entry(memory.address()).or_default();
                        prop_assert!(going_on.iter().all(|(_, fence)| fence.is_done()));
                        held.push((memory, rounded(bytes)));
                    }
                }
                Step::Use { which, stream, writes } if !held.is_empty() => {
                    let memory = &held[which % held.len()].0;
                    let access = if writes { Access::Write } else { Access::Read };
                    for fence in memory.before(access, stream) {
                        fence.wait(); // The test's streams do their work at once, when they wait for it.
                    }
                    let fence = Fake::default();
                    memory.note(access, stream, fence.clone());
                    uses.entry(memory.address()).or_default().push((stream, fence.clone()));
                    fences.push((stream, fence));
                }
                Step::Drop { which } if !held.is_empty() => {
                    let which = which % held.len();
                    held.swap_remove(which);
                }
                Step::Finish { which } if !fences.is_empty() => fences[which % fences.len()].1.finish(),
                Step::GiveBack => pool.give_back(),
                Step::Limit(to) => {
                    limit = to;
                    pool.limit(limit);
                }
                _ => {}
            }
            settle(&fences);
            // Memory given back to the heap may come again at its address, with nothing going on.
            uses.retain(|address, _| heap.given.lock().contains_key(address));
            let in_use = held.iter().map(|(_, bytes)| bytes).sum::<usize>();
            peak = peak.max(in_use);
            let now = pool.in_use();
            prop_assert_eq!(now.in_use_bytes, in_use as u64);
            prop_assert_eq!(now.cached_bytes, (heap.given_bytes() - in_use) as u64);
            prop_assert_eq!((now.peak_bytes, now.limit_bytes), (peak as u64, limit));
        }
        drop(held);
        drop(pool);
        prop_assert_eq!(heap.given_bytes(), 0);
    }
}

#[test]
fn a_loop_asks_the_source_once_for_each_size() {
    let heap = Heap::new(1 << 20);
    let pool = Pool::new(heap.clone(), None);
    for step in 0..1000 {
        let (a, b) = (pool.take(10_000, 7).unwrap(), pool.take(50_000, 7).unwrap());
        for memory in [&a, &b] {
            memory.note(Access::Write, 7, Fake::default()); // never done, as far as the host knows
        }
        assert_eq!(heap.asked.load(Ordering::Relaxed), 2, "step {step}");
    }
    let now = pool.in_use();
    assert_eq!((now.allocations, now.reuses, now.in_use_bytes), (2, 1998, 0));
}

#[test]
fn another_stream_gets_what_is_kept_only_when_its_work_is_done() {
    let pool = Pool::new(Heap::new(1 << 20), None);
    let fence = Fake::default();
    let first = pool.take(1000, 1).unwrap();
    let address = first.address();
    first.note(Access::Write, 1, fence.clone());
    drop(first);
    let elsewhere = pool.take(1000, 2).unwrap();
    assert_ne!(elsewhere.address(), address);
    fence.finish();
    assert_eq!(pool.take(1000, 2).unwrap().address(), address);
}

#[test]
fn what_is_kept_is_given_back_before_memory_runs_out() {
    let heap = Heap::new(10 * 1024);
    let pool = Pool::new(heap.clone(), None);
    drop((0..10).map(|_| pool.take(1024, 1).unwrap()).collect::<Vec<_>>());
    assert_eq!(pool.in_use().cached_bytes, 10 * 1024);
    let large = pool.take(9 * 1024, 1).unwrap(); // fits only when nothing is kept
    assert_eq!(heap.given_bytes(), 9 * 1024);
    let error = pool.take(2048, 1).err().unwrap();
    assert_eq!(
        error.to_string(),
        "cuda:0 is out of memory: 2048 bytes asked for, 9216 in use by this process, 1024 free"
    );
    drop(large);
    pool.take(2048, 1).unwrap();
}

#[test]
fn a_limit_is_kept_and_named() {
    let pool = Pool::new(Heap::new(1 << 20), Some(4096));
    let held = pool.take(4096, 1).unwrap();
    let error = pool.take(1, 1).err().unwrap();
    assert!(error.to_string().ends_with(", limit 4096"), "{error}");
    drop(held);
    pool.limit(Some(1024));
    assert_eq!(pool.in_use().cached_bytes, 0);
}

#[test]
fn the_host_waits_at_the_limit_and_goes_beyond_only_where_nothing_is_kept() {
    let heap = Heap::new(1 << 20);
    let pool = Pool::new(heap.clone(), Some(2048));
    let fence = Fake::default();
    let first = pool.take_done(2048).unwrap();
    let address = first.address();
    first.note(Access::Read, 1, fence.clone());
    drop(first);
    let again = pool.take_done(2048).unwrap();
    assert_eq!(again.address(), address);
    assert!(fence.is_done(), "the work on it was not waited for");
    let beyond = pool.take_done(2048).unwrap();
    assert_eq!(pool.in_use().in_use_bytes, 4096);
    drop((again, beyond));
    assert_eq!(heap.given_bytes(), 2048, "what is beyond the limit is not kept");
}
