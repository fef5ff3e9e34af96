//! Threads that share the work of a step, with a fixed division of it.

use std::cell::Cell;
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use air_core::awake::{Awake, Patience};

use crate::llm::LlmError;

/// How long a thread without a piece waits awake for one: about as long as it would take to wake it.
const LONGEST: Duration = Duration::from_micros(200);

/// Runs pieces of one job on `count` threads, of which the caller's is one.
#[derive(Clone, Debug)]
pub(crate) struct Team {
    count: usize,
    pool: Option<Arc<rayon::ThreadPool>>,
}

impl Team {
    pub(crate) fn new(count: usize) -> Result<Self, LlmError> {
        if count == 0 || count > 256 {
            let message = format!("`threads` must be between 1 and 256, not {count}");
            return Err(LlmError::Config { message });
        }
        let start = |count| {
            rayon::ThreadPoolBuilder::new().num_threads(count).thread_name(|i| format!("air-llm-{i}")).build()
        };
        let pool = (count > 1).then(|| start(count - 1).map(Arc::new)).transpose();
        let pool = pool.map_err(|error| LlmError::Config {
            message: format!("cannot start {} threads: {error}", count - 1),
        })?;
        Ok(Team { count, pool })
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Calls `f` once for each piece and returns when all are done. The caller takes the first.
    pub(super) fn each<T: Send>(&self, pieces: impl IntoIterator<Item = T>, f: impl Fn(T) + Sync) {
        let mut pieces = pieces.into_iter();
        let Some(pool) = &self.pool else { return pieces.for_each(f) };
        let (first, second, f) = (pieces.next(), pieces.next(), &f);
        let Some(second) = second else { return first.into_iter().for_each(f) };
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
            // Only to stay awake: that the pieces are done, and their panics, is the scope's to say. They are of about one size.
            Patience::up_to(began.elapsed().max(LONGEST)).wait(|| running.load(Ordering::Relaxed) == 0);
        });
    }
}

thread_local! {
    static PATIENCE: Cell<Patience> = const { Cell::new(Patience::up_to(LONGEST)) };
    static LINGERS: Cell<bool> = const { Cell::new(false) };
}

/// Keeps a helper awake after its piece for as long as more are likely to come soon: the products of a step follow one another in less time than
/// waking a thread takes.
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
