//! The lane by itself. Apart from `lane.rs`, which the loom model compiles.
#![allow(clippy::unwrap_used)]

use std::pin::pin;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use futures::FutureExt;

use super::lane::lane;
use crate::memory::{Account, Budget, Parcel};

fn batch(rows: i64) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    RecordBatch::try_from_iter([("id", column)]).unwrap()
}

#[test]
fn a_batch_over_the_bound_goes_alone_and_the_next_one_waits() {
    let budget = Budget::new(1 << 30);
    let (mut sender, mut receiver) = lane(Account::open(&budget, 0, 1 << 10, None));
    let (large, small) = (batch(100_000), batch(1));
    assert!(sender.send(0, Parcel::of(&large)).now_or_never().unwrap());
    let mut second = pin!(sender.send(1, Parcel::of(&small)));
    assert!(second.as_mut().now_or_never().is_none(), "the bound is in bytes");
    assert_eq!(receiver.recv().now_or_never(), Some(Some(0)));
    assert_eq!(second.now_or_never(), Some(true));
    assert_eq!(receiver.recv().now_or_never(), Some(Some(1)));
    assert_eq!(budget.usage().in_use_bytes, 0);
    assert!(receiver.recv().now_or_never().is_none());
}

#[test]
fn an_end_is_heard_after_what_was_sent() {
    let budget = Budget::new(1 << 30);
    let (mut sender, mut receiver) = lane(Account::open(&budget, 0, 1, None));
    assert!(sender.send(7, Parcel::of(&batch(1))).now_or_never().unwrap());
    drop(sender);
    assert_eq!(receiver.recv().now_or_never(), Some(Some(7)));
    assert_eq!(receiver.recv().now_or_never(), Some(None));
}

#[test]
fn a_slice_in_two_lanes_is_counted_once_until_both_let_go() {
    let budget = Budget::new(1 << 30);
    let whole = batch(1000);
    let (mut one, mut from_one) = lane(Account::open(&budget, 0, 1 << 20, None));
    let (mut two, from_two) = lane(Account::open(&budget, 0, 1 << 20, None));
    assert!(one.send((), Parcel::of(&whole.slice(0, 10))).now_or_never().unwrap());
    let counted = budget.usage().queued_bytes;
    assert!(counted >= 8000, "a slice keeps all of it");
    assert!(two.send((), Parcel::of(&whole.slice(10, 10))).now_or_never().unwrap());
    assert_eq!(budget.usage().queued_bytes, counted);
    assert_eq!(from_one.recv().now_or_never(), Some(Some(())));
    assert_eq!(budget.usage().queued_bytes, counted);
    drop(from_two);
    assert_eq!(budget.usage().queued_bytes, 0);
    assert_eq!(two.send((), Parcel::of(&whole)).now_or_never(), Some(false));
}

#[test]
fn a_consumer_that_goes_wakes_its_producer_and_gives_its_budget_to_others() {
    // Half of it is the queues'.
    let budget = Budget::new(64 << 10);
    let (mut one, from_one) = lane::<u8>(Account::open(&budget, 1, 1 << 20, None));
    let (mut two, mut from_two) = lane::<u8>(Account::open(&budget, 2, 1 << 20, None));
    let full = batch(4000);
    assert!(one.send(1, Parcel::of(&full)).now_or_never().unwrap());
    assert!(two.send(1, Parcel::of(&batch(10))).now_or_never().unwrap(), "an empty lane takes one");
    let (next_of_one, next_of_two) = (batch(1000), batch(1000));
    let mut blocked = pin!(one.send(2, Parcel::of(&next_of_one)));
    let mut other = pin!(two.send(2, Parcel::of(&next_of_two)));
    assert!(blocked.as_mut().now_or_never().is_none(), "the budget is used up");
    assert!(other.as_mut().now_or_never().is_none());
    drop(from_one);
    assert_eq!(blocked.now_or_never(), Some(false));
    assert_eq!(other.now_or_never(), Some(true));
    assert_eq!((from_two.usage().0, from_two.recv().now_or_never()), (2, Some(Some(1))));
}
