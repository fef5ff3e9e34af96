//! Tasks: graphs, errors, retries, time, order, nesting, streams, and their end.
#![allow(clippy::unwrap_used)]

mod attempts;
mod graph;
mod memory;
mod threads;

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use air_core::object::{ObjectConfig, Value};
use air_core::resource::Resources;
use air_core::task::{self, Priority, Retry, TaskConfig, Unheard};
use air_core::{Backoff, Clock, ManualClock, Object, ObjectError, Runtime, RuntimeConfig, block_on};
use allocation_counter::measure;

use super::probe::{SECOND, until};

fn with_threads(threads: usize, threads_max: usize) -> Runtime {
    let tasks = TaskConfig::default().threads(threads).threads_max(threads_max);
    Runtime::with(RuntimeConfig::default().tasks(tasks)).unwrap()
}

fn with_clock() -> (Runtime, ManualClock) {
    let (clock, manual) = Clock::manual();
    let config = RuntimeConfig::default().clock(clock).tasks(TaskConfig::default().threads(1));
    (Runtime::with(config).unwrap(), manual)
}

/// Keeps one thread busy until told; returns once it is.
fn hold(runtime: &Runtime) -> (Object<()>, mpsc::Sender<()>) {
    let (entered, is_in) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let object = runtime.task("hold").spawn(move || {
        entered.send(())?;
        let _ = released.recv();
        Ok(())
    });
    is_in.recv().unwrap();
    (object, release)
}

fn root<T: Send + Sync + 'static>(object: &Object<T>) -> ObjectError {
    object.get().err().unwrap().root().clone()
}
