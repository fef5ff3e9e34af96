//! A small pool for layers wide enough to share, with a fixed division of the work.

use std::sync::Arc;

use crate::{Result, TrainError};

/// Multiply-adds below which a product stays on the calling thread: about 50 µs, a few wake-ups' worth.
const WORTH_SHARING: usize = 1 << 20;

/// Runs pieces of one job on `count` threads. Work is divided by count alone, so results do not depend on timing.
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
            .num_threads(count)
            .thread_name(|i| format!("air-nn-{i}"))
            .build()
            .map_err(|e| TrainError::config("threads", format!("cannot start {count} threads: {e}")))?;
        Ok(Self { count, pool: Some(Arc::new(pool)) })
    }

    /// How many pieces a job of `multiply_adds` over `rows` rows is cut into.
    pub(super) fn pieces(&self, multiply_adds: usize, rows: usize) -> usize {
        if self.pool.is_none() || multiply_adds < WORTH_SHARING { 1 } else { self.count.min(rows.max(1)) }
    }

    /// Calls `f` once for each piece, at the same time, and returns when all are done.
    pub(super) fn each<T: Send>(&self, pieces: Vec<T>, f: impl Fn(T) + Sync) {
        match &self.pool {
            Some(pool) if pieces.len() > 1 => pool.scope(|scope| {
                for piece in pieces {
                    let f = &f;
                    scope.spawn(move |_| f(piece));
                }
            }),
            _ => pieces.into_iter().for_each(f),
        }
    }
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Threads").field(&self.count).finish()
    }
}
