//! [`Materialized`]: a dataset that is run once and read by many: `materialize` and `split`.

use std::sync::Arc;

use air_core::BoxError;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, LogicalPlan, TableType};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::TryStreamExt;
use tokio::sync::OnceCell;

use super::contract::{ReadRequest, Source, SourceBatches, SourcePart};
use super::{FileErrors, Share, SourceExec, SourceTable};
use crate::blocks::Blocks;
use crate::error::DataError;
use crate::exchange::Room;

/// One run of a plan whose result is kept. It starts with the first reader.
#[derive(Debug)]
pub(crate) struct Run {
    plan: LogicalPlan,
    physical: OnceCell<Arc<dyn ExecutionPlan>>,
    blocks: OnceCell<std::result::Result<Arc<Blocks>, Arc<DataError>>>,
}

impl Run {
    pub(crate) fn new(plan: LogicalPlan) -> Self {
        Self { plan, physical: OnceCell::new(), blocks: OnceCell::new() }
    }

    pub(crate) fn plan(&self) -> &LogicalPlan {
        &self.plan
    }

    async fn physical(&self, state: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        self.physical.get_or_try_init(|| state.create_physical_plan(&self.plan)).await.cloned()
    }

    async fn blocks(&self, plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<Arc<Blocks>> {
        let room = Room {
            window: context.session_config().target_partitions() + 1,
            bytes: 64 << 20,
            cautious: false,
            stage: 2,
            any_order: false,
        };
        let blocks = self.blocks.get_or_init(|| async {
            Blocks::collect(plan, context, room, None)
                .await
                .map(Arc::new)
                .map_err(|e| DataError::from(e).shared())
        });
        blocks.await.clone().map_err(|error| DataError::Shared(error).into())
    }
}

/// A share of a run.
#[derive(Debug)]
pub(crate) struct Materialized {
    pub(crate) run: Arc<Run>,
    pub(crate) share: Share,
}

#[async_trait]
impl TableProvider for Materialized {
    fn schema(&self) -> SchemaRef {
        Arc::new(self.run.plan.schema().as_arrow().clone())
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let physical = self.run.physical(state).await?;
        let blocks = physical.output_partitioning().partition_count();
        let parts = match self.share {
            Share::Blocks { index, count } if blocks >= count => {
                deal(blocks, index, count).map(Part::Block).collect()
            }
            rows => vec![Part::Rows(rows)],
        };
        let (run, schema, context) = (self.run.clone(), self.schema(), state.task_ctx());
        let source = Arc::new(Shared { run, schema, physical, parts, context });
        let table = SourceTable::new(source, FileErrors::Fail)?;
        Ok(Arc::new(SourceExec::new(table, projection.cloned(), limit)?))
    }
}

/// The blocks that share `index` of `count` gets: contiguous, the first `blocks % count` shares one more.
fn deal(blocks: usize, index: usize, count: usize) -> std::ops::Range<usize> {
    let (each, extra) = (blocks / count, blocks % count);
    let start = index * each + index.min(extra);
    start..start + each + usize::from(index < extra)
}

#[derive(Debug, Clone, Copy)]
enum Part {
    Block(usize),
    Rows(Share),
}

#[derive(Debug)]
struct Shared {
    run: Arc<Run>,
    schema: SchemaRef,
    physical: Arc<dyn ExecutionPlan>,
    parts: Vec<Part>,
    context: Arc<TaskContext>,
}

impl Source for Shared {
    fn name(&self) -> String {
        match self.parts.first() {
            Some(Part::Rows(share)) => format!("materialized, {share}"),
            _ => "materialized".to_owned(),
        }
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn parts(&self) -> std::result::Result<Vec<SourcePart>, BoxError> {
        let name = |part: &Part| match part {
            Part::Block(block) => SourcePart::new(format!("block {block}")),
            Part::Rows(share) => SourcePart::new(share.to_string()),
        };
        Ok(self.parts.iter().map(name).collect())
    }

    fn open(&self, part: usize, _: &ReadRequest) -> std::result::Result<SourceBatches, BoxError> {
        let part = *self.parts.get(part).ok_or_else(|| format!("there are {} parts", self.parts.len()))?;
        let (run, plan, context) = (self.run.clone(), self.physical.clone(), self.context.clone());
        let batches = async move {
            let blocks = run.blocks(plan, context).await?;
            let rows = match part {
                Part::Block(block) => blocks.partitions().get(block).cloned().unwrap_or(0..0),
                Part::Rows(share) => share.rows(blocks.rows()),
            };
            Ok::<_, BoxError>(blocks.read(rows).map_err(BoxError::from))
        };
        Ok(SourceBatches::stream(futures::stream::once(batches).try_flatten()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_blocks_in_four_shares() {
        let shares: Vec<usize> = (0..4).map(|index| deal(10, index, 4).len()).collect();
        assert_eq!(shares, [3, 3, 2, 2]);
        for blocks in 0..20 {
            for count in 1..=blocks.max(1) {
                let all: Vec<usize> = (0..count).flat_map(|index| deal(blocks, index, count)).collect();
                assert_eq!(all, (0..blocks).collect::<Vec<_>>());
            }
        }
    }
}
