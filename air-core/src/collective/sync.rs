//! The primitives the barrier stands on. The loom model compiles `barrier.rs` against loom's in their place.

pub use std::hint::spin_loop;
pub use std::sync::atomic::{AtomicU64, Ordering};
pub use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
