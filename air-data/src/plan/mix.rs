//! [`Mix`]: rows of several datasets in turns, by weight.

use std::fmt;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::common::{Result, internal_err};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use super::node::{Job, Operator};
use crate::exchange::Room;

/// When a mix ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MixUntil {
    /// With the first dataset that has no row left when its turn comes, so that the proportions hold to the end.
    #[default]
    FirstEnds,
    /// When all have ended; the ones that are left share the turns of those that are not.
    AllEnd,
}

/// Rows of its inputs in turns, as one block.
#[derive(Debug, Clone)]
pub(crate) struct Mix {
    pub(crate) weights: Vec<f64>,
    pub(crate) until: MixUntil,
    pub(crate) room: Room,
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mix by {:?}", self.weights)
    }
}

impl Operator for Mix {
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef> {
        let Some(first) = inputs.first() else { return internal_err!("a mix needs an input") };
        Ok(first.clone())
    }

    fn partitions(&self, _: &[usize]) -> usize {
        1
    }

    fn needs(&self, output: &[usize], inputs: &[SchemaRef]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output.to_vec(); inputs.len()])
    }

    fn run(&self, job: Job<'_>) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        // Each input has its share of the bytes that may wait.
        let room = Room { bytes: self.room.bytes / job.inputs.len().max(1), ..self.room };
        let inputs = 0..job.inputs.len();
        let sides =
            inputs.map(|input| Side { stream: job.rows(input, room), batch: None, row: 0, slot: None });
        let mixing = Mixing {
            sides: sides.collect(),
            turns: Turns::new(self.weights.clone()),
            until: self.until,
            rows: job.context.session_config().batch_size(),
            over: false,
            schema: job.schema,
        };
        let mixed = futures::stream::try_unfold(mixing, |mut mixing| async move {
            Ok(mixing.next().await?.map(|batch| (batch, mixing)))
        });
        Ok(mixed.boxed())
    }
}

struct Side {
    stream: BoxStream<'static, Result<RecordBatch>>,
    batch: Option<RecordBatch>,
    row: usize,
    /// Where its batch stands among those of the output that is being put together.
    slot: Option<usize>,
}

struct Mixing {
    sides: Vec<Side>,
    turns: Turns,
    until: MixUntil,
    rows: usize,
    over: bool,
    schema: SchemaRef,
}

impl Mixing {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let (mut sources, mut picks) = (Vec::new(), Vec::with_capacity(self.rows));
        for side in &mut self.sides {
            side.slot = None;
        }
        while picks.len() < self.rows && !self.over {
            let Some(turn) = self.turns.peek() else { break };
            let side = &mut self.sides[turn];
            while side.batch.as_ref().is_none_or(|batch| side.row == batch.num_rows()) {
                side.batch = side.stream.next().await.transpose()?;
                (side.row, side.slot) = (0, None);
                if side.batch.is_none() {
                    break;
                }
            }
            let Some(batch) = &side.batch else {
                match self.until {
                    MixUntil::FirstEnds => self.over = true,
                    MixUntil::AllEnd => self.turns.remove(turn),
                }
                continue;
            };
            let slot = *side.slot.get_or_insert_with(|| {
                sources.push(batch.clone());
                sources.len() - 1
            });
            picks.push((slot, side.row));
            side.row += 1;
            self.turns.take(turn);
        }
        if picks.is_empty() {
            return Ok(None);
        }
        let sources: Vec<&RecordBatch> = sources.iter().collect();
        if self.schema.fields().is_empty() {
            let options = RecordBatchOptions::new().with_row_count(Some(picks.len()));
            return Ok(Some(RecordBatch::try_new_with_options(self.schema.clone(), Vec::new(), &options)?));
        }
        Ok(Some(interleave_record_batch(&sources, &picks)?))
    }
}

/// Who comes next: smooth weighted round robin, as nginx deals requests. After any number of turns each has had its share of
/// them to within one turn for each of the others.
#[derive(Debug, Clone)]
struct Turns {
    weights: Vec<f64>,
    credit: Vec<f64>,
}

impl Turns {
    fn new(weights: Vec<f64>) -> Self {
        Self { credit: vec![0.0; weights.len()], weights }
    }

    /// Whose turn it is.
    fn peek(&self) -> Option<usize> {
        let with_next = |index: usize| self.credit[index] + self.weights[index];
        // The first of equals.
        (0..self.weights.len()).filter(|index| self.weights[*index] > 0.0).fold(
            None,
            |best: Option<usize>, index| match best {
                Some(best) if with_next(best) >= with_next(index) => Some(best),
                _ => Some(index),
            },
        )
    }

    fn take(&mut self, turn: usize) {
        let total: f64 = self.weights.iter().sum();
        for (credit, weight) in self.credit.iter_mut().zip(&self.weights) {
            *credit += weight;
        }
        self.credit[turn] -= total;
    }

    fn remove(&mut self, turn: usize) {
        self.weights[turn] = 0.0;
        self.credit[turn] = 0.0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn deal(turns: &mut Turns, count: usize) -> Vec<usize> {
        (0..count)
            .map(|_| {
                let turn = turns.peek().unwrap();
                turns.take(turn);
                turn
            })
            .collect()
    }

    #[test]
    fn turns_are_spread_evenly() {
        assert_eq!(deal(&mut Turns::new(vec![5.0, 1.0, 1.0]), 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(deal(&mut Turns::new(vec![0.5, 0.5]), 4), [0, 1, 0, 1]);
        let mut turns = Turns::new(vec![0.7, 0.2, 0.1]);
        let dealt = deal(&mut turns, 1000);
        for (index, share) in [700, 200, 100].into_iter().enumerate() {
            let got = dealt.iter().filter(|turn| **turn == index).count() as i64;
            assert!((got - share).abs() <= 1, "{index}: {got}");
        }
    }

    #[test]
    fn who_has_ended_gets_no_turn() {
        let mut turns = Turns::new(vec![3.0, 1.0]);
        turns.remove(0);
        assert_eq!(deal(&mut turns, 3), [1, 1, 1]);
        turns.remove(1);
        assert_eq!(turns.peek(), None);
    }
}
