//! What devices there are, as plain data for people and programs.

use serde::{Deserialize, Serialize};

use super::pool::MemoryUse;
use super::{Device, cuda};

/// One device of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// Its name in this project: `cpu`, `cuda:0`.
    pub device: Device,
    /// The maker's name of it.
    pub name: String,
    /// All of its memory, in bytes; 0 where the system does not say.
    pub memory_bytes: u64,
    /// Its memory not in use now, in bytes; 0 where the system does not say.
    pub free_memory_bytes: u64,
    /// Threads that run at once on a processor, multiprocessors of a CUDA device.
    pub parallelism: usize,
    /// The CUDA compute capability, such as `9.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_capability: Option<String>,
    /// What this process has of a CUDA device's memory, while it has the device open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_use: Option<MemoryUse>,
}

/// Every device, and why there is none of CUDA where there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeviceReport {
    /// The processor first, then CUDA devices by ordinal.
    pub devices: Vec<DeviceInfo>,
    /// Why CUDA devices are missing or one could not be asked; absent where all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuda_unavailable: Option<String>,
}

/// Every device of this machine: the processor first, then CUDA devices by ordinal.
///
/// Never fails and never panics; [`report`] also says why CUDA devices are missing.
pub fn list() -> Vec<DeviceInfo> {
    report().devices
}

/// As [`list`], with the reason where there is no CUDA device.
pub fn report() -> DeviceReport {
    let mut devices = vec![processor()];
    let cuda_unavailable = match cuda::infos() {
        Ok(found) => {
            devices.extend(found);
            None
        }
        Err(error) => Some(error.to_string()),
    };
    DeviceReport { devices, cuda_unavailable }
}

/// The CUDA devices that this process has open, and what it has of their memory. Asks no driver.
pub fn memory_in_use() -> Vec<(Device, MemoryUse)> {
    cuda::memory_in_use()
}

fn processor() -> DeviceInfo {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    DeviceInfo {
        device: Device::Cpu,
        name: field(&cpuinfo, "model name").unwrap_or(std::env::consts::ARCH).to_owned(),
        memory_bytes: kibibytes(field(&meminfo, "MemTotal")),
        free_memory_bytes: kibibytes(field(&meminfo, "MemAvailable")),
        parallelism: std::thread::available_parallelism().map_or(1, usize::from),
        compute_capability: None,
        memory_use: None,
    }
}

/// The value of the first `key : value` line.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(name, value)| (name.trim() == key).then(|| value.trim()))
}

/// `16311316 kB` in bytes.
fn kibibytes(value: Option<&str>) -> u64 {
    value
        .and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok())
        .and_then(|kibibytes| kibibytes.checked_mul(1024))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read_field_by_field() {
        let text = "MemTotal:       16311316 kB\nMemFree: odd kB\nmodel name\t: Some CPU @ 2.0GHz\n";
        assert_eq!(kibibytes(field(text, "MemTotal")), 16_311_316 * 1024);
        assert_eq!(kibibytes(field(text, "MemFree")), 0);
        assert_eq!(kibibytes(field(text, "MemAvailable")), 0);
        assert_eq!(field(text, "model name"), Some("Some CPU @ 2.0GHz"));
    }
}
