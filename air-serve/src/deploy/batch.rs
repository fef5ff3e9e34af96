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
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn batcher(max_batch_size: usize, window: Duration, capacity: usize) -> Batcher<u32> {
        Batcher::new(Policy { max_batch_size, window, capacity })
    }

    #[test]
    fn an_idle_replica_takes_what_is_there_at_once() {
        let mut batcher = batcher(8, Duration::ZERO, 10);
        batcher.push(ms(0), ms(1000), 1, 1).unwrap();
        batcher.push(ms(0), ms(1000), 1, 2).unwrap();
        assert_eq!(batcher.next(ms(0)), Next::Run(vec![1, 2]));
        assert_eq!(batcher.next(ms(0)), Next::Idle);
    }

    #[test]
    fn what_would_be_late_gives_way_to_a_full_batch_that_would_not() {
        let mut batcher = batcher(2, Duration::ZERO, 10);
        for (item, deadline) in [(1, 10), (2, 30), (3, 10), (4, 40)] {
            batcher.push(ms(0), ms(deadline), 1, item).unwrap();
        }
        assert_eq!(batcher.hopeless(ms(9)), [] as [u32; 0]);
        assert_eq!(batcher.hopeless(ms(10)), [1, 3]);
        assert_eq!(batcher.hopeless(ms(30)), [] as [u32; 0], "one alone is no full batch");
        assert_eq!(batcher.hopeless(ms(50)), [] as [u32; 0], "nothing else is there to run");
        assert_eq!(batcher.next(ms(0)), Next::Run(vec![2, 4]));
    }

    #[test]
    fn the_window_counts_from_the_oldest() {
        let mut batcher = batcher(3, ms(5), 10);
        batcher.push(ms(0), ms(1000), 1, 1).unwrap();
        batcher.push(ms(4), ms(1000), 1, 2).unwrap();
        assert_eq!(batcher.next(ms(4)), Next::WaitUntil(ms(5)));
        assert_eq!(batcher.next(ms(5)), Next::Run(vec![1, 2]));
    }

    #[test]
    fn a_replica_at_work_takes_what_fits_beside() {
        let mut batcher = batcher(4, ms(5), 10);
        for (item, size) in [(1, 1), (2, 1), (3, 3), (4, 1)] {
            batcher.push(ms(0), ms(1000), size, item).unwrap();
        }
        assert_eq!(batcher.beside(4), [] as [u32; 0]);
        assert_eq!(batcher.beside(7), [] as [u32; 0], "one that was larger than a batch may be runs alone");
        assert_eq!(batcher.beside(3), [1], "company is not waited for");
        assert_eq!(batcher.beside(0), [2, 3]);
        assert_eq!((batcher.len(), batcher.batches_before(ms(9))), (1, 1));
        assert_eq!(batcher.beside(3), [4]);
    }

    #[test]
    fn what_fits_never_passes_an_older_one_that_does_not() {
        let mut batcher = batcher(4, Duration::ZERO, 10);
        batcher.push(ms(0), ms(1000), 3, 1).unwrap();
        batcher.push(ms(0), ms(1000), 1, 2).unwrap();
        assert_eq!(batcher.beside(2), [] as [u32; 0]);
        assert_eq!(batcher.next(ms(0)), Next::Run(vec![1, 2]));
    }

    #[test]
    fn a_full_batch_does_not_wait() {
        let mut batcher = batcher(2, ms(5), 10);
        for item in 1..=3 {
            batcher.push(ms(0), ms(1000), 1, item).unwrap();
        }
        assert_eq!(batcher.next(ms(0)), Next::Run(vec![1, 2]));
        assert_eq!(batcher.next(ms(0)), Next::WaitUntil(ms(5)));
    }

    #[test]
    fn cancelling_makes_room_and_spares_the_model() {
        let mut batcher = batcher(4, Duration::ZERO, 2);
        let first = batcher.push(ms(0), ms(1000), 1, 1).unwrap();
        batcher.push(ms(0), ms(1000), 1, 2).unwrap();
        assert_eq!(batcher.push(ms(0), ms(1000), 1, 3), Err(Refused::Full(3)));
        assert_eq!(batcher.cancel(first), Some(1));
        assert_eq!(batcher.cancel(first), None);
        batcher.push(ms(0), ms(1000), 1, 3).unwrap();
        assert_eq!(batcher.next(ms(0)), Next::Run(vec![2, 3]));
    }

    #[test]
    fn closing_runs_what_waits_and_lets_nothing_in() {
        let mut batcher = batcher(4, ms(50), 4);
        batcher.push(ms(0), ms(1000), 1, 1).unwrap();
        batcher.close();
        assert_eq!(batcher.push(ms(0), ms(1000), 1, 2), Err(Refused::Closed(2)));
        assert_eq!(batcher.next(ms(0)), Next::Run(vec![1]));
        assert_eq!(batcher.next(ms(0)), Next::Closed);
    }

    #[test]
    fn sizes_are_summed_and_what_is_too_large_runs_alone() {
        let mut batcher = batcher(10, ms(5), 10);
        for (item, size) in [(1, 4), (2, 5), (3, 2), (4, 50), (5, 1)] {
            batcher.push(ms(0), ms(1000), size, item).unwrap();
        }
        assert_eq!(batcher.batches_before(ms(9)), 7);
        let batches: Vec<_> =
            (0..4).map(|_| batcher.next(ms(if batcher.len() < 3 { 5 } else { 0 }))).collect();
        let run = |items: &[u32]| Next::Run(items.to_vec());
        assert_eq!(batches, [run(&[1, 2]), run(&[3]), run(&[4]), run(&[5])]);
        assert_eq!((batcher.batches_before(ms(9)), batcher.next(ms(9))), (0, Next::Idle));
    }

    /// Of items of different sizes, the size of each.
    fn size_of(item: u32) -> usize {
        [1, 1, 3, 1, 2, 7][item as usize % 6]
    }

    #[derive(Clone, Debug)]
    enum Event {
        Push { patience: u64 },
        Cancel { nth: usize },
        Replica,
        Pass { time: u64 },
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (1..40u64).prop_map(|patience| Event::Push { patience }),
            1 => any::<usize>().prop_map(|nth| Event::Cancel { nth }),
            2 => Just(Event::Replica),
            2 => (0..15u64).prop_map(|time| Event::Pass { time }),
        ]
    }

    #[test]
    fn a_lower_priority_waits_only_for_those_that_come_soon_after_it() {
        let mut batcher = batcher(1, Duration::ZERO, 10);
        let aging = ms(100);
        batcher.push_behind(ms(0), ms(9000), 1, aging, 1).unwrap();
        batcher.push_behind(ms(1), ms(9000), 1, 2 * aging, 2).unwrap();
        batcher.push_behind(ms(50), ms(9000), 1, Duration::ZERO, 3).unwrap();
        batcher.push_behind(ms(101), ms(9000), 1, Duration::ZERO, 4).unwrap();
        let cancelled = batcher.push_behind(ms(101), ms(9000), 1, Duration::ZERO, 5).unwrap();
        assert_eq!(batcher.batches_before(ms(100)), 2);
        assert_eq!(batcher.cancel(cancelled), Some(5));
        let order: Vec<_> = (0..4).map(|_| batcher.next(ms(102))).collect();
        assert_eq!(order, [3, 1, 4, 2].map(|item| Next::Run(vec![item])));
    }

    #[test]
    fn some_can_be_taken_and_the_others_keep_their_order() {
        let mut batcher = batcher(1, Duration::ZERO, 10);
        for item in 0..6 {
            batcher.push(ms(u64::from(item)), ms(1000), 1, item).unwrap();
        }
        assert_eq!(batcher.take_wanted(2, |_, item| item % 2 == 1), (vec![1, 3], Some(ms(0))));
        assert_eq!(batcher.take_wanted(9, |since, _| since == ms(0)), (vec![0], Some(ms(2))));
        assert_eq!(batcher.batches_before(ms(9)), 3);
        assert_eq!(batcher.take_wanted(9, |_, _| true), (vec![2, 4, 5], None));
        assert_eq!((batcher.len(), batcher.batches_before(ms(9))), (0, 0));
    }

    #[test]
    fn the_window_counts_from_the_oldest_wherever_it_stands() {
        let mut batcher = batcher(3, ms(5), 10);
        batcher.push_behind(ms(0), ms(1000), 1, ms(100), 1).unwrap();
        batcher.push(ms(4), ms(1000), 1, 2).unwrap();
        assert_eq!(batcher.next(ms(4)), Next::WaitUntil(ms(5)));
        assert_eq!(batcher.next(ms(5)), Next::Run(vec![2, 1]));
    }

    proptest! {
        /// Requests go in the order of their priority and then of their coming; none is overtaken by one that comes later than the aging of
        /// its levels; each is taken once; any can be cancelled.
        #[test]
        fn priorities_go_first_and_starve_nobody(
            events in prop::collection::vec((0..4u32, 0..30u64, 0..6usize), 1..120)
        ) {
            let aging = 20;
            let mut batcher = batcher(1, Duration::ZERO, 1000);
            let (mut now, mut waiting) = (0, Vec::<(u64, u64, u64)>::new()); // rank, since, id
            for (level, passed, then) in events {
                now += passed;
                let delay = u64::from(level) * aging;
                let id = batcher.push_behind(ms(now), ms(1 << 40), 1, ms(delay), level).unwrap();
                waiting.push((now + delay, now, id));
                if then == 0 {
                    let (.., id) = waiting.swap_remove(waiting.len() / 2);
                    prop_assert!(batcher.cancel(id).is_some());
                } else if then < 4 {
                    let at = (0..waiting.len()).min_by_key(|at| (waiting[*at].0, waiting[*at].2)).unwrap();
                    let (rank, since, _) = waiting.swap_remove(at);
                    prop_assert_eq!(batcher.next(ms(now)), Next::Run(vec![((rank - since) / aging) as u32]));
                    // Whoever was passed over came less than the aging of its levels before.
                    prop_assert!(waiting.iter().all(|other| other.1 > since || since - other.1 <= other.0 - other.1));
                }
                prop_assert_eq!(batcher.len(), waiting.len());
                prop_assert_eq!(batcher.batches_before(ms(1 << 41)), waiting.len());
            }
        }
    }

    proptest! {
        /// Whatever happens in whatever order: every request ends exactly once; none runs that was cancelled or is late; batches are in
        /// order and within the limits; the queue never exceeds its capacity; a replica waits only inside the oldest one's window.
        #[test]
        fn every_request_ends_once_and_in_order(
            size in 1..6usize, window in 0..20u64, capacity in 1..12usize, events in prop::collection::vec(event(), 0..200)
        ) {
            let mut batcher = batcher(size, ms(window), capacity);
            let mut now = 0;
            let mut alive: Vec<(u64, u64, u64, u32)> = Vec::new(); // id, since, deadline, item
            let mut item = 0;
            for event in events {
                match event {
                    Event::Pass { time } => now += time,
                    Event::Push { patience } => {
                        item += 1;
                        match batcher.push(ms(now), ms(now + patience), size_of(item), item) {
                            Ok(id) => alive.push((id, now, now + patience, item)),
                            Err(refused) => {
                                prop_assert_eq!(refused, Refused::Full(item));
                                prop_assert_eq!(alive.len(), capacity);
                            }
                        }
                    }
                    Event::Cancel { nth } => {
                        if !alive.is_empty() {
                            let (id, _, _, item) = alive.remove(nth % alive.len());
                            prop_assert_eq!(batcher.cancel(id), Some(item));
                        }
                    }
                    Event::Replica => {
                        let late: Vec<u32> = alive.iter().filter(|a| a.2 <= now).map(|a| a.3).collect();
                        prop_assert_eq!(batcher.expire(ms(now)), late);
                        alive.retain(|a| a.2 > now);
                        match batcher.next(ms(now)) {
                            Next::Run(batch) => {
                                let total: usize = batch.iter().map(|item| size_of(*item)).sum();
                                prop_assert!(batch.len() == 1 || (!batch.is_empty() && total <= size));
                                let first: Vec<u32> = alive.drain(..batch.len()).map(|a| a.3).collect();
                                prop_assert_eq!(&batch, &first);
                                // Work-conserving: it leaves something behind only if that does not fit.
                                prop_assert!(alive.is_empty() || total + size_of(alive[0].3) > size);
                            }
                            Next::WaitUntil(at) => {
                                prop_assert!(alive.iter().map(|a| size_of(a.3)).sum::<usize>() < size);
                                prop_assert_eq!(at, ms(alive[0].1 + window));
                                prop_assert!(at > ms(now));
                            }
                            Next::Idle => prop_assert!(alive.is_empty()),
                            Next::Closed => prop_assert!(false, "never closed"),
                        }
                    }
                }
                prop_assert_eq!(batcher.len(), alive.len());
                prop_assert!(batcher.len() <= capacity);
            }
        }
    }
}
