//! Answers on their way back to the threads where they are waited for.
//!
//! To wake a task of another thread takes a system call, and to wake one for each request of a batch keeps a replica from its next batch for longer than
//! everything else between two batches. So the answers of a batch for the tasks of one HTTP thread go there together: the replica leaves them with that
//! thread's courier, wakes it once, and the courier hands them out on the spot. The items of streams lie where their readers look; those are woken in the
//! same way, the first of a step at once and the others with it, as long as the courier has not come.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::core::Reply;

type Parcel = Box<dyn FnOnce() + Send>;

/// Hands out what is left with it, on one thread.
struct Courier {
    /// `None` once it has gone.
    bag: Mutex<Option<Bag>>,
    there: Notify,
}

#[derive(Default)]
struct Bag {
    parcels: Vec<Parcel>,
    /// Tasks of its thread.
    wakers: Vec<Waker>,
}

impl Bag {
    fn hand_out(self) {
        self.parcels.into_iter().for_each(open);
        self.wakers.into_iter().for_each(Waker::wake);
    }
}

thread_local! {
    static HERE: RefCell<Option<Arc<Courier>>> = const { RefCell::new(None) };
}

/// The courier of this thread, for as long as the future is polled here. Batches with calls that began on this thread are answered through it.
pub(crate) async fn deliver() {
    let courier = Arc::new(Courier { bag: Mutex::new(Some(Bag::default())), there: Notify::new() });
    HERE.set(Some(Arc::clone(&courier)));
    let present = Present(courier);
    loop {
        present.0.there.notified().await;
        let bag = present.0.bag.lock().as_mut().map(std::mem::take);
        bag.into_iter().for_each(Bag::hand_out);
    }
}

/// A courier goes when this is dropped, with nothing left undone.
struct Present(Arc<Courier>);

impl Drop for Present {
    fn drop(&mut self) {
        HERE.set(None);
        let bag = self.0.bag.lock().take();
        bag.into_iter().for_each(Bag::hand_out);
    }
}

/// An answer that panics when it is dropped, because nobody waits for it any more, takes no other with it.
fn open(parcel: Parcel) {
    if catch_unwind(AssertUnwindSafe(parcel)).is_err() {
        tracing::error!("an answer panicked when it was dropped");
    }
}

impl Courier {
    /// Leaves something to be handed out when it is woken; it comes back if the courier has gone.
    fn leave(&self, parcel: Parcel) -> Result<(), Parcel> {
        match self.bag.lock().as_mut() {
            Some(bag) => bag.parcels.push(parcel),
            None => return Err(parcel),
        }
        Ok(())
    }

    /// Wakes a task of its thread: with those that it has not come for yet, if there are any.
    fn wake(&self, waker: Waker) {
        let mut bag = self.bag.lock();
        let Some(Bag { wakers, .. }) = &mut *bag else {
            drop(bag);
            return waker.wake();
        };
        let comes = !wakers.is_empty();
        wakers.push(waker);
        drop(bag);
        if !comes {
            self.there.notify_one();
        }
    }
}

/// A task that waits for something on this thread.
pub(crate) struct Sleeper {
    waker: Waker,
    courier: Option<Arc<Courier>>,
}

impl Sleeper {
    /// The task whose context this is.
    pub(crate) fn here(cx: &Context<'_>) -> Self {
        Sleeper { waker: cx.waker().clone(), courier: HERE.with_borrow(Clone::clone) }
    }

    /// Takes the place of one that waits no longer.
    pub(crate) fn replace(&mut self, cx: &Context<'_>) {
        let same = HERE.with_borrow(|here| match (here, &self.courier) {
            (Some(here), Some(courier)) => Arc::ptr_eq(here, courier),
            (here, courier) => here.is_none() && courier.is_none(),
        });
        if same {
            self.waker.clone_from(cx.waker());
        } else {
            *self = Sleeper::here(cx);
        }
    }

    /// Wakes it, soon.
    pub(crate) fn wake(self) {
        match self.courier {
            Some(courier) => courier.wake(self.waker),
            None => self.waker.wake(),
        }
    }
}

/// Code of the user's runs on this thread and may wait for calls in ways of its own, while the courier stands still: these are answered without it.
pub(crate) fn aside() -> Aside {
    Aside(HERE.take())
}

/// Until it is dropped.
pub(crate) struct Aside(Option<Arc<Courier>>);

impl Drop for Aside {
    fn drop(&mut self) {
        HERE.set(self.0.take());
    }
}

/// Where one answer goes.
pub(crate) struct Sender<O> {
    sender: oneshot::Sender<Reply<O>>,
    courier: Option<Arc<Courier>>,
}

/// A place for one answer, which is waited for on this thread.
pub(crate) fn channel<O>() -> (Sender<O>, oneshot::Receiver<Reply<O>>) {
    let (sender, receiver) = oneshot::channel();
    let courier = HERE.with_borrow(Clone::clone);
    (Sender { sender, courier }, receiver)
}

impl<O> Sender<O> {
    /// Sends an answer by itself. It comes back if nobody waits for it any more.
    pub(crate) fn send(self, reply: Reply<O>) -> Result<(), Reply<O>> {
        self.sender.send(reply)
    }

    /// Whether nobody waits any more; otherwise the waker is told when that is so.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sender.poll_closed(cx)
    }

    /// Whether nobody waits any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// Sends the answers of a batch. That nobody waits for one any more is no error.
pub(crate) fn send_all<O: Send + 'static>(answers: Vec<(Sender<O>, Reply<O>)>) {
    // For one answer it is not worth the way.
    let alone = answers.len() == 1;
    let mut couriers: Vec<Arc<Courier>> = Vec::new();
    for (Sender { sender, courier }, reply) in answers {
        let hand_out = move || drop(sender.send(reply));
        let Some(courier) = courier.filter(|_| !alone) else {
            hand_out();
            continue;
        };
        if let Err(parcel) = courier.leave(Box::new(hand_out)) {
            parcel();
        } else if !couriers.iter().any(|other| Arc::ptr_eq(other, &courier)) {
            couriers.push(courier);
        }
    }
    // Whoever is woken may be given this processor at once, so it is done last.
    for courier in couriers {
        courier.there.notify_one();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::thread;

    use futures::FutureExt;
    use futures::future::join_all;

    use super::*;

    /// A thread that waits for three answers, and what to answer with.
    fn waiting() -> (Vec<Sender<u32>>, thread::JoinHandle<Vec<u32>>) {
        let (give, take) = crossbeam_channel::bounded(1);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let couriers = tokio::spawn(deliver());
                tokio::task::yield_now().await;
                let (senders, receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| channel()).unzip();
                assert!(senders.iter().all(|sender| sender.courier.is_some()));
                give.send(senders).unwrap();
                let answers = join_all(receivers).await;
                couriers.abort();
                answers.into_iter().map(|answer| answer.unwrap().unwrap()).collect()
            })
        });
        (take.recv().unwrap(), thread)
    }

    #[test]
    fn the_answers_of_a_batch_arrive_wherever_they_are_waited_for() {
        let ((first, one), (second, other)) = (waiting(), waiting());
        let (nowhere, mut here) = channel();
        let mixed = first.into_iter().zip(second).flat_map(|(first, second)| [first, second]);
        send_all(mixed.chain([nowhere]).zip((0..).map(Ok)).collect());
        assert_eq!(one.join().unwrap(), [0, 2, 4]);
        assert_eq!(other.join().unwrap(), [1, 3, 5]);
        assert_eq!(here.try_recv().unwrap().unwrap(), 6, "a call that began on a thread without a courier");
    }

    type Sent = Vec<(Sender<u32>, Reply<u32>)>;
    type Two = [oneshot::Receiver<Reply<u32>>; 2];

    fn two() -> (Sent, Two) {
        let ((first, first_answer), (second, second_answer)) = (channel(), channel());
        (vec![(first, Ok(1)), (second, Ok(2))], [first_answer, second_answer])
    }

    fn answers(receivers: &mut Two) -> [Option<u32>; 2] {
        receivers.each_mut().map(|receiver| receiver.try_recv().ok().map(Result::unwrap))
    }

    #[test]
    fn a_courier_that_goes_leaves_nothing_undone() {
        let mut here = Box::pin(deliver());
        assert!(here.as_mut().now_or_never().is_none());
        let (left, mut left_answers) = two();
        let (late, mut late_answers) = two();
        send_all(left);
        assert_eq!(answers(&mut left_answers), [None, None], "the courier has not come by yet");
        drop(here);
        assert_eq!(answers(&mut left_answers), [Some(1), Some(2)]);
        send_all(late);
        assert_eq!(answers(&mut late_answers), [Some(1), Some(2)]);
        assert!(channel::<u32>().0.courier.is_none());
    }

    #[test]
    fn calls_of_code_that_may_block_the_thread_do_not_need_the_courier() {
        let mut here = Box::pin(deliver());
        assert!(here.as_mut().now_or_never().is_none());
        let on_its_own = aside();
        let (batch, mut batch_answers) = two();
        drop(on_its_own);
        send_all(batch);
        assert_eq!(answers(&mut batch_answers), [Some(1), Some(2)]);
        assert!(channel::<u32>().0.courier.is_some());
    }

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Count {
        fn new() -> (Arc<Self>, Waker) {
            let count = Arc::new(Count::default());
            (Arc::clone(&count), Waker::from(count))
        }

        fn get(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_courier_is_woken_once_for_the_tasks_that_wait_on_its_thread() {
        let mut here = Box::pin(deliver());
        let (thread, waker) = Count::new();
        let mut polled = Context::from_waker(&waker);
        assert!(here.as_mut().poll(&mut polled).is_pending());
        let (tasks, wakers): (Vec<_>, Vec<_>) = (0..3).map(|_| Count::new()).unzip();
        let sleepers: Vec<_> =
            wakers.iter().map(|waker| Sleeper::here(&Context::from_waker(waker))).collect();
        let woken = || tasks.iter().map(|task| task.get()).collect::<Vec<_>>();
        thread::spawn(|| sleepers.into_iter().for_each(Sleeper::wake)).join().unwrap();
        assert_eq!((thread.get(), woken()), (1, vec![0, 0, 0]), "the first wakes the courier");
        assert!(here.as_mut().poll(&mut polled).is_pending());
        assert_eq!((thread.get(), woken()), (1, vec![1, 1, 1]));
        // One that comes when the courier has been is not left lying.
        Sleeper::here(&Context::from_waker(&wakers[0])).wake();
        assert_eq!((thread.get(), woken()), (2, vec![1, 1, 1]));
        let late = Sleeper::here(&Context::from_waker(&wakers[1]));
        drop(here);
        assert_eq!(woken(), [2, 1, 1], "a courier that goes leaves nothing undone");
        late.wake();
        assert_eq!(woken(), [2, 2, 1], "after that they are woken by themselves");
    }

    #[test]
    fn a_task_that_moves_to_another_thread_is_woken_there() {
        let (task, waker) = Count::new();
        let mut cx = Context::from_waker(&waker);
        let mut elsewhere = Sleeper::here(&cx);
        let mut here = Box::pin(deliver());
        assert!(here.as_mut().poll(&mut cx).is_pending());
        elsewhere.replace(&cx);
        assert!(elsewhere.courier.is_some());
        let aside = aside();
        elsewhere.replace(&cx);
        drop(aside);
        elsewhere.wake();
        assert_eq!(task.get(), 1, "not by a courier that stands still");
    }

    #[test]
    fn an_answer_that_panics_when_it_is_dropped_takes_no_other_with_it() {
        struct Brittle;
        impl Drop for Brittle {
            fn drop(&mut self) {
                panic!("brittle");
            }
        }
        let mut here = Box::pin(deliver());
        assert!(here.as_mut().now_or_never().is_none());
        let ((gone, receiver), (also_gone, other)) = (channel(), channel());
        drop((receiver, other));
        send_all(vec![(gone, Ok(Brittle)), (also_gone, Err(lost()))]);
        let (batch, mut batch_answers) = two();
        send_all(batch);
        assert!(here.as_mut().now_or_never().is_none());
        assert_eq!(answers(&mut batch_answers), [Some(1), Some(2)]);
    }

    fn lost() -> crate::error::CallError {
        crate::error::CallError::Closed { deployment: "it".into() }
    }
}
