//! Ranked workers that are addressed together.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::error::AskError;
use super::how::Takes;
use super::mailbox::Mailbox;
use super::message::{Message, Worker};
use super::pending::Pending;
use crate::error::{CoreError, Result};

/// A worker's place in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rank {
    /// From 0.
    pub rank: usize,
    /// How many there are.
    pub world: usize,
}

/// N ranked workers under one supervisor.
pub struct Group<W: Worker> {
    ranks: Vec<Mailbox<W>>,
    next: AtomicUsize,
    /// How many ranks there are, for lives that begin.
    world: Arc<AtomicUsize>,
    add: AddRank<W>,
}

/// Starts the worker of a rank.
pub(super) type AddRank<W> = Box<dyn Fn(usize) -> Result<Mailbox<W>> + Send + Sync>;

impl<W: Worker> Group<W> {
    pub(super) fn new(ranks: Vec<Mailbox<W>>, world: Arc<AtomicUsize>, add: AddRank<W>) -> Self {
        Self { ranks, next: AtomicUsize::new(0), world, add }
    }

    /// Adds ranks at the end, or takes them from there, until there are `size`. Those that leave are returned: they handle what waits
    /// and end. The others go on as they are, under their numbers; [`Rank::world`] is the new size for lives that begin from now on.
    ///
    /// # Errors
    /// [`CoreError::Config`] if `size` is zero; if a worker cannot be started, in which case those started before it stay.
    pub fn resize(&mut self, size: usize) -> Result<Vec<Mailbox<W>>> {
        if size == 0 {
            return Err(CoreError::Config {
                message: "a group needs at least one worker; `stop` ends them all".into(),
            });
        }
        self.world.store(size, Ordering::Relaxed);
        let leaving = self.ranks.split_off(size.min(self.ranks.len()));
        leaving.iter().for_each(Mailbox::stop);
        for rank in self.ranks.len()..size {
            match (self.add)(rank) {
                Ok(worker) => self.ranks.push(worker),
                Err(error) => {
                    self.world.store(self.ranks.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(leaving)
    }

    /// How many workers.
    pub fn size(&self) -> usize {
        self.ranks.len()
    }

    /// One rank's mailbox; `None` beyond the last.
    pub fn rank(&self, rank: usize) -> Option<&Mailbox<W>> {
        self.ranks.get(rank)
    }

    /// All mailboxes, in order of rank.
    pub fn ranks(&self) -> &[Mailbox<W>] {
        &self.ranks
    }

    /// Asks every rank the same; waits for room, not for answers.
    pub fn broadcast<M: Message + Clone, How: 'static>(&self, message: &M) -> Vec<Pending<M>>
    where
        W: Takes<M, How>,
    {
        self.ranks.iter().map(|rank| rank.send_blocking(message.clone())).collect()
    }

    /// Asks rank `i` the `i`-th message. `messages` must be as many as the group has ranks; else they come back.
    pub fn scatter<M: Message, How: 'static>(&self, messages: Vec<M>) -> Result<Vec<Pending<M>>, Vec<M>>
    where
        W: Takes<M, How>,
    {
        if messages.len() != self.ranks.len() {
            return Err(messages);
        }
        Ok(self.ranks.iter().zip(messages).map(|(rank, message)| rank.send_blocking(message)).collect())
    }

    /// Waits for all answers, in order of rank.
    pub fn gather<M: Message>(&self, pending: Vec<Pending<M>>) -> Vec<Result<M::Reply, AskError<M>>> {
        pending.into_iter().map(Pending::wait).collect()
    }

    /// The next worker in turn.
    pub fn round_robin(&self) -> &Mailbox<W> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        &self.ranks[turn % self.ranks.len()]
    }

    /// The worker with the fewest messages waiting; among equals, the next in turn.
    pub fn least_loaded(&self) -> &Mailbox<W> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let len = self.ranks.len();
        let least = (0..len).map(|i| (turn + i) % len).min_by_key(|&i| self.ranks[i].queued());
        &self.ranks[least.unwrap_or(0)]
    }

    /// Ends every worker once it has handled what waits.
    pub fn stop(&self) {
        self.ranks.iter().for_each(Mailbox::stop);
    }
}

impl<W: Worker> fmt::Debug for Group<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("size", &self.size()).finish_non_exhaustive()
    }
}
