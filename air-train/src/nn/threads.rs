//! A small pool for layers wide enough to share, with a fixed division of the work.

use std::cell::{Cell, RefCell};
use std::iter;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use air_core::awake::{Awake, Patience};

use crate::{Result, TrainError};

/// Multiply-adds below which a product stays on the calling thread: about 50 µs, a few wake-ups' worth.
const WORTH_SHARING: usize = 1 << 20;

/// Values below which a pass over them stays on the calling thread.
const WORTH_PASSING: usize = 1 << 16;

/// How long a thread without a piece waits awake for one: about as long as it would take to wake it.
const LONGEST: Duration = Duration::from_micros(200);

/// Runs pieces of one job on `count` threads, of which the caller's is one. Work is divided by count alone, so results do not depend on timing.
#[derive(Clone)]
pub(super) struct Threads {
    count: usize,
    pool: Option<Arc<rayon::ThreadPool>>,
}

impl Threads {
    pub(super) fn new(count: usize) -> Result<Self> {
        if count == 0 || count > 256 {
            return Err(TrainError::config("threads", format!("must be between 1 and 256, not {count}")));
        }
        if count == 1 {
            return Ok(Self { count, pool: None });
        }
        POOLS.with_borrow_mut(|pools| {
            pools.retain(|(_, pool)| pool.strong_count() > 0);
            let there = pools.iter().find(|(size, _)| *size == count).and_then(|(_, pool)| pool.upgrade());
            if there.is_some() {
                return Ok(Self { count, pool: there });
            }
            let pool = start(count)?;
            pools.push((count, Arc::downgrade(&pool)));
            Ok(Self { count, pool: Some(pool) })
        })
    }

    /// How many pieces a job of `multiply_adds` over `rows` rows is cut into.
    pub(super) fn pieces(&self, multiply_adds: usize, rows: usize) -> usize {
        if self.pool.is_none() || multiply_adds < WORTH_SHARING { 1 } else { self.count.min(rows.max(1)) }
    }

    /// How many pieces a pass over `values` values is cut into.
    pub(super) fn parts(&self, values: usize) -> usize {
        if values < WORTH_PASSING { 1 } else { self.count }
    }

    /// Calls `f` once for each piece, at the same time, and returns when all are done. The caller takes the first.
    pub(super) fn each<T: Send>(&self, pieces: impl IntoIterator<Item = T>, f: impl Fn(T) + Sync) {
        let mut pieces = pieces.into_iter();
        let (first, second, f) = (pieces.next(), pieces.next(), &f);
        let (Some(pool), Some(second)) = (&self.pool, second) else { return first.into_iter().for_each(f) };
        let _awake = Awake::enter();
        let running = &AtomicUsize::new(0);
        pool.in_place_scope(|scope| {
            for piece in iter::once(second).chain(pieces) {
                running.fetch_add(1, Ordering::Relaxed);
                scope.spawn(move |_| {
                    f(piece);
                    running.fetch_sub(1, Ordering::Relaxed);
                    linger();
                });
            }
            let began = Instant::now();
            first.into_iter().for_each(f);
            // Only to stay awake: that the pieces are done, and their panics, is the scope's to say. They are of one size, so what
            // the first took the others need too, from whenever they woke.
            Patience::up_to(began.elapsed().max(LONGEST)).wait(|| running.load(Ordering::Relaxed) == 0);
        });
    }
}

/// Starts the threads that help the caller.
fn start(count: usize) -> Result<Arc<rayon::ThreadPool>> {
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(count - 1).thread_name(|i| format!("air-nn-{i}")).build();
    pool.map(Arc::new)
        .map_err(|e| TrainError::config("threads", format!("cannot start {} threads: {e}", count - 1)))
}

thread_local! {
    // What is made on one thread takes turns on it, a network and its optimiser say, and so shares one set of helpers: each with its
    // own would only wake threads that the other's keep from their cores.
    static POOLS: RefCell<Vec<(usize, Weak<rayon::ThreadPool>)>> = const { RefCell::new(Vec::new()) };
    static PATIENCE: Cell<Patience> = const { Cell::new(Patience::up_to(LONGEST)) };
    static LINGERS: Cell<bool> = const { Cell::new(false) };
}

/// Keeps a thread of the pool awake, after the piece it runs now, for as long as more pieces are likely to come soon: the passes of a
/// training step follow one another in less time than waking a thread takes.
fn linger() {
    if LINGERS.get() {
        return;
    }
    rayon::spawn(|| {
        if LINGERS.replace(true) {
            return;
        }
        let mut patience = PATIENCE.get();
        while patience.wait(|| rayon::yield_now() == Some(rayon::Yield::Executed)) {}
        PATIENCE.set(patience);
        LINGERS.set(false);
    });
}

/// One thread.
impl Default for Threads {
    fn default() -> Self {
        Self { count: 1, pool: None }
    }
}

/// Equal if they divide work alike.
impl PartialEq for Threads {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count
    }
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Threads").field(&self.count).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread::{self, ThreadId};

    use parking_lot::Mutex;

    use super::*;

    /// Which threads take part, and what each piece leaves.
    fn ran(threads: &Threads, pieces: usize) -> (Vec<usize>, Vec<ThreadId>) {
        let mut out = vec![0; pieces];
        let who = Mutex::new(Vec::new());
        threads.each(out.iter_mut().enumerate(), |(i, out)| {
            *out = i + 1;
            who.lock().push(thread::current().id());
        });
        (out, who.into_inner())
    }

    #[test]
    fn every_piece_runs_once_and_one_piece_stays_with_the_caller() {
        let threads = Threads::new(3).unwrap();
        for pieces in 0..7 {
            let (out, who) = ran(&threads, pieces);
            assert_eq!(out, (1..=pieces).collect::<Vec<_>>());
            assert_eq!(who.len(), pieces);
            assert_eq!(who.contains(&thread::current().id()), pieces > 0);
        }
    }

    #[test]
    fn what_one_thread_makes_shares_its_helpers_and_others_do_not() {
        let pool = |threads: &Threads| threads.pool.as_ref().map(Arc::as_ptr).map(|pool| pool as usize);
        let (net, adam, wider) =
            (Threads::new(2).unwrap(), Threads::new(2).unwrap(), Threads::new(3).unwrap());
        assert_eq!(pool(&net), pool(&adam));
        assert_ne!(pool(&net), pool(&wider));
        let elsewhere = thread::spawn(|| Threads::new(2).unwrap()).join().unwrap();
        assert_ne!(pool(&net), pool(&elsewhere));
    }

    #[test]
    fn a_panic_in_a_piece_reaches_the_caller_and_the_helpers_go_on() {
        let threads = Threads::new(2).unwrap();
        for broken in [0, 1] {
            let outcome =
                catch_unwind(AssertUnwindSafe(|| threads.each(0..2, |i| assert_ne!(i, broken, "piece {i}"))));
            assert!(outcome.is_err());
            assert_eq!(ran(&threads, 4).0, [1, 2, 3, 4]);
        }
    }
}
