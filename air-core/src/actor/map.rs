//! Work streamed over a group: many messages, few in flight, answers in order or as they come.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::iter::{Enumerate, FusedIterator};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures::stream::{FuturesUnordered, StreamExt};

use super::error::{AskError, Reason};
use super::group::Group;
use super::how::Takes;
use super::mailbox::Mailbox;
use super::message::{Message, Worker};
use super::park::block_on;

impl<W: Worker> Group<W> {
    /// Asks the group's workers one message for each item, and gives the answers in the order of the items. Items are drawn as answers are
    /// taken: at any time at most [`in_flight`](Map::in_flight) of them are out (default: two for each rank). Each goes to the rank that has the
    /// fewest of them. Dropping the iterator withdraws what has not been handled.
    pub fn map<I, M, How, F>(&self, items: I, message: F) -> Map<W, I::IntoIter, M, F, How>
    where
        I: IntoIterator,
        M: Message,
        How: 'static,
        W: Takes<M, How>,
        F: FnMut(I::Item) -> M,
    {
        Map {
            ranks: self.ranks().to_vec(),
            out: vec![0; self.size()],
            limit: 2 * self.size(),
            items: items.into_iter().enumerate(),
            message,
            flying: FuturesUnordered::new(),
            arrived: VecDeque::new(),
            landed: BTreeMap::new(),
            next: 0,
            retry_lost: false,
            copy: None,
            tries: 0,
            how: PhantomData,
        }
    }
}

/// See [`Group::map`].
#[must_use = "a map asks nothing until its answers are taken"]
pub struct Map<W: Worker, I: Iterator, M: Message, F, How> {
    ranks: Vec<Mailbox<W>>,
    /// How many each rank has.
    out: Vec<usize>,
    limit: usize,
    items: Enumerate<I>,
    message: F,
    flying: FuturesUnordered<Flight<M>>,
    /// Those that were there as soon as they were asked for.
    arrived: VecDeque<Landed<M>>,
    /// Answers that came before their turn.
    landed: BTreeMap<usize, Answer<M>>,
    /// The item whose turn it is.
    next: usize,
    retry_lost: bool,
    copy: Option<fn(&M) -> M>,
    tries: usize,
    how: PhantomData<fn() -> How>,
}

/// What became of one message.
type Answer<M> = Result<<M as Message>::Reply, AskError<M>>;

type Flight<M> = Pin<Box<dyn Future<Output = Landed<M>> + Send>>;

struct Landed<M: Message> {
    item: usize,
    rank: usize,
    /// How often it was asked before.
    tried: usize,
    copy: Option<M>,
    result: Answer<M>,
}

impl<W, I, M, F, How> Map<W, I, M, F, How>
where
    W: Takes<M, How>,
    I: Iterator,
    M: Message,
    F: FnMut(I::Item) -> M,
    How: 'static,
{
    /// Sets how many messages may be out, answers that wait for their turn included; at least one.
    pub fn in_flight(mut self, messages: usize) -> Self {
        self.limit = messages.max(1);
        self
    }

    /// Asks another rank when a message comes back because its rank has ended for good. It never ran, so this is safe.
    pub fn retry_lost(mut self) -> Self {
        self.retry_lost = true;
        self
    }

    /// Asks again, up to `times` for each message, when the worker died while it handled it. The message may have had effects, so this is
    /// for messages that may be handled twice.
    pub fn retry_died(mut self, times: usize) -> Self
    where
        M: Clone,
    {
        self.copy = Some(M::clone);
        self.tries = times;
        self
    }

    /// Gives the answers as they come, each with the number of its item from 0.
    pub fn as_completed(self) -> AsCompleted<W, I, M, F, How> {
        AsCompleted(self)
    }

    /// Keeps as many out as there may be.
    fn fill(&mut self) {
        while self.flying.len() + self.arrived.len() + self.landed.len() < self.limit
            && let Some((item, content)) = self.items.next()
        {
            let message = (self.message)(content);
            self.ask(item, message, 0);
        }
    }

    fn ask(&mut self, item: usize, message: M, tried: usize) {
        // Among equals the first, and one that has ended only if all have.
        let ranks = self.ranks.iter().zip(&self.out).enumerate();
        let rank =
            ranks.min_by_key(|(_, (rank, out))| (rank.ended().is_some(), **out)).map_or(0, |(rank, _)| rank);
        self.out[rank] += 1;
        let mailbox = self.ranks[rank].clone();
        let copy = self.copy.filter(|_| tried < self.tries).map(|copy| copy(&message));
        let mut flight: Flight<M> = Box::pin(async move {
            let result = mailbox.send(message).await.await;
            Landed { item, rank, tried, copy, result }
        });
        // Sent now: left to the first wait, those behind an answer that is there at once would stay at home until the next one.
        match flight.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(landed) => self.arrived.push_back(landed),
            Poll::Pending => self.flying.push(flight),
        }
    }

    /// The next answer, whosever it is.
    fn land(&mut self) -> Option<(usize, Answer<M>)> {
        loop {
            let landed = self.arrived.pop_front().or_else(|| block_on(self.flying.next()));
            let Landed { item, rank, tried, copy, result } = landed?;
            self.out[rank] -= 1;
            match (result, copy) {
                (Err(AskError::Undelivered { message, reason: Reason::Closed(_) }), _)
                    if self.retry_lost && self.ranks.iter().any(|rank| rank.ended().is_none()) =>
                {
                    self.ask(item, message, tried);
                }
                (Err(AskError::Died(_)), Some(copy)) => self.ask(item, copy, tried + 1),
                (result, _) => return Some((item, result)),
            }
        }
    }
}

impl<W, I, M, F, How> Iterator for Map<W, I, M, F, How>
where
    W: Takes<M, How>,
    I: Iterator,
    M: Message,
    F: FnMut(I::Item) -> M,
    How: 'static,
{
    type Item = Answer<M>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.fill();
            if let Some(result) = self.landed.remove(&self.next) {
                self.next += 1;
                return Some(result);
            }
            let (item, result) = self.land()?;
            self.landed.insert(item, result);
        }
    }
}

impl<W, I, M, F, How> FusedIterator for Map<W, I, M, F, How>
where
    W: Takes<M, How>,
    I: Iterator + FusedIterator,
    M: Message,
    F: FnMut(I::Item) -> M,
    How: 'static,
{
}

impl<W: Worker, I: Iterator, M: Message, F, How> fmt::Debug for Map<W, I, M, F, How> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("limit", &self.limit).field("out", &self.out).finish_non_exhaustive()
    }
}

/// See [`Map::as_completed`].
#[derive(Debug)]
#[must_use = "a map asks nothing until its answers are taken"]
pub struct AsCompleted<W: Worker, I: Iterator, M: Message, F, How>(Map<W, I, M, F, How>);

impl<W, I, M, F, How> Iterator for AsCompleted<W, I, M, F, How>
where
    W: Takes<M, How>,
    I: Iterator,
    M: Message,
    F: FnMut(I::Item) -> M,
    How: 'static,
{
    type Item = (usize, Answer<M>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.fill();
        self.0.land()
    }
}
