//! [`DataLoader`]: batches of rows held in memory, shuffled and sharded.

use air_core::BoxError;
use air_core::data::{Batch, BatchSource};
use air_core::seed::Seed;
use air_core::tensor::{DType, Element, Tensor};
use rand::RngExt;

use crate::{Result, TrainError};

/// Cuts the rows of a table of tensors into batches, epoch by epoch.
///
/// With several ranks every rank gets as many batches as the others, whatever the number of rows (they would wait for each
/// other otherwise): where rows do not divide evenly a few are used twice, or with `drop_last` left out.
#[derive(Clone, Debug)]
pub struct DataLoader {
    table: Batch,
    batch_rows: usize,
    shuffle: bool,
    drop_last: bool,
    rank: usize,
    world: usize,
    seed: Seed,
    order: Vec<u32>,
    next: usize,
}

impl DataLoader {
    /// Batches of `batch_rows` rows of `table`, in order.
    pub fn new(table: Batch, batch_rows: usize) -> Result<Self> {
        if batch_rows == 0 || table.rows() > u32::MAX as usize {
            let problem = format!("{batch_rows} rows a batch of {} rows cannot work", table.rows());
            return Err(TrainError::config("data loader", problem));
        }
        let mut loader = Self {
            table,
            batch_rows,
            shuffle: false,
            drop_last: false,
            rank: 0,
            world: 1,
            seed: Seed::new(0),
            order: Vec::new(),
            next: 0,
        };
        loader.begin(0);
        Ok(loader)
    }

    /// Draws a new order of the rows for each epoch; the same epoch always has the same order.
    pub fn shuffle(mut self, seed: Seed) -> Self {
        self.shuffle = true;
        self.seed = seed;
        self.begin(0);
        self
    }

    /// Leaves out the last batch where it is not full.
    pub fn drop_last(mut self) -> Self {
        self.drop_last = true;
        self.begin(0);
        self
    }

    /// Takes every `world`-th row of the epoch's order, from `rank` on.
    pub(crate) fn shard(mut self, rank: usize, world: usize, seed: Seed) -> Self {
        self.rank = rank;
        self.world = world;
        // All ranks draw the same order and take different rows of it.
        self.seed = seed;
        self.begin(0);
        self
    }

    /// Batches an epoch has.
    pub fn batches(&self) -> usize {
        if self.drop_last {
            self.order.len() / self.batch_rows
        } else {
            self.order.len().div_ceil(self.batch_rows)
        }
    }

    /// The batches of one epoch.
    pub fn epoch(&mut self, epoch: u64) -> impl Iterator<Item = Result<Batch>> + '_ {
        self.begin(epoch);
        std::iter::from_fn(|| self.take().transpose())
    }

    fn begin(&mut self, epoch: u64) {
        let rows = self.table.rows();
        let mut order: Vec<u32> = (0..rows as u32).collect();
        if self.shuffle {
            let mut rng = self.seed.child("epoch", epoch).rng();
            for i in (1..rows).rev() {
                order.swap(i, rng.random_range(0..=i));
            }
        }
        let share = if self.drop_last { rows / self.world } else { rows.div_ceil(self.world) };
        self.order.clear();
        self.order.extend((0..share).map(|i| order[(i * self.world + self.rank) % rows.max(1)]));
        self.next = 0;
    }

    fn take(&mut self) -> Result<Option<Batch>> {
        let to = (self.next + self.batch_rows).min(self.order.len());
        if self.next == to || (self.drop_last && to - self.next < self.batch_rows) {
            return Ok(None);
        }
        let rows = &self.order[self.next..to];
        self.next = to;
        if !self.shuffle && self.world == 1 {
            let batch = self.table.slice(rows[0] as usize, rows[0] as usize + rows.len());
            return Ok(Some(batch.map_err(air_core::CoreError::from)?));
        }
        let columns: Result<Vec<_>> = self
            .table
            .columns()
            .iter()
            .map(|(name, tensor)| Ok((name.clone(), gather(tensor, rows)?)))
            .collect();
        Ok(Some(Batch::new(columns?).map_err(air_core::CoreError::from)?))
    }
}

impl BatchSource for DataLoader {
    fn next_batch(&mut self) -> Result<Option<Batch>, BoxError> {
        Ok(self.take()?)
    }

    fn restart(&mut self, epoch: u64) -> Result<(), BoxError> {
        self.begin(epoch);
        Ok(())
    }
}

/// The rows of `tensor` in this order, copied.
fn gather(tensor: &Tensor, rows: &[u32]) -> Result<Tensor> {
    match tensor.dtype() {
        DType::F32 => rows_of::<f32>(tensor, rows),
        DType::F64 => rows_of::<f64>(tensor, rows),
        DType::I32 => rows_of::<i32>(tensor, rows),
        DType::I64 => rows_of::<i64>(tensor, rows),
        DType::U32 => rows_of::<u32>(tensor, rows),
        DType::U8 => rows_of::<u8>(tensor, rows),
        other => {
            Err(TrainError::config("data loader", format!("cannot shuffle or shard a column of {other:?}")))
        }
    }
}

fn rows_of<T: Element>(tensor: &Tensor, rows: &[u32]) -> Result<Tensor> {
    let contiguous = tensor.contiguous().map_err(air_core::CoreError::from)?;
    let values = contiguous.as_slice::<T>().map_err(air_core::CoreError::from)?;
    let mut shape = tensor.shape().to_vec();
    let width: usize = shape.iter().skip(1).product();
    let mut picked = Vec::with_capacity(rows.len() * width);
    for row in rows {
        picked.extend_from_slice(&values[*row as usize * width..][..width]);
    }
    shape[0] = rows.len();
    Ok(Tensor::from_vec(picked, &shape).map_err(air_core::CoreError::from)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn table(rows: usize) -> Batch {
        let x = Tensor::from_vec((0..rows * 2).map(|i| i as f32).collect(), &[rows, 2]).unwrap();
        let y = Tensor::from_vec((0..rows as u32).collect(), &[rows]).unwrap();
        Batch::new(vec![("x".into(), x), ("y".into(), y)]).unwrap()
    }

    fn rows(loader: &mut DataLoader, epoch: u64) -> Vec<Vec<u32>> {
        loader
            .epoch(epoch)
            .map(|batch| {
                let batch = batch.unwrap();
                let (x, y) =
                    (batch.column("x").unwrap(), batch.column("y").unwrap().to_vec::<u32>().unwrap());
                for (x, y) in x.to_vec::<f32>().unwrap().chunks(2).zip(&y) {
                    assert_eq!(x, [*y as f32 * 2.0, *y as f32 * 2.0 + 1.0]);
                }
                y
            })
            .collect()
    }

    #[test]
    fn in_order_without_copying() {
        let mut loader = DataLoader::new(table(7), 3).unwrap();
        assert_eq!(loader.batches(), 3);
        assert_eq!(rows(&mut loader, 0), [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
        let mut loader = loader.drop_last();
        assert_eq!(loader.batches(), 2);
        assert_eq!(rows(&mut loader, 1), [vec![0, 1, 2], vec![3, 4, 5]]);
        assert!(DataLoader::new(table(7), 0).is_err());
        assert_eq!(rows(&mut DataLoader::new(table(0), 3).unwrap(), 0), Vec::<Vec<u32>>::new());
    }

    #[test]
    fn an_epoch_is_a_permutation_and_the_same_every_time() {
        let mut loader = DataLoader::new(table(50), 8).unwrap().shuffle(Seed::new(4));
        let first = rows(&mut loader, 0);
        let mut sorted = first.concat();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        assert_ne!(first, rows(&mut loader, 1));
        assert_eq!(first, rows(&mut loader, 0));
    }

    #[test]
    fn shards_cover_every_row_with_equally_many_batches() {
        for (rows_count, world) in [(10, 4), (3, 4), (64, 3)] {
            let loader = DataLoader::new(table(rows_count), 2).unwrap().shuffle(Seed::new(0));
            let shards: Vec<_> = (0..world)
                .map(|rank| rows(&mut loader.clone().shard(rank, world, Seed::new(1)), 5))
                .collect();
            let mut seen: Vec<u32> = shards.iter().flatten().flatten().copied().collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen, (0..rows_count as u32).collect::<Vec<_>>());
            assert!(shards.iter().all(|shard| shard.len() == shards[0].len()));
            assert!(shards.iter().flatten().flatten().count() < rows_count + world);
        }
    }
}
