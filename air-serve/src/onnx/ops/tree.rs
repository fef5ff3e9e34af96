//! Tree ensembles: `TreeEnsembleClassifier` and `TreeEnsembleRegressor`.
//!
//! Branches are 16 bytes (two f32 trees' worth of a cache line holds four), leaves live apart, so a walk touches only what
//! it needs. A row without NaN through an ensemble of one comparison, the common case, takes a loop without other tests.

use ndarray::{Array2, CowArray, IxDyn};

use super::post::{PostTransform, logistic};
use super::tree_build;
use super::{Operator, matrix, need};
use crate::onnx::error::Reason;
use crate::onnx::node::Node;
use crate::onnx::value::{Labels, Value};

/// How a branch compares. The other three ONNX modes are these with the children swapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    LessOrEqual,
    Less,
    Equal,
}

/// Where a branch leads: to another branch, or (top bit set) to the first vote of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Child(u32);

impl Child {
    const LEAF: u32 = 1 << 31;

    pub(super) fn branch(index: usize) -> Child {
        Child(index as u32)
    }

    pub(super) fn leaf(vote: usize) -> Child {
        Child(vote as u32 | Child::LEAF)
    }

    pub(super) fn as_branch(self) -> Option<usize> {
        (self.0 & Child::LEAF == 0).then_some(self.0 as usize)
    }
}

/// A branch of a tree, with a threshold of `f32` or `f64`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Branch<T> {
    pub threshold: T,
    /// Index of the feature; the top bit says that NaN goes to the second child, not the first.
    pub feature: u32,
    /// Where to go if the test holds, and if it does not.
    pub children: [Child; 2],
}

/// Top bit of [`Branch::feature`].
pub(super) const NAN_SECOND: u32 = 1 << 31;

/// What a leaf adds to one class or target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vote {
    pub weight: f64,
    pub target: u32,
    /// Whether this is the leaf's last vote.
    pub last: bool,
}

/// The trees, whatever is predicted from them. Built and checked in `tree_build.rs`.
pub(super) struct Forest<T> {
    pub branches: Vec<Branch<T>>,
    /// The test of each branch, where they are not all the same.
    pub tests: Vec<Test>,
    pub uniform: Option<Test>,
    pub votes: Vec<Vote>,
    pub roots: Vec<Child>,
    /// Features a row must have.
    pub width: usize,
}

/// A number that can be compared with a threshold of another width without rounding.
pub(super) trait Feature<T>: Copy {
    fn holds(self, test: Test, threshold: T) -> bool;
    fn nan(self) -> bool;
}

macro_rules! feature {
    ($x:ty, $t:ty, $wide:ty) => {
        impl Feature<$t> for $x {
            #[inline(always)]
            fn holds(self, test: Test, threshold: $t) -> bool {
                let (x, t) = (self as $wide, threshold as $wide);
                match test {
                    Test::LessOrEqual => x <= t,
                    Test::Less => x < t,
                    Test::Equal => x == t,
                }
            }
            #[inline(always)]
            fn nan(self) -> bool {
                self.is_nan()
            }
        }
    };
}
feature!(f32, f32, f32);
feature!(f32, f64, f64);
feature!(f64, f32, f64);
feature!(f64, f64, f64);

impl<T: Copy> Forest<T> {
    /// Adds the votes of every tree for one row to the tally.
    #[inline]
    fn count<X: Feature<T>, F: Fold>(&self, row: &[X], tally: &mut Tally) {
        let plain = self.uniform == Some(Test::LessOrEqual) && !row.iter().any(|x| x.nan());
        for &root in &self.roots {
            let leaf = if plain {
                self.descend(root, |_, branch| {
                    let feature = (branch.feature & !NAN_SECOND) as usize;
                    row[feature].holds(Test::LessOrEqual, branch.threshold)
                })
            } else {
                self.descend(root, |index, branch| {
                    let x = row[(branch.feature & !NAN_SECOND) as usize];
                    if x.nan() {
                        return branch.feature & NAN_SECOND == 0;
                    }
                    x.holds(self.uniform.unwrap_or_else(|| self.tests[index]), branch.threshold)
                })
            };
            for vote in &self.votes[leaf..] {
                let target = vote.target as usize;
                let sum = &mut tally.scores[target];
                *sum = if tally.seen[target] { F::fold(*sum, vote.weight) } else { vote.weight };
                tally.seen[target] = true;
                if vote.last {
                    break;
                }
            }
        }
    }

    /// The index of the first vote of the leaf that a row reaches; `first` says whether a branch's test holds.
    #[inline]
    fn descend(&self, root: Child, first: impl Fn(usize, &Branch<T>) -> bool) -> usize {
        let mut at = root.0;
        while at & Child::LEAF == 0 {
            let branch = &self.branches[at as usize];
            at = branch.children[usize::from(!first(at as usize, branch))].0;
        }
        (at & !Child::LEAF) as usize
    }

    fn rows<X: Feature<T>, F: Fold>(
        &self,
        data: &[X],
        rows: usize,
        columns: usize,
        targets: usize,
        mut row_done: impl FnMut(&mut Tally),
    ) -> Result<(), Reason> {
        if columns < self.width {
            return Err(format!("the trees read {} features, a row has {columns}", self.width));
        }
        let mut tally = Tally { scores: vec![0.0; targets], seen: vec![false; targets] };
        for row in 0..rows {
            tally.scores.fill(0.0);
            tally.seen.fill(false);
            self.count::<X, F>(&data[row * columns..(row + 1) * columns], &mut tally);
            row_done(&mut tally);
        }
        Ok(())
    }
}

/// The scores of one row as they add up.
struct Tally {
    scores: Vec<f64>,
    seen: Vec<bool>,
}

/// How votes for one target combine.
trait Fold {
    fn fold(sum: f64, weight: f64) -> f64;
}

struct Sum;
struct Min;
struct Max;

impl Fold for Sum {
    fn fold(sum: f64, weight: f64) -> f64 {
        sum + weight
    }
}

impl Fold for Min {
    fn fold(sum: f64, weight: f64) -> f64 {
        sum.min(weight)
    }
}

impl Fold for Max {
    fn fold(sum: f64, weight: f64) -> f64 {
        sum.max(weight)
    }
}

/// A forest with thresholds of either width, and how many classes or targets its votes name.
pub(super) struct Ensemble {
    pub forest: AnyForest,
    pub targets: usize,
}

pub(super) enum AnyForest {
    F32(Forest<f32>),
    F64(Forest<f64>),
}

impl Ensemble {
    /// Tallies every row of `x`, calling `row_done` after each.
    fn rows<F: Fold>(&self, x: &Value, row_done: impl FnMut(&mut Tally)) -> Result<(), Reason> {
        let shape = matrix(x.shape())?;
        match x {
            Value::F32(x) => self.rows_of::<f32, F>(&x.as_standard_layout(), shape, row_done),
            Value::F64(x) => self.rows_of::<f64, F>(&x.as_standard_layout(), shape, row_done),
            Value::I64(x) => self.rows_of::<f64, F>(&x.mapv(|x| x as f64).into(), shape, row_done),
            other => Err(format!("expected numbers, got {}", other.type_name())),
        }
    }

    fn rows_of<X: Feature<f32> + Feature<f64>, F: Fold>(
        &self,
        x: &CowArray<'_, X, IxDyn>,
        (rows, columns): (usize, usize),
        row_done: impl FnMut(&mut Tally),
    ) -> Result<(), Reason> {
        let data = x.as_slice().ok_or("the features are not contiguous")?;
        match &self.forest {
            AnyForest::F32(forest) => forest.rows::<X, F>(data, rows, columns, self.targets, row_done),
            AnyForest::F64(forest) => forest.rows::<X, F>(data, rows, columns, self.targets, row_done),
        }
    }
}

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
        self.post.apply(&mut tally.scores);
        best.map_or(0, |(class, _)| class)
    }

    /// ONNX leaves two classes with one score vague; this is what ONNX Runtime does.
    fn decide_single(&self, tally: &mut Tally) -> usize {
        let base = self.base.last().copied().unwrap_or(0.0);
        let score = tally.scores.iter().sum::<f64>() + base;
        let positive = if self.shares { score > 0.5 } else { score > 0.0 };
        let pair = match self.post {
            PostTransform::Logistic if !self.shares => [logistic(-score), logistic(score)],
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
