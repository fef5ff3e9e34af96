//! actix without anything of ours: the floor that `air-core bench` holds our asks against.

use std::future::Future;
use std::time::Instant;

use actix::{Actor, Addr, ArbiterHandle, Context, Handler, Message};

use super::system::System;
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

/// An actix actor on an arbiter of its own.
pub(crate) struct BareActix {
    address: Addr<Echo>,
    arbiter: ArbiterHandle,
    // Dropped last: it ends the arbiter's thread.
    _system: System,
}

impl BareActix {
    pub(crate) fn start() -> Result<Self> {
        let system = System::start(RuntimeConfig::default().shared_threads(1))?;
        let arbiter = system.handle().pool_arbiter()?;
        let address = Echo::start_in_arbiter(&arbiter, |_| Echo);
        Ok(Self { address, arbiter, _system: system })
    }

    pub(crate) fn ask(&self) -> impl Future<Output = u64> + use<> {
        let request = self.address.send(Call);
        async move { request.await.unwrap_or(0) }
    }

    /// Seconds that each of so many asks takes, one after another, from the actor's own thread.
    pub(crate) fn ask_from_its_thread(&self, calls: u32) -> Result<f64> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let address = self.address.clone();
        self.arbiter.spawn(async move {
            let (began, mut replies) = (Instant::now(), 0);
            for _ in 0..calls {
                replies += address.send(Call).await.unwrap_or(0);
            }
            let took = began.elapsed().as_secs_f64() / f64::from(calls);
            let _ = sender.send(if replies == u64::from(calls) { took } else { f64::INFINITY });
        });
        receiver.recv().map_err(|_| CoreError::Stopped)
    }
}

impl super::system::SystemHandle {
    /// A thread of the pool for shared workers.
    fn pool_arbiter(&self) -> Result<actix::ArbiterHandle> {
        let (sender, receiver) = std::sync::mpsc::channel();
        self.on_system_thread(move |places| {
            let _ = sender.send(places.take(true).map(|place| place.handle()));
        });
        let place = receiver.recv().map_err(|_| CoreError::Stopped)?;
        place.map_err(|source| CoreError::Thread { source })
    }
}
