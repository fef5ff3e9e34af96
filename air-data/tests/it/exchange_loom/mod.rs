//! The exchange's lanes and the budget behind them, model-checked: loom runs the shipping files through every interleaving.
#![allow(clippy::unwrap_used)]

mod sync {
    pub(super) use crate::loom_mutex::Mutex;
}

mod memory;

#[allow(dead_code)]
#[path = "../../../src/exchange/lane.rs"]
mod lane;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use lane::{Receiver, Sender, lane};
use loom::thread::{self, JoinHandle, Thread};
use memory::{Account, Budget, Parcel};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A future that nobody wakes is a deadlock, which loom reports.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn batch(rows: i64) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    RecordBatch::try_from_iter([("id", column)]).unwrap()
}

/// Two parcels of which a lane of this budget holds one at a time, made before the model: what they weigh is all that counts.
fn parcels() -> [Parcel; 2] {
    [batch(100), batch(100)].each_ref().map(Parcel::of)
}

fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(check);
}

fn send_all(mut sender: Sender<usize>, parcels: [Parcel; 2]) -> JoinHandle<usize> {
    thread::spawn(move || {
        let mut taken = 0;
        for (item, parcel) in parcels.into_iter().enumerate() {
            taken += usize::from(block_on(sender.send(item, parcel)));
        }
        taken
    })
}

fn rest(receiver: &mut Receiver<usize>) -> Vec<usize> {
    std::iter::from_fn(|| block_on(receiver.recv())).collect()
}

/// A lane with room for one: the producer waits, is let in, and everything arrives in order; the end is heard.
#[test]
fn everything_sent_arrives_in_order_and_then_the_end() {
    let parcels = parcels();
    model(move || {
        let budget = Budget::new(1 << 20);
        let (sender, mut receiver) = lane(Account::open(&budget, 0, 1, None));
        let producer = send_all(sender, parcels.clone());
        assert_eq!(rest(&mut receiver), [0, 1]);
        assert_eq!(producer.join().unwrap(), 2);
        assert_eq!((receiver.usage(), budget.usage().in_use_bytes), ((0, 0), 0));
    });
}

/// A consumer that goes while the producer sends or waits: the producer ends, and what lay in the lane is given back.
#[test]
fn a_consumer_that_goes_lets_its_producer_end_and_gives_everything_back() {
    let parcels = parcels();
    model(move || {
        let budget = Budget::new(1 << 20);
        let (sender, mut receiver) = lane(Account::open(&budget, 0, 1, None));
        let producer = send_all(sender, parcels.clone());
        let first = poll_once(receiver.recv());
        drop(receiver);
        let accepted = producer.join().unwrap();
        assert!(matches!(first, None | Some(Some(0))), "{first:?}");
        assert!(first.is_none() || accepted >= 1);
        assert_eq!(budget.usage().in_use_bytes, 0);
    });
}

/// Two lanes over one budget that holds one parcel: each lane takes one whatever there is, the rest wait for each other's room, and nobody
/// waits for ever.
#[test]
fn lanes_that_share_a_budget_let_each_other_in() {
    let (ones, twos) = (parcels(), parcels());
    model(move || {
        let budget = Budget::new(1);
        let (one, mut from_one) = lane(Account::open(&budget, 2, 1 << 20, None));
        let (mut two, mut from_two) = lane(Account::open(&budget, 1, 1 << 20, None));
        let producer = send_all(one, ones.clone());
        let other = twos[0].clone();
        let second = thread::spawn(move || block_on(two.send(7, other)));
        assert_eq!(rest(&mut from_one), [0, 1]);
        assert_eq!(rest(&mut from_two), [7]);
        assert_eq!((producer.join().unwrap(), second.join().unwrap()), (2, true));
        assert_eq!(budget.usage().in_use_bytes, 0);
    });
}

/// A producer that gives up its place in the line while it may be let in: the place is not lost.
#[test]
fn who_gives_up_while_it_is_let_in_leaves_the_room_to_others() {
    let [first, second] = parcels();
    model(move || {
        let budget = Budget::new(1 << 20);
        let (mut sender, mut receiver) = lane::<usize>(Account::open(&budget, 0, 1, None));
        assert!(block_on(sender.send(0, first.clone())));
        let next = second.clone();
        let producer = thread::spawn(move || {
            // Waits, or is in already; then it is dropped, and a place that was given with it.
            let entered = poll_once(sender.enter(next.clone())).flatten();
            drop(entered);
            assert!(block_on(sender.send(2, next)));
        });
        assert_eq!(rest(&mut receiver), [0, 2]);
        producer.join().unwrap();
        assert_eq!((receiver.usage(), budget.usage().in_use_bytes), ((0, 0), 0));
    });
}
