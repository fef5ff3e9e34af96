//! The result of training, apart from it: a policy that acts, the checkpoint of a run, a policy as a file for other programs.

pub mod checkpoint;
pub(crate) mod export;
pub(crate) mod policy;
