//! Asks of a worker whose handler does nothing: ours, and the bare libraries with the same loop and the same kind of caller.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::{Figures, median, medians};
use crate::actor::bare::BareActix;
use crate::error::Result;
use crate::{
    BoxError, CoreError, Cx, Handle, HandleAsync, Mailbox, Message, Runtime, RuntimeConfig, Spec, Worker,
    block_on,
};

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

pub(super) fn measure(figures: &mut Figures) -> Result<()> {
    for (in_flight, names) in [
        (1, ["ask_sync", "bare_actix_sync", "bare_tokio_sync", "bare_crossbeam_sync"]),
        (64, ["ask_async_64", "bare_actix_async_64", "bare_tokio_async_64", "bare_crossbeam_async_64"]),
    ] {
        let calls = if in_flight == 1 { 5_000 } else { 100_000 };
        let rates = medians([
            &mut || ask(calls, in_flight),
            &mut || bare_actix(calls, in_flight),
            &mut || bare_tokio(calls, in_flight),
            &mut || bare_crossbeam(calls, in_flight),
        ])?;
        figures.add(names[0], rates[0], "calls/s", Some(rates[1]));
        for (name, rate) in names.into_iter().zip(rates).skip(1) {
            figures.add(name, rate, "calls/s", None);
        }
    }
    let mut beside = |[ask, actix]: [&'static str; 2], [ours, bare]: [f64; 2]| {
        figures.add(ask, ours, "s", Some(bare));
        figures.add(actix, bare, "s", None);
    };
    beside(
        ["ask_between_workers", "bare_actix_between_actors"],
        medians([&mut || ask_between_workers(200_000), &mut || bare_actix_between_actors(200_000)])?,
    );
    beside(
        ["ask_one_thread", "bare_actix_one_thread"],
        medians([&mut || ask_on_one_thread(200_000), &mut || bare_actix_on_one_thread(200_000)])?,
    );
    beside(
        ["ask_parked", "bare_actix_parked"],
        medians([&mut || ask_parked(200), &mut || bare_actix_parked(200)])?,
    );
    figures.add("tell", median(|| tell(500_000))?, "calls/s", None);
    Ok(())
}

/// Calls per second in batches of so many: all of a batch are asked for, then all waited for, as Ray's own microbenchmark does.
/// `start` begins a call and returns how to wait for its reply.
pub(super) fn rate<W: FnOnce() -> u64>(calls: u64, batch: usize, mut start: impl FnMut() -> W) -> f64 {
    let mut waiting = Vec::with_capacity(batch);
    let (mut asked, mut replies) = (0, 0);
    let began = Instant::now();
    while asked < calls {
        waiting.extend((0..batch).map(|_| start()));
        asked += batch as u64;
        replies += waiting.drain(..).map(|wait| wait()).sum::<u64>();
    }
    let took = began.elapsed().as_secs_f64();
    // A lost reply makes the figure worthless.
    if replies == asked { asked as f64 / took } else { 0.0 }
}

/// Seconds a call takes when both sides have gone to sleep since the last one: the median, as a few calls meet a machine that does
/// something else.
fn latency<W: FnOnce() -> u64>(calls: u32, mut start: impl FnMut() -> W) -> f64 {
    let mut took = Vec::new();
    for _ in 0..calls {
        thread::sleep(Duration::from_millis(1));
        let began = Instant::now();
        let replied = start()();
        took.push(if replied == 1 { began.elapsed().as_secs_f64() } else { f64::INFINITY });
    }
    took.sort_by(f64::total_cmp);
    // A lost reply makes the figure worthless.
    if took.last().is_some_and(|longest| longest.is_finite()) { took[took.len() / 2] } else { f64::INFINITY }
}

/// A worker that asks another one so many times, one ask after another.
struct Caller;
impl Worker for Caller {}

struct AskTimes(Mailbox<Echo>, u32);
impl Message for AskTimes {
    type Reply = f64;
}

impl HandleAsync<AskTimes> for Caller {
    #[allow(clippy::manual_async_fn)] // It would hold on to the worker.
    fn handle_async(
        &mut self,
        AskTimes(echo, calls): AskTimes,
        _: &mut Cx<Self>,
    ) -> impl Future<Output = Result<f64, BoxError>> + 'static {
        async move { Ok(ask_times(echo, calls).await) }
    }
}

async fn ask_times(echo: Mailbox<Echo>, calls: u32) -> f64 {
    let (began, mut replies) = (Instant::now(), 0);
    for _ in 0..calls {
        replies += echo.ask(Call).await.unwrap_or(0);
    }
    let took = began.elapsed().as_secs_f64() / f64::from(calls);
    if replies == u64::from(calls) { took } else { f64::INFINITY }
}

/// Seconds an ask takes between two workers that share a thread.
pub(super) fn ask_between_workers(calls: u32) -> Result<f64> {
    let runtime = Runtime::with(RuntimeConfig::default().shared_threads(1))?;
    let echo = runtime.spawn(Spec::new("echo").shared(), |_| Ok(Echo))?;
    let caller = runtime.spawn(Spec::new("caller").shared(), |_| Ok(Caller))?;
    Ok(caller.ask_blocking(AskTimes(echo, calls))?)
}

pub(super) fn bare_actix_between_actors(calls: u32) -> Result<f64> {
    Ok(BareActix::start()?.ask_from_its_neighbour(calls))
}

/// Seconds an ask takes from a future, no worker's, that shares the worker's thread.
pub(super) fn ask_on_one_thread(calls: u32) -> Result<f64> {
    let runtime = Runtime::with(RuntimeConfig::default().shared_threads(1))?;
    let echo = runtime.spawn(Spec::new("echo").shared(), |_| Ok(Echo))?;
    runtime.system().run_on_pool(ask_times(echo, calls))
}

pub(super) fn bare_actix_on_one_thread(calls: u32) -> Result<f64> {
    BareActix::start()?.ask_from_its_thread(calls)
}

pub(super) fn ask_parked(calls: u32) -> Result<f64> {
    let runtime = Runtime::start()?;
    let worker = runtime.spawn(Spec::new("echo"), |_| Ok(Echo))?;
    worker.ask_blocking(Call)?;
    Ok(latency(calls, || || worker.ask_blocking(Call).unwrap_or(0)))
}

pub(super) fn bare_actix_parked(calls: u32) -> Result<f64> {
    let bare = BareActix::start()?;
    Ok(latency(calls, || {
        let request = bare.ask();
        move || block_on(request)
    }))
}

pub(super) fn ask(calls: u64, in_flight: usize) -> Result<f64> {
    let runtime = Runtime::start()?;
    let worker = runtime.spawn(Spec::new("echo"), |_| Ok(Echo))?;
    worker.ask_blocking(Call)?;
    if in_flight == 1 {
        return Ok(rate(calls, 1, || || worker.ask_blocking(Call).unwrap_or(0)));
    }
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
