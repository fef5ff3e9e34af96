//! When to dispatch what: a pure type (no clock, thread or I/O), so that it is tested exhaustively in simulated time.
//!
//! Batching is work-conserving: whoever asks gets what waits at once, and never waits for company unless a window was asked for. While all
//! replicas are busy the queue fills, so full batches form under load by themselves. The window counts from the *oldest* request.

use std::collections::VecDeque;
use std::time::Duration;

/// The limits of a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// Most requests in a batch, or most of what they are measured in; at least 1.
    pub max_batch_size: usize,
    /// How long the oldest request may wait for company.
    pub window: Duration,
    /// Most requests that may wait; at least 1.
    pub capacity: usize,
}

/// Requests that wait, in the order of when they came, or count as having come: one may be put behind those that come within some time after it, as
/// requests of a lower priority are. So whatever comes, none is overtaken for longer than that. Times are on any one clock.
pub(crate) struct Batcher<T> {
    policy: Policy,
    waiting: VecDeque<Waiting<T>>,
    /// Whether some of those that wait came later than one that is behind them.
    is_mixed: bool,
    /// The sizes of those that wait.
    total: usize,
    next_id: u64,
    closed: bool,
}

struct Waiting<T> {
    id: u64,
    since: Duration,
    /// When it counts as having come.
    rank: Duration,
    deadline: Duration,
    size: usize,
    item: T,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<T> {
    /// Run these, oldest first.
    Run(Vec<T>),
    /// Ask again at this time, or when something was pushed.
    WaitUntil(Duration),
    /// Ask again when something was pushed.
    Idle,
    /// Nothing waits and nothing will.
    Closed,
}

/// Why a request was not let in; it comes back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused<T> {
    Full(T),
    Closed(T),
}

impl<T> Batcher<T> {
    pub(crate) fn new(policy: Policy) -> Self {
        Batcher { policy, waiting: VecDeque::new(), is_mixed: false, total: 0, next_id: 0, closed: false }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How many batches those make that wait and go before one that counts as coming at that time.
    pub(crate) fn batches_before(&self, rank: Duration) -> usize {
        let is_last = self.waiting.back().is_none_or(|last| last.rank <= rank);
        let size = if is_last { self.total } else { self.before(rank).map(|waiting| waiting.size).sum() };
        size.div_ceil(self.policy.max_batch_size)
    }

    fn before(&self, rank: Duration) -> impl Iterator<Item = &Waiting<T>> {
        self.waiting.iter().take_while(move |waiting| waiting.rank <= rank)
    }

    /// Lets a request of this size in; the id is for [`Batcher::cancel`].
    #[cfg(test)]
    pub(crate) fn push(
        &mut self,
        now: Duration,
        deadline: Duration,
        size: usize,
        item: T,
    ) -> Result<u64, Refused<T>> {
        self.push_behind(now, deadline, size, Duration::ZERO, item)
    }

    /// Lets a request of this size in, behind those that come within `delay` after it; the id is for [`Batcher::cancel`].
    pub(crate) fn push_behind(
        &mut self,
        now: Duration,
        deadline: Duration,
        size: usize,
        delay: Duration,
        item: T,
    ) -> Result<u64, Refused<T>> {
        if self.closed {
            return Err(Refused::Closed(item));
        }
        if self.waiting.len() >= self.policy.capacity {
            return Err(Refused::Full(item));
        }
        let id = self.next_id;
        self.admit(now, deadline, size, delay, item);
        Ok(id)
    }

    /// Lets a request in that has been let in before, whatever the limits.
    pub(crate) fn admit(&mut self, now: Duration, deadline: Duration, size: usize, delay: Duration, item: T) {
        let id = self.next_id;
        self.next_id += 1;
        self.total = self.total.saturating_add(size);
        let waiting = Waiting { id, since: now, rank: now.saturating_add(delay), deadline, size, item };
        if self.waiting.back().is_none_or(|last| last.rank <= waiting.rank) {
            self.is_mixed &= !self.waiting.is_empty();
            self.waiting.push_back(waiting);
        } else {
            self.is_mixed = true;
            let at = self.waiting.partition_point(|other| other.rank <= waiting.rank);
            self.waiting.insert(at, waiting);
        }
    }

    /// Takes out at most so many of those that `wanted` says, in order; it is given when each came. Says when the first came of those that it did
    /// not want.
    pub(crate) fn take_wanted(
        &mut self,
        most: usize,
        mut wanted: impl FnMut(Duration, &T) -> bool,
    ) -> (Vec<T>, Option<Duration>) {
        let (mut taken, mut left, mut first) =
            (Vec::new(), VecDeque::with_capacity(self.waiting.len()), None);
        for waiting in self.waiting.drain(..) {
            if taken.len() < most && wanted(waiting.since, &waiting.item) {
                self.total -= waiting.size;
                taken.push(waiting.item);
            } else {
                let before: Duration = first.unwrap_or(waiting.since);
                first = Some(before.min(waiting.since));
                left.push_back(waiting);
            }
        }
        self.waiting = left;
        (taken, first)
    }

    /// Takes out the one that goes first.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let first = self.waiting.pop_front()?;
        self.total -= first.size;
        Some(first.item)
    }

    fn take(&mut self, count: usize) -> Vec<T> {
        let taken: Vec<_> = self.waiting.drain(..count).collect();
        self.total -= taken.iter().map(|waiting| waiting.size).sum::<usize>();
        taken.into_iter().map(|waiting| waiting.item).collect()
    }

    /// Takes a request out, if it still waits. It makes room at once.
    pub(crate) fn cancel(&mut self, id: u64) -> Option<T> {
        let index = if self.is_mixed {
            self.waiting.iter().position(|waiting| waiting.id == id)?
        } else {
            self.waiting.binary_search_by_key(&id, |waiting| waiting.id).ok()?
        };
        let waiting = self.waiting.remove(index)?;
        self.total -= waiting.size;
        Some(waiting.item)
    }

    /// Takes out those whose deadline has come. They will never run.
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<T> {
        // The common case, all deadlines equal, looks at the first only.
        if self.waiting.iter().all(|waiting| waiting.deadline > now) {
            return Vec::new();
        }
        let (late, timely) = self.waiting.drain(..).partition::<Vec<_>, _>(|waiting| waiting.deadline <= now);
        self.waiting = timely.into();
        self.total -= late.iter().map(|waiting| waiting.size).sum::<usize>();
        late.into_iter().map(|waiting| waiting.item).collect()
    }

    /// Takes out those whose deadline comes by then, which is before they could be answered, if the others make a full batch. Else they may as well be tried:
    /// the estimate may be wrong, and nobody is kept waiting. After a moment in which nothing ran, the queue would otherwise be worked off in order with each
    /// just too late.
    pub(crate) fn hopeless(&mut self, by: Duration) -> Vec<T> {
        let timely = self.waiting.iter().filter(|waiting| waiting.deadline > by);
        let (count, size) =
            timely.fold((0, 0usize), |(count, size), waiting| (count + 1, size.saturating_add(waiting.size)));
        if count == self.waiting.len() || size < self.policy.max_batch_size {
            return Vec::new();
        }
        self.expire(by)
    }

    /// What a replica that has nothing to do should do. Call [`Batcher::expire`] first.
    pub(crate) fn next(&mut self, now: Duration) -> Next<T> {
        let Some(first) = self.waiting.front() else {
            return if self.closed { Next::Closed } else { Next::Idle };
        };
        let oldest = if self.is_mixed {
            self.waiting.iter().map(|waiting| waiting.since).min().unwrap_or(first.since)
        } else {
            first.since
        };
        let due = oldest.saturating_add(self.policy.window);
        let full = self.total >= self.policy.max_batch_size;
        if !full && !self.closed && now < due {
            return Next::WaitUntil(due);
        }
        let mut size = 0usize;
        let fits = |waiting: &&Waiting<T>| {
            size = size.saturating_add(waiting.size);
            size <= self.policy.max_batch_size
        };
        // One that is larger than a batch may be runs alone.
        let count = self.waiting.iter().take_while(fits).count().max(1);
        Next::Run(self.take(count))
    }

    /// What a replica takes in that is still at work on others, which count for `occupied`: what fits beside them, without waiting for company. The
    /// oldest is never passed over for one that would fit.
    pub(crate) fn beside(&mut self, occupied: usize) -> Vec<T> {
        let mut size = occupied;
        let fits = |waiting: &&Waiting<T>| {
            size = size.saturating_add(waiting.size);
            size <= self.policy.max_batch_size
        };
        let count = self.waiting.iter().take_while(fits).count();
        self.take(count)
    }

    /// Lets nothing in any more; what waits is still run, without waiting for company.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }
}

#[cfg(test)]
mod tests;
