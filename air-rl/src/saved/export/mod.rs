//! A policy as a file for other programs: ONNX with everything from observation to action, safetensors with the network.

mod graph;
mod onnx;
mod proto;

use air_train::nn::save_safetensors;

use crate::error::{Result, RlError};
use crate::saved::policy::Policy;

impl Policy {
    /// The policy as an ONNX model (operator set 13): observations in, actions out, with the normaliser and the reading of the network's outputs.
    ///
    /// | name | shape | content |
    /// |---|---|---|
    /// | input `obs` | `[rows, row_len]` float | observations as the environment shows them, flat |
    /// | input `mask` | `[rows, choices]` float | only if the task has masks: not 0 where a choice is allowed |
    /// | output `action` | `[rows]` or `[rows, decisions]` int64, `[rows, row_len]` float | what [`act`](Self::act) chooses |
    /// | output `scores` | `[rows, choices]` float | what it is chosen by: logits or values; not for continuous actions |
    ///
    /// Not for a policy that [remembers](Self::remembers). Actions are those of `act`, but for rounding: continuous ones differ by parts of a million, choices where two scores are that close.
    pub fn to_onnx(&self) -> Result<Vec<u8>> {
        self.forgets()?;
        onnx::model(self.actor_parts(), self.task())
    }

    /// The policy's network as safetensors, with PyTorch's layout and names. Not for a policy that normalises its observations or
    /// [remembers](Self::remembers) them, which the network alone does not hold.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        self.forgets()?;
        if self.actor_parts().normalizer.is_some() {
            let why =
                "the policy normalises its observations, which a network alone cannot; export ONNX".into();
            return Err(RlError::Config { field: "format", why });
        }
        save_safetensors(self.actor()).map_err(|e| RlError::Network(e.into()))
    }

    fn forgets(&self) -> Result<()> {
        if self.remembers() {
            let why =
                "a policy that remembers cannot be exported: its state would be lost between two requests"
                    .into();
            return Err(RlError::Config { field: "format", why });
        }
        Ok(())
    }
}
