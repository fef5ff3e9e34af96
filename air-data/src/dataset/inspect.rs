//! What a dataset is like, short of its rows.

use std::collections::HashSet;

use arrow::array::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::{ViewTable, source_as_provider};
use datafusion::logical_expr::LogicalPlan;
use futures::TryStreamExt;

use super::Dataset;
use crate::error::Result;
use crate::memory::batch_bytes;
use crate::source::{FileList, Files, Materialized, SkippedFile, SourceTable};

impl Dataset {
    /// The names of the columns, in order.
    ///
    /// # Errors
    /// The first mistake made in describing the dataset.
    pub fn columns(&self) -> Result<Vec<String>> {
        Ok(self.logical_plan()?.schema().fields().iter().map(|field| field.name().clone()).collect())
    }

    /// The first `rows` rows as one Arrow batch.
    ///
    /// # Errors
    /// Whatever goes wrong in running the dataset.
    pub fn take_batch(&self, rows: usize) -> Result<RecordBatch> {
        self.limit(rows).to_batch()
    }

    /// The bytes of all values in Arrow's layout, which is what the dataset would take in memory. It runs the dataset.
    ///
    /// # Errors
    /// Whatever goes wrong in running the dataset.
    pub fn size_bytes(&self) -> Result<u64> {
        let this = self.clone();
        self.session.block_on(async move {
            let batches = this.stream().await?;
            batches.try_fold(0, async |sum, batch| Ok(sum + batch_bytes(&batch) as u64)).await
        })
    }

    /// The files that it reads, each once, in the order they are read.
    ///
    /// # Errors
    /// The first mistake made in describing the dataset.
    pub fn input_files(&self) -> Result<Vec<String>> {
        Ok(self.read_files()?.into_iter().map(|(path, _)| path).collect())
    }

    /// The bytes of [`input_files`](Self::input_files), as they lie in their store.
    ///
    /// # Errors
    /// The first mistake made in describing the dataset.
    pub fn input_bytes(&self) -> Result<u64> {
        Ok(self.read_files()?.into_iter().map(|(_, bytes)| bytes).sum())
    }

    fn read_files(&self) -> Result<Vec<(String, u64)>> {
        let (mut files, mut seen) = (Vec::new(), HashSet::new());
        visit(self.logical_plan()?, &mut |place| {
            let Place::Files(list) = place else { return };
            for (path, bytes) in list.paths_and_bytes() {
                if seen.insert(path.clone()) {
                    files.push((path, bytes));
                }
            }
        })?;
        Ok(files)
    }

    /// The files that were skipped so far, in the order of their paths: those that a look at the columns could not read, and those that runs of
    /// the dataset could not read to the end; of a [`Source`](crate::Source) the parts, as `source: part`. There are none unless [`FileErrors::Skip`](crate::FileErrors) was asked for.
    ///
    /// # Errors
    /// The first mistake made in describing the dataset.
    pub fn skipped_files(&self) -> Result<Vec<SkippedFile>> {
        let mut files = Vec::new();
        visit(self.logical_plan()?, &mut |place| {
            files.extend(match place {
                Place::Files(list) => list.skipped.list(),
                Place::Source(table) => table.skipped.list(),
            });
        })?;
        files.sort_by(|a: &SkippedFile, b| a.path.cmp(&b.path));
        files.dedup();
        Ok(files)
    }
}

/// Where rows come from.
enum Place<'a> {
    Files(&'a FileList),
    Source(&'a SourceTable),
}

/// Shows every list of files and every source below a plan.
fn visit(plan: &LogicalPlan, f: &mut impl FnMut(Place<'_>)) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(table) = source_as_provider(&scan.source)
        {
            if let Some(files) = table.downcast_ref::<Files>() {
                f(Place::Files(&files.list));
            } else if let Some(source) = table.downcast_ref::<SourceTable>() {
                f(Place::Source(source));
            } else if let Some(kept) = table.downcast_ref::<Materialized>() {
                visit(kept.run.plan(), f)?;
            } else if let Some(view) = table.downcast_ref::<ViewTable>() {
                visit(view.logical_plan(), f)?;
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}
