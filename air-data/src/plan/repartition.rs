//! `repartition(n)`: the rows dealt anew into `n` blocks of nearly equal size, in their order.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result, internal_err};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use super::node::{Job, Operator};
use crate::blocks::Blocks;
use crate::error::DataError;
use crate::exchange::Room;

/// Collects its input (spilling past the memory budget), then gives out each block.
pub(crate) struct Repartition {
    blocks: usize,
    collected: Arc<OnceCell<std::result::Result<Arc<Blocks>, Arc<DataError>>>>,
}

impl Repartition {
    pub(crate) fn into(blocks: usize) -> Self {
        Self { blocks, collected: Arc::default() }
    }
}

impl fmt::Display for Repartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "repartition into {} blocks", self.blocks)
    }
}

impl Operator for Repartition {
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef> {
        let [only] = inputs else { return internal_err!("one input") };
        Ok(only.clone())
    }

    fn partitions(&self, _: &[usize]) -> usize {
        self.blocks
    }

    fn needs(&self, output: &[usize], _: &[SchemaRef]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output.to_vec()])
    }

    fn fresh(&self) -> Option<Arc<dyn Operator>> {
        Some(Arc::new(Self::into(self.blocks)))
    }

    fn run(&self, job: Job<'_>) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let (input, context) = (job.inputs[0].clone(), job.context);
        let (index, blocks, collected) = (job.index, self.blocks, self.collected.clone());
        let (stage, watch) = (job.tally.stage(), job.tally.watch.clone());
        let stream = async move {
            let room = Room {
                window: context.session_config().target_partitions() + 1,
                bytes: 64 << 20,
                cautious: false,
                stage,
                any_order: false,
            };
            let all = collected
                .get_or_init(|| async {
                    Blocks::collect(input, context, room, Some(watch))
                        .await
                        .map(Arc::new)
                        .map_err(|e| DataError::from(e).shared())
                })
                .await;
            let all = all.clone().map_err(|error| DataFusionError::from(DataError::Shared(error)))?;
            let rows = all.part(index, blocks);
            Ok::<_, DataFusionError>(all.read(rows))
        };
        Ok(futures::stream::once(stream).try_flatten().boxed())
    }
}
