//! `TreeEnsembleClassifier`, `TreeEnsembleRegressor` and `TreeEnsemble`: what is made of the votes.

use ndarray::Array2;

use super::forest::{Ensemble, Max, Min, Sum, Tally};
use super::post::{PostTransform, logistic};
use super::{Operator, Row, matrix, need};
use super::{tree_build, tree_five};
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

/// `TreeEnsembleRegressor` and `TreeEnsemble`: one row of targets for each row of features.
pub(crate) struct Regressor {
    ensemble: Ensemble,
    trees: usize,
    base: Vec<f64>,
    aggregate: Aggregate,
    post: PostTransform,
    /// Whether `f64` features make `f64` targets.
    widens: bool,
}

fn targets(node: &Node<'_>) -> Result<usize, Reason> {
    let targets = node.int("n_targets", 1);
    let fits = usize::try_from(targets).ok().filter(|&n| n > 0 && n <= 1 << 16);
    fits.ok_or_else(|| format!("n_targets is {targets}"))
}

impl Regressor {
    /// Of a `TreeEnsemble`, whose functions are numbers.
    pub(super) fn five(node: &Node<'_>) -> Result<Self, Reason> {
        let targets = targets(node)?;
        let aggregate = match node.int("aggregate_function", 1) {
            0 => Aggregate::Average,
            1 => Aggregate::Sum,
            2 => Aggregate::Min,
            3 => Aggregate::Max,
            other => return Err(format!("unknown aggregate_function {other}")),
        };
        let post = PostTransform::numbered(node.int("post_transform", 0))?;
        let forest = tree_five::build(node, targets)?;
        let trees = forest.trees();
        let ensemble = Ensemble { forest, targets };
        Ok(Regressor { ensemble, trees, base: Vec::new(), aggregate, post, widens: true })
    }

    pub(super) fn build(node: &Node<'_>) -> Result<Self, Reason> {
        let targets = targets(node)?;
        let aggregate = match node.string("aggregate_function", "SUM")? {
            "SUM" => Aggregate::Sum,
            "AVERAGE" => Aggregate::Average,
            "MIN" => Aggregate::Min,
            "MAX" => Aggregate::Max,
            other => return Err(format!("unknown aggregate_function {other}")),
        };
        let (forest, _) = tree_build::build(node, "target", targets)?;
        let trees = forest.trees();
        let base = tree_build::numbers(node, "base_values")?;
        if !base.is_empty() && base.len() != targets {
            return Err(format!("{} base_values for {targets} targets", base.len()));
        }
        let ensemble = Ensemble { forest, targets };
        Ok(Regressor { ensemble, trees, base, aggregate, post: PostTransform::build(node)?, widens: false })
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
            out.extend_from_slice(&tally.scores);
        };
        match self.aggregate {
            Aggregate::Sum | Aggregate::Average => self.ensemble.rows::<Sum>(x, done),
            Aggregate::Min => self.ensemble.rows::<Min>(x, done),
            Aggregate::Max => self.ensemble.rows::<Max>(x, done),
        }?;
        let out =
            Array2::from_shape_vec((rows, self.ensemble.targets), out).map_err(|error| error.to_string())?;
        Ok(vec![match x {
            Value::F64(_) if self.widens => Value::F64(out.into_dyn()),
            _ => Value::F32(out.mapv(|score| score as f32).into_dyn()),
        }])
    }
}
