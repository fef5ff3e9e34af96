//! `TreeEnsembleClassifier` and `TreeEnsembleRegressor`: what is made of the votes.

use ndarray::Array2;

use super::forest::{AnyForest, Ensemble, Max, Min, Sum, Tally};
use super::post::{PostTransform, logistic};
use super::tree_build;
use super::{Operator, Row, matrix, need};
use crate::onnx::error::Reason;
use crate::onnx::node::Node;
use crate::onnx::value::{Labels, Value};

/// `TreeEnsembleClassifier`: labels and scores.
pub(crate) struct Classifier {
    ensemble: Ensemble,
    labels: Labels,
    base: Vec<f64>,
    post: PostTransform,
    /// Two labels, but every leaf votes for one and the same class: its score decides between both.
    single: bool,
    /// With `single`: every weight is a share of trees or a probability, so that the border is ½, not 0.
    shares: bool,
}

impl Classifier {
    pub(super) fn build(node: &Node<'_>) -> Result<Self, Reason> {
        let labels = node
            .labels("classlabels_int64s", "classlabels_strings")?
            .or(node.labels("classlabels_ints", "classlabels_strings")?)
            .ok_or("it has no class labels")?;
        let (forest, votes) = tree_build::build(node, "class", labels.len())?;
        let base = tree_build::numbers(node, "base_values")?;
        if base.len() > labels.len() {
            return Err(format!("{} base_values for {} classes", base.len(), labels.len()));
        }
        let single = labels.len() == 2 && votes.windows(2).all(|pair| pair[0].target == pair[1].target);
        let shares = votes.iter().all(|vote| vote.weight >= 0.0);
        let ensemble = Ensemble { forest, targets: labels.len() };
        Ok(Classifier { ensemble, labels, base, post: PostTransform::build(node)?, single, shares })
    }

    /// The class of one row; leaves the scores to give out in the tally.
    fn decide(&self, tally: &mut Tally) -> usize {
        if self.single {
            return self.decide_single(tally);
        }
        let class = self.highest(tally);
        self.post.apply(&mut tally.scores);
        class
    }

    /// The class with the highest score, the first of several.
    fn highest(&self, tally: &mut Tally) -> usize {
        for (class, &base) in self.base.iter().enumerate() {
            tally.scores[class] += base;
            tally.seen[class] = true;
        }
        let mut best = None;
        for (class, (&score, &seen)) in tally.scores.iter().zip(&tally.seen).enumerate() {
            if seen && best.is_none_or(|(_, top)| score > top) {
                best = Some((class, score));
            }
        }
        best.map_or(0, |(class, _)| class)
    }

    /// ONNX leaves two classes with one score vague; this is what ONNX Runtime does.
    fn decide_single(&self, tally: &mut Tally) -> usize {
        let base = self.base.last().copied().unwrap_or(0.0);
        let score = tally.scores.iter().sum::<f64>() + base;
        let positive = if self.shares { score > 0.5 } else { score > 0.0 };
        let pair = match self.post {
            PostTransform::Logistic => [logistic(-score), logistic(score)],
            _ if self.shares => [1.0 - score, score],
            _ => [-score, score],
        };
        tally.scores.copy_from_slice(&pair);
        usize::from(positive)
    }
}

impl Operator for Classifier {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let x = need(inputs, 0)?;
        let (rows, _) = matrix(x.shape())?;
        let mut classes = Vec::with_capacity(rows);
        let mut scores = Vec::with_capacity(rows * self.labels.len());
        self.ensemble.rows::<Sum>(x, |tally| {
            classes.push(self.decide(tally));
            scores.extend(tally.scores.iter().map(|&score| score as f32));
        })?;
        let scores =
            Array2::from_shape_vec((rows, self.labels.len()), scores).map_err(|error| error.to_string())?;
        Ok(vec![self.labels.pick(&classes), Value::F32(scores.into_dyn())])
    }

    fn labels(&self) -> Option<&Labels> {
        Some(&self.labels)
    }

    fn class(&self, row: Row<'_>) -> Option<Result<usize, Reason>> {
        Some(self.ensemble.row::<Sum>(row).map(|mut tally| {
            if self.single { self.decide_single(&mut tally) } else { self.highest(&mut tally) }
        }))
    }
}

#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

/// `TreeEnsembleRegressor`: one row of targets for each row of features.
pub(crate) struct Regressor {
    ensemble: Ensemble,
    trees: usize,
    base: Vec<f64>,
    aggregate: Aggregate,
    post: PostTransform,
}

impl Regressor {
    pub(super) fn build(node: &Node<'_>) -> Result<Self, Reason> {
        let targets = node.int("n_targets", 1);
        let targets = usize::try_from(targets).ok().filter(|&n| n > 0 && n <= 1 << 16);
        let targets = targets.ok_or_else(|| format!("n_targets is {}", node.int("n_targets", 1)))?;
        let aggregate = match node.string("aggregate_function", "SUM")? {
            "SUM" => Aggregate::Sum,
            "AVERAGE" => Aggregate::Average,
            "MIN" => Aggregate::Min,
            "MAX" => Aggregate::Max,
            other => return Err(format!("unknown aggregate_function {other}")),
        };
        let (forest, _) = tree_build::build(node, "target", targets)?;
        let trees = match &forest {
            AnyForest::F32(forest) => forest.roots.len(),
            AnyForest::F64(forest) => forest.roots.len(),
        };
        let base = tree_build::numbers(node, "base_values")?;
        if !base.is_empty() && base.len() != targets {
            return Err(format!("{} base_values for {targets} targets", base.len()));
        }
        let ensemble = Ensemble { forest, targets };
        Ok(Regressor { ensemble, trees, base, aggregate, post: PostTransform::build(node)? })
    }
}

impl Operator for Regressor {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let x = need(inputs, 0)?;
        let (rows, _) = matrix(x.shape())?;
        let mut out = Vec::with_capacity(rows * self.ensemble.targets);
        let done = |tally: &mut Tally| {
            for (target, score) in tally.scores.iter_mut().enumerate() {
                if matches!(self.aggregate, Aggregate::Average) {
                    *score /= self.trees as f64;
                }
                *score += self.base.get(target).copied().unwrap_or(0.0);
            }
            self.post.apply(&mut tally.scores);
            out.extend(tally.scores.iter().map(|&score| score as f32));
        };
        match self.aggregate {
            Aggregate::Sum | Aggregate::Average => self.ensemble.rows::<Sum>(x, done),
            Aggregate::Min => self.ensemble.rows::<Min>(x, done),
            Aggregate::Max => self.ensemble.rows::<Max>(x, done),
        }?;
        let out =
            Array2::from_shape_vec((rows, self.ensemble.targets), out).map_err(|error| error.to_string())?;
        Ok(vec![Value::F32(out.into_dyn())])
    }
}
