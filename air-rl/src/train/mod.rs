//! Training: what tells one algorithm from another, and who drives it.
//!
//! | file | idea |
//! |---|---|
//! | `learner.rs` | what a learner is: a rollout in, weights and figures out |
//! | `driver.rs` | a learner and its runners, driven together |
//! | `off_policy.rs`, `offline.rs` | learners given by a gradient step on batches, from replay or recordings |
//! | `algorithm.rs` | iterations, and when to stop |
//! | `log.rs` | what a run writes while it goes |

pub(crate) mod algorithm;
pub(crate) mod driver;
pub(crate) mod learner;
pub mod log;
pub(crate) mod off_policy;
pub(crate) mod offline;
