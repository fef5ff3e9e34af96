//! [`ObjectConfig`]: how much memory objects may have, and where they go beyond it.

use std::path::PathBuf;

use super::spill::{Codecs, Spill};

/// How much memory objects may have, and where they go beyond it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ObjectConfig {
    /// Bytes that values which can spill may take in memory (default: half of what the process may have). Above it those used
    /// longest ago go to disk.
    pub memory_bytes: usize,
    /// Where the runtime makes its directory for them, when the first one goes (default: the system's for temporary files). The
    /// directory is removed when the runtime is dropped.
    pub spill_dir: Option<PathBuf>,
    pub(super) codecs: Codecs,
}

impl Default for ObjectConfig {
    fn default() -> Self {
        Self { memory_bytes: available_bytes() / 2, spill_dir: None, codecs: Codecs::default() }
    }
}

impl ObjectConfig {
    /// Sets how many bytes objects may take in memory.
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Sets where objects spill.
    pub fn spill_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.spill_dir = Some(directory.into());
        self
    }

    /// Has values of this type counted and spilled, as tensors are.
    pub fn spill<T: Spill>(mut self) -> Self {
        self.codecs.add::<T>();
        self
    }
}

/// The machine's memory, or the control group's share of it; 4 GiB where neither is known.
fn available_bytes() -> usize {
    let machine = std::fs::read_to_string("/proc/meminfo").ok();
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let machine = machine.as_deref().and_then(total_bytes);
    let group = group.and_then(|text| text.trim().parse::<usize>().ok());
    machine.into_iter().chain(group).min().unwrap_or(4 << 30)
}

fn total_bytes(meminfo: &str) -> Option<usize> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    value.split_whitespace().next()?.parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read_in_bytes() {
        assert_eq!(total_bytes("MemTotal:       16311316 kB\nMemFree: 1 kB\n"), Some(16_311_316 * 1024));
        assert_eq!(total_bytes("MemFree: 1 kB\n"), None);
        assert!(available_bytes() > 0);
    }
}
