//! Which leaf of each tree a row reaches, looked up instead of walked to.
//!
//! A branch whose test fails rules out the leaves on its first side, and of the leaves that no branch rules out the first is the one that the row reaches
//! (QuickScorer: Lucchese et al., SIGIR 2015). Which branches on a feature fail depends only on where its value lies among their thresholds. So what they rule out
//! together is written down here for each such interval, and a row takes a binary search for each feature and an AND over all trees: no chain of
//! loads, and no jump to guess. It needs room for every threshold times every tree, so it is for ensembles of small trees, as boosting makes them.

use std::ops::BitAnd;

use super::forest::{Child, Feature, Fold, Forest, NAN_SECOND, Tally, Test};

/// Most memory for the intervals: what a second-level cache holds.
const MOST_BYTES: usize = 1 << 20;
/// Most memory that a row reads for each tree; with more, walking is faster.
const MOST_BYTES_A_TREE: usize = 64;
/// Trees looked at together.
const LANES: usize = 64;

/// Leaves of one tree as bits, the first as the lowest.
pub(super) trait Leaves: Copy + BitAnd<Output = Self> {
    const COUNT: usize;
    const ALL: Self;
    fn without(self, leaves: std::ops::Range<usize>) -> Self;
    /// The first; there is always one.
    fn first(self) -> usize;
}

macro_rules! leaves {
    ($($bits:ty),*) => {$(
        impl Leaves for $bits {
            const COUNT: usize = <$bits>::BITS as usize;
            const ALL: Self = <$bits>::MAX;
            fn without(self, leaves: std::ops::Range<usize>) -> Self {
                leaves.fold(self, |rest, leaf| rest & !(1 << leaf))
            }
            #[inline(always)]
            fn first(self) -> usize {
                // A bit that is never reached spares the test for zero.
                (u64::from(self) | 1 << (Self::COUNT - 1)).trailing_zeros() as usize
            }
        }
    )*};
}
leaves!(u8, u16, u32, u64);

/// The branches on one feature.
struct Column<T, L> {
    feature: usize,
    /// Ascending, each once.
    thresholds: Vec<T>,
    /// For each interval, beginning with the lowest: what is left of every tree.
    left: Vec<L>,
}

/// Trees of which every leaf has one vote, and all leaves of a tree for one target.
pub(super) struct Reach<T, L> {
    columns: Vec<Column<T, L>>,
    strict: bool,
    /// One target a tree.
    targets: Vec<u32>,
    /// Each of them once.
    voted_for: Vec<u32>,
    /// `L::COUNT` a tree.
    weights: Vec<f64>,
}

/// By the size of the trees.
pub(super) enum AnyReach<T> {
    Of8(Reach<T, u8>),
    Of16(Reach<T, u16>),
    Of32(Reach<T, u32>),
    Of64(Reach<T, u64>),
}

impl<T: Copy + PartialOrd> AnyReach<T> {
    /// The tables of a forest, if it is of the kind that they are for.
    pub(super) fn of(forest: &Forest<T>) -> Option<Self> {
        let strict = match forest.uniform? {
            Test::LessOrEqual => false,
            Test::Less => true,
            Test::Equal | Test::Member(_) => return None,
        };
        let trees: Vec<Tree> =
            forest.roots.iter().map(|&root| Tree::of(forest, root)).collect::<Option<_>>()?;
        match trees.iter().map(|tree| tree.weights.len()).max()? {
            ..=8 => Reach::of(forest, &trees, strict).map(AnyReach::Of8),
            9..=16 => Reach::of(forest, &trees, strict).map(AnyReach::Of16),
            17..=32 => Reach::of(forest, &trees, strict).map(AnyReach::Of32),
            _ => Reach::of(forest, &trees, strict).map(AnyReach::Of64),
        }
    }

    /// Adds the votes of every tree for a row without NaN to a fresh tally.
    #[inline]
    pub(super) fn count<X: Feature<T>, F: Fold>(&self, row: &[X], tally: &mut Tally) {
        match self {
            AnyReach::Of8(reach) => reach.count::<X, F>(row, tally),
            AnyReach::Of16(reach) => reach.count::<X, F>(row, tally),
            AnyReach::Of32(reach) => reach.count::<X, F>(row, tally),
            AnyReach::Of64(reach) => reach.count::<X, F>(row, tally),
        }
    }
}

/// One tree, its leaves in order.
struct Tree {
    target: u32,
    weights: Vec<f64>,
    /// Each branch, and the leaves on its first side.
    branches: Vec<(usize, std::ops::Range<usize>)>,
}

impl Tree {
    fn of<T>(forest: &Forest<T>, root: Child) -> Option<Tree> {
        enum Step {
            Visit(Child),
            /// The leaves since that one are those of the branch's first side.
            Between(usize, usize),
        }
        let mut tree = Tree { target: 0, weights: Vec::new(), branches: Vec::new() };
        let mut steps = vec![Step::Visit(root)];
        while let Some(step) = steps.pop() {
            match step {
                Step::Between(branch, since) => tree.branches.push((branch, since..tree.weights.len())),
                Step::Visit(child) => {
                    if let Some(branch) = child.as_branch() {
                        let [first, second] = forest.branches[branch].children;
                        let since = tree.weights.len();
                        steps.extend([Step::Visit(second), Step::Between(branch, since), Step::Visit(first)]);
                        continue;
                    }
                    let vote = forest.votes[child.as_leaf()?];
                    let same = tree.weights.is_empty() || tree.target == vote.target;
                    if !vote.last || !same || tree.weights.len() == u64::COUNT {
                        return None;
                    }
                    tree.target = vote.target;
                    tree.weights.push(vote.weight);
                }
            }
        }
        Some(tree)
    }
}

impl<T: Copy + PartialOrd, L: Leaves> Reach<T, L> {
    fn of(forest: &Forest<T>, trees: &[Tree], strict: bool) -> Option<Self> {
        let feature = |branch: usize| (forest.branches[branch].feature & !NAN_SECOND) as usize;
        let mut rules = Vec::new();
        for (number, tree) in trees.iter().enumerate() {
            for (branch, first_side) in &tree.branches {
                rules.push((
                    feature(*branch),
                    forest.branches[*branch].threshold,
                    number,
                    first_side.clone(),
                ));
            }
        }
        // A threshold that is NaN has no place among the others.
        if rules.iter().any(|(_, threshold, ..)| threshold.partial_cmp(threshold).is_none()) {
            return None;
        }
        rules.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.partial_cmp(&b.1).unwrap_or(std::cmp::Ordering::Equal)));
        let of_features: Vec<_> = rules.chunk_by(|a, b| a.0 == b.0).collect();
        let intervals = |rules: &[(usize, T, usize, _)]| rules.chunk_by(|a, b| a.1 == b.1).count() + 1;
        let rows: usize = of_features.iter().map(|rules| intervals(rules)).sum();
        if rows.checked_mul(trees.len() * size_of::<L>())? > MOST_BYTES
            || of_features.len() * size_of::<L>() > MOST_BYTES_A_TREE
        {
            return None;
        }
        let columns = of_features.iter().map(|rules| {
            let mut column = Column { feature: rules[0].0, thresholds: Vec::new(), left: Vec::new() };
            let mut left = vec![L::ALL; trees.len()];
            column.left.extend_from_slice(&left);
            for rules in rules.chunk_by(|a, b| a.1 == b.1) {
                column.thresholds.push(rules[0].1);
                for (_, _, tree, first_side) in rules {
                    left[*tree] = left[*tree].without(first_side.clone());
                }
                column.left.extend_from_slice(&left);
            }
            column
        });
        let mut weights = vec![0.0; trees.len() * L::COUNT];
        for (places, tree) in weights.chunks_exact_mut(L::COUNT).zip(trees) {
            places[..tree.weights.len()].copy_from_slice(&tree.weights);
        }
        let targets: Vec<u32> = trees.iter().map(|tree| tree.target).collect();
        let mut voted_for = targets.clone();
        voted_for.sort_unstable();
        voted_for.dedup();
        Some(Reach { columns: columns.collect(), strict, targets, voted_for, weights })
    }

    #[inline]
    fn count<X: Feature<T>, F: Fold>(&self, row: &[X], tally: &mut Tally) {
        let trees = self.targets.len();
        let test = if self.strict { Test::Less } else { Test::LessOrEqual };
        let mut from = [0usize; MOST_BYTES_A_TREE];
        for (from, column) in from.iter_mut().zip(&self.columns) {
            let x = row[column.feature];
            // Branches fail up to the first threshold that the value does not exceed.
            *from = trees * column.thresholds.partition_point(|&threshold| !x.holds(test, threshold));
        }
        for &target in &self.voted_for {
            tally.seen[target as usize] = true;
            tally.scores[target as usize] = F::START;
        }
        for (block, targets) in self.targets.chunks(LANES).enumerate() {
            let mut left = [L::ALL; LANES];
            for (column, from) in self.columns.iter().zip(from) {
                let from = from + block * LANES;
                for (left, &by) in left.iter_mut().zip(&column.left[from..from + targets.len()]) {
                    *left = *left & by;
                }
            }
            let weights = &self.weights[block * LANES * L::COUNT..];
            for ((left, weights), &target) in left.iter().zip(weights.chunks_exact(L::COUNT)).zip(targets) {
                let score = &mut tally.scores[target as usize];
                *score = F::fold(*score, weights[left.first()]);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::forest::{Branch, Max, Min, Sum, Vote};
    use super::*;

    /// Numbers that are often equal to one another.
    fn number(draw: u8) -> f32 {
        match draw {
            0 => f32::NEG_INFINITY,
            1 => -0.0,
            2 => 0.0,
            255 => f32::INFINITY,
            _ => f32::from(draw % 16) - 4.0,
        }
    }

    /// A forest grown from what was drawn: each tree by splitting one of its leaves at a time.
    fn grow(trees: &[Vec<(u8, u8, u8)>], targets: u32, test: Test) -> Forest<f32> {
        let mut forest = Forest {
            branches: Vec::new(),
            tests: Vec::new(),
            uniform: Some(test),
            sets: Vec::new(),
            votes: Vec::new(),
            roots: Vec::new(),
            width: 3,
            reach: None,
        };
        for (tree, splits) in trees.iter().enumerate() {
            let leaf = |forest: &mut Forest<f32>, draw: u8| {
                let weight = f64::from(draw) * 0.1 - 7.0;
                forest.votes.push(Vote { weight, target: tree as u32 % targets, last: true });
                Child::leaf(forest.votes.len() - 1)
            };
            let root = leaf(&mut forest, splits.len() as u8);
            forest.roots.push(root);
            // Where leaves hang: at the root, or on a side of a branch.
            let mut open: Vec<Option<(usize, usize)>> = vec![None];
            for &(at, feature, threshold) in splits {
                let place = open.swap_remove(at as usize % open.len());
                let children = [leaf(&mut forest, threshold), leaf(&mut forest, at)];
                let branch = forest.branches.len();
                let (threshold, feature) = (number(threshold), u32::from(feature % 3));
                forest.branches.push(Branch { threshold, feature, children });
                match place {
                    None => *forest.roots.last_mut().unwrap() = Child::branch(branch),
                    Some((parent, side)) => forest.branches[parent].children[side] = Child::branch(branch),
                }
                open.extend([Some((branch, 0)), Some((branch, 1))]);
            }
        }
        forest
    }

    fn tallied<F: Fold>(forest: &Forest<f32>, row: &[f32]) -> (Vec<u64>, Vec<bool>) {
        let mut tally = Tally { scores: vec![0.0; 4], seen: vec![false; 4] };
        forest.count::<f32, F>(row, &mut tally);
        (tally.scores.iter().map(|score| score.to_bits()).collect(), tally.seen)
    }

    proptest! {
        /// The same leaves, so the same sums to the last bit, whatever the trees look like; with NaN in the row too.
        #[test]
        fn tables_and_walks_agree(
            trees in prop::collection::vec(prop::collection::vec(any::<(u8, u8, u8)>(), 0..40), 1..80),
            rows in prop::collection::vec(any::<[u8; 3]>(), 1..20),
            targets in 1u32..4,
            less in any::<bool>(),
        ) {
            let mut forest = grow(&trees, targets, if less { Test::Less } else { Test::LessOrEqual });
            let rows: Vec<_> = rows.iter().map(|row| row.map(|draw| if draw == 7 { f32::NAN } else { number(draw) })).collect();
            let of = |forest: &Forest<f32>| -> Vec<_> {
                rows.iter()
                    .map(|row| [tallied::<Sum>(forest, row), tallied::<Min>(forest, row), tallied::<Max>(forest, row)])
                    .collect()
            };
            let walked = of(&forest);
            forest.reach = AnyReach::of(&forest);
            prop_assert!(forest.reach.is_some());
            prop_assert_eq!(walked, of(&forest));
        }
    }

    #[test]
    fn what_the_tables_are_not_for_is_walked() {
        let split = |count: usize| vec![vec![(0, 1, 9); count]];
        assert!(AnyReach::of(&grow(&split(63), 1, Test::LessOrEqual)).is_some());
        assert!(AnyReach::of(&grow(&split(64), 1, Test::LessOrEqual)).is_none(), "65 leaves");
        assert!(AnyReach::of(&grow(&split(1), 1, Test::Equal)).is_none());
        let mut two_targets = grow(&split(1), 1, Test::LessOrEqual);
        two_targets.votes[2].target = 1;
        assert!(AnyReach::of(&two_targets).is_none());
        let mut nan = grow(&split(1), 1, Test::LessOrEqual);
        nan.branches[0].threshold = f32::NAN;
        assert!(AnyReach::of(&nan).is_none());
        let mut wide = grow(&split(63), 1, Test::LessOrEqual);
        for (feature, branch) in wide.branches.iter_mut().enumerate() {
            branch.feature = feature as u32;
        }
        assert!(AnyReach::of(&wide).is_none(), "63 features with 8 bytes each");
    }
}
