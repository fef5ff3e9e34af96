//! [`Budget`]: the books of [`Ledger`] for threads and futures.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use arrow::array::RecordBatch;
use datafusion::execution::TaskContext;
use serde::{Deserialize, Serialize};

use super::ledger::{Ledger, QueueId, Waited};
use super::machine;
use super::parcel::Parcel;
use super::pool::BudgetPool;
use super::sync::Mutex;

/// The bytes that datasets may take: queued batches, kept ones, and what sorts, joins and aggregations hold.
///
/// All sessions that set no limit of their own share one, [`Budget::shared`]; so a process has one number, whatever it runs. A clone is
/// another handle on the same budget.
#[derive(Clone)]
pub struct Budget {
    books: Arc<Mutex<Ledger<Waker>>>,
}

/// How much of a [`Budget`] is in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BudgetUse {
    /// All there is, in bytes.
    pub limit_bytes: u64,
    /// In use now: the sum of the three below.
    pub in_use_bytes: u64,
    /// Arrow buffers that wait in queues, each once.
    pub queued_bytes: u64,
    /// Arrow buffers kept by `materialize`, `repartition` and `split`.
    pub kept_bytes: u64,
    /// What sorts, joins and aggregations have reserved.
    pub operator_bytes: u64,
    /// The most that was in use at any time.
    pub peak_bytes: u64,
}

impl Budget {
    /// A budget of its own.
    pub fn new(limit_bytes: u64) -> Self {
        let limit = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
        Self { books: Arc::new(Mutex::new(Ledger::new(limit))) }
    }

    /// The process's budget: half of the memory that the machine has or that the process's control group allows.
    pub fn shared() -> Self {
        static SHARED: OnceLock<Budget> = OnceLock::new();
        SHARED.get_or_init(|| Self::new(machine::memory_bytes() / 2)).clone()
    }

    /// The budget of the session that a task belongs to.
    pub(crate) fn of(context: &TaskContext) -> Self {
        let pool: &dyn std::any::Any = context.memory_pool().as_ref();
        pool.downcast_ref::<BudgetPool>().map_or_else(Self::shared, |pool| pool.budget().clone())
    }

    /// All there is, in bytes.
    pub fn limit_bytes(&self) -> u64 {
        self.books.lock().limit() as u64
    }

    /// How much of it is in use.
    pub fn usage(&self) -> BudgetUse {
        let books = self.books.lock();
        BudgetUse {
            limit_bytes: books.limit() as u64,
            in_use_bytes: books.in_use() as u64,
            queued_bytes: books.queued() as u64,
            kept_bytes: books.kept() as u64,
            operator_bytes: books.reserved() as u64,
            peak_bytes: books.peak() as u64,
        }
    }

    /// Keeps a batch's allocations, if there is room for those that are new.
    pub(crate) fn keep(&self, batch: &RecordBatch) -> Option<Kept> {
        let parcel = Parcel::of(batch);
        let kept = self.books.lock().keep(&parcel.parts);
        kept.then(|| Kept { budget: self.clone(), parcel })
    }

    /// Allocations that somebody else holds as long as the result lives: queueing them costs nothing.
    pub(crate) fn lend(&self, batches: &[RecordBatch]) -> Kept {
        let parcel = Parcel::of_all(batches);
        self.books.lock().lend(&parcel.parts);
        Kept { budget: self.clone(), parcel }
    }

    pub(super) fn read<T>(&self, f: impl FnOnce(&Ledger<Waker>) -> T) -> T {
        f(&self.books.lock())
    }

    /// Changes the books, then wakes whom that let in.
    pub(super) fn change<T>(&self, f: impl FnOnce(&mut Ledger<Waker>, &mut Vec<Waker>) -> T) -> T {
        let mut wakes = Vec::new();
        let result = f(&mut self.books.lock(), &mut wakes);
        wakes.into_iter().for_each(Waker::wake);
        result
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usage = self.usage();
        write!(f, "Budget({} of {} bytes)", usage.in_use_bytes, usage.limit_bytes)
    }
}

/// Allocations that are kept; dropping it lets go of them.
#[derive(Debug)]
pub(crate) struct Kept {
    budget: Budget,
    parcel: Parcel,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.budget.change(|books, wakes| books.unkeep(&self.parcel.parts, wakes));
    }
}

/// Bytes that wait in the queues of one operator.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    now: AtomicUsize,
    peak: AtomicUsize,
}

impl Watch {
    fn more(&self, bytes: usize) {
        let now = self.now.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(now, Ordering::Relaxed);
    }

    fn less(&self, bytes: usize) {
        self.now.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Now, and the most there were.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        (self.now.load(Ordering::Relaxed), self.peak.load(Ordering::Relaxed))
    }
}

/// A queue's account: what may enter, and when. It has one producer.
#[derive(Debug)]
pub(crate) struct Account {
    budget: Budget,
    id: QueueId,
    watch: Option<Arc<Watch>>,
}

impl Account {
    /// `stage` is the queue's distance from the consumer, `limit_bytes` what may wait in it at most.
    pub(crate) fn open(
        budget: &Budget,
        stage: usize,
        limit_bytes: usize,
        watch: Option<Arc<Watch>>,
    ) -> Arc<Self> {
        let id = budget.books.lock().open(stage, limit_bytes);
        Arc::new(Self { budget: budget.clone(), id, watch })
    }

    /// Waits until the parcel may enter. `None` when the consumer has gone.
    pub(crate) fn enter(self: &Arc<Self>, parcel: Parcel) -> Entering {
        Entering { account: self.clone(), parcel, stage: Stage::New }
    }

    /// Charges what is there already.
    pub(crate) fn force(self: &Arc<Self>, parcel: Parcel) -> Charge {
        self.budget.books.lock().force(self.id, &parcel);
        Charge::new(self.clone(), parcel)
    }

    /// Nothing enters any more.
    pub(crate) fn close(&self) {
        self.budget.change(|books, wakes| books.close(self.id, wakes));
    }

    /// Items and bytes inside.
    pub(crate) fn usage(&self) -> (usize, usize) {
        self.budget.read(|books| books.queue(self.id))
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.budget.change(|books, wakes| books.remove(self.id, wakes));
    }
}

/// A parcel's place in a queue; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Arc<Account>,
    parcel: Parcel,
}

impl Charge {
    fn new(account: Arc<Account>, parcel: Parcel) -> Self {
        if let Some(watch) = &account.watch {
            watch.more(parcel.weight());
        }
        Self { account, parcel }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(watch) = &self.account.watch {
            watch.less(self.parcel.weight());
        }
        self.account.budget.change(|books, wakes| books.leave(self.account.id, &self.parcel, wakes));
    }
}

/// A parcel on its way into a queue. Dropping it gives up.
#[must_use = "nothing enters until it is awaited"]
pub(crate) struct Entering {
    account: Arc<Account>,
    parcel: Parcel,
    stage: Stage,
}

enum Stage {
    New,
    Waiting,
    Done,
}

impl Entering {
    fn charge(&mut self) -> Poll<Option<Charge>> {
        self.stage = Stage::Done;
        Poll::Ready(Some(Charge::new(self.account.clone(), self.parcel.clone())))
    }
}

impl Future for Entering {
    type Output = Option<Charge>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut waker = cx.waker().clone();
        let id = this.account.id;
        let waited = match this.stage {
            Stage::New => this.account.budget.change(|books, _| {
                let waited = books.enter(id, &this.parcel);
                if waited == Waited::Pending {
                    books.wait(id, this.parcel.clone(), waker);
                }
                waited
            }),
            // The waker it gave before is dropped here, outside the lock.
            Stage::Waiting => this.account.budget.change(|books, _| books.check(id, &mut waker)),
            Stage::Done => return Poll::Ready(None),
        };
        match waited {
            Waited::In => this.charge(),
            Waited::Pending => {
                this.stage = Stage::Waiting;
                Poll::Pending
            }
            Waited::Closed => {
                this.stage = Stage::Done;
                Poll::Ready(None)
            }
        }
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        if matches!(self.stage, Stage::Waiting) {
            let id = self.account.id;
            let granted = self.account.budget.change(|books, wakes| books.withdraw(id, wakes));
            if granted {
                drop(self.charge());
            }
        }
    }
}
