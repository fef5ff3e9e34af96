//! Resources as a program uses them: leases, waiting, placement groups, workers that hold their share.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use air_core::device::Device;
use air_core::resource::{Placement, ResourceError, Resources};
use air_core::{
    Backoff, BoxError, Clock, CoreError, Cx, GroupSpec, Handle, Message, Runtime, RuntimeConfig, Spec,
    SupervisorSpec, Worker,
};

use super::probe::until;

fn machine() -> Resources {
    Resources::new().cpu(4.0).gpu(2.0).memory_bytes(8 << 30).custom("licence", 1.0)
}

fn runtime() -> Runtime {
    Runtime::with(RuntimeConfig::default().resources(machine())).unwrap()
}

fn cpu(n: f64) -> Resources {
    Resources::new().cpu(n)
}

fn gpu(n: f64) -> Resources {
    Resources::new().gpu(n)
}

/// Waits until so many requests wait.
fn until_waiting(runtime: &Runtime, requests: usize) {
    until(|| runtime.resources().waiting_requests == requests);
}

/// Says which devices it has, and fails when told to.
struct Gpu;
impl Worker for Gpu {}

struct Devices;
impl Message for Devices {
    type Reply = (u64, Vec<Device>);
}
impl Handle<Devices> for Gpu {
    fn handle(&mut self, _: Devices, cx: &mut Cx<Self>) -> Result<(u64, Vec<Device>), BoxError> {
        Ok((cx.generation(), cx.devices().to_vec()))
    }
}

struct Fail;
impl Message for Fail {
    type Reply = ();
}
impl Handle<Fail> for Gpu {
    fn handle(&mut self, _: Fail, _: &mut Cx<Self>) -> Result<(), BoxError> {
        Err("failed as told".into())
    }
}

#[test]
fn a_lease_gives_back_what_it_held() {
    let runtime = runtime();
    let all = runtime.acquire(machine()).wait().unwrap();
    assert_eq!(all.resources(), machine());
    assert_eq!(all.devices(), [Device::Cuda(0), Device::Cuda(1)]);
    let busy = runtime.acquire(cpu(1.0)).now().unwrap_err();
    assert_eq!(busy.to_string(), "1 cpu was not free within 0ns: 0 of 4 cpu free");
    assert_eq!(runtime.resources().free.cpu, 0.0);
    drop(all);
    assert_eq!(runtime.resources().free, machine());
    assert_eq!(runtime.acquire(machine()).now().unwrap().resources(), machine());
}

#[test]
fn four_quarters_share_one_device_and_whole_ones_are_distinct() {
    let runtime = runtime();
    let quarters: Vec<_> = (0..4).map(|_| runtime.acquire(gpu(0.25)).now().unwrap()).collect();
    assert!(quarters.iter().all(|lease| lease.devices() == [Device::Cuda(0)]));
    assert_eq!(runtime.acquire(gpu(1.0)).now().unwrap().devices(), [Device::Cuda(1)]);
    let busy = runtime.acquire(gpu(2.0)).now().unwrap_err();
    assert_eq!(busy.to_string(), "2 gpu was not free within 0ns: 1 of 2 gpu free");
    let free: Vec<_> = runtime.resources().devices.iter().map(|share| share.free).collect();
    assert_eq!(free, [0.0, 1.0]);
}

#[test]
fn a_request_that_can_never_be_granted_is_refused_at_once_with_the_reason() {
    let runtime = runtime();
    let never = runtime.acquire(cpu(5.0)).wait().unwrap_err();
    let ResourceError::Never { asked, exists, reason } = &never else { panic!("{never:?}") };
    assert_eq!((&**asked, &**exists), (&cpu(5.0), &machine()));
    assert_eq!(reason, "4 of 4 cpu free");
    assert!(matches!(runtime.acquire(cpu(-1.0)).wait(), Err(ResourceError::Invalid { .. })));
    let bundles = [cpu(1.0), cpu(1.0)];
    assert!(matches!(
        runtime.place(Placement::StrictSpread, &bundles).wait(),
        Err(ResourceError::Never { .. })
    ));
    let spawned = runtime.spawn(Spec::new("greedy").resources(gpu(3.0)), |_| Ok(Gpu)).unwrap_err();
    assert!(matches!(spawned, CoreError::Resource(ResourceError::Never { .. })), "{spawned}");
    let group = GroupSpec::new("ranks", 3).worker(|worker| worker.resources(gpu(1.0)));
    assert!(runtime.group(group, |_| Ok(Gpu)).unwrap_err().to_string().contains("3 gpu can never be had"));
    let config = RuntimeConfig::default().resources(gpu(0.5));
    assert_eq!(
        Runtime::with(config).unwrap_err().to_string(),
        "cannot ask for 0.5 gpu: a machine has whole devices"
    );
}

#[test]
fn one_that_waits_says_for_what_and_is_served_when_it_is_free() {
    let runtime = runtime();
    let lease = runtime.acquire(cpu(3.0)).owner("early").wait().unwrap();
    thread::scope(|scope| {
        let late = scope.spawn(|| runtime.acquire(cpu(2.0)).owner("late").wait());
        until_waiting(&runtime, 1);
        let state = runtime.resources();
        assert_eq!(state.waiting[0].owner.as_deref(), Some("late"));
        assert_eq!(state.waiting[0].resources, cpu(2.0));
        assert_eq!(state.waiting[0].reason, "1 of 4 cpu free");
        assert_eq!((state.held[0].owner.as_deref(), state.held[0].leases), (Some("early"), 1));
        let json = serde_json::to_string(&state).unwrap();
        let read: air_core::resource::ResourceState = serde_json::from_str(&json).unwrap();
        assert_eq!(read.waiting[0].reason, state.waiting[0].reason);
        drop(lease);
        assert_eq!(late.join().unwrap().unwrap().resources(), cpu(2.0));
    });
    assert_eq!(runtime.resources().free, machine());
}

#[test]
fn a_wait_ends_at_its_deadline_and_leaves_nothing_behind() {
    let (clock, time) = Clock::manual();
    let runtime = Runtime::with(RuntimeConfig::default().clock(clock).resources(machine())).unwrap();
    let lease = runtime.acquire(cpu(4.0)).wait().unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| runtime.acquire(cpu(1.0)).within(Duration::from_secs(3)).wait());
        time.wait_for_sleepers(1);
        time.advance(Duration::from_secs(3));
        let error = waiting.join().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "1 cpu was not free within 3s: 0 of 4 cpu free");
    });
    assert_eq!(runtime.resources().waiting_requests, 0);
    // So does a future that nobody polls any more.
    let mut future = Box::pin(std::future::IntoFuture::into_future(runtime.acquire(cpu(1.0))));
    assert!(futures::FutureExt::now_or_never(&mut future).is_none());
    assert_eq!(runtime.resources().waiting_requests, 1);
    drop(future);
    assert_eq!(runtime.resources().waiting_requests, 0);
    drop(lease);
    assert_eq!(runtime.resources().free, machine());
}

#[test]
fn a_placement_group_is_granted_whole_and_given_out_in_parts() {
    let runtime = runtime();
    let taken = runtime.acquire(cpu(2.0)).wait().unwrap();
    let bundles = [cpu(2.0).gpu(1.0), cpu(1.0).gpu(0.5)];
    let nothing = runtime.place(Placement::Pack, &bundles).now().unwrap_err();
    assert_eq!(nothing.to_string(), "3 cpu, 1.5 gpu was not free within 0ns: 2 of 4 cpu free");
    assert_eq!(runtime.resources().free.gpu, 2.0, "part of a gang was taken");
    drop(taken);
    let group = runtime.place(Placement::Pack, &bundles).wait().unwrap();
    assert_eq!((group.bundles(), group.node(1), group.node(2)), (2, Some(0), None));
    let (first, second) = (group.devices(0), group.devices(1));
    assert!(first.len() == 1 && second.len() == 1 && first != second);
    // Within the second bundle there is half a device; a quarter is a part of it, a whole one can never be had.
    let quarter = group.acquire(1, gpu(0.25)).now().unwrap();
    assert_eq!(quarter.devices(), second);
    assert!(matches!(group.acquire(1, gpu(1.0)).wait(), Err(ResourceError::Never { .. })));
    assert!(matches!(group.acquire(2, cpu(1.0)).wait(), Err(ResourceError::NoBundle { .. })));
    assert_eq!(group.acquire(0, gpu(1.0)).now().unwrap().devices(), first);
    // The bundles go back when the last lease out of them does.
    drop(group);
    assert_eq!(runtime.resources().free.cpu, 1.0);
    drop(quarter);
    assert_eq!(runtime.resources().free, machine());
}

#[test]
fn a_worker_holds_its_devices_through_restarts_until_its_end() {
    let runtime = runtime();
    let supervisor = runtime.supervisor(SupervisorSpec::new("gpus").backoff(Backoff::NONE)).unwrap();
    let half = || Spec::new("half").resources(cpu(1.0).gpu(0.5));
    let worker = supervisor.spawn(half(), |_| Ok(Gpu)).unwrap();
    let neighbour = supervisor.spawn(half(), |_| Ok(Gpu)).unwrap();
    let whole = supervisor.spawn(Spec::new("whole").resources(gpu(1.0)), |_| Ok(Gpu)).unwrap();
    assert_eq!(worker.ask_blocking(Devices).unwrap(), (1, vec![Device::Cuda(0)]));
    assert_eq!(neighbour.ask_blocking(Devices).unwrap(), (1, vec![Device::Cuda(0)]));
    assert_eq!(whole.ask_blocking(Devices).unwrap(), (1, vec![Device::Cuda(1)]));
    let none = runtime.spawn(Spec::new("none"), |_| Ok(Gpu)).unwrap();
    assert_eq!(none.ask_blocking(Devices).unwrap().1, []);
    let free = runtime.resources().free;
    assert_eq!((free.cpu, free.gpu), (2.0, 0.0));
    worker.tell_blocking(Fail).unwrap();
    assert_eq!(worker.ask_blocking(Devices).unwrap(), (2, vec![Device::Cuda(0)]));
    assert_eq!(runtime.resources().free, free);
    // The next one waits until the first has ended for good; its messages wait with it.
    let next = supervisor.spawn(half(), |_| Ok(Gpu)).unwrap();
    let answer = next.send_blocking(Devices);
    until_waiting(&runtime, 1);
    assert_eq!(runtime.resources().waiting[0].owner.as_deref(), Some("gpus"));
    worker.stop();
    assert_eq!(answer.wait().unwrap(), (1, vec![Device::Cuda(0)]));
}

#[test]
fn groups_get_all_their_resources_or_wait_with_none() {
    let runtime = runtime();
    let ranks = |name: &'static str| GroupSpec::new(name, 2).worker(|worker| worker.resources(gpu(1.0)));
    let first = runtime.group(ranks("first"), |_| Ok(Gpu)).unwrap();
    let devices: Vec<_> = first.ranks().iter().map(|rank| rank.ask_blocking(Devices).unwrap().1).collect();
    assert_eq!(devices, [[Device::Cuda(0)], [Device::Cuda(1)]]);
    let second = runtime.group(ranks("second"), |_| Ok(Gpu)).unwrap();
    let answers: Vec<_> = second.ranks().iter().map(|rank| rank.send_blocking(Devices)).collect();
    until_waiting(&runtime, 1);
    assert_eq!(runtime.resources().waiting[0].bundles, 2);
    first.stop();
    let devices: Vec<_> = answers.into_iter().map(|answer| answer.wait().unwrap().1).collect();
    assert_eq!(devices, [[Device::Cuda(0)], [Device::Cuda(1)]]);
}

#[test]
fn the_end_of_the_runtime_refuses_whoever_waits() {
    let runtime = runtime();
    let lease = runtime.acquire(machine()).wait().unwrap();
    let waiting_worker = runtime.spawn(Spec::new("waits").resources(cpu(1.0)), |_| Ok(Gpu)).unwrap();
    let unanswered = waiting_worker.send_blocking(Devices);
    let (granted, is_granted) = mpsc::channel();
    let handle = runtime.handle();
    let waiting = thread::spawn(move || granted.send(handle.acquire(cpu(1.0)).wait()).unwrap());
    until_waiting(&runtime, 2);
    let handle = runtime.handle();
    drop(runtime);
    assert!(matches!(is_granted.recv().unwrap(), Err(ResourceError::Closed)));
    waiting.join().unwrap();
    assert!(unanswered.wait().unwrap_err().into_message().is_some());
    assert!(matches!(handle.acquire(cpu(1.0)).wait(), Err(ResourceError::Closed)));
    drop(lease);
}

#[test]
fn what_a_machine_has_is_found_out_when_nobody_says() {
    let runtime = Runtime::start().unwrap();
    let total = runtime.resources().total;
    let devices = air_core::device::list();
    assert_eq!(total.cpu, devices[0].parallelism as f64);
    assert_eq!(total.gpu, (devices.len() - 1) as f64);
    assert!(total.memory_bytes > 0 && total.memory_bytes <= devices[0].memory_bytes);
}

#[test]
fn threads_that_come_and_go_never_hold_more_than_there_is() {
    let runtime = runtime();
    // In tenths of a processor and of a device.
    let (cpus, devices) = (AtomicU64::new(0), [AtomicU64::new(0), AtomicU64::new(0)]);
    thread::scope(|scope| {
        for name in 0..4_u64 {
            let (runtime, cpus, devices) = (&runtime, &cpus, &devices);
            scope.spawn(move || {
                for round in 0..200_u64 {
                    let (tenths, share) = (1 + (name + round) % 40, (name * 7 + round) % 11);
                    let wants = cpu(tenths as f64 / 10.0).gpu(share as f64 / 10.0);
                    let request = runtime.acquire(wants).owner(name.to_string());
                    let lease = match round % 3 {
                        0 => request.now(),
                        1 => request.within(Duration::from_micros(50)).wait(),
                        _ => request.wait(),
                    };
                    let Ok(lease) = lease else { continue };
                    let device =
                        lease.devices().first().map_or(0, |device| usize::from(*device == Device::Cuda(1)));
                    assert!(cpus.fetch_add(tenths, SeqCst) + tenths <= 40);
                    assert!(devices[device].fetch_add(share, SeqCst) + share <= 10);
                    cpus.fetch_sub(tenths, SeqCst);
                    devices[device].fetch_sub(share, SeqCst);
                }
            });
        }
    });
    let state = runtime.resources();
    assert_eq!((state.free, state.waiting_requests, state.held.len()), (machine(), 0, 0));
}
