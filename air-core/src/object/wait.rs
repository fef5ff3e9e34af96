//! Waiting for some of many objects.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::task::{Poll, Wake, Waker};

use futures::task::AtomicWaker;

use super::Object;

/// Counts objects that are still wanted; the last one wakes who waits. So a thousand objects cost one wake-up.
struct Countdown {
    wanted: AtomicIsize,
    waker: AtomicWaker,
}

impl Wake for Countdown {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.wanted.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.waker.wake();
        }
    }
}

/// Withdraws from the objects that are not ready when the wait ends.
struct Places<'a, T> {
    objects: &'a [Object<T>],
    places: Vec<Option<u64>>,
}

impl<T> Drop for Places<'_, T> {
    fn drop(&mut self) {
        for (object, place) in self.objects.iter().zip(&mut self.places) {
            object.slot().leave(place);
        }
    }
}

/// Completes when `k` of the objects, or all of them, are ready.
pub(crate) async fn wait<T: Send + Sync + 'static>(objects: &[Object<T>], k: usize) {
    let k = k.min(objects.len());
    let ready = objects.iter().filter(|object| object.is_ready()).take(k).count();
    if ready == k {
        return;
    }
    // What is ready is counted down below with the rest.
    let countdown = Arc::new(Countdown { wanted: AtomicIsize::new(k as isize), waker: AtomicWaker::new() });
    let waker = Waker::from(Arc::clone(&countdown));
    let mut places = Places { objects, places: vec![None; objects.len()] };
    for (object, place) in objects.iter().zip(&mut places.places) {
        if object.slot().poll_wait(place, &waker) {
            waker.wake_by_ref();
        }
    }
    poll_fn(|cx| {
        countdown.waker.register(cx.waker());
        if countdown.wanted.load(Ordering::Acquire) <= 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
