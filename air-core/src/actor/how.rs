//! The ways a worker handles a kind of message. Users write [`Handle`], [`HandleBatch`] or [`HandleAsync`]; [`Takes`] follows from each.

use std::any::TypeId;
use std::sync::Arc;

use tracing::Instrument;

use super::call::{Call, Ran};
use super::cx::Cx;
use super::flight::fly;
use super::message::{Handle, HandleAsync, HandleBatch, Message, Worker};
use super::spec::Spec;
use crate::BoxError;

/// That a worker can be sent a kind of message, because it implements [`Handle`], [`HandleBatch`] or [`HandleAsync`] for it.
///
/// `How` says which of them; it follows from the worker's type and is never written.
#[diagnostic::on_unimplemented(
    message = "the worker `{Self}` does not handle `{M}`",
    note = "implement one of `Handle<{M}>`, `HandleBatch<{M}>` and `HandleAsync<{M}>` for it"
)]
pub trait Takes<M: Message, How: 'static>: Worker {
    #[doc(hidden)]
    fn take(&mut self, call: &Call<M, How>, cx: &mut Cx<Self>) -> Ran;

    /// The number of the concurrency group it belongs to; 0 is none.
    #[doc(hidden)]
    fn group(spec: &Spec) -> usize {
        let _ = spec;
        0
    }
}

/// See [`Handle`].
#[derive(Debug)]
pub struct OneByOne(());

/// See [`HandleBatch`].
#[derive(Debug)]
pub struct InBatches(());

/// See [`HandleAsync`].
#[derive(Debug)]
pub struct Concurrently(());

impl<M: Message, W: Handle<M>> Takes<M, OneByOne> for W {
    fn take(&mut self, call: &Call<M, OneByOne>, cx: &mut Cx<Self>) -> Ran {
        let letter = call.letter();
        match letter.open(|| cx.now()) {
            Err(ran) => ran,
            Ok(message) => {
                cx.set_deadline(letter.deadline);
                letter.answer(self.handle(message, cx))
            }
        }
    }
}

impl<M: Message, W: HandleBatch<M>> Takes<M, InBatches> for W {
    fn take(&mut self, call: &Call<M, InBatches>, cx: &mut Cx<Self>) -> Ran {
        let mut messages = match call.letter().open(|| cx.now()) {
            Err(ran) => return ran,
            Ok(message) => vec![message],
        };
        let mut deadline = call.letter().deadline;
        let mut others: Vec<Arc<Call<M, InBatches>>> = Vec::new();
        for envelope in cx.take_alike(W::MOST.saturating_sub(1), TypeId::of::<Call<M, InBatches>>()) {
            let Some(Ok(other)) = Arc::clone(&envelope).into_any().map(Arc::downcast::<Call<M, InBatches>>)
            else {
                continue;
            };
            match other.letter().open(|| cx.now()) {
                Err(ran) => cx.book(ran, &*envelope),
                Ok(message) => {
                    deadline = [deadline, other.letter().deadline].into_iter().flatten().min();
                    messages.push(message);
                    others.push(other);
                }
            }
        }
        cx.set_deadline(deadline);
        let asked = messages.len();
        let mut results = self.handle_batch(messages, cx);
        if results.len() != asked {
            let got = results.len();
            results = (0..asked).map(|_| Err(miscounted(got, asked))).collect();
        }
        let mut results = results.into_iter();
        let ran = results.next().map_or(Ran::Skipped, |result| call.letter().answer(result));
        for (other, result) in others.iter().zip(results) {
            let ran = other.letter().answer(result);
            cx.book(ran, &**other);
        }
        ran
    }
}

impl<M: Message, W: HandleAsync<M>> Takes<M, Concurrently> for W {
    fn take(&mut self, call: &Call<M, Concurrently>, cx: &mut Cx<Self>) -> Ran {
        let letter = call.letter();
        let message = match letter.open(|| cx.now()) {
            Err(ran) => return ran,
            Ok(message) => message,
        };
        cx.set_deadline(letter.deadline);
        let work = self.handle_async(message, cx);
        // Nothing is in hand if this life was left behind meanwhile: the call has been answered, and its work is dropped.
        let Some(envelope) = cx.keep_in_hand() else { return Ran::Skipped };
        if let Some(Ok(call)) = Arc::clone(&envelope).into_any().map(Arc::downcast::<Call<M, Concurrently>>) {
            let group = Self::group(cx.spec());
            let work = work.instrument(call.letter().origin.current());
            let flight = fly(call, work, cx.clock().clone(), cx.spec().stall);
            let began = cx.begin_span();
            cx.flights.start(group, envelope, began, flight);
        }
        Ran::Flying
    }

    fn group(spec: &Spec) -> usize {
        let named = spec.concurrency_groups.iter().position(|(name, _)| **name == *W::GROUP);
        named.map_or(0, |group| group + 1)
    }
}

fn miscounted(got: usize, asked: usize) -> BoxError {
    format!("`handle_batch` must return one result for each message, in order: it returned {got} for {asked}")
        .into()
}
