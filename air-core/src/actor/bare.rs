//! actix without anything of ours: the floor that `air-core bench` holds our asks against.

use std::future::Future;
use std::time::Instant;

use actix::{Actor, Addr, ArbiterHandle, Context, Handler, Message, ResponseActFuture, WrapFuture};

use super::park::block_on;
use super::system::{System, SystemHandle};
use crate::error::{CoreError, Result};
use crate::runtime::RuntimeConfig;

struct Echo;

impl Actor for Echo {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        // With its default of 16, asks beyond that would not be sent before they are waited for.
        ctx.set_mailbox_capacity(1024);
    }
}

struct Call;

impl Message for Call {
    type Result = u64;
}

impl Handler<Call> for Echo {
    type Result = u64;

    fn handle(&mut self, _: Call, _: &mut Self::Context) -> u64 {
        1
    }
}

/// An actor that asks another one, as an async handler of ours would: its future is the actor's.
struct Caller;

impl Actor for Caller {
    type Context = Context<Self>;
}

struct AskTimes(Addr<Echo>, u32);

impl Message for AskTimes {
    type Result = f64;
}

impl Handler<AskTimes> for Caller {
    type Result = ResponseActFuture<Self, f64>;

    fn handle(&mut self, AskTimes(echo, calls): AskTimes, _: &mut Self::Context) -> Self::Result {
        Box::pin(ask_times(echo, calls).into_actor(self))
    }
}

/// Seconds that each of so many asks takes, one after another.
async fn ask_times(echo: Addr<Echo>, calls: u32) -> f64 {
    let (began, mut replies) = (Instant::now(), 0);
    for _ in 0..calls {
        replies += echo.send(Call).await.unwrap_or(0);
    }
    let took = began.elapsed().as_secs_f64() / f64::from(calls);
    // A lost reply makes the figure worthless.
    if replies == u64::from(calls) { took } else { f64::INFINITY }
}

/// An actix actor on an arbiter of its own.
pub(crate) struct BareActix {
    address: Addr<Echo>,
    arbiter: ArbiterHandle,
    // Dropped last: it ends the arbiter's thread.
    system: System,
}

impl BareActix {
    pub(crate) fn start() -> Result<Self> {
        let system = System::start(RuntimeConfig::default().shared_threads(1))?;
        let arbiter = system.handle().pool_arbiter()?;
        let address = Echo::start_in_arbiter(&arbiter, |_| Echo);
        Ok(Self { address, arbiter, system })
    }

    pub(crate) fn ask(&self) -> impl Future<Output = u64> + use<> {
        let request = self.address.send(Call);
        async move { request.await.unwrap_or(0) }
    }

    /// Seconds an ask takes from another actor of its thread.
    pub(crate) fn ask_from_its_neighbour(&self, calls: u32) -> f64 {
        let caller = Caller::start_in_arbiter(&self.arbiter, |_| Caller);
        block_on(caller.send(AskTimes(self.address.clone(), calls))).unwrap_or(f64::INFINITY)
    }

    /// Seconds an ask takes from a future of its thread.
    pub(crate) fn ask_from_its_thread(&self, calls: u32) -> Result<f64> {
        self.system.handle().run_on_pool(ask_times(self.address.clone(), calls))
    }
}

impl SystemHandle {
    /// Runs a future on a thread of the pool for shared workers, as a task of its own, and waits for what it gives.
    pub(crate) fn run_on_pool<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = std::sync::mpsc::channel();
        self.pool_arbiter()?.spawn(async move {
            let _ = sender.send(future.await);
        });
        receiver.recv().map_err(|_| CoreError::Stopped)
    }

    /// A thread of the pool.
    fn pool_arbiter(&self) -> Result<ArbiterHandle> {
        let (sender, receiver) = std::sync::mpsc::channel();
        self.on_system_thread(move |places| {
            let _ = sender.send(places.take(true).map(|place| place.handle()));
        });
        let place = receiver.recv().map_err(|_| CoreError::Stopped)?;
        place.map_err(|source| CoreError::Thread { source })
    }
}
