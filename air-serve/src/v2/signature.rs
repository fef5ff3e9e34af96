//! What a model takes and gives, and how its tensors become what it is called with.

use air_core::BoxError;
use serde::{Serialize, Serializer};

use super::datatype::DataType;
use super::tensor::Tensor;
use crate::error::CallError;

/// An input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub datatype: DataType,
    /// Its dimensions; `None`, in the protocol -1, may be of any size.
    #[serde(serialize_with = "dims")]
    pub shape: Vec<Option<usize>>,
}

fn dims<S: Serializer>(shape: &[Option<usize>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(shape.iter().map(|&dim| as_protocol(dim)))
}

/// A dimension as the protocol writes it.
pub(crate) fn as_protocol(dim: Option<usize>) -> i64 {
    dim.map_or(-1, |dim| i64::try_from(dim).unwrap_or(i64::MAX))
}

/// What a model takes and gives.
///
/// ```
/// use air_serve::v2::{DataType, Signature};
///
/// let signature = Signature::new()
///     .input("image", DataType::Uint8, [-1, 224, 224, 3]) // -1: any number
///     .output("classes", DataType::Bytes, [-1, 5]);
/// assert_eq!(signature.inputs()[0].shape, [None, Some(224), Some(224), Some(3)]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    pub(crate) platform: &'static str,
    pub(crate) inputs: Vec<TensorSpec>,
    pub(crate) outputs: Vec<TensorSpec>,
}

impl Signature {
    /// No inputs and no outputs yet.
    pub fn new() -> Self {
        Signature { platform: "air_rust", ..Signature::default() }
    }

    /// Adds an input; a negative dimension may be of any size.
    pub fn input(mut self, name: impl Into<String>, datatype: DataType, shape: impl AsRef<[i64]>) -> Self {
        self.inputs.push(spec(name.into(), datatype, shape.as_ref()));
        self
    }

    /// Adds an output; a negative dimension may be of any size.
    pub fn output(mut self, name: impl Into<String>, datatype: DataType, shape: impl AsRef<[i64]>) -> Self {
        self.outputs.push(spec(name.into(), datatype, shape.as_ref()));
        self
    }

    /// What the model takes, in order.
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// What the model gives, in order.
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// Checks names, types and shapes, and puts the tensors into the order of the inputs.
    pub(crate) fn arrange(&self, tensors: Vec<Tensor>) -> Result<Vec<Tensor>, CallError> {
        let mut places: Vec<Option<Tensor>> = self.inputs.iter().map(|_| None).collect();
        for tensor in tensors {
            let index = self.inputs.iter().position(|input| input.name == tensor.name());
            let Some(index) = index else {
                return Err(invalid(self.names(), format!("the input `{}`", shortened(tensor.name()))));
            };
            self.inputs[index].check(&tensor)?;
            if places[index].replace(tensor).is_some() {
                let name = &self.inputs[index].name;
                return Err(invalid(format!("the input `{name}` once"), "it twice".to_owned()));
            }
        }
        let missing = places.iter().zip(&self.inputs).find(|(place, _)| place.is_none());
        if let Some((_, input)) = missing {
            return Err(invalid(format!("the input `{}`: {input}", input.name), "none".to_owned()));
        }
        Ok(places.into_iter().flatten().collect())
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.inputs.iter().map(|input| format!("`{}`", input.name)).collect();
        format!("the inputs {}", names.join(", "))
    }
}

impl TensorSpec {
    fn check(&self, tensor: &Tensor) -> Result<(), CallError> {
        let shape = tensor.shape();
        let fits = shape.len() == self.shape.len()
            && shape.iter().zip(&self.shape).all(|(&got, want)| want.is_none_or(|want| want == got));
        if fits && tensor.datatype() == self.datatype {
            return Ok(());
        }
        let got = format!("{} {shape:?} for the input `{}`", tensor.datatype(), self.name);
        Err(invalid(self.to_string(), got))
    }
}

impl std::fmt::Display for TensorSpec {
    /// As in `FP32 [-1, 4]`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dims: Vec<_> = self.shape.iter().map(|&dim| as_protocol(dim).to_string()).collect();
        write!(f, "{} [{}]", self.datatype, dims.join(", "))
    }
}

fn spec(name: String, datatype: DataType, shape: &[i64]) -> TensorSpec {
    TensorSpec { name, datatype, shape: shape.iter().map(|&dim| usize::try_from(dim).ok()).collect() }
}

fn invalid(expected: String, got: String) -> CallError {
    CallError::Invalid { expected, got }
}

/// What a client wrote, short enough for a message.
pub(crate) fn shortened(text: &str) -> String {
    const MOST: usize = 64;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Between the tensors of the protocol and what a model is called with: what makes a deployment reachable by the protocol
/// ([`Deployment::tensors`](crate::Deployment::tensors)).
///
/// A [`Signature`] is the codec of models that take and give tensors themselves.
pub trait TensorCodec<I, O>: Send + Sync + 'static {
    /// What the model takes and gives.
    fn signature(&self) -> &Signature;

    /// The model's input from one tensor for each input of the signature, in its order, with the types and shapes it asks for.
    fn decode(&self, inputs: Vec<Tensor>) -> Result<I, CallError>;

    /// The outputs of the signature, in its order, from the model's answer. An error is the model's fault, not the caller's.
    fn encode(&self, output: O) -> Result<Vec<Tensor>, BoxError>;
}

impl TensorCodec<Vec<Tensor>, Vec<Tensor>> for Signature {
    fn signature(&self) -> &Signature {
        self
    }

    fn decode(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, CallError> {
        Ok(inputs)
    }

    fn encode(&self, output: Vec<Tensor>) -> Result<Vec<Tensor>, BoxError> {
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn signature() -> Signature {
        Signature::new().input("a", DataType::Fp32, [-1, 2]).input("b", DataType::Int64, []).output(
            "c",
            DataType::Bool,
            [-1],
        )
    }

    fn a() -> Tensor {
        Tensor::new("a", [1, 2], &[1.0f32, 2.0]).unwrap()
    }

    fn b() -> Tensor {
        Tensor::new("b", [], &[1i64]).unwrap()
    }

    #[test]
    fn tensors_come_in_any_order_and_leave_in_that_of_the_signature() {
        assert_eq!(signature().arrange(vec![b(), a()]).unwrap(), [a(), b()]);
    }

    #[test]
    fn what_does_not_fit_is_told_what_is_expected() {
        let refused = |tensors| signature().arrange(tensors).unwrap_err().to_string();
        assert_eq!(refused(vec![a()]), "expected the input `b`: INT64 [], got none");
        assert_eq!(refused(vec![a(), a()]), "expected the input `a` once, got it twice");
        let mut c = a();
        c.name = "c".repeat(100);
        let message = refused(vec![c]);
        assert!(message.starts_with("expected the inputs `a`, `b`, got the input `ccc"), "{message}");
        assert!(message.len() < 150, "{message}");
        let wide = Tensor::new("a", [1, 3], &[0.0f32; 3]).unwrap();
        assert_eq!(refused(vec![wide]), "expected FP32 [-1, 2], got FP32 [1, 3] for the input `a`");
        let double = Tensor::new("a", [1, 2], &[0.0f64; 2]).unwrap();
        assert_eq!(refused(vec![double]), "expected FP32 [-1, 2], got FP64 [1, 2] for the input `a`");
    }
}
