//! Devices. Where there is one of CUDA, what it computes is checked; where there is none, the error that says so.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use air_core::device::{self, Device, DeviceError, Stream};
use air_core::tensor::{Tensor, TensorError};

/// The first CUDA device, or, after a line that says so, `None`.
pub(crate) fn cuda() -> Option<Device> {
    match Device::cuda(0) {
        Ok(device) => Some(device),
        Err(error) => {
            // Exactly the errors of a machine without a usable device; anything else is a failure.
            assert!(
                matches!(
                    error,
                    DeviceError::NoDriver | DeviceError::NoDevice | DeviceError::DriverTooOld { .. }
                ),
                "{error}"
            );
            println!("no CUDA device here, so the path without one is asserted: {error}");
            None
        }
    }
}

#[test]
fn the_list_is_never_empty_and_says_why_cuda_is_missing() {
    let report = device::report();
    let first = &report.devices[0];
    assert_eq!(first.device, Device::Cpu);
    assert!(first.memory_bytes >= first.free_memory_bytes && first.memory_bytes > 0 && first.parallelism > 0);
    let found = report.devices.len() - 1;
    if cuda().is_some() {
        assert!(found > 0 && report.cuda_unavailable.is_none());
        assert!(report.devices[1].compute_capability.is_some());
    } else {
        assert_eq!(found, 0);
        let reason = report.cuda_unavailable.as_deref().unwrap();
        assert_eq!(reason, Device::cuda(0).unwrap_err().to_string());
    }
    // Free memory changes from one moment to the next; the devices do not.
    let names =
        |devices: &[device::DeviceInfo]| devices.iter().map(|info| info.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&device::list()), names(&report.devices));
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<device::DeviceReport>(&json).unwrap(), report);
}

#[test]
fn a_device_that_is_not_there_is_a_clear_error() {
    let error = Device::cuda(4096).unwrap_err();
    if cuda().is_some() {
        assert!(matches!(error, DeviceError::OutOfRange { ordinal: 4096, .. }), "{error}");
        return;
    }
    assert_eq!(error, Device::cuda(0).unwrap_err());
    if error == DeviceError::NoDriver {
        assert_eq!(
            error.to_string(),
            "cuda driver library (libcuda.so.1) not found; install the NVIDIA driver, \
             or run with --gpus in a container, or use the cpu"
        );
    }
    // Every other way to the device ends in the same error.
    let tensor = Tensor::zeros::<f32>(&[4]).unwrap();
    assert_eq!(tensor.to_device(Device::Cuda(0)).err(), Some(TensorError::Device(error.clone())));
    assert_eq!(Stream::new(Device::Cuda(0)).err(), Some(error));
}

#[test]
fn a_stream_wants_a_cuda_device() {
    let error = Stream::new(Device::Cpu).unwrap_err();
    assert_eq!(error.to_string(), "opening a stream needs a cuda device, got cpu");
}

#[test]
fn copies_to_a_device_and_back_keep_every_byte() {
    let Some(device) = cuda() else { return };
    let stream = Stream::new(device).unwrap();
    // Around the size of the page-locked buffers (4 MiB), where copies begin to be cut.
    for len in [0usize, 1, 1000, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, (13 << 20) + 7] {
        let values: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
        let host = Tensor::from_vec(values.clone(), &[len]).unwrap();
        let there = stream.upload(&host).unwrap();
        assert_eq!((there.device(), there.shape()), (device, host.shape()));
        assert!(matches!(there.as_slice::<u8>(), Err(TensorError::NotOnHost { .. })));
        assert_eq!(stream.download(&there).unwrap().as_slice::<u8>().unwrap(), values, "{len} bytes");
    }
    // Views: of the host, made contiguous on the way; of the device, with their strides.
    let host = Tensor::from_vec((0..24i32).collect(), &[4, 6]).unwrap();
    let there = host.transpose().to_device(device).unwrap();
    let row = there.select(0, 2).unwrap().to_device(Device::Cpu).unwrap();
    assert_eq!(row.to_vec::<i32>().unwrap(), [2, 8, 14, 20]);
    let column = there.select(1, 1).unwrap().to_device(Device::Cpu).unwrap();
    assert_eq!(column.to_vec::<i32>().unwrap(), [6, 7, 8, 9, 10, 11]);
}

#[test]
fn axpy_on_a_device_equals_the_cpu() {
    let Some(device) = cuda() else { return };
    let stream = Stream::new(device).unwrap();
    for len in [1usize, 255, 256, 257, 1 << 20, (1 << 24) + 3] {
        let x: Vec<f32> = (0..len).map(|i| (i % 97) as f32 * 0.25).collect();
        let y: Vec<f32> = (0..len).map(|i| (i % 89) as f32 - 40.0).collect();
        let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| 1.5f32.mul_add(*x, *y)).collect();
        let there = stream.upload(&Tensor::from_vec(x, &[len]).unwrap()).unwrap();
        let mut sum = stream.upload(&Tensor::from_vec(y, &[len]).unwrap()).unwrap();
        if let Err(TensorError::Device(error @ DeviceError::NoCompiler)) = stream.axpy(1.5, &there, &mut sum)
        {
            println!("no kernel compiler here, so its absence is asserted: {error}");
            return;
        }
        assert_eq!(stream.download(&sum).unwrap().as_slice::<f32>().unwrap(), expected, "{len} elements");
    }
    stream.synchronize().unwrap();
}

#[test]
fn axpy_checks_its_tensors() {
    let Some(device) = cuda() else { return };
    let stream = Stream::new(device).unwrap();
    let mut y = Tensor::zeros::<f32>(&[4]).unwrap().to_device(device).unwrap();
    let on_host = Tensor::zeros::<f32>(&[4]).unwrap();
    assert!(matches!(
        stream.axpy(1.0, &on_host, &mut y),
        Err(TensorError::Device(DeviceError::WrongDevice { .. }))
    ));
    let short = on_host.slice(0, 1..).unwrap().to_device(device).unwrap();
    assert!(matches!(stream.axpy(1.0, &short, &mut y), Err(TensorError::WrongLength { .. })));
    let alias = y.clone();
    assert!(matches!(stream.axpy(1.0, &alias, &mut y), Err(TensorError::Shared)));
}

/// Invariant A3: only `air-core/src/device/cuda/` names cudarc, and only `air-core` depends on it.
#[test]
fn a3_only_the_cuda_folder_names_cudarc() {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = crate_root.parent().unwrap();
    let allowed = crate_root.join("src/device/cuda");
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(workspace).unwrap() {
        let member = entry.unwrap().path();
        if member.join("Cargo.toml").is_file() {
            if member != crate_root {
                let manifest = std::fs::read_to_string(member.join("Cargo.toml")).unwrap();
                assert!(!manifest.contains("cudarc"), "{} depends on cudarc", member.display());
            }
            collect_sources(&member, &mut sources);
        }
    }
    let names_it = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains("cudarc"))
    };
    let here = crate_root.join("tests/it/device.rs");
    let (inside, outside): (Vec<&PathBuf>, Vec<&PathBuf>) = sources
        .iter()
        .filter(|path| **path != here && names_it(path))
        .partition(|path| path.starts_with(&allowed));
    assert!(outside.is_empty(), "cudarc is named in {outside:?}");
    assert!(!inside.is_empty(), "the check found no use of cudarc at all, so it looks in the wrong place");
}

/// Every `.rs` file below `folder`, build outputs and hidden folders left out.
fn collect_sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            collect_sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}
