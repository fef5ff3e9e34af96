//! [`Value`]: shared access to what an object holds.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::Outcome;
use super::handle::Cell;
use super::stored::Pin;

/// Shared access to an object's value, where it lies. While it is held, the value stays in memory.
pub struct Value<T>(Held<T>);

pub(super) enum Held<T> {
    Plain(Arc<dyn Cell<T>>),
    Stored(Arc<T>, Pin<T>),
}

impl<T> Value<T> {
    pub(super) fn new(held: Held<T>) -> Self {
        Self(held)
    }
}

impl<T> Deref for Value<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Held::Stored(value, _) => value,
            Held::Plain(cell) => match cell.slot().get() {
                Some(Outcome::Plain(value)) => value,
                _ => unreachable!("made from a plain value only, and settled once"),
            },
        }
    }
}

impl<T> AsRef<T> for Value<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Held::Plain(cell) => Held::Plain(Arc::clone(cell)),
            Held::Stored(value, pin) => Held::Stored(Arc::clone(value), pin.clone()),
        })
    }
}

impl<T: fmt::Debug> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

impl<T: fmt::Display> fmt::Display for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

impl<T: PartialEq<U>, U> PartialEq<U> for Value<T> {
    fn eq(&self, other: &U) -> bool {
        **self == *other
    }
}
