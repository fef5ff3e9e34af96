//! Work on a device: memory that is kept, kernels, copies beside work, several streams. Needs one; what decides in all of it is tested
//! without, beside the code in `src/device/`.
#![allow(clippy::unwrap_used, unsafe_code)]

use air_core::device::{self, Arg, Device, DeviceError, Kernel, Launch, Stream};
use air_core::tensor::{DType, Tensor, TensorError};

use crate::device::cuda;

const SOURCE: &str = r#"
extern "C" __global__ void scale(float by, const float *x, float *y, long long n) {
    long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) y[i] = by * x[i];
}
extern "C" __global__ void spin(float *x, long long n, long long rounds) {
    for (long long i = threadIdx.x; i < n; i += blockDim.x) {
        float value = x[i];
        for (long long round = 0; round < rounds; round++) value = fmaf(value, 0.5f, 1.0f);
        x[i] = value;
    }
}"#;

fn scale() -> Kernel {
    // SAFETY: it reads `x` and writes `y` below `n`, the length of both.
    unsafe { Kernel::new("scale", SOURCE, "by: f32, x: &f32[n], y: &mut f32[n], n: i64") }.unwrap()
}

/// Takes long; leaves every element at 2.
fn spin() -> Kernel {
    // SAFETY: it touches `x` below `n`, its length.
    unsafe { Kernel::new("spin", SOURCE, "x: &mut f32[n], n: i64, rounds: i64") }.unwrap()
}

fn host(values: Vec<f32>) -> Tensor {
    let len = values.len();
    Tensor::from_vec(values, &[len]).unwrap()
}

/// The first device and a stream, where there is a compiler too.
fn ready() -> Option<Stream> {
    let stream = Stream::new(cuda()?).unwrap();
    match scale().compile("sm_80") {
        Ok(_) => Some(stream),
        Err(error) => {
            assert_eq!(error, DeviceError::NoCompiler);
            println!("no kernel compiler here, so its absence is asserted");
            None
        }
    }
}

#[test]
fn a_kernel_gets_numbers_and_tensors_as_they_are() {
    let Some(stream) = ready() else { return };
    for len in [0_usize, 1, 255, 257, 1 << 20] {
        let x = host((0..len).map(|i| i as f32).collect());
        let (there, mut y) = (stream.upload(&x).unwrap(), stream.zeros::<f32>(&[len]).unwrap());
        let arguments = [Arg::from(0.5_f32), (&there).into(), (&mut y).into(), (len as i64).into()];
        stream.launch(&scale(), Launch::cover(len), arguments).unwrap();
        let expected: Vec<f32> = (0..len).map(|i| i as f32 * 0.5).collect();
        assert!(stream.download(&y).unwrap().as_slice::<f32>().unwrap() == expected, "{len} elements");
    }
}

#[test]
fn a_launch_that_does_not_fit_is_refused_before_it_begins() {
    let Some(stream) = ready() else { return };
    let (x, mut y) = (stream.zeros::<f32>(&[4]).unwrap(), stream.zeros::<f32>(&[4]).unwrap());
    let on_host = Tensor::zeros::<f32>(&[4]).unwrap();
    let launch = |x: &Tensor, y: &mut Tensor, n: i64| {
        stream.launch(&scale(), Launch::cover(4), [1.0_f32.into(), x.into(), y.into(), n.into()])
    };
    launch(&x, &mut y, 4).unwrap();
    let error = launch(&x, &mut y, 5).unwrap_err();
    assert!(matches!(&error, TensorError::Device(DeviceError::Argument { argument, .. }) if argument == "n"));
    let error = launch(&x.reshape(&[2, 2]).unwrap(), &mut y, 4).unwrap_err();
    assert!(matches!(&error, TensorError::Device(DeviceError::Argument { argument, .. }) if argument == "x"));
    assert!(matches!(
        launch(&on_host, &mut y, 4).unwrap_err(),
        TensorError::Device(DeviceError::WrongDevice { found: Device::Cpu, .. })
    ));
    let alias = y.clone();
    assert_eq!(launch(&alias, &mut y, 4).unwrap_err(), TensorError::Shared);
    assert_eq!(stream.zeros::<i64>(&[2, 3]).unwrap().dtype(), DType::I64);
}

#[test]
fn a_stream_waits_on_the_device_for_what_another_does() {
    let Some(first) = ready() else { return };
    let (second, third) = (Stream::new(first.device()).unwrap(), Stream::new(first.device()).unwrap());
    for round in 0..20 {
        let mut x = first.upload(&host(vec![7.0; 4096])).unwrap();
        let arguments = [(&mut x).into(), 4096_i64.into(), 200_000_i64.into()];
        first.launch(&spin(), Launch::cover(256), arguments).unwrap();
        // Two readers on other streams, queued while the first is still at work; then a writer, and freed and used again at once.
        let mut ys = [second.zeros::<f32>(&[4096]).unwrap(), third.zeros::<f32>(&[4096]).unwrap()];
        for (stream, y) in [&second, &third].into_iter().zip(&mut ys) {
            let arguments = [3.0_f32.into(), (&x).into(), y.into(), 4096_i64.into()];
            stream.launch(&scale(), Launch::cover(4096), arguments).unwrap();
        }
        drop(x);
        let other = first.upload(&host(vec![-1.0; 4096])).unwrap();
        for (stream, y) in [&second, &third].into_iter().zip(&ys) {
            let found = stream.download(y).unwrap();
            assert!(found.as_slice::<f32>().unwrap().iter().all(|&value| value == 6.0), "round {round}");
        }
        drop(other);
    }
}

#[test]
fn a_download_goes_on_beside_other_work() {
    let Some(stream) = ready() else { return };
    let copies = Stream::new(stream.device()).unwrap();
    let values: Vec<f32> = (0..3_000_000).map(|i| i as f32).collect();
    let there = stream.upload(&host(values.clone())).unwrap();
    let download = copies.start_download(&there).unwrap();
    let mut busy = stream.zeros::<f32>(&[256]).unwrap();
    let arguments = [(&mut busy).into(), 256_i64.into(), 1_000_000_i64.into()];
    stream.launch(&spin(), Launch::cover(256), arguments).unwrap();
    let event = stream.record().unwrap();
    drop(there); // the copy does not need the handle
    assert!(download.wait().unwrap().as_slice::<f32>().unwrap() == values);
    event.wait().unwrap();
    assert!(event.is_done().unwrap());
    copies.wait_for(&event).unwrap();
    let done = copies.start_download(&busy).unwrap();
    copies.synchronize().unwrap();
    assert!(done.is_done().unwrap());
    assert_eq!(done.wait().unwrap().as_slice::<f32>().unwrap(), [2.0; 256]);
}

#[test]
fn memory_is_counted_kept_and_given_back() {
    let Some(device) = cuda() else {
        assert_eq!(device::memory_in_use(), []);
        return;
    };
    // Other tests use the device, too, so this looks at what it holds itself.
    const BYTES: usize = 48 << 20;
    let stream = Stream::new(device).unwrap();
    let tensor = stream.zeros::<u8>(&[BYTES]).unwrap();
    let now = stream.memory_use();
    assert!(now.in_use_bytes >= BYTES as u64 && now.peak_bytes >= now.in_use_bytes);
    assert!(device::memory_in_use().iter().any(|(of, _)| *of == device));
    let allocations = now.allocations;
    drop(tensor);
    for _ in 0..100 {
        drop(stream.zeros::<u8>(&[BYTES]).unwrap());
    }
    assert!(stream.memory_use().allocations < allocations + 50, "memory is not used again");
    stream.release_memory();
    // More than any device has: a typed error, and the device works on.
    let error = stream.zeros::<u8>(&[1 << 50]).unwrap_err();
    let TensorError::Device(DeviceError::OutOfMemory { asked_bytes, free_bytes, .. }) = error else {
        panic!("{error}");
    };
    assert!(asked_bytes == 1 << 50 && free_bytes > 0);
    let tensor = stream.upload(&host(vec![1.0; 100])).unwrap();
    assert_eq!(stream.download(&tensor).unwrap().as_slice::<f32>().unwrap(), [1.0; 100]);
}

#[test]
fn events_are_counted_and_used_again() {
    let Some(device) = cuda() else { return };
    let stream = Stream::new(device).unwrap();
    // Other tests use the device, too, but never so many at once.
    const MANY: u64 = 1000;
    let before = stream.event_use();
    for _ in 0..2 * MANY {
        stream.record().unwrap();
    }
    let now = stream.event_use();
    assert!(now.made < before.made + MANY && now.reuses >= before.reuses + MANY, "{before:?} {now:?}");
    let held: Vec<_> = (0..MANY).map(|_| stream.record().unwrap()).collect();
    assert!(stream.event_use().in_use >= MANY);
    drop(held);
    stream.release_memory();
    // One that served before stands for what it was recorded behind now.
    let event = stream.record().unwrap();
    event.wait().unwrap();
    assert!(event.is_done().unwrap());
}

#[test]
fn tensors_go_from_device_to_device() {
    let Some(first) = cuda() else { return };
    let Ok(second) = Device::cuda(1) else {
        println!("one CUDA device here, so none to copy to");
        return;
    };
    let values: Vec<f32> = (0..3_000_000).map(|i| i as f32).collect();
    let there = host(values.clone()).to_device(first).unwrap();
    let beside = there.to_device(second).unwrap();
    assert_eq!(beside.device(), second);
    drop(there);
    assert!(beside.to_device(Device::Cpu).unwrap().as_slice::<f32>().unwrap() == values);
}
