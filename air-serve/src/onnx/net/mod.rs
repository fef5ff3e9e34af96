//! Graphs with operators that are not ours (convolutions, recurrent cells, attention): as a whole, by another evaluator.
//!
//! | file | idea |
//! |---|---|
//! | `runtime` | ONNX Runtime, where the machine has it; feature `onnxruntime` |
//! | `tract` | tract, compiled in; feature `tract` |

#[cfg(feature = "onnxruntime")]
mod runtime;
#[cfg(feature = "tract")]
mod tract;

use super::error::Reason;
use super::ops::Operator;

type Load = fn(&[u8]) -> Result<Box<dyn Operator>, Reason>;

const EVALUATORS: &[(&str, Load)] = &[
    #[cfg(feature = "onnxruntime")]
    ("ONNX Runtime", |bytes| Ok(Box::new(runtime::Net::load(bytes)?))),
    #[cfg(feature = "tract")]
    ("tract", |bytes| Ok(Box::new(tract::Net::load(bytes)?))),
];

/// The first evaluator that takes the graph, or why none does.
pub(super) fn load(bytes: &[u8]) -> Result<Box<dyn Operator>, Reason> {
    let mut reasons = Vec::new();
    for (name, load) in EVALUATORS {
        match load(bytes) {
            Ok(net) => return Ok(net),
            Err(reason) => reasons.push(format!("{name}: {reason}")),
        }
    }
    if reasons.is_empty() {
        reasons.push(
            "it needs a program built with the feature `tract` or `onnxruntime` of air-serve".to_owned(),
        );
    }
    Err(reasons.join("; "))
}
