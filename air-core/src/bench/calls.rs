//! One caller, one worker on another thread whose handler does nothing: ours, and the bare libraries with the same loop.

use std::collections::VecDeque;
use std::thread;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use crate::actor::bare::BareActix;
use crate::error::Result;
use crate::{BoxError, CoreError, Cx, Handle, Message, Runtime, Spec, Worker, block_on};

pub(super) struct Call;
impl Message for Call {
    type Reply = u64;
}

pub(super) struct Echo;
impl Worker for Echo {}
impl Handle<Call> for Echo {
    fn handle(&mut self, _: Call, _: &mut Cx<Self>) -> Result<u64, BoxError> {
        Ok(1)
    }
}

/// Calls per second with so many asked for at any time. `start` begins a call and returns how to wait for its reply.
fn rate<W: FnOnce() -> u64>(calls: u64, in_flight: usize, mut start: impl FnMut() -> W) -> f64 {
    let mut waiting = VecDeque::with_capacity(in_flight);
    let mut replies = 0;
    let began = Instant::now();
    for _ in 0..calls {
        if waiting.len() == in_flight {
            replies += waiting.pop_front().map_or(0, |wait: W| wait());
        }
        waiting.push_back(start());
    }
    replies += waiting.into_iter().map(|wait| wait()).sum::<u64>();
    let took = began.elapsed().as_secs_f64();
    // A lost reply makes the figure worthless.
    if replies == calls { calls as f64 / took } else { 0.0 }
}

pub(super) fn ask(calls: u64, in_flight: usize) -> Result<f64> {
    let runtime = Runtime::start()?;
    let worker = runtime.spawn(Spec::new("echo"), |_| Ok(Echo))?;
    worker.ask_blocking(Call)?;
    Ok(rate(calls, in_flight, || {
        let pending = worker.send_blocking(Call);
        move || pending.wait().unwrap_or(0)
    }))
}

pub(super) fn tell(calls: u64) -> Result<f64> {
    let runtime = Runtime::start()?;
    let worker = runtime.spawn(Spec::new("echo").capacity(1024), |_| Ok(Echo))?;
    worker.ask_blocking(Call)?;
    let began = Instant::now();
    for _ in 0..calls {
        worker.tell_blocking(Call)?;
    }
    worker.ask_blocking(Call)?;
    Ok(calls as f64 / began.elapsed().as_secs_f64())
}

pub(super) fn bare_actix(calls: u64, in_flight: usize) -> Result<f64> {
    let bare = BareActix::start()?;
    Ok(rate(calls, in_flight, || {
        let request = bare.ask();
        move || block_on(request)
    }))
}

pub(super) fn bare_tokio(calls: u64, in_flight: usize) -> Result<f64> {
    let (sender, mut receiver) = mpsc::channel::<oneshot::Sender<u64>>(64);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|source| CoreError::Thread { source })?;
    let callee = thread::spawn(move || {
        runtime.block_on(async move {
            while let Some(reply) = receiver.recv().await {
                let _ = reply.send(1);
            }
        });
    });
    let figure = rate(calls, in_flight, || {
        let (reply, is_there) = oneshot::channel();
        let _ = sender.blocking_send(reply);
        move || is_there.blocking_recv().unwrap_or(0)
    });
    drop(sender);
    let _ = callee.join();
    Ok(figure)
}

pub(super) fn bare_crossbeam(calls: u64, in_flight: usize) -> Result<f64> {
    let (sender, receiver) = crossbeam_channel::bounded::<crossbeam_channel::Sender<u64>>(64);
    let callee = thread::spawn(move || {
        for reply in receiver {
            let _ = reply.send(1);
        }
    });
    let figure = rate(calls, in_flight, || {
        let (reply, is_there) = crossbeam_channel::bounded(1);
        let _ = sender.send(reply);
        move || is_there.recv().unwrap_or(0)
    });
    drop(sender);
    let _ = callee.join();
    Ok(figure)
}
