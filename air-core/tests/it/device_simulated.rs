//! All work on devices again, on a simulated driver: streams that are threads, memory that is checked. See `tests/simulated/cuda.rs`.
//!
//! The driver is loaded by name, once in a process, so the tests run in a process of their own.
#![allow(clippy::unwrap_used, unsafe_code)]

use std::path::Path;
use std::process::{Command, Output};

use air_core::device::{Device, DeviceError, Kernel, Launch, Stream};
use air_core::resource::Resources;
use air_core::tensor::{Tensor, TensorError};
use air_core::{
    Backoff, BoxError, Cx, Exit, Handle, Message, Runtime, RuntimeConfig, Spec, SupervisorSpec, Worker,
};

pub(crate) const SIMULATED: &str = "AIR_SIMULATED_DEVICES";
const NOTHING_LEFT: &str =
    "simulated: left 0 bytes of devices, 0 of the host, 0 streams, 0 events, 0 contexts, 0 communicators";

/// Builds the driver, its compiler and NCCL, which are one library under three names.
fn driver(folder: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulated/cuda.rs");
    let (driver, compiler) = (folder.join("libcuda.so"), folder.join("libnvrtc.so"));
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let flags = ["--edition=2024", "--crate-type=cdylib", "-Copt-level=1", "-Dwarnings", "-o"];
    let built = Command::new(rustc).args(flags).arg(&driver).arg(source).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    std::fs::copy(&driver, compiler).unwrap();
    // The same file, so that it is loaded once: NCCL works on the driver's streams.
    std::fs::hard_link(driver, folder.join("libnccl.so.2")).unwrap();
}

/// Runs tests of this program on it, for 300 s at most.
fn run(folder: &Path, tests: &[&str]) -> Output {
    Command::new("timeout")
        .arg("300")
        .arg(std::env::current_exe().unwrap())
        .args(tests)
        .arg("--nocapture")
        .env("LD_LIBRARY_PATH", folder)
        .env("AIR_KERNEL_CACHE", folder.join("kernels"))
        .env(SIMULATED, "2")
        .output()
        .unwrap()
}

#[test]
fn everything_works_on_a_simulated_driver_and_is_given_back() {
    if !cfg!(target_os = "linux") {
        println!("only Linux loads the library by this name");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    driver(folder.path());
    let beside =
        ["device_work::", "device_worker::", "device::copies", "device::axpy_checks", "device::the_list"];
    // The loss of a device is everybody's in a process, so it is alone in its own.
    let alone = ["device_simulated::a_lost_device", "device_collective::lost"];
    let runs =
        [(&beside[..], 16), (&["device_collective::on_devices"][..], 8), (&alone[..1], 1), (&alone[1..], 1)];
    for (tests, count) in runs {
        let output = run(folder.path(), tests);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_ne!(output.status.code(), Some(124), "{tests:?} hang: {out}\n{err}");
        let passed = format!("test result: ok. {count} passed");
        assert!(output.status.success() && out.contains(&passed), "{out}\n{err}");
        let absent = ["no CUDA device", "no kernel compiler", "no NCCL"];
        assert!(!absent.iter().any(|absent| out.contains(absent)), "{out}");
        assert!(err.contains(NOTHING_LEFT), "{err}");
    }
}

/// Has something on a device, and loses the device when told.
struct Model {
    stream: std::sync::Arc<Stream>,
    weights: Tensor,
}
impl Worker for Model {}

struct Infer {
    lose: bool,
}
impl Message for Infer {
    type Reply = (u64, Vec<f32>);
}
impl Handle<Infer> for Model {
    fn handle(&mut self, Infer { lose }: Infer, cx: &mut Cx<Self>) -> Result<(u64, Vec<f32>), BoxError> {
        if lose {
            // SAFETY: for the simulated driver, which knows it by name.
            let kernel = unsafe { Kernel::new("lose", "extern \"C\" __global__ void lose() {}", "") }?;
            self.stream.launch(&kernel, Launch::cover(1), [])?;
            self.stream.synchronize()?;
        }
        Ok((cx.generation(), self.stream.download(&self.weights)?.to_vec()?))
    }
}

/// Only where the driver is simulated: a real one may not let the process use the device again.
#[test]
fn a_lost_device_is_opened_anew_by_the_next_life() {
    if std::env::var_os(SIMULATED).is_none() {
        return;
    }
    let runtime = Runtime::with(RuntimeConfig::default().resources(Resources::new().gpu(2.0))).unwrap();
    let supervisor = runtime.supervisor(SupervisorSpec::new("gpus").backoff(Backoff::NONE)).unwrap();
    let spec = Spec::new("model").resources(Resources::new().gpu(1.0));
    let model = supervisor
        .spawn(spec, |cx| {
            let stream = cx.stream()?;
            let weights = stream.upload(&Tensor::from_vec(vec![1.0_f32, 2.0], &[2])?)?;
            Ok(Model { stream, weights })
        })
        .unwrap();
    for life in 1..=4 {
        assert_eq!(model.ask_blocking(Infer { lose: false }).unwrap(), (life, vec![1.0, 2.0]));
        let error = model.ask_blocking(Infer { lose: true }).unwrap_err();
        assert!(error.to_string().contains("cuda:0 is lost after CUDA_ERROR_ILLEGAL_ADDRESS"), "{error}");
    }
    assert_eq!(model.ask_blocking(Infer { lose: false }).unwrap().0, 5);
    assert!(model.exits().iter().all(|record| matches!(record.exit, Exit::DeviceLost(_))));
    // While somebody holds on to the lost device, it stays lost; the other device is none the worse.
    let device = Device::cuda(1).unwrap();
    let stream = Stream::new(device).unwrap();
    let held = stream.zeros::<f32>(&[4]).unwrap();
    // SAFETY: as above.
    let kernel = unsafe { Kernel::new("lose", "extern \"C\" __global__ void lose() {}", "") }.unwrap();
    let lost = |error: &DeviceError| error.is_lost();
    // The launch tells already, if the device is quick.
    let launched = stream.launch(&kernel, Launch::cover(1), []).and_then(|()| Ok(stream.synchronize()?));
    assert!(matches!(launched, Err(TensorError::Device(error)) if lost(&error)));
    assert!(Stream::new(device).is_err_and(|error| lost(&error)));
    assert!(matches!(stream.download(&held), Err(TensorError::Device(error)) if lost(&error)));
    assert_eq!(model.ask_blocking(Infer { lose: false }).unwrap().0, 5);
    drop((stream, held));
    assert!(Stream::new(device).and_then(|stream| stream.synchronize()).is_ok());
}
