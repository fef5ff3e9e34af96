//! The networks: a forward pass on slices, with explicit vectors chosen at run time, in safe Rust but for one instruction (`bf16`).
//!
//! | file | idea |
//! |---|---|
//! | `matrix` | weights, in the width they are stored in |
//! | `dot` | rows of inputs times weights: who computes which tile |
//! | `tile` | the kernel: two panels of weights times a few rows |
//! | `bf16` | the same where the processor multiplies BF16 |
//! | `attention` | a token's heads over its past |
//! | `pages` | where the past is kept |
//! | `prefixes` | what of it others can use: pure |
//! | `math`, `rope` | norms, activations, positions |
//! | `llama`, `bert` | the networks |

// What a dispatched kernel calls must be inlined into it, or it loses the instructions it was dispatched for.
#[allow(clippy::inline_always)]
mod attention;
mod bert;
#[allow(clippy::inline_always)]
mod bf16;
#[allow(clippy::inline_always)]
mod dot;
mod llama;
#[allow(clippy::inline_always, clippy::needless_for_each)]
mod math;
mod matrix;
mod pages;
mod prefixes;
#[allow(clippy::inline_always)]
mod rope;
#[allow(clippy::inline_always)]
mod tile;

pub(crate) use bert::{Bert, BertShape};
pub(crate) use llama::{Llama, LlamaShape, Scratch, Segment};
pub(crate) use matrix::{Matrix, PANEL, Width, widen};
pub(crate) use pages::{Cache, Pool, TOKENS as PAGE_TOKENS};
pub(crate) use rope::Llama3Scaling;
