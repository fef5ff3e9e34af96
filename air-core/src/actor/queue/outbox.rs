//! What the taker works from: taking, and what is in hand meanwhile.

use std::task::{Context, Poll, Waker};

use super::super::sync::Ordering;
use super::lanes::Lanes;
use super::{Full, Queue};

/// What the taker works from.
pub(super) struct Outbox<T, E> {
    pub(super) lanes: Lanes<T>,
    /// The life that may take; 0 is none.
    pub(super) owner: u64,
    /// Why the owner is to stop after its current message, leaving what waits.
    pub(super) interrupted: Option<E>,
    /// The item taken last, by which life, and those taken with it.
    in_hand: Option<(u64, T)>,
    also_in_hand: Vec<T>,
    /// The news as of which the inbox was left empty, where that says something: as long as they stay the same, it is empty.
    empty_at: Option<usize>,
    /// The news as of which the taker's waker was left in the inbox, and the waker: as long as they stay the same, it is there.
    told_at: Option<usize>,
    taker: Option<Waker>,
}

impl<T, E> Outbox<T, E> {
    pub(super) fn new(groups: usize) -> Self {
        Self {
            lanes: Lanes::new(groups),
            owner: 0,
            interrupted: None,
            in_hand: None,
            also_in_hand: Vec::new(),
            empty_at: None,
            told_at: None,
            taker: None,
        }
    }

    /// From now on this life takes, or none.
    pub(super) fn give_to(&mut self, owner: u64) {
        (self.owner, self.empty_at, self.told_at, self.taker) = (owner, None, None, None);
    }

    pub(super) fn is_for(&self, generation: u64) -> bool {
        self.owner == generation && self.interrupted.is_none()
    }

    /// Whether the inbox is as empty as it was, and the taker, if there is one to be told, will be told of what comes.
    fn is_still_empty(&self, news: usize, taker: Option<&Waker>) -> bool {
        let is_told = |taker| {
            self.told_at == Some(news) && self.taker.as_ref().is_some_and(|told| told.will_wake(taker))
        };
        self.empty_at == Some(news) && taker.is_none_or(is_told)
    }

    /// Leaves the taker's waker in the inbox.
    fn leave(&mut self, taker: &Waker, inbox: &mut Option<Waker>, news: usize) {
        let told = match &mut self.taker {
            Some(told) if told.will_wake(taker) => told,
            other => other.insert(taker.clone()),
        };
        if !inbox.as_ref().is_some_and(|there| there.will_wake(told)) {
            *inbox = Some(told.clone());
        }
        self.told_at = Some(news);
    }

    /// What this life has in hand, or any.
    fn let_go(&mut self, life: Option<u64>) -> (Option<T>, Vec<T>) {
        match self.in_hand.take_if(|(holder, _)| life.is_none_or(|life| life == *holder)) {
            Some((_, first)) => (Some(first), std::mem::take(&mut self.also_in_hand)),
            None => (None, Vec::new()),
        }
    }
}

impl<T: Clone, E: Clone> Queue<T, E> {
    /// The next item for this generation that is of none of the groups it is full for, if one is there; `Ready(None)` once it is to
    /// stop.
    pub(in super::super) fn take(&self, generation: u64, full: Full) -> Poll<Option<T>> {
        self.take_or_tell(generation, full, None)
    }

    /// As [`take`](Self::take), and wakes the taker when there is something new; also some time after it has taken the last item.
    pub(in super::super) fn poll_take(
        &self,
        generation: u64,
        full: Full,
        cx: &mut Context<'_>,
    ) -> Poll<Option<T>> {
        self.take_or_tell(generation, full, Some(cx.waker()))
    }

    fn take_or_tell(&self, generation: u64, full: Full, taker: Option<&Waker>) -> Poll<Option<T>> {
        // Dropped when the locks are free again: what it holds is the user's.
        let _handled;
        let mut outbox = self.outbox.0.lock();
        _handled = outbox.let_go(Some(generation));
        if !outbox.is_for(generation) {
            return Poll::Ready(None);
        }
        let hurry = self.hurry.load(Ordering::Acquire) != 0;
        let mut next = if hurry { None } else { outbox.lanes.next(full) };
        if next.is_none() {
            if outbox.is_still_empty(self.news(), taker) {
                return Poll::Pending;
            }
            let mut inbox = self.inbox.0.lock();
            self.hurry.store(0, Ordering::Relaxed);
            next = outbox.lanes.refill(&mut inbox.items, full);
            // Only changed under this lock.
            let news = self.news.load(Ordering::Relaxed);
            // Who finishes is to see that it is over.
            outbox.empty_at = if inbox.finishing { None } else { Some(news) };
            // With the last item too: as a rule the next look finds nothing, and then it is already done.
            if let Some(taker) = taker
                && (next.is_none() || outbox.lanes.is_empty())
            {
                outbox.leave(taker, &mut inbox.taker, news);
            }
            if next.is_none() {
                // Also when all is drained: the taker may go on with what it has taken, and can still be interrupted.
                let over = inbox.finishing && outbox.lanes.is_empty();
                return if over { Poll::Ready(None) } else { Poll::Pending };
            }
        }
        let Some((lane, item)) = next else { return Poll::Pending };
        outbox.in_hand = Some((generation, item.clone()));
        if let Some(lane) = lane {
            self.took(outbox, lane, 1);
        }
        Poll::Ready(Some(item))
    }

    /// Further items of the lane that was taken from last, as long as they are `alike`, at most `most`. The order is kept: the first
    /// one that is not alike ends it.
    pub(in super::super) fn take_alike(
        &self,
        generation: u64,
        most: usize,
        alike: impl Fn(&T) -> bool,
    ) -> Vec<T> {
        let mut outbox = self.outbox.0.lock();
        if !outbox.is_for(generation) {
            return Vec::new();
        }
        self.empty(&mut self.inbox.0.lock(), &mut outbox);
        let (taken, lane) = (outbox.lanes.alike(most, alike), outbox.lanes.last);
        outbox.also_in_hand.extend_from_slice(&taken);
        if let Some(lane) = lane.filter(|_| !taken.is_empty()) {
            self.took(outbox, lane, taken.len());
        }
        taken
    }

    /// The item this generation took last, unless it has been left behind.
    pub(in super::super) fn in_hand(&self, generation: u64) -> Option<T> {
        self.outbox.0.lock().in_hand.clone().filter(|(life, _)| *life == generation).map(|(_, item)| item)
    }

    /// Lets go of what this generation has in hand, unless it has been left behind.
    pub(in super::super) fn let_go(&self, generation: u64) -> impl Iterator<Item = T> {
        let (first, others) = self.outbox.0.lock().let_go(Some(generation));
        first.into_iter().chain(others)
    }

    /// Takes away what is in hand, whoever took it.
    pub(in super::super) fn take_from_hand(&self) -> impl Iterator<Item = T> {
        let (first, others) = self.outbox.0.lock().let_go(None);
        first.into_iter().chain(others)
    }

    /// Whether something is in hand.
    pub(in super::super) fn is_busy(&self) -> bool {
        self.outbox.0.lock().in_hand.is_some()
    }
}
