//! Waiting for a future on a thread that has no executor.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

struct Parker {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::Release) {
            self.thread.unpark();
        }
    }
}

thread_local! {
    // Taken while in use, so that a wait inside a wait gets a parker of its own.
    static PARKER: RefCell<Option<(Arc<Parker>, Waker)>> = const { RefCell::new(None) };
}

/// Blocks this thread until the future is ready.
///
/// Allowed on any thread, also inside an async runtime's: it blocks that thread, as a worker's handler may.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let (parker, waker) = PARKER.with(|slot| slot.borrow_mut().take()).unwrap_or_else(|| {
        let parker = Arc::new(Parker { thread: thread::current(), woken: AtomicBool::new(false) });
        (Arc::clone(&parker), Waker::from(parker))
    });
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    let output = loop {
        parker.woken.store(false, Ordering::Relaxed);
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            break output;
        }
        while !parker.woken.load(Ordering::Acquire) {
            thread::park();
        }
    };
    PARKER.with(|slot| *slot.borrow_mut() = Some((parker, waker)));
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_inside_a_wait_gets_its_own_answer() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let outer = block_on(async {
            let inner = block_on(async { 1 });
            let helper = thread::spawn(move || sender.send(2));
            let sent = receiver.await;
            assert!(helper.join().is_ok_and(|sent| sent.is_ok()));
            (inner, sent)
        });
        assert_eq!(outer, (1, Ok(2)));
    }
}
