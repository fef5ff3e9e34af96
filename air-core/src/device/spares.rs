//! What a driver made once and makes no more than are needed at once: kept for its next use, and counted.

use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;

/// The events of a device that this process has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventUse {
    /// Held by someone: as the last uses of memory, mostly.
    pub in_use: u64,
    /// Kept for their next use.
    pub kept: u64,
    /// How often the driver was asked for one.
    pub made: u64,
    /// How often it need not be, because one was kept.
    pub reuses: u64,
}

/// A place where things that nobody holds any more are kept.
pub(crate) struct Spares<T>(Mutex<Books<T>>);

struct Books<T> {
    kept: Vec<T>,
    now: EventUse,
}

/// One of them, in use; goes back when dropped.
pub(crate) struct Spare<T> {
    thing: Option<T>,
    home: Arc<Spares<T>>,
}

impl<T> Spares<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Books { kept: Vec::new(), now: EventUse::default() })))
    }

    /// One that was kept, the one that was used last; or one that is made.
    pub(crate) fn take<E>(self: &Arc<Self>, make: impl FnOnce() -> Result<T, E>) -> Result<Spare<T>, E> {
        // Not in the `match`, which would hold the lock.
        let kept = self.0.lock().reuse();
        let thing = match kept {
            Some(thing) => thing,
            None => make().inspect(|_| self.0.lock().made())?,
        };
        Ok(Spare { thing: Some(thing), home: Arc::clone(self) })
    }

    /// Gives back to the driver what is kept.
    pub(crate) fn give_back(&self) {
        let mut books = self.0.lock();
        books.now.kept = 0;
        let kept = std::mem::take(&mut books.kept);
        // Without the lock: that asks the driver.
        drop(books);
        drop(kept);
    }

    pub(crate) fn in_use(&self) -> EventUse {
        self.0.lock().now
    }
}

impl<T> Books<T> {
    fn reuse(&mut self) -> Option<T> {
        let thing = self.kept.pop()?;
        self.now.kept -= 1;
        self.now.in_use += 1;
        self.now.reuses += 1;
        Some(thing)
    }

    fn made(&mut self) {
        self.now.in_use += 1;
        self.now.made += 1;
    }
}

impl<T> Deref for Spare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.thing {
            Some(thing) => thing,
            None => unreachable!("it goes back only when it is dropped"),
        }
    }
}

impl<T> Drop for Spare<T> {
    fn drop(&mut self) {
        let mut books = self.home.0.lock();
        books.now.in_use -= 1;
        books.now.kept += 1;
        books.kept.extend(self.thing.take());
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However things are taken, let go of and given back: the counts are exact, nothing is handed out twice, and no more are made
        /// than were in use at once since the last were given back.
        #[test]
        fn nothing_is_lost_or_handed_out_twice(steps in prop::collection::vec(0..20_usize, 0..200)) {
            let spares = Spares::new();
            let (mut made, mut most, mut held) = (0_u64, 0, Vec::new());
            for step in steps {
                match step {
                    0 => {
                        spares.give_back();
                        most = held.len() as u64;
                        made = most;
                    }
                    1..=11 => {
                        let before = spares.in_use();
                        let next = before.made;
                        let taken = spares.take(|| Ok::<_, Infallible>(next));
                        let Ok(taken) = taken;
                        let is_new = spares.in_use().made > before.made;
                        prop_assert_eq!(is_new, before.kept == 0);
                        prop_assert!(held.iter().all(|other: &Spare<u64>| **other != *taken));
                        made += u64::from(is_new);
                        held.push(taken);
                        most = most.max(held.len() as u64);
                    }
                    at => drop((!held.is_empty()).then(|| held.swap_remove(at % held.len()))),
                }
                let now = spares.in_use();
                prop_assert_eq!(now.in_use, held.len() as u64);
                prop_assert_eq!(now.in_use + now.kept, made);
                prop_assert_eq!(made, most);
            }
        }
    }

    #[test]
    fn what_cannot_be_made_is_not_counted() {
        let spares = Spares::<u8>::new();
        assert_eq!(spares.take(|| Err("full")).err(), Some("full"));
        assert_eq!(spares.in_use(), EventUse::default());
    }
}
