//! [`Acquire`]: a request for resources, and the ways to wait for it.

use std::future::{Future, IntoFuture};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use tokio::sync::oneshot;

use super::error::{Owner, ResourceError};
use super::fair::Ticket;
use super::lease::Lease;
use super::ledger::Ask;
use super::pool::ResourcePool;

/// A request for resources. Await it, [`wait`](Self::wait) for it, or take it only if it is free [`now`](Self::now).
///
/// A request that can never be granted is refused at once. Giving up the wait withdraws the request.
#[must_use = "nothing is asked for until the request is awaited"]
pub struct Acquire<T = Lease> {
    pool: ResourcePool,
    ask: Result<Ask, ResourceError>,
    owner: Owner,
    within: Option<Duration>,
    finish: fn(Lease) -> T,
}

impl<T> Acquire<T> {
    pub(super) fn new(pool: ResourcePool, ask: Result<Ask, ResourceError>, finish: fn(Lease) -> T) -> Self {
        Self { pool, ask, owner: None, within: None, finish }
    }

    /// Says on whose behalf: of those that wait, whoever holds the smaller share of what there is comes first.
    pub fn owner(mut self, label: impl Into<Arc<str>>) -> Self {
        self.owner = Some(label.into());
        self
    }

    /// Gives up after this long, by the runtime's clock.
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = Some(limit);
        self
    }

    /// Blocks this thread until it is granted.
    pub fn wait(self) -> Result<T, ResourceError> {
        crate::block_on(self.get())
    }

    /// Takes it if it is free now; [`ResourceError::Busy`] says what there is too little of.
    pub fn now(self) -> Result<T, ResourceError> {
        let ask = self.ask?;
        let busy = |reason| busy(&ask, Duration::ZERO, reason);
        self.pool.try_now(self.owner, &ask).map(self.finish).map_err(busy)
    }

    async fn get(self) -> Result<T, ResourceError> {
        let (ask, pool) = (self.ask?, self.pool);
        let limit = self.within.map(|limit| (limit, ask.clone()));
        let (sender, receiver) = oneshot::channel();
        // Should the lease not be wanted any more, dropping it gives it back.
        let ticket = pool.submit(self.owner, ask, move |granted| drop(sender.send(granted)));
        let waiting = Withdraw { pool: &pool, ticket };
        let granted = match limit {
            None => receiver.await,
            Some((limit, ask)) => {
                let sleep = pin!(pool.clock().sleep(limit));
                match select(receiver, sleep).await {
                    Either::Left((granted, _)) => granted,
                    Either::Right(((), mut receiver)) => match receiver.try_recv() {
                        // Granted in the last moment.
                        Ok(granted) => Ok(granted),
                        Err(_) => return Err(busy(&ask, limit, pool.lacks(&ask))),
                    },
                }
            }
        };
        waiting.over();
        granted.unwrap_or(Err(ResourceError::Closed)).map(self.finish)
    }
}

fn busy(ask: &Ask, waited: Duration, reason: String) -> ResourceError {
    ResourceError::Busy { asked: Box::new(ask.sum().resources()), waited, reason }
}

/// Withdraws a request when its wait is given up.
struct Withdraw<'a> {
    pool: &'a ResourcePool,
    ticket: Option<Ticket>,
}

impl Withdraw<'_> {
    fn over(mut self) {
        self.ticket = None;
    }
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.pool.withdraw(ticket);
        }
    }
}

impl<T: 'static> IntoFuture for Acquire<T> {
    type Output = Result<T, ResourceError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.get())
    }
}
