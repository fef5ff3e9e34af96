//! The settings of the process's allocator under which batches that come and go cost no system calls.
//!
//! glibc gives the system back whatever is free at the end of a heap, at once, from 128 KiB on, and maps larger pieces anew each time.
//! Batches are made on one thread and dropped on another, megabytes at a time, so nearly each of their pages was faulted in, cleared
//! and given back again: a quarter to a third of the time of a scan.
#![allow(unsafe_code)]

use std::sync::Once;

/// Free bytes at the end of a heap that stay.
const KEEP_BYTES: u64 = 256 << 20;

/// Bytes from which on a piece is mapped for itself and given back when dropped: the most that glibc itself goes up to.
const MAP_BYTES: u64 = 32 << 20;

/// The environment's settings, which come first.
const ENVIRONMENT: [&str; 4] =
    ["GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_"];

/// Has the allocator keep freed memory for the next batch, as far as a budget of so many bytes makes that small. It changes nothing
/// where the environment has settings of its own, nor where the allocator is not glibc's.
pub(crate) fn keep_freed(budget_bytes: u64) {
    static ONCE: Once = Once::new();
    if budget_bytes >= 8 * KEEP_BYTES && ENVIRONMENT.iter().all(|name| std::env::var_os(name).is_none()) {
        ONCE.call_once(|| set(KEEP_BYTES, MAP_BYTES));
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
fn set(keep: u64, map: u64) {
    let set = |parameter, bytes| {
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        // SAFETY: mallopt takes two numbers and no pointer, locks what it changes, and refuses values that it does not know.
        unsafe { libc::mallopt(parameter, bytes) }
    };
    // A failure leaves the allocator as it was, which is right, if slower.
    let _ = set(libc::M_MMAP_THRESHOLD, map);
    let _ = set(libc::M_TRIM_THRESHOLD, keep);
}

#[cfg(not(all(target_os = "linux", target_env = "gnu", not(miri))))]
fn set(_keep: u64, _map: u64) {}
