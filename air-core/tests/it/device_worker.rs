//! Workers that were given GPUs: their streams, and what becomes of them when a device is lost.
//!
//! The losses here are made up, so all of it runs on any machine; where there is a device, its streams are real.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use air_core::device::{Device, DeviceError, Stream};
use air_core::resource::Resources;
use air_core::tensor::{Tensor, TensorError};
use air_core::{
    AskError, Backoff, BoxError, CoreError, Cx, Exit, Handle, HandleAsync, HandleBatch, Mailbox, Message,
    Runtime, RuntimeConfig, Spec, SupervisorSpec, Worker,
};

fn lost(ordinal: usize) -> DeviceError {
    let cause = "CUDA_ERROR_ILLEGAL_ADDRESS".to_owned();
    DeviceError::Lost { device: Device::Cuda(ordinal), cause, operation: "launching a kernel" }
}

const LOSS: &str = "lost its device: cuda:0 is lost after CUDA_ERROR_ILLEGAL_ADDRESS during launching a kernel; \
    a new process can use it again, this one where the driver allows it";

/// Returns whatever error it is given, in each of the ways there are.
struct Gpu;
impl Worker for Gpu {}

macro_rules! message {
    ($($name:ident),*) => {$(
        struct $name(BoxError);
        impl Message for $name {
            type Reply = ();
        }
    )*};
}
message!(Blocking, Batched, Flying, Told);

impl Handle<Blocking> for Gpu {
    fn handle(&mut self, Blocking(error): Blocking, _: &mut Cx<Self>) -> Result<(), BoxError> {
        Err(error)
    }
}
impl HandleBatch<Batched> for Gpu {
    fn handle_batch(&mut self, errors: Vec<Batched>, _: &mut Cx<Self>) -> Vec<Result<(), BoxError>> {
        errors.into_iter().map(|Batched(error)| Err(error)).collect()
    }
}
impl HandleAsync<Flying> for Gpu {
    fn handle_async(
        &mut self,
        Flying(error): Flying,
        _: &mut Cx<Self>,
    ) -> impl Future<Output = Result<(), BoxError>> + 'static {
        std::future::ready(Err(error))
    }
}
impl Handle<Told> for Gpu {
    fn handle(&mut self, Told(error): Told, cx: &mut Cx<Self>) -> Result<(), BoxError> {
        cx.fail(error);
        Ok(())
    }
}

struct Life;
impl Message for Life {
    type Reply = u64;
}
impl Handle<Life> for Gpu {
    fn handle(&mut self, _: Life, cx: &mut Cx<Self>) -> Result<u64, BoxError> {
        Ok(cx.generation())
    }
}

/// A runtime with two GPUs, whatever the machine has, and a worker that was given the first.
fn worker(gpus: f64) -> (Runtime, Mailbox<Gpu>) {
    let all = Resources::new().cpu(2.0).gpu(2.0);
    let runtime = Runtime::with(RuntimeConfig::default().resources(all)).unwrap();
    let supervisor = runtime.supervisor(SupervisorSpec::new("gpus").backoff(Backoff::NONE)).unwrap();
    let spec = Spec::new("gpu").resources(Resources::new().gpu(gpus));
    let worker = supervisor.spawn(spec, |_| Ok(Gpu)).unwrap();
    (runtime, worker)
}

fn exits(worker: &Mailbox<Gpu>) -> Vec<String> {
    worker.exits().iter().map(|record| record.exit.to_string()).collect()
}

/// Found wherever a handler returns it, however it is wrapped: who asks is answered, and the next life works.
#[test]
fn a_lost_device_ends_the_life_and_the_next_one_works() {
    let (_runtime, worker) = worker(1.0);
    assert!(matches!(worker.ask_blocking(Blocking(lost(0).into())), Err(AskError::Failed(_))));
    assert_eq!(worker.ask_blocking(Life).unwrap(), 2);
    let wrapped = TensorError::from(lost(0));
    assert!(matches!(worker.ask_blocking(Batched(wrapped.into())), Err(AskError::Failed(_))));
    assert_eq!(worker.ask_blocking(Life).unwrap(), 3);
    let wrapped = CoreError::from(lost(0));
    assert!(matches!(worker.ask_blocking(Flying(wrapped.into())), Err(AskError::Failed(_))));
    assert_eq!(worker.ask_blocking(Life).unwrap(), 4);
    worker.tell_blocking(Blocking(CoreError::from(TensorError::from(lost(0))).into())).unwrap();
    assert_eq!(worker.ask_blocking(Life).unwrap(), 5);
    worker.tell_blocking(Told(lost(0).into())).unwrap();
    assert_eq!(worker.ask_blocking(Life).unwrap(), 6);
    assert_eq!(exits(&worker), [LOSS; 5]);
    assert!(worker.exits().iter().all(|record| matches!(record.exit, Exit::DeviceLost(_))));
}

/// Another worker's device, of which an answer tells, is not this one's loss; nor is another error of the device.
#[test]
fn a_device_that_is_not_the_workers_own_is_not_its_loss() {
    let (_runtime, worker) = worker(1.0);
    worker.ask_blocking(Blocking(lost(1).into())).unwrap_err();
    worker.ask_blocking(Blocking(DeviceError::NoCompiler.into())).unwrap_err();
    worker.ask_blocking(Flying(lost(1).into())).unwrap_err();
    assert_eq!(worker.ask_blocking(Life).unwrap(), 1);
    worker.tell_blocking(Blocking(lost(1).into())).unwrap();
    assert_eq!(worker.ask_blocking(Life).unwrap(), 2);
    assert!(exits(&worker)[0].starts_with("failed: cuda:1 is lost"), "{:?}", exits(&worker));
}

/// Two workers share a device by halves: one's loss ends it alone, as long as the other does not meet it.
#[test]
fn a_share_of_a_device_is_enough_to_lose_it() {
    let (_runtime, worker) = worker(0.5);
    worker.ask_blocking(Blocking(lost(0).into())).unwrap_err();
    assert_eq!(worker.ask_blocking(Life).unwrap(), 2);
    assert_eq!(exits(&worker), [LOSS]);
}

#[test]
fn a_device_lost_at_the_start_is_tried_again_until_it_works() {
    let all = Resources::new().gpu(1.0);
    let runtime = Runtime::with(RuntimeConfig::default().resources(all.clone())).unwrap();
    let supervisor = runtime.supervisor(SupervisorSpec::new("gpus").backoff(Backoff::NONE)).unwrap();
    let starts = AtomicU64::new(0);
    let factory = move |_: &mut Cx<Gpu>| -> Result<Gpu, BoxError> {
        match starts.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => Err(lost(0).into()),
            _ => Ok(Gpu),
        }
    };
    let worker = supervisor.spawn(Spec::new("gpu").resources(all), factory).unwrap();
    assert_eq!(worker.ask_blocking(Life).unwrap(), 3);
    assert_eq!(exits(&worker), [LOSS; 2]);
}

#[test]
fn a_device_that_stays_lost_is_given_up_with_its_cause() {
    let all = Resources::new().gpu(1.0);
    let runtime = Runtime::with(RuntimeConfig::default().resources(all.clone())).unwrap();
    let spec = SupervisorSpec::new("gpus").backoff(Backoff::NONE).intensity(3, Duration::from_mins(1));
    let supervisor = runtime.supervisor(spec).unwrap();
    let worker =
        supervisor.spawn(Spec::new("gpu").resources(all), |_| Err::<Gpu, _>(lost(0).into())).unwrap();
    let exit = worker.wait_ended_blocking();
    assert!(exit.to_string().ends_with(LOSS), "{exit}");
    // What it held is free again, if not at this very moment.
    drop(runtime.acquire(Resources::new().gpu(1.0)).within(Duration::from_mins(1)).wait().unwrap());
}

/// Asks for a stream: on a device by number, or on its own.
struct Open(Option<usize>);
impl Message for Open {
    type Reply = Result<Arc<Stream>, DeviceError>;
}
impl Handle<Open> for Gpu {
    fn handle(
        &mut self,
        Open(ordinal): Open,
        cx: &mut Cx<Self>,
    ) -> Result<<Open as Message>::Reply, BoxError> {
        Ok(match ordinal {
            None => cx.stream(),
            Some(ordinal) => cx.stream_on(Device::Cuda(ordinal)),
        })
    }
}

#[test]
fn a_worker_has_a_stream_on_its_devices_and_on_no_others() {
    let (runtime, worker) = worker(1.0);
    let other = worker.ask_blocking(Open(Some(1))).unwrap().unwrap_err();
    assert_eq!(other.to_string(), "this worker was not given cuda:1; it has cuda:0");
    let none = runtime.spawn(Spec::new("none"), |_| Ok(Gpu)).unwrap();
    assert_eq!(
        none.ask_blocking(Open(None)).unwrap().unwrap_err().to_string(),
        "this worker was not given a gpu; it has none: ask for them with `Spec::resources(Resources::new().gpu(1.0))`"
    );
    let opened = worker.ask_blocking(Open(None)).unwrap();
    let Err(error) = Device::cuda(0) else {
        let first = opened.unwrap();
        let again = worker.ask_blocking(Open(Some(0))).unwrap().unwrap();
        assert!(Arc::ptr_eq(&first, &again), "one life has one stream on a device");
        worker.ask_blocking(Blocking(lost(0).into())).unwrap_err();
        let next = worker.ask_blocking(Open(None)).unwrap().unwrap();
        assert!(!Arc::ptr_eq(&first, &next), "a life has its own");
        let tensor = next.upload(&Tensor::from_vec(vec![1.0_f32, 2.0], &[2]).unwrap()).unwrap();
        assert_eq!(next.download(&tensor).unwrap().as_slice::<f32>().unwrap(), [1.0, 2.0]);
        return;
    };
    println!("no CUDA device here, so the path without one is asserted: {error}");
    assert_eq!(opened.unwrap_err(), error);
    assert_eq!(worker.ask_blocking(Life).unwrap(), 1, "an error that is no loss ends no life");
}
