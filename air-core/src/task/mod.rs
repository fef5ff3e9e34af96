//! Tasks: closures that run on the runtime's threads, and the graphs they form.
//!
//! ```
//! # use air_core::{BoxError, Runtime};
//! # use air_core::task::Retry;
//! let runtime = Runtime::start()?;
//! let parts: Vec<_> = (0..4_u64).map(|n| runtime.task("part").spawn(move || Ok(n * n))).collect();
//! let sum = runtime.task("sum").arg(&parts).spawn(|parts| Ok(parts.iter().map(|part| **part).sum::<u64>()));
//! assert_eq!(*sum.get()?, 14);
//!
//! // What fails says so to everything that depends on it.
//! let read = runtime.task("read").retry(Retry::times(2)).spawn(|| Ok(std::fs::read("/nowhere")?));
//! let parse = runtime.task("parse").arg(&read).spawn(|bytes| Ok(bytes.len()));
//! let error = parse.get().unwrap_err();
//! assert_eq!(error.root().task(), Some("read"));
//! # Ok::<(), BoxError>(())
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `verbs` | what a runtime does with tasks and objects |
//! | `builder` | a task being described; `args`: what it is given, `parts`: several results, `stream`: results while it runs |
//! | `node` | one task, from its start to its result |
//! | `countdown`, `retry`, `config` | when it begins, whether it is tried again, how many threads: pure decisions |
//! | `pool`, `thread`, `job`, `queues` | threads that steal work from one another; `room`: how much may be under way |
//! | `blocked` | waiting inside a task |
//! | `delay`, `alarm` | what waits for a clock; `leases`: what waits for resources |
//! | `context` | what a task can ask about itself |
//!
//! Invariants:
//!
//! 1. A task has one outcome. Its body runs at most once at a time, and not at all once the outcome is there.
//! 2. Every task that was started comes to an outcome: when the runtime ends, those that have not begun fail with `Stopped`.
//! 3. While there is work, a thread runs. A task that waits for objects, workers or streams does not keep others from running; where no
//!    further thread may be made, the last one is refused to wait (`Starved`) rather than left waiting for ever.
//! 4. At most `pending_max` tasks are under way, and who starts more waits; so a graph of any size runs in bounded memory.
//! 5. The clock's thread runs no user code: of a task whose time is over, a thread of the pool drops what is left.

mod alarm;
mod args;
mod blocked;
mod builder;
mod config;
mod context;
mod countdown;
mod delay;
mod job;
mod leases;
mod node;
mod parts;
mod pool;
mod queues;
mod retry;
mod room;
mod stream;
mod thread;
mod verbs;

pub use args::{Arg, Args, IntoArg};
pub use blocked::blocking;
pub use builder::{Again, Once, Task};
pub use config::TaskConfig;
pub use context::{attempt, devices, is_cancelled};
pub use job::Priority;
pub use parts::Parts;
pub use retry::Retry;
pub use stream::{Iter, Out, TaskStream, Unheard};
pub use verbs::TaskStats;

pub(crate) use blocked::{Blocked, blocked};
pub(crate) use pool::{Pool, Shared};
