//! What the machine has.

use std::fs;

use super::amount::Amount;
use super::request::{Demand, Plain};
use crate::device::{self, Device};

/// The processors this process may use, every CUDA device, and the memory of the machine or of the process's control group.
pub(super) fn detect() -> Demand {
    let devices = device::list();
    let gpus = devices.iter().filter(|info| matches!(info.device, Device::Cuda(_))).count();
    let processor = devices.iter().find(|info| info.device == Device::Cpu);
    let memory_bytes = processor.map_or(0, |info| info.memory_bytes);
    let limit =
        fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    let plain = Plain {
        cpu: Amount::whole(processor.map_or(1, |info| info.parallelism)),
        memory_bytes: limit.map_or(memory_bytes, |limit: u64| limit.min(memory_bytes)),
        ..Plain::default()
    };
    Demand { gpu: Amount::whole(gpus), plain }
}
