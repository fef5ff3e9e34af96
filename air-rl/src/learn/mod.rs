//! The parts that algorithms learn with.
//!
//! | file | idea |
//! |---|---|
//! | `nets.rs` | steps that every learner takes with its networks |
//! | `categorical.rs`, `gaussian.rs`, `squashed.rs`, `values.rs` | what a row of outputs means: distributions over actions, values of actions |
//! | `gae.rs`, `vtrace.rs` | advantages of what was played, by this policy or an older one |
//! | `policy_loss.rs`, `imitate.rs`, `twin.rs` | losses with their gradients, of policies, of imitation, of two critics |
//! | `normalize.rs` | running means and deviations of observations and returns |
//! | `replay.rs`, `sum_tree.rs`, `offline_data.rs` | transitions kept, drawn evenly or by priority; recorded episodes |

pub mod categorical;
pub mod gae;
pub mod gaussian;
pub(crate) mod imitate;
pub(crate) mod nets;
pub mod normalize;
pub mod offline_data;
pub(crate) mod policy_loss;
pub mod replay;
pub(crate) mod squashed;
pub mod sum_tree;
pub(crate) mod twin;
pub mod values;
pub mod vtrace;
