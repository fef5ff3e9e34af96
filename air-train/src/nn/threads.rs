//! A small pool for layers wide enough to share, with a fixed division of the work.

use std::sync::Arc;

use crate::{Result, TrainError};

/// Multiply-adds below which a product stays on the calling thread: about 50 µs, a few wake-ups' worth.
const WORTH_SHARING: usize = 1 << 20;

/// Values below which a pass over them stays on the calling thread.
const WORTH_PASSING: usize = 1 << 16;

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
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count - 1)
            .thread_name(|i| format!("air-nn-{i}"))
            .build()
            .map_err(|e| TrainError::config("threads", format!("cannot start {} threads: {e}", count - 1)))?;
        Ok(Self { count, pool: Some(Arc::new(pool)) })
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
        let (first, f) = (pieces.next(), &f);
        match &self.pool {
            Some(pool) => pool.in_place_scope(|scope| {
                for piece in pieces {
                    scope.spawn(move |_| f(piece));
                }
                first.into_iter().for_each(f);
            }),
            None => first.into_iter().chain(pieces).for_each(f),
        }
    }
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
