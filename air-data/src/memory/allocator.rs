//! The settings of the process's allocator, by the memory budget.
//!
//! glibc gives the system back whatever is free at the end of a heap, at once, from 128 KiB on, and maps larger pieces anew each time.
//! Batches are made on one thread and dropped on another, megabytes at a time, so nearly each of their pages was faulted in, cleared
//! and given back again: a quarter to a third of the time of a scan. With a large budget it keeps them, then.
//!
//! From both sizes it departs by itself, upwards, as pieces come and go, until a small budget is the lesser part of what is resident: work on four times
//! 512 MiB had up to 1.6 times that. With a small budget it stays with them: 1.0 times, for a tenth to a half more time.
#![allow(unsafe_code)]

use parking_lot::Mutex;

/// What the allocator is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settings {
    /// Free bytes at the end of a heap that stay.
    keep: u64,
    /// Bytes from which on a piece is mapped for itself and given back when dropped.
    map: u64,
}

/// The most that glibc itself goes up to, and as much as a large budget makes small.
const LARGE: Settings = Settings { keep: 256 << 20, map: 32 << 20 };

/// Where glibc begins.
const SMALL: Settings = Settings { keep: 128 << 10, map: 128 << 10 };

/// A budget from which on what is kept is small.
const LARGE_BUDGET: u64 = 8 * LARGE.keep;

/// The environment's settings, which come first.
const ENVIRONMENT: [&str; 4] =
    ["GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_"];

/// Tells the allocator what the largest budget of this process asks for. It changes nothing where the environment has settings of its own, nor where the
/// allocator is not glibc's.
pub(crate) fn suit(budget_bytes: u64) {
    static TOLD: Mutex<Option<Settings>> = Mutex::new(None);
    if ENVIRONMENT.iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    let mut told = TOLD.lock();
    if let Some(settings) = next(*told, budget_bytes) {
        set(settings);
        *told = Some(settings);
    }
}

/// What it is to be told now.
fn next(told: Option<Settings>, budget_bytes: u64) -> Option<Settings> {
    let wanted = if budget_bytes >= LARGE_BUDGET { LARGE } else { SMALL };
    (told != Some(LARGE) && told != Some(wanted)).then_some(wanted)
}

#[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
fn set(settings: Settings) {
    let set = |parameter, bytes| {
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        // SAFETY: mallopt takes two numbers and no pointer, locks what it changes, and refuses values that it does not know.
        unsafe { libc::mallopt(parameter, bytes) }
    };
    // A failure leaves the allocator as it was, which is right, if slower.
    let _ = set(libc::M_MMAP_THRESHOLD, settings.map);
    let _ = set(libc::M_TRIM_THRESHOLD, settings.keep);
}

#[cfg(not(all(target_os = "linux", target_env = "gnu", not(miri))))]
fn set(_: Settings) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_budget_of_a_process_tells() {
        assert_eq!(next(None, 512 << 20), Some(SMALL));
        assert_eq!(next(Some(SMALL), 1 << 20), None);
        assert_eq!(next(Some(SMALL), 2 << 30), Some(LARGE));
        assert_eq!(next(None, 2 << 30), Some(LARGE));
        assert_eq!(next(Some(LARGE), 512 << 20), None);
    }
}
