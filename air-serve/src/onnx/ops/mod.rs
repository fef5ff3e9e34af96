//! The operators, one file a family. Each is built once from its node, checked then, and run many times.

mod conv;
mod convert;
mod dense;
mod encode;
mod forest;
mod index;
mod linear;
mod logic;
#[cfg(test)]
mod ml_tests;
mod post;
mod reach;
mod reduce;
mod scale;
mod shape;
mod svm;
mod svm_class;
mod tree;
mod tree_build;
mod tree_five;

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

    /// The class that `run` finds for one row of features, by its number among the labels, where it takes no more than the row to tell.
    fn class(&self, row: Row<'_>) -> Option<Result<usize, Reason>> {
        let _ = row;
        None
    }
}

/// The features of one row.
#[derive(Clone, Copy)]
pub(crate) enum Row<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
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
        ("ai.onnx.ml", "TreeEnsemble") => step(tree::Regressor::five(node)),
        ("ai.onnx.ml", "SVMClassifier") => step(svm_class::Classifier::build(node)),
        ("ai.onnx.ml", "SVMRegressor") => step(svm::Regressor::build(node)),
        ("ai.onnx.ml", "LinearClassifier") => step(linear::Classifier::build(node)),
        ("ai.onnx.ml", "LinearRegressor") => step(linear::Regressor::build(node)),
        ("ai.onnx.ml", "Scaler") => step(scale::Scaler::build(node)),
        ("ai.onnx.ml", "Normalizer") => step(scale::Normalizer::build(node)),
        ("ai.onnx.ml", "OneHotEncoder") => step(encode::OneHot::build(node)),
        ("ai.onnx.ml", "LabelEncoder") => step(encode::Lookup::label_encoder(node)),
        ("ai.onnx.ml", "CategoryMapper") => step(encode::Lookup::category_mapper(node)),
        ("ai.onnx.ml", "Imputer") => step(encode::Imputer::build(node)),
        ("ai.onnx.ml", "Binarizer") => {
            step(Ok(encode::Binarizer { threshold: node.float("threshold", 0.0) }))
        }
        ("ai.onnx.ml", "FeatureVectorizer") => step(Ok(encode::FeatureVectorizer)),
        ("ai.onnx.ml", "ZipMap") => step(convert::ZipMap::build(node)),
        ("ai.onnx.ml", "ArrayFeatureExtractor") => step(Ok(shape::ArrayFeatureExtractor)),
        ("", "Identity" | "Dropout") => Ok(Built::Alias),
        ("", "Constant") => convert::constant(node).map(Built::Constant),
        ("", "Cast") => step(convert::Cast::build(node)),
        ("", "Reshape") => step(Ok(shape::Reshape)),
        ("", "Flatten") => step(Ok(shape::Flatten { axis: node.int("axis", 1) })),
        ("", "Concat") => step(Ok(shape::Concat { axis: node.int("axis", 0) })),
        ("", "ArgMax" | "ArgMin") => step(Ok(shape::ArgMax::build(node))),
        ("", "Gather") => step(Ok(index::Gather { axis: node.int("axis", 0) })),
        ("", "Slice") => step(Ok(index::Slice::build(node))),
        ("", "Squeeze") => step(Ok(index::Squeeze { axes: node.ints("axes").to_vec() })),
        ("", "Unsqueeze") => step(Ok(index::Unsqueeze { axes: node.ints("axes").to_vec() })),
        ("", "Transpose") => step(Ok(index::Transpose { perm: node.ints("perm").to_vec() })),
        ("", "Shape") => step(Ok(index::Shape)),
        ("", "ConstantOfShape") => step(index::ConstantOfShape::build(node)),
        ("", "Not") => step(Ok(logic::Not)),
        ("", "IsNaN") => step(Ok(logic::IsNan)),
        ("", "Where") => step(Ok(logic::Where)),
        ("", "LpNormalization") => step(reduce::LpNormalization::build(node)),
        ("", "Conv") => step(conv::Conv::build(node).ok_or_else(|| unsupported(node))?),
        ("", "Gemm") => step(Ok(dense::Gemm::build(node))),
        ("", "MatMul") => step(Ok(dense::MatMul)),
        ("", "Softmax") => step(Ok(dense::Softmax::build(node))),
        ("", name) => by_name(node, name).ok_or_else(|| unsupported(node)).map(Ok)?,
        _ => return Err(unsupported(node)),
    };
    built.map_err(|reason| node.error(reason))
}

/// The operators that come in families.
fn by_name(node: &Node<'_>, name: &str) -> Option<Built> {
    fn step<O: Operator + 'static>(operator: O) -> Built {
        Built::Step(Box::new(operator))
    }
    let elements = || dense::unary(name).map(|function| step(dense::Unary(function)));
    let pairs = || dense::binary(name).map(|function| step(dense::Binary(function)));
    let compared = || logic::compare(name).map(step).or_else(|| logic::connective(name).map(step));
    let reduced =
        || reduce::Reduce::build(node).map(step).or_else(|| reduce::Variadic::build(name).map(step));
    elements().or_else(pairs).or_else(compared).or_else(reduced)
}

fn step<O: Operator + 'static>(operator: Result<O, Reason>) -> Result<Built, Reason> {
    operator.map(|operator| Built::Step(Box::new(operator) as Box<dyn Operator>))
}

fn unsupported(node: &Node<'_>) -> OnnxError {
    OnnxError::Unsupported { node: node.name(), operator: node.full_operator(), reason: String::new() }
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
