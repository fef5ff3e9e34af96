//! Trees, flat, and the walk over them.
//!
//! A branch with `f32` thresholds has 16 bytes, four to a cache line, and leaves live apart, so that a walk touches only what it needs. A row without NaN
//! through branches that all ask `<=`, the common case, takes a loop without any other test. A walk is a chain of loads that wait for each other, so several
//! trees are walked side by side. Ensembles of small trees are not walked at all: see `reach.rs`.

use ndarray::{CowArray, IxDyn};

use super::reach::AnyReach;
use super::{Row, matrix};
use crate::onnx::error::Reason;
use crate::onnx::value::Value;

/// How a branch compares. The other three ONNX modes are these with the children swapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    LessOrEqual,
    Less,
    Equal,
    /// Whether it is in the set of this number.
    Member(u32),
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

    /// Its first vote.
    pub(super) fn as_leaf(self) -> Option<usize> {
        (self.0 & Child::LEAF != 0).then_some((self.0 & !Child::LEAF) as usize)
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
    /// What branches ask for membership in, each ascending.
    pub sets: Vec<Box<[f64]>>,
    pub votes: Vec<Vote>,
    pub roots: Vec<Child>,
    /// Features a row must have.
    pub width: usize,
    /// What spares the walk, where the trees are small.
    pub reach: Option<AnyReach<T>>,
}

/// A number that can be compared with a threshold of another width without rounding.
pub(super) trait Feature<T>: Copy + Into<f64> {
    /// A test for membership has no threshold, and never holds here.
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
                    Test::Member(_) => false,
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

/// Trees walked side by side.
const LANES: usize = 8;

impl<T: Copy + PartialOrd> Forest<T> {
    /// Adds the votes of every tree for one row to a fresh tally.
    #[inline]
    pub(super) fn count<X: Feature<T>, F: Fold>(&self, row: &[X], tally: &mut Tally) {
        let whole = !row.iter().any(|x| x.nan());
        if whole && let Some(reach) = &self.reach {
            return reach.count::<X, F>(row, tally);
        }
        let plain = whole && self.uniform == Some(Test::LessOrEqual);
        for roots in self.roots.chunks(LANES) {
            let mut at = [Child(Child::LEAF); LANES];
            at[..roots.len()].copy_from_slice(roots);
            if plain {
                self.descend(&mut at, |_, branch| {
                    let feature = (branch.feature & !NAN_SECOND) as usize;
                    row[feature].holds(Test::LessOrEqual, branch.threshold)
                });
            } else {
                self.descend(&mut at, |index, branch| {
                    let x = row[(branch.feature & !NAN_SECOND) as usize];
                    if x.nan() {
                        return branch.feature & NAN_SECOND == 0;
                    }
                    match self.uniform.unwrap_or_else(|| self.tests[index]) {
                        Test::Member(set) => contains(&self.sets[set as usize], x.into()),
                        test => x.holds(test, branch.threshold),
                    }
                });
            }
            // In the trees' own order, in which rounding is what it is in the model that was exported.
            for leaf in &at[..roots.len()] {
                self.vote::<F>(*leaf, tally);
            }
        }
    }

    /// Takes every tree to the leaf that a row reaches; `first` says whether a branch's test holds.
    #[inline]
    fn descend(&self, at: &mut [Child; LANES], first: impl Fn(usize, &Branch<T>) -> bool) {
        let mut moved = true;
        while moved {
            moved = false;
            for child in at.iter_mut() {
                if let Some(index) = child.as_branch() {
                    let branch = &self.branches[index];
                    *child = branch.children[usize::from(!first(index, branch))];
                    moved = true;
                }
            }
        }
    }

    /// Adds the votes of a leaf.
    #[inline]
    fn vote<F: Fold>(&self, leaf: Child, tally: &mut Tally) {
        for vote in &self.votes[(leaf.0 & !Child::LEAF) as usize..] {
            let target = vote.target as usize;
            let sum = &mut tally.scores[target];
            *sum = if tally.seen[target] { F::fold(*sum, vote.weight) } else { vote.weight };
            tally.seen[target] = true;
            if vote.last {
                break;
            }
        }
    }

    /// Whether rows of so many features have all that the branches ask for.
    fn check(&self, columns: usize) -> Result<(), Reason> {
        if columns < self.width {
            return Err(format!("the trees read {} features, a row has {columns}", self.width));
        }
        Ok(())
    }

    fn rows<X: Feature<T>, F: Fold>(
        &self,
        data: &[X],
        rows: usize,
        columns: usize,
        targets: usize,
        mut row_done: impl FnMut(&mut Tally),
    ) -> Result<(), Reason> {
        self.check(columns)?;
        let mut tally = Tally::new(targets);
        for row in 0..rows {
            tally.scores.fill(0.0);
            tally.seen.fill(false);
            self.count::<X, F>(&data[row * columns..(row + 1) * columns], &mut tally);
            row_done(&mut tally);
        }
        Ok(())
    }
}

fn contains(set: &[f64], x: f64) -> bool {
    set.get(set.partition_point(|&member| member < x)) == Some(&x)
}

/// The scores of one row as they add up.
pub(super) struct Tally {
    pub scores: Vec<f64>,
    /// Which scores got a vote at all.
    pub seen: Vec<bool>,
}

impl Tally {
    fn new(targets: usize) -> Self {
        Tally { scores: vec![0.0; targets], seen: vec![false; targets] }
    }
}

/// How votes for one target combine.
pub(super) trait Fold {
    /// What, folded with any number, is that number.
    const START: f64;
    fn fold(sum: f64, weight: f64) -> f64;
}

pub(super) struct Sum;
pub(super) struct Min;
pub(super) struct Max;

impl Fold for Sum {
    // Zero is not: with it, -0.0 would become 0.0.
    const START: f64 = -0.0;

    fn fold(sum: f64, weight: f64) -> f64 {
        sum + weight
    }
}

impl Fold for Min {
    const START: f64 = f64::INFINITY;

    fn fold(sum: f64, weight: f64) -> f64 {
        sum.min(weight)
    }
}

impl Fold for Max {
    const START: f64 = f64::NEG_INFINITY;

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

impl AnyForest {
    /// Number of trees.
    pub(super) fn trees(&self) -> usize {
        match self {
            AnyForest::F32(forest) => forest.roots.len(),
            AnyForest::F64(forest) => forest.roots.len(),
        }
    }
}

impl Ensemble {
    /// The tally of one row.
    pub(super) fn row<F: Fold>(&self, row: Row<'_>) -> Result<Tally, Reason> {
        let mut tally = Tally::new(self.targets);
        match (&self.forest, row) {
            (AnyForest::F32(forest), Row::F32(row)) => {
                forest.check(row.len())?;
                forest.count::<_, F>(row, &mut tally);
            }
            (AnyForest::F32(forest), Row::F64(row)) => {
                forest.check(row.len())?;
                forest.count::<_, F>(row, &mut tally);
            }
            (AnyForest::F64(forest), Row::F32(row)) => {
                forest.check(row.len())?;
                forest.count::<_, F>(row, &mut tally);
            }
            (AnyForest::F64(forest), Row::F64(row)) => {
                forest.check(row.len())?;
                forest.count::<_, F>(row, &mut tally);
            }
        }
        Ok(tally)
    }

    /// Tallies every row of `x`, calling `row_done` after each.
    pub(super) fn rows<F: Fold>(&self, x: &Value, row_done: impl FnMut(&mut Tally)) -> Result<(), Reason> {
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
