//! Waiting for a future on a thread that has no executor.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use crate::awake::{Patience, asleep};

struct Parker {
    thread: Thread,
    woken: AtomicBool,
}

/// A thread's own, with what it has learnt about waiting.
struct Own {
    parker: Arc<Parker>,
    waker: Waker,
    patience: Patience,
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
    static OWN: RefCell<Option<Own>> = const { RefCell::new(None) };
}

/// Blocks this thread until the future is ready.
///
/// Allowed on any thread, also inside an async runtime's: it blocks that thread, as a worker's handler may.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut own = OWN.with(|slot| slot.borrow_mut().take()).unwrap_or_else(|| {
        let parker = Arc::new(Parker { thread: thread::current(), woken: AtomicBool::new(false) });
        Own { waker: Waker::from(Arc::clone(&parker)), parker, patience: Patience::NEW }
    });
    let parker = &own.parker;
    let mut cx = Context::from_waker(&own.waker);
    // Inside a worker's handler tokio would count these polls against the handler's task and, after a hundred or so, put off
    // their wake-up until that task yields: it never would.
    let mut future = pin!(tokio::task::coop::unconstrained(future));
    let output = loop {
        parker.woken.store(false, Ordering::Relaxed);
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            break output;
        }
        if !own.patience.wait(|| parker.woken.load(Ordering::Acquire)) {
            // A task that waits keeps no thread from the others.
            let _blocked = crate::task::blocked();
            asleep(|| {
                while !parker.woken.load(Ordering::Acquire) {
                    thread::park();
                }
            });
        }
    };
    OWN.with(|slot| *slot.borrow_mut() = Some(own));
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_may_wait_as_often_as_it_likes() {
        let (done, ended) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            let waits = || {
                (0..1000_u32).all(|_| {
                    let (sender, receiver) = tokio::sync::oneshot::channel();
                    sender.send(1).is_ok() && block_on(receiver) == Ok(1)
                })
            };
            let _ = done.send(runtime.is_ok_and(|runtime| runtime.block_on(async { waits() })));
        });
        assert_eq!(ended.recv_timeout(std::time::Duration::from_secs(30)), Ok(true));
    }

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
