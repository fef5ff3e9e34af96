//! What changes the order of rows, or goes by it.

use datafusion::logical_expr::{Expr, LogicalPlanBuilder, SortExpr, lit};

use super::Dataset;
use super::columns::free_name;
use crate::error::DataError;
use crate::expr::{SortKey, col};
use crate::plan::{BlockOrder, Mixer, Node, Numbered, Numbering, Shuffle, sorted};

impl Dataset {
    /// The rows in the order of keys: `sort(["a", "b"])`, `sort([desc("a"), asc("b").nulls_first()])`. See [`SortKey`] for how values are ordered.
    ///
    /// Rows whose keys are all equal come in no particular order; where theirs matters, number them first:
    /// `.with_row_index("row").sort(["a", "row"])`. A [`limit`](Self::limit) after a sort keeps only that many rows at a time. Past the session's
    /// memory limit the rows go to disk.
    pub fn sort<K: Into<SortKey>>(&self, keys: impl IntoIterator<Item = K>) -> Self {
        self.then(|plan| {
            let keys: Vec<SortExpr> = keys.into_iter().map(|key| key.into().into()).collect();
            if keys.is_empty() {
                return Err(DataError::Config {
                    field: "keys",
                    reason: "a sort needs at least one".to_owned(),
                });
            }
            Ok(sorted(plan, keys)?)
        })
    }

    /// The rows with their numbers, 0, 1, 2, …, in a new last column (`Int64`). The result is one block.
    pub fn with_row_index(&self, name: &str) -> Self {
        self.then(|plan| {
            if plan.schema().fields().iter().any(|field| field.name() == name) {
                return Err(DataError::DuplicateColumn {
                    column: name.to_owned(),
                    path: "with_row_index".to_owned(),
                });
            }
            let numbered = Numbered { name: name.to_owned(), numbering: Numbering::Index, room: self.room() };
            Ok(Node::over(numbered, vec![plan])?)
        })
    }

    /// All rows in a random order that depends on the seed and the rows' order alone: the same on any machine, with any number of
    /// threads, blocks and batches. Every order is as likely as any other, as far as a 64-bit mixing function goes. Past the session's memory
    /// limit the rows go to disk.
    pub fn random_shuffle(&self, seed: u64) -> Self {
        self.then(|plan| {
            let shuffle = Shuffle { mixer: Mixer::new(seed), room: self.room() };
            Ok(Node::over(shuffle, vec![plan])?)
        })
    }

    /// Each row with probability `fraction`, in their order. Which ones depends on the seed and the rows' order alone, as for
    /// [`random_shuffle`](Self::random_shuffle). The result is one block.
    pub fn random_sample(&self, fraction: f64, seed: u64) -> Self {
        self.then(|plan| {
            if !(0.0..=1.0).contains(&fraction) {
                return Err(DataError::Config {
                    field: "fraction",
                    reason: format!("between 0 and 1, not {fraction}"),
                });
            }
            let key = free_name(&plan, "__random");
            let numbering = Numbering::Mixed(Mixer::new(seed));
            let numbered = Numbered { name: key.clone(), numbering, room: self.room() };
            let plan = Node::over(numbered, vec![plan])?;
            let kept = plan.schema().columns().into_iter().filter(|column| column.name != key);
            let kept: Vec<Expr> = kept.map(Expr::Column).collect();
            // All numbers are below 2^64, which is no u64.
            let bound = fraction * 2.0_f64.powi(64);
            let plan = if fraction < 1.0 {
                LogicalPlanBuilder::from(plan).filter(col(&key).lt(lit(bound as u64)))?.build()?
            } else {
                plan
            };
            Ok(LogicalPlanBuilder::from(plan).project(kept)?.build()?)
        })
    }

    /// The blocks in a random order, each block's rows as they are: cheap, because no row moves, and coarse. It depends on the seed and on
    /// how many blocks there are.
    pub fn randomize_block_order(&self, seed: u64) -> Self {
        self.then(|plan| Ok(Node::over(BlockOrder { seed }, vec![plan])?))
    }
}
