//! Buffers that go round: a sender borrows one, the receiver's drop brings it back.
//!
//! A [`Pool`] makes all of its buffers once. [`Pool::loan`] waits for a free one; the [`Loan`] travels through a
//! [channel](super::bounded) like any item, and wherever it is dropped, its buffer is free again, contents and capacity
//! kept. So a steady stream allocates nothing, and the number of buffers is one more bound on what is in flight.
//!
//! ```
//! use air_core::channel::{self, Limit, pool::Pool};
//!
//! # fn main() -> Result<(), air_core::BoxError> {
//! let pool = Pool::new(2, || vec![0u8; 1 << 20]);
//! let (tx, rx) = channel::bounded(Limit::items(2));
//! let mut buffer = pool.loan();
//! buffer[0] = 7;
//! tx.send(buffer)?;
//! assert_eq!(rx.recv()?[0], 7); // dropped here, so free again
//! assert_eq!(pool.free(), 2);
//! # Ok(())
//! # }
//! ```

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

use super::{Limit, MAX_ITEMS, Receiver, RecvError, Sender, Weigh, bounded};

/// A fixed number of buffers to lend. Clones lend the same ones.
pub struct Pool<T> {
    free: Receiver<Slot<T>>,
    home: Arc<Sender<Slot<T>>>,
}

impl<T> Pool<T> {
    /// Makes `count` buffers (at least 1, at most [`MAX_ITEMS`]).
    pub fn new(count: usize, mut make: impl FnMut() -> T) -> Pool<T> {
        let count = count.clamp(1, MAX_ITEMS);
        let (home, free) = bounded(Limit::items(count));
        for _ in 0..count {
            // There is room for every buffer, so this cannot fail.
            let _ = home.try_send(Slot(make()));
        }
        Pool { free, home: Arc::new(home) }
    }

    /// A free buffer, as its last user left it; blocks the thread until there is one.
    pub fn loan(&self) -> Loan<T> {
        loop {
            // This pool holds a sender, so the channel is never disconnected.
            if let Ok(slot) = self.free.recv() {
                return self.lend(slot);
            }
        }
    }

    /// A free buffer, if there is one before `deadline`.
    pub fn loan_deadline(&self, deadline: Instant) -> Result<Loan<T>, RecvError> {
        self.free.recv_deadline(deadline).map(|slot| self.lend(slot))
    }

    /// A free buffer, if there is one now.
    pub fn try_loan(&self) -> Result<Loan<T>, RecvError> {
        self.free.try_recv().map(|slot| self.lend(slot))
    }

    /// A free buffer; waits without blocking the thread.
    pub async fn loan_async(&self) -> Loan<T> {
        loop {
            if let Ok(slot) = self.free.recv_async().await {
                return self.lend(slot);
            }
        }
    }

    /// How many buffers are free now.
    pub fn free(&self) -> usize {
        self.free.queued_items()
    }

    fn lend(&self, slot: Slot<T>) -> Loan<T> {
        Loan { buffer: Some(slot.0), home: Arc::clone(&self.home) }
    }
}

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Pool { free: self.free.clone(), home: Arc::clone(&self.home) }
    }
}

/// A borrowed buffer; dropping it brings the buffer back.
pub struct Loan<T> {
    /// Empty only while it is dropped.
    buffer: Option<T>,
    home: Arc<Sender<Slot<T>>>,
}

impl<T> Deref for Loan<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.buffer {
            Some(buffer) => buffer,
            None => unreachable!("a loan holds its buffer until it is dropped"),
        }
    }
}

impl<T> DerefMut for Loan<T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.buffer {
            Some(buffer) => buffer,
            None => unreachable!("a loan holds its buffer until it is dropped"),
        }
    }
}

impl<T> Drop for Loan<T> {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            // Fails only where the pool is gone; then the buffer goes too.
            let _ = self.home.try_send(Slot(buffer));
        }
    }
}

impl<T: Weigh> Weigh for Loan<T> {
    fn weight_bytes(&self) -> usize {
        (**self).weight_bytes()
    }
}

impl<T> std::fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} free)", self.free())
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Loan<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Loan").field(&self.buffer).finish()
    }
}

struct Slot<T>(T);

impl<T> Weigh for Slot<T> {
    fn weight_bytes(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_dropped_loan_comes_back_with_its_memory() {
        let pool = Pool::new(1, || Vec::<u8>::with_capacity(64));
        let mut loan = pool.loan();
        loan.push(1);
        let place = loan.as_ptr();
        assert_eq!(pool.try_loan().err(), Some(RecvError::Empty));
        drop(loan);
        let again = pool.loan();
        assert_eq!((again.as_ptr(), again.as_slice()), (place, &[1u8][..]));
    }

    #[test]
    fn a_loan_outlives_its_pool() {
        let pool = Pool::new(2, || vec![7u8]);
        let loan = pool.clone().loan();
        drop(pool);
        assert_eq!(*loan, [7]);
    }

    #[test]
    fn buffers_go_round_between_threads() {
        const TRIPS: u32 = if cfg!(miri) { 50 } else { 10_000 };
        let pool = Pool::new(3, || vec![0u32; 16]);
        let (tx, rx) = bounded(Limit::items(8));
        let lender = pool.clone();
        let sender = std::thread::spawn(move || {
            for i in 0..TRIPS {
                let mut buffer = lender.loan();
                buffer[0] = i;
                tx.send(buffer).unwrap();
            }
        });
        assert!(rx.iter().map(|buffer| buffer[0]).eq(0..TRIPS));
        sender.join().unwrap();
        assert_eq!(pool.free(), 3);
    }
}
