//! Ranks on devices. Where there is a device and NCCL, what the verbs compute; elsewhere the errors that say what is missing. All of it runs
//! on the simulated library in `device_simulated`, with one rank and with two.
#![allow(clippy::unwrap_used, unsafe_code)]

use std::thread;

use air_core::collective::{CollectiveError, DeviceCollective, ReduceOp, Waiting, on_devices};
use air_core::device::{self, Device, DeviceError, Kernel, Launch, Stream};
use air_core::tensor::{Element, Tensor, TensorError};
use half::bf16;

use crate::device::cuda;

type Called<R = ()> = Result<R, CollectiveError>;

/// The devices of groups of one and, where there are so many, two ranks.
fn groups() -> Vec<Vec<Device>> {
    if cuda().is_none() {
        let error = on_devices(&[Device::Cuda(0)]).unwrap_err();
        assert!(
            matches!(error, CollectiveError::Device { rank: 0, source: TensorError::Device(_) }),
            "{error}"
        );
        return Vec::new();
    }
    match on_devices(&[Device::Cuda(0)]) {
        Ok(_) => {}
        Err(CollectiveError::Device { source: TensorError::Device(error), .. }) => {
            assert!(matches!(error, DeviceError::NoNccl { .. } | DeviceError::NcclTooOld { .. }), "{error}");
            println!("no NCCL here, so its absence is asserted: {error}");
            return Vec::new();
        }
        Err(error) => panic!("{error}"),
    }
    let count = (device::list().len() - 1).min(2);
    (1..=count).map(|world| (0..world).map(Device::Cuda).collect()).collect()
}

/// Runs the same function on every rank of a new group, each on its own thread and stream; the results by rank.
fn on_ranks<R: Send>(devices: &[Device], run: impl Fn(DeviceCollective, Stream) -> R + Sync) -> Vec<R> {
    let ranks = on_devices(devices).unwrap();
    let run = &run;
    thread::scope(|scope| {
        let start = |rank: DeviceCollective| {
            scope.spawn(move || {
                let stream = Stream::new(rank.device()).unwrap();
                run(rank, stream)
            })
        };
        let threads: Vec<_> = ranks.into_iter().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn upload<T: Element>(stream: &Stream, values: Vec<T>) -> Tensor {
    let len = values.len();
    stream.upload(&Tensor::from_vec(values, &[len]).unwrap()).unwrap()
}

fn values<T: Element>(stream: &Stream, tensor: &Tensor) -> Vec<T> {
    stream.download(tensor).unwrap().to_vec().unwrap()
}

/// What rank `rank` has: whole numbers, so that sums are exact in whatever order.
fn own(rank: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| (i % 1000 * 3 + rank * 5) as f32).collect()
}

fn sum(world: usize, len: usize) -> Vec<f32> {
    let all: Vec<Vec<f32>> = (0..world).map(|rank| own(rank, len)).collect();
    (0..len).map(|i| all.iter().map(|own| own[i]).sum()).collect()
}

fn every_verb(rank: &mut DeviceCollective, stream: &Stream, len: usize) -> Called {
    let (me, world) = (rank.rank(), rank.world());
    let (root, next, last) = (world - 1, (me + 1) % world, (me + world - 1) % world);
    let mine = |values: &[f32]| values[me * len..][..len].to_vec();
    let all_of = |rank: usize| own(rank, len * world);
    let zeros = |len| stream.zeros::<f32>(&[len]).unwrap();
    let (part, parts) = (upload(stream, own(me, len)), upload(stream, all_of(me)));

    let mut reduced = upload(stream, own(me, len));
    rank.all_reduce(stream, &mut reduced, ReduceOp::Sum)?;
    let mut largest = upload(stream, own(me, len).iter().map(|&value| f64::from(value)).collect());
    rank.all_reduce(stream, &mut largest, ReduceOp::Max)?;
    let mut mean = upload(stream, vec![me as i64 * 4; len]);
    rank.all_reduce(stream, &mut mean, ReduceOp::Mean)?;
    let mut scattered_sum = zeros(len);
    rank.reduce_scatter(stream, &parts, &mut scattered_sum, ReduceOp::Sum)?;
    let mut gathered_by_all = zeros(len * world);
    rank.all_gather(stream, &part, &mut gathered_by_all)?;
    let mut copied = upload(stream, vec![bf16::from_f32(me as f32 + 1.0); len]);
    rank.broadcast(stream, &mut copied, root)?;
    let mut gathered = (me == root).then(|| zeros(len * world));
    rank.gather(stream, &part, gathered.as_mut(), root)?;
    let mut scattered = zeros(len);
    rank.scatter(stream, (me == root).then_some(&parts), &mut scattered, root)?;
    let mut exchanged = zeros(len * world);
    rank.all_to_all(stream, &parts, &mut exchanged)?;
    let mut passed_on = zeros(len);
    rank.send_recv(stream, &part, next, &mut passed_on, last)?;
    let mut received = zeros(len);
    if world > 1 && me == 0 {
        rank.send(stream, &passed_on, 1)?;
    } else if me == 1 {
        rank.recv(stream, &mut received, 0)?;
    }
    rank.barrier()?;
    rank.wait()?;

    let everything: Vec<f32> = (0..world).flat_map(|rank| own(rank, len)).collect();
    assert_eq!(values::<f32>(stream, &reduced), sum(world, len));
    let largest: Vec<f64> = values(stream, &largest);
    assert!(largest.iter().zip(own(world - 1, len)).all(|(found, expected)| *found == f64::from(expected)));
    assert_eq!(values::<i64>(stream, &mean), vec![2 * (world as i64 - 1); len]);
    assert_eq!(values::<f32>(stream, &scattered_sum), mine(&sum(world, len * world)));
    assert_eq!(values::<f32>(stream, &gathered_by_all), everything);
    assert_eq!(values::<bf16>(stream, &copied), vec![bf16::from_f32(world as f32); len]);
    assert_eq!(gathered.map(|all| values::<f32>(stream, &all)), (me == root).then_some(everything));
    assert_eq!(values::<f32>(stream, &scattered), mine(&all_of(root)));
    let from_all: Vec<f32> = (0..world).flat_map(|rank| mine(&all_of(rank))).collect();
    assert_eq!(values::<f32>(stream, &exchanged), from_all);
    assert_eq!(values::<f32>(stream, &passed_on), own(last, len));
    if me == 1 {
        assert_eq!(values::<f32>(stream, &received), own(1, len));
    }
    Ok(())
}

#[test]
fn on_devices_every_verb_gives_what_it_gives_on_the_host() {
    for devices in groups() {
        for len in [1, 1000, 300_000, 0] {
            let results = on_ranks(&devices, |mut rank, stream| every_verb(&mut rank, &stream, len));
            assert_eq!(results, vec![Ok(()); devices.len()], "{len} values");
        }
    }
}

#[test]
fn on_devices_calls_are_in_order_on_whatever_stream() {
    for devices in groups() {
        let results = on_ranks(&devices, |mut rank, stream| {
            let other = Stream::new(rank.device()).unwrap();
            let mut data = upload(&stream, vec![1_i64; 1000]);
            for turn in 0..20 {
                let stream = if turn % 2 == 0 { &stream } else { &other };
                rank.all_reduce(stream, &mut data, ReduceOp::Sum)?;
            }
            rank.wait()?;
            Ok::<_, CollectiveError>(values::<i64>(&stream, &data)[999])
        });
        assert_eq!(results, vec![Ok((devices.len() as i64).pow(20)); devices.len()]);
    }
}

/// Its calls are done for the others, who learn that it is gone only when they call again.
#[test]
fn on_devices_a_rank_that_leaves_takes_nothing_that_was_begun() {
    for devices in groups().into_iter().filter(|devices| devices.len() == 2) {
        for _ in 0..10 {
            let results = on_ranks(&devices, |mut rank, stream| {
                let mut data = upload(&stream, vec![1.0_f32; 100_000]);
                rank.all_reduce(&stream, &mut data, ReduceOp::Sum)?;
                if rank.rank() == 0 {
                    drop(rank);
                    return Ok(values::<f32>(&stream, &data));
                }
                rank.wait()?;
                let lost = CollectiveError::Lost { rank: 0, reason: "its handle was dropped".into() };
                assert_eq!(rank.barrier(), Err(lost));
                Ok::<_, CollectiveError>(values(&stream, &data))
            });
            assert_eq!(results, vec![Ok(vec![2.0_f32; 100_000]); 2]);
        }
    }
}

#[test]
fn on_devices_ranks_that_differ_are_told_before_anything_begins() {
    type Call = fn(&mut DeviceCollective, &Stream, &mut Tensor) -> Called;
    let sum: Call = |rank, stream, data| rank.all_reduce(stream, data, ReduceOp::Sum);
    let wrong: [(Call, &str); 5] = [
        (
            |rank, stream, data| rank.all_reduce(stream, data, ReduceOp::Max),
            "the ranks made different calls: rank 0 called all_reduce(Sum) of 4 f32, rank 1 called all_reduce(Max) of 4 f32",
        ),
        (
            |rank, stream, _| rank.all_reduce(stream, &mut stream.zeros::<f32>(&[5]).unwrap(), ReduceOp::Sum),
            "rank 1 called all_reduce with 5 values where 4 are expected",
        ),
        (
            |rank, stream, data| rank.all_gather(stream, &stream.zeros::<f32>(&[4]).unwrap(), data),
            "rank 1 called all_gather with 4 values where 8 are expected",
        ),
        (
            |rank, stream, data| rank.broadcast(stream, data, 2),
            "rank 1 called broadcast with rank 2 in a group of 2",
        ),
        (
            |rank, _, _| {
                Err({
                    rank.abort("it gave up");
                    rank.barrier().unwrap_err()
                })
            },
            "rank 1 is lost: it gave up",
        ),
    ];
    for devices in groups().into_iter().filter(|devices| devices.len() == 2) {
        for (call, text) in wrong {
            let results = on_ranks(&devices, |mut rank, stream| {
                let mut data = stream.zeros::<f32>(&[4]).unwrap();
                let call = if rank.rank() == 1 { call } else { sum };
                let told = call(&mut rank, &stream, &mut data).unwrap_err();
                assert_eq!(rank.failure(), Some(told.clone()));
                told.to_string()
            });
            assert_eq!(results, [text, text]);
        }
    }
}

#[test]
fn on_devices_ranks_that_wait_for_each_other_are_told() {
    for devices in groups().into_iter().filter(|devices| devices.len() == 2) {
        // On a device even a short message goes on only when it is received.
        let results = on_ranks(&devices, |mut rank, stream| {
            let (data, other) = (stream.zeros::<f32>(&[4]).unwrap(), 1 - rank.rank());
            rank.send(&stream, &data, other).unwrap_err()
        });
        let waiting = |rank: usize| {
            let for_rank = 1 - rank;
            Waiting { rank, call: format!("send of 4 f32 to rank {for_rank}"), for_rank }
        };
        let crossed = CollectiveError::Crossed { circle: vec![waiting(0), waiting(1)] };
        assert_eq!(results, [crossed.clone(), crossed]);
    }
}

#[test]
fn on_devices_tensors_that_cannot_be_used_are_refused() {
    type Call = fn(&mut DeviceCollective, &Stream) -> Called;
    let wrong: [(Call, &str); 5] = [
        (
            |rank, stream| rank.all_reduce(stream, &mut Tensor::zeros::<f32>(&[4]).unwrap(), ReduceOp::Sum),
            "all_reduce on cuda:0 needs its tensors there, got one on cpu",
        ),
        (
            |rank, stream| rank.all_reduce(stream, &mut stream.zeros::<u8>(&[4]).unwrap(), ReduceOp::Sum),
            "tensor holds u8, not f32",
        ),
        (
            |rank, stream| {
                let mut data = stream.zeros::<f32>(&[4, 3]).unwrap().transpose();
                rank.all_reduce(stream, &mut data, ReduceOp::Sum)
            },
            "contiguous",
        ),
        (
            |rank, stream| {
                let mut data = stream.zeros::<f32>(&[4]).unwrap();
                let _other = data.clone();
                rank.all_reduce(stream, &mut data, ReduceOp::Sum)
            },
            "rank 0: ",
        ),
        (
            |rank, stream| {
                let mut all = stream.zeros::<f64>(&[4]).unwrap();
                rank.all_gather(stream, &stream.zeros::<f32>(&[4]).unwrap(), &mut all)
            },
            "tensor holds f64, not f32",
        ),
    ];
    for devices in groups().into_iter().take(1) {
        for (call, text) in wrong {
            let told = on_ranks(&devices, |mut rank, stream| call(&mut rank, &stream).unwrap_err());
            assert!(matches!(told[0], CollectiveError::Device { rank: 0, .. }), "{told:?}");
            assert!(told[0].to_string().contains(text), "{}", told[0]);
        }
    }
}

#[test]
fn on_devices_each_rank_needs_one_of_its_own() {
    if groups().is_empty() {
        return;
    }
    let device = Device::Cuda(0);
    let error = on_devices(&[device, device]).unwrap_err();
    let source = TensorError::Device(DeviceError::TwoRanks { device, first: 0, second: 1 });
    assert_eq!(error, CollectiveError::Device { rank: 1, source });
    let error = on_devices(&[device, Device::Cpu]).unwrap_err();
    assert!(matches!(error, CollectiveError::Device { rank: 1, .. }), "{error}");
    assert!(on_devices(&[]).unwrap().is_empty());
}

/// Both are in the call when one of them is told to give up: the other's device is at work, waiting for it.
#[test]
fn on_devices_a_group_that_is_ended_from_outside_stops_at_once() {
    for devices in groups().into_iter().filter(|devices| devices.len() == 2) {
        let ranks = on_devices(&devices).unwrap();
        let aborter = ranks[0].aborter();
        thread::scope(|scope| {
            let threads: Vec<_> = ranks
                .into_iter()
                .map(|mut rank| {
                    scope.spawn(move || {
                        let stream = Stream::new(rank.device()).unwrap();
                        let mut data = stream.zeros::<f32>(&[1000]).unwrap();
                        let told = loop {
                            let called = rank.all_reduce(&stream, &mut data, ReduceOp::Sum);
                            if let Err(error) = called.and_then(|()| rank.wait()) {
                                break error;
                            }
                        };
                        stream.synchronize().unwrap();
                        told
                    })
                })
                .collect();
            assert!(aborter.abort(1, "it stalled for 5 s"));
            let lost = CollectiveError::Lost { rank: 1, reason: "it stalled for 5 s".into() };
            for thread in threads {
                assert_eq!(thread.join().unwrap(), lost);
            }
        });
    }
}

/// Only where the driver is simulated: it loses a device. The other rank's device waits for it, in a call that all agreed on.
#[test]
fn lost_device_ends_the_group_for_all() {
    if std::env::var_os(crate::device_simulated::SIMULATED).is_none() {
        return;
    }
    for devices in groups().into_iter().filter(|devices| devices.len() == 2) {
        let told = on_ranks(&devices, |mut rank, stream| {
            let mut data = stream.zeros::<f32>(&[1000]).unwrap();
            rank.all_reduce(&stream, &mut data, ReduceOp::Sum).unwrap();
            rank.wait().unwrap();
            if rank.rank() == 1 {
                // SAFETY: for the simulated driver, which knows it by name.
                let kernel =
                    unsafe { Kernel::new("lose", "extern \"C\" __global__ void lose() {}", "") }.unwrap();
                // The launch tells already, if the device is quick.
                let _ = stream.launch(&kernel, Launch::cover(1), []);
            }
            let called = rank.all_reduce(&stream, &mut data, ReduceOp::Sum);
            let told = called.and_then(|()| rank.wait()).unwrap_err();
            assert_eq!(rank.barrier(), Err(told.clone()));
            // What was under way has been stopped.
            assert_eq!(stream.synchronize().is_err(), rank.rank() == 1);
            told
        });
        assert_eq!(told[0], told[1]);
        assert!(matches!(&told[0], CollectiveError::Device { rank: 1, .. }), "{}", told[0]);
        assert!(device::lost(&told[0]).is_some(), "{}", told[0]);
    }
}
