//! The primitives the meeting stands on. The loom model compiles `meeting.rs` against loom's in their place.

pub use std::hint::spin_loop;
pub use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
pub use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
