//! What lies between a sequence and its reader: a pure type.
//!
//! A sequence whose buffer is full is left out of steps until its reader has taken half of it: then a reader that is a little slower than the
//! model does not wake it for each item.

use std::collections::VecDeque;

/// Whether a sequence can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vacancy {
    /// There is room for so many items, at least one.
    Room(usize),
    Full,
    /// It has ended, or nobody reads it.
    Over,
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<T, E> {
    Item(T),
    /// Nothing yet.
    Nothing,
    /// The end, or the error it ended with.
    End(Result<(), E>),
}

/// Items that nobody has taken yet, and the end.
#[derive(Debug)]
pub(crate) struct Buffer<T, E> {
    items: VecDeque<T>,
    capacity: usize,
    end: Option<Result<(), E>>,
    /// Nobody reads it any more.
    gone: bool,
    /// Items are thrown away.
    discards: bool,
    /// The sequence was left out of a step.
    left_out: bool,
    pushed: u64,
    taken: u64,
}

impl<T, E> Buffer<T, E> {
    pub(crate) fn new(capacity: usize) -> Self {
        Buffer {
            items: VecDeque::new(),
            capacity,
            end: None,
            gone: false,
            discards: false,
            left_out: false,
            pushed: 0,
            taken: 0,
        }
    }

    pub(crate) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    /// Whether the sequence takes part in the next step. If there is no room for it, [`take`](Self::take) says when there is again.
    pub(crate) fn vacancy(&mut self) -> Vacancy {
        if self.is_over() {
            return Vacancy::Over;
        }
        self.left_out = self.items.len() >= self.capacity;
        if self.left_out { Vacancy::Full } else { Vacancy::Room(self.capacity - self.items.len()) }
    }

    /// Adds an item, if it has not ended; gives back what nobody will read. What one step writes is taken whatever room there is.
    pub(crate) fn push(&mut self, item: T) -> Option<T> {
        if self.is_over() {
            return Some(item);
        }
        self.pushed += 1;
        if self.discards {
            self.taken += 1;
            return Some(item);
        }
        self.items.push_back(item);
        None
    }

    /// Ends it, unless it has ended; says whether this was the end.
    pub(crate) fn end(&mut self, end: Result<(), E>) -> bool {
        let first = !self.is_over();
        if first {
            self.end = Some(end);
        }
        first
    }

    /// Its reader has gone; gives back what was not read, and says whether this was the end.
    pub(crate) fn leave(&mut self) -> (VecDeque<T>, bool) {
        let first = !self.is_over();
        self.gone = true;
        (std::mem::take(&mut self.items), first)
    }

    /// Takes the next item, and says whether the sequence can go on that was left out.
    pub(crate) fn take(&mut self) -> (Found<T, E>, bool)
    where
        E: Clone,
    {
        let Some(item) = self.items.pop_front() else {
            let found = self.end.clone().map_or(Found::Nothing, Found::End);
            return (found, false);
        };
        self.taken += 1;
        (Found::Item(item), self.makes_room())
    }

    /// Takes all items there are, and says whether the sequence can go on that was left out.
    pub(crate) fn take_all(&mut self) -> (VecDeque<T>, bool) {
        let items = std::mem::take(&mut self.items);
        self.taken += items.len() as u64;
        (items, self.makes_room())
    }

    fn makes_room(&mut self) -> bool {
        let goes_on = self.left_out && self.items.len() <= self.capacity / 2;
        self.left_out &= !goes_on;
        goes_on
    }

    pub(crate) fn discard(&mut self) {
        self.discards = true;
    }

    /// Whether nothing will be added any more.
    pub(crate) fn is_over(&self) -> bool {
        self.gone || self.end.is_some()
    }

    /// Whether it was left out of the last step.
    pub(crate) fn is_left_out(&self) -> bool {
        self.left_out
    }

    pub(crate) fn ended(&self) -> Option<&Result<(), E>> {
        self.end.as_ref()
    }

    /// Changes the error it ended with.
    pub(crate) fn map_error(&mut self, map: impl FnOnce(&mut E)) {
        if let Some(Err(error)) = &mut self.end {
            map(error);
        }
    }

    /// Items added, and taken.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.pushed, self.taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_end_comes_after_the_items_and_stays() {
        let mut buffer: Buffer<u32, &str> = Buffer::new(4);
        assert_eq!(buffer.take(), (Found::Nothing, false));
        assert_eq!((buffer.push(1), buffer.push(2)), (None, None));
        assert!(buffer.end(Err("lost")));
        assert!(!buffer.end(Ok(())), "it has one end");
        assert_eq!(buffer.push(3), Some(3));
        assert_eq!(buffer.vacancy(), Vacancy::Over);
        let found: Vec<_> = (0..4).map(|_| buffer.take().0).collect();
        assert_eq!(found, [Found::Item(1), Found::Item(2), Found::End(Err("lost")), Found::End(Err("lost"))]);
    }

    #[test]
    fn one_that_was_left_out_goes_on_when_half_is_taken() {
        let mut buffer: Buffer<u32, ()> = Buffer::new(4);
        for item in 0..4 {
            assert_eq!(buffer.vacancy(), Vacancy::Room(4 - item as usize));
            buffer.push(item);
        }
        assert_eq!(buffer.vacancy(), Vacancy::Full);
        let goes_on: Vec<_> = (0..4).map(|_| buffer.take().1).collect();
        assert_eq!(goes_on, [false, true, false, false], "it is told once");
    }

    #[test]
    fn a_step_may_write_more_than_there_is_room_for() {
        let mut buffer: Buffer<u32, ()> = Buffer::new(1);
        assert_eq!(buffer.vacancy(), Vacancy::Room(1));
        assert!((0..3).all(|item| buffer.push(item).is_none()));
        assert_eq!(buffer.vacancy(), Vacancy::Full);
        assert_eq!(buffer.take_all(), ([0, 1, 2].into(), true));
    }

    #[test]
    fn what_nobody_reads_is_given_back() {
        let mut buffer: Buffer<u32, ()> = Buffer::new(2);
        buffer.push(1);
        assert_eq!(buffer.leave(), ([1].into(), true));
        assert_eq!((buffer.push(2), buffer.vacancy(), buffer.end(Ok(()))), (Some(2), Vacancy::Over, false));
    }

    proptest! {
        #[test]
        fn whatever_the_order_nothing_is_lost_and_nobody_waits_for_ever(
            capacity in 1usize..6, events in prop::collection::vec(0u8..3, 1..200),
        ) {
            let mut buffer: Buffer<u32, ()> = Buffer::new(capacity);
            let (mut next, mut expected, mut asleep) = (0, 0, false);
            for event in events {
                match event {
                    // A step; a sequence that was left out sleeps until it is told.
                    0 if !asleep => match buffer.vacancy() {
                        Vacancy::Room(_) => { prop_assert!(buffer.push(next).is_none()); next += 1; }
                        Vacancy::Full => asleep = true,
                        Vacancy::Over => prop_assert!(false),
                    },
                    0 => {}
                    1 => {
                        let (found, goes_on) = buffer.take();
                        match found {
                            Found::Item(item) => { prop_assert_eq!(item, expected); expected += 1; }
                            Found::Nothing => prop_assert_eq!(expected, next),
                            Found::End(_) => prop_assert!(false),
                        }
                        asleep &= !goes_on;
                    }
                    _ => {
                        let (items, goes_on) = buffer.take_all();
                        prop_assert!(items.into_iter().eq(expected..next));
                        expected = next;
                        asleep &= !goes_on;
                    }
                }
                prop_assert!((next - expected) as usize <= capacity);
                prop_assert!(!asleep || expected < next, "it sleeps, and there is nothing to take that would wake it");
            }
        }
    }
}
