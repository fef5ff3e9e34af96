//! Priorities that can be drawn from: a binary tree of sums ([Schaul et al. 2016](https://arxiv.org/abs/1511.05952)).

use serde::{Deserialize, Serialize};

/// One priority for each row; drawing and changing one take log₂ n steps. Sums are `f64`, always those of their two halves,
/// so that no error gathers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SumTree {
    /// Node 1 is the root, node i has children 2i and 2i + 1; leaves are the last half.
    nodes: Vec<f64>,
    leaves: usize,
}

impl SumTree {
    /// For `rows` rows (at least 1), all of priority 0.
    pub fn new(rows: usize) -> Self {
        let leaves = rows.max(1).next_power_of_two();
        Self { nodes: vec![0.0; 2 * leaves], leaves }
    }

    /// How many rows there is room for.
    pub(crate) fn rows(&self) -> usize {
        self.leaves.min(self.nodes.len() / 2)
    }

    /// The sum of all priorities.
    pub fn total(&self) -> f64 {
        self.nodes[1]
    }

    /// The priority of a row.
    pub fn get(&self, row: usize) -> f64 {
        self.nodes[self.leaves + row]
    }

    /// Changes the priority of a row.
    pub fn set(&mut self, row: usize, priority: f64) {
        let mut node = self.leaves + row;
        self.nodes[node] = priority;
        while node > 1 {
            node /= 2;
            self.nodes[node] = self.nodes[2 * node] + self.nodes[2 * node + 1];
        }
    }

    /// The row at `mass` of the running sum, which must be below [`total`](Self::total); never one of priority 0.
    pub fn find(&self, mut mass: f64) -> usize {
        let mut node = 1;
        while node < self.leaves {
            let left = self.nodes[2 * node];
            // By rounding the mass may reach the end: then nothing is to the right.
            if mass < left || self.nodes[2 * node + 1] <= 0.0 {
                node *= 2;
            } else {
                mass -= left;
                node = 2 * node + 1;
            }
        }
        node - self.leaves
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_are_found_as_by_a_running_sum(
            priorities in proptest::collection::vec(prop_oneof![Just(0.0_f64), 0.01..5.0_f64], 1..40),
            u in 0.0..1.0_f64,
        ) {
            let mut tree = SumTree::new(priorities.len());
            for (row, &p) in priorities.iter().enumerate() {
                tree.set(row, 9.0);
                tree.set(row, p);
            }
            let total: f64 = priorities.iter().sum();
            prop_assert!((tree.total() - total).abs() < 1e-9);
            prop_assume!(total > 0.0);
            let found = tree.find(u * tree.total());
            prop_assert!(priorities[found] > 0.0);
            let before: f64 = priorities[..found].iter().sum();
            prop_assert!(before <= u * total + 1e-9 && u * total <= before + priorities[found] + 1e-9);
            prop_assert_eq!(tree.get(found), priorities[found]);
        }
    }
}
