//! Which epochs are under way. A rank begins one; the first to do so starts its run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use datafusion::common::internal_datafusion_err;
use futures::StreamExt;
use parking_lot::{Condvar, Mutex};

use super::dealer::{Dealer, Seat};
use super::equal::Equal;
use super::shard::SplitOptions;
use crate::dataset::Dataset;
use crate::error::{DataError, Result};
use crate::exchange::{Receiver, lane};
use crate::memory::Account;
use crate::session::{AbortOnDrop, blocking};

/// What the shards of one split share.
pub(super) struct Epochs {
    pub(super) dataset: Dataset,
    pub(super) options: SplitOptions,
    pub(super) ranks: usize,
    state: Mutex<State>,
    moved: Condvar,
}

struct State {
    /// For each rank the epochs it has begun; `None` when it is gone.
    begun: Vec<Option<u64>>,
    /// By number, those that a rank has begun and another has yet to.
    open: BTreeMap<u64, Arc<Open>>,
}

/// An epoch of which not every rank has taken its lane.
struct Open {
    entries: Mutex<Vec<Option<Entry>>>,
    dealer: Arc<AbortOnDrop<()>>,
}

/// A rank's part in an epoch.
pub(super) struct Entry {
    pub(super) lane: Receiver<Result<RecordBatch>>,
    pub(super) hungry: Arc<AtomicBool>,
}

impl Epochs {
    pub(super) fn new(dataset: Dataset, options: SplitOptions, ranks: usize) -> Self {
        let state = State { begun: vec![Some(0); ranks], open: BTreeMap::new() };
        Self { dataset, options, ranks, state: Mutex::new(state), moved: Condvar::new() }
    }

    /// Begins the rank's next epoch. The result keeps the run going that feeds it.
    pub(super) fn begin(&self, rank: usize) -> Result<(Entry, Arc<AbortOnDrop<()>>)> {
        let epoch = blocking(|| self.turn(rank))?;
        let mut state = self.state.lock();
        let open = if let Some(open) = state.open.get(&epoch) {
            open.clone()
        } else {
            let open = Arc::new(self.start(&state.begun)?);
            state.open.insert(epoch, open.clone());
            open
        };
        state.begun[rank] = Some(epoch + 1);
        // An epoch that all have begun, or left, is theirs alone.
        let oldest = state.begun.iter().flatten().min().copied().unwrap_or(0);
        let later = state.open.split_off(&oldest);
        let over = std::mem::replace(&mut state.open, later);
        drop(state);
        self.moved.notify_all();
        drop(over);
        let entry = open.entries.lock().get_mut(rank).and_then(Option::take);
        match entry {
            Some(entry) => Ok((entry, open.dealer.clone())),
            None => Err(internal_datafusion_err!("rank {rank} begins epoch {epoch} twice").into()),
        }
    }

    /// Waits until every other rank has begun the epoch before, so that no more than two are under way.
    fn turn(&self, rank: usize) -> Result<u64> {
        let deadline = Instant::now() + self.options.wait_limit;
        let mut state = self.state.lock();
        let epoch = state.begun[rank].unwrap_or(0);
        loop {
            let behind = state.begun.iter().position(|begun| begun.is_some_and(|begun| begun < epoch));
            let Some(behind) = behind else { return Ok(epoch) };
            if self.moved.wait_until(&mut state, deadline).timed_out() {
                let limit = self.options.wait_limit;
                return Err(DataError::SplitStalled { rank: behind, waits: rank, limit });
            }
        }
    }

    /// The rank is gone: the others go on without it.
    pub(super) fn leave(&self, rank: usize) {
        let mut state = self.state.lock();
        state.begun[rank] = None;
        let entries: Vec<_> = state.open.values().map(|open| open.entries.lock()[rank].take()).collect();
        if state.begun.iter().all(Option::is_none) {
            let over = std::mem::take(&mut state.open);
            drop(state);
            drop(over);
        } else {
            drop(state);
        }
        self.moved.notify_all();
        // What its lanes held goes back to the budget.
        drop(entries);
    }

    /// Starts a run that is dealt to all ranks that are there.
    fn start(&self, begun: &[Option<u64>]) -> Result<Open> {
        let session = self.dataset.session();
        let bytes = self.lane_bytes();
        let (mut seats, mut entries) = (Vec::new(), Vec::new());
        for begun in begun {
            let (sender, receiver) = lane(Account::open(session.budget(), 1, bytes, None));
            let hungry = Arc::new(AtomicBool::new(false));
            let is_there = begun.is_some();
            seats.push(Seat { lane: is_there.then_some(sender), hungry: hungry.clone(), rows: 0 });
            entries.push(is_there.then_some(Entry { lane: receiver, hungry }));
        }
        let schema = self.dataset.schema()?;
        let equal = self.options.equal.then(|| Equal::new(schema, self.ranks));
        let dealer = Dealer { seats, wait_limit: self.options.wait_limit, equal };
        let dataset = self.dataset.clone();
        let rows = session.block_on(async move { Ok(dataset.stream().await?.boxed()) })?;
        let task = session.compute()?.spawn(dealer.deal(rows));
        Ok(Open { entries: Mutex::new(entries), dealer: Arc::new(AbortOnDrop(task)) })
    }

    /// The room of each rank's lane.
    pub(super) fn lane_bytes(&self) -> usize {
        let all = self.options.prefetch_bytes.unwrap_or(self.dataset.session().config().prefetch_bytes);
        (all / self.ranks).max(1)
    }
}

/// How long a rank waits for the others before it is told.
pub(super) const WAIT_LIMIT: Duration = Duration::from_mins(10);
