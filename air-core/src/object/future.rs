//! [`ObjectFuture`]: an object, awaited.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::value::Held;
use super::{Object, ObjectError, Outcome, Value};

/// Completes with an object's value. A value that has to be read back from disk is read on another thread.
#[must_use = "a future does nothing unless it is awaited"]
pub struct ObjectFuture<T> {
    object: Object<T>,
    place: Option<u64>,
    reading: Option<oneshot::Receiver<Result<Value<T>, ObjectError>>>,
}

impl<T> ObjectFuture<T> {
    pub(super) fn new(object: Object<T>) -> Self {
        Self { object, place: None, reading: None }
    }
}

impl<T: Send + Sync + 'static> Future for ObjectFuture<T> {
    type Output = Result<Value<T>, ObjectError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.reading.is_none() {
            if !this.object.slot().poll_wait(&mut this.place, cx.waker()) {
                return Poll::Pending;
            }
            this.place = None;
            let Some(Outcome::Stored(stored)) = this.object.slot().get() else {
                return Poll::Ready(this.object.value());
            };
            if let Some((value, pin)) = stored.get_now() {
                return Poll::Ready(Ok(Value::new(Held::Stored(value, pin))));
            }
            let (sender, receiver) = oneshot::channel();
            let object = this.object.clone();
            stored.store().offload(Box::new(move || {
                let read = object.value();
                // Before anyone hears of it: the last handle may be dropped right then, and is to free the value at once.
                drop(object);
                let _ = sender.send(read);
            }));
            this.reading = Some(receiver);
        }
        let Some(reading) = &mut this.reading else { return Poll::Pending };
        let read = std::task::ready!(Pin::new(reading).poll(cx));
        this.reading = None;
        // Nobody reads for a runtime that has ended.
        Poll::Ready(read.unwrap_or(Err(ObjectError::Gone)))
    }
}

impl<T> Drop for ObjectFuture<T> {
    fn drop(&mut self) {
        self.object.slot().leave(&mut self.place);
    }
}

impl<T: Send + Sync + 'static> IntoFuture for Object<T> {
    type Output = Result<Value<T>, ObjectError>;
    type IntoFuture = ObjectFuture<T>;

    fn into_future(self) -> ObjectFuture<T> {
        ObjectFuture::new(self)
    }
}

impl<T: Send + Sync + 'static> IntoFuture for &Object<T> {
    type Output = Result<Value<T>, ObjectError>;
    type IntoFuture = ObjectFuture<T>;

    fn into_future(self) -> ObjectFuture<T> {
        ObjectFuture::new(self.clone())
    }
}
