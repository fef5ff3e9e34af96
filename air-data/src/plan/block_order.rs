//! [`BlockOrder`]: the blocks of a dataset in a random order.

use std::fmt;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::{Result, internal_err};
use datafusion::physical_plan::ExecutionPlanProperties;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::node::{Job, Operator};
use super::numbered::Mixer;

/// The blocks of its input, each as it is, in an order that the seed and their number tell.
#[derive(Debug, Clone)]
pub(crate) struct BlockOrder {
    pub(crate) seed: u64,
}

/// `0..blocks` in a random order.
fn order(seed: u64, blocks: usize) -> Vec<usize> {
    let mixer = Mixer::new(seed);
    let mut order: Vec<usize> = (0..blocks).collect();
    order.sort_by_key(|block| mixer.mix(*block as u64));
    order
}

impl fmt::Display for BlockOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blocks in random order, seed={}", self.seed)
    }
}

impl Operator for BlockOrder {
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef> {
        let [only] = inputs else { return internal_err!("one input") };
        Ok(only.clone())
    }

    fn partitions(&self, inputs: &[usize]) -> usize {
        inputs.iter().sum()
    }

    fn needs(&self, output: &[usize], _: &[SchemaRef]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output.to_vec()])
    }

    fn run(&self, job: Job<'_>) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let blocks = job.inputs[0].output_partitioning().partition_count();
        Ok(job.input(0, order(self.seed, blocks)[job.index])?.boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_every_block_once() {
        let mut shuffled = order(7, 100);
        assert_ne!(shuffled, (0..100).collect::<Vec<_>>());
        assert_ne!(shuffled, order(8, 100));
        shuffled.sort_unstable();
        assert_eq!(shuffled, (0..100).collect::<Vec<_>>());
    }
}
