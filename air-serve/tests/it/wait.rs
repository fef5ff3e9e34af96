//! Waiting for something another thread will do, with an end.

use std::time::{Duration, Instant};

/// Waits until it is so; fails the test if that takes a minute.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::yield_now();
    }
}
