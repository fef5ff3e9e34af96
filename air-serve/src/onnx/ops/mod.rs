//! The operators, one file a family. Each is built once from its node, checked then, and run many times.

mod convert;
mod dense;
mod forest;
mod linear;
mod post;
mod scale;
mod shape;
mod tree;
mod tree_build;

use super::error::{OnnxError, Reason};
use super::node::Node;
use super::value::{Labels, Value};

/// No value that an operator makes may have more elements: broadcasting two small inputs can ask for a huge one.
pub(crate) const MAX_ELEMENTS: usize = 1 << 28;

/// One node of a graph, ready to run.
pub(crate) trait Operator: Send + Sync {
    /// Computes the outputs from the inputs; an absent optional input is `None`.
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason>;

    /// The class labels, where the operator is a classifier.
    fn labels(&self) -> Option<&Labels> {
        None
    }
}

/// What a node becomes.
pub(crate) enum Built {
    /// Its output is its first input.
    Alias,
    /// Its output does not depend on any input.
    Constant(Value),
    /// It runs each time.
    Step(Box<dyn Operator>),
}

/// Builds the operator of `node`.
pub(crate) fn build(node: &Node<'_>) -> Result<Built, OnnxError> {
    let built: Result<Built, Reason> = match (node.domain(), node.operator()) {
        ("ai.onnx.ml", "TreeEnsembleClassifier") => step(tree::Classifier::build(node)),
        ("ai.onnx.ml", "TreeEnsembleRegressor") => step(tree::Regressor::build(node)),
        ("ai.onnx.ml", "LinearClassifier") => step(linear::Classifier::build(node)),
        ("ai.onnx.ml", "LinearRegressor") => step(linear::Regressor::build(node)),
        ("ai.onnx.ml", "Scaler") => step(scale::Scaler::build(node)),
        ("ai.onnx.ml", "Normalizer") => step(scale::Normalizer::build(node)),
        ("ai.onnx.ml", "ZipMap") => step(convert::ZipMap::build(node)),
        ("ai.onnx.ml", "ArrayFeatureExtractor") => step(Ok(shape::ArrayFeatureExtractor)),
        ("", "Identity" | "Dropout") => Ok(Built::Alias),
        ("", "Constant") => convert::constant(node).map(Built::Constant),
        ("", "Cast") => step(convert::Cast::build(node)),
        ("", "Reshape") => step(Ok(shape::Reshape)),
        ("", "Flatten") => step(Ok(shape::Flatten { axis: node.int("axis", 1) })),
        ("", "Concat") => step(Ok(shape::Concat { axis: node.int("axis", 0) })),
        ("", "ArgMax") => step(Ok(shape::ArgMax::build(node))),
        ("", "Gemm") => step(Ok(dense::Gemm::build(node))),
        ("", "MatMul") => step(Ok(dense::MatMul)),
        ("", "Softmax") => step(Ok(dense::Softmax::build(node))),
        ("", name) => match (dense::unary(name), dense::binary(name)) {
            (Some(function), _) => step(Ok(dense::Unary(function))),
            (_, Some(function)) => step(Ok(dense::Binary(function))),
            _ => return Err(unsupported(node)),
        },
        _ => return Err(unsupported(node)),
    };
    built.map_err(|reason| node.error(reason))
}

fn step<O: Operator + 'static>(operator: Result<O, Reason>) -> Result<Built, Reason> {
    operator.map(|operator| Built::Step(Box::new(operator) as Box<dyn Operator>))
}

fn unsupported(node: &Node<'_>) -> OnnxError {
    OnnxError::Unsupported { node: node.name(), operator: node.full_operator(), reason: None }
}

/// Tensors one below the other.
pub(crate) fn join_rows(values: &[Option<&Value>]) -> Result<Value, Reason> {
    let joined = shape::Concat { axis: 0 }.run(values)?.pop();
    joined.ok_or_else(|| "nothing was joined".to_owned())
}

/// The input at `index`, which the operator cannot do without.
pub(crate) fn need<'a>(inputs: &[Option<&'a Value>], index: usize) -> Result<&'a Value, Reason> {
    inputs.get(index).copied().flatten().ok_or_else(|| format!("input {index} is missing"))
}

/// Rows and columns of a batch of feature vectors; one vector alone is a batch of one.
pub(crate) fn matrix(shape: &[usize]) -> Result<(usize, usize), Reason> {
    match *shape {
        [columns] => Ok((1, columns)),
        [rows, columns] => Ok((rows, columns)),
        _ => Err(format!("expected rows of features, got a tensor of shape {shape:?}")),
    }
}
