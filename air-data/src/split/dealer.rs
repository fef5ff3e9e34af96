//! The task that deals one epoch's rows into a lane for each rank.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::StreamExt;
use futures::future::{Either, select, select_all};
use futures::stream::BoxStream;

use super::equal::Equal;
use crate::error::{DataError, Result};
use crate::exchange::Sender;
use crate::memory::Parcel;

/// One rank as the dealer sees it.
pub(super) struct Seat {
    /// `None` once the rank has left the epoch.
    pub(super) lane: Option<Sender<Result<RecordBatch>>>,
    /// Whether the rank's consumer waits for a batch.
    pub(super) hungry: Arc<AtomicBool>,
    pub(super) rows: u64,
}

pub(super) struct Dealer {
    pub(super) seats: Vec<Seat>,
    pub(super) wait_limit: Duration,
    /// Cuts for ranks that are to have equally much; otherwise whole batches go to who has the least.
    pub(super) equal: Option<Equal>,
}

impl Dealer {
    pub(super) async fn deal(mut self, mut rows: BoxStream<'static, Result<RecordBatch>>) {
        while let Some(item) = rows.next().await {
            let dealt = match item {
                Ok(batch) => self.batch(batch).await,
                Err(error) => Err(error),
            };
            if let Err(error) = dealt {
                self.fail(&error.shared());
                return;
            }
            if self.seats.iter().all(|seat| seat.lane.is_none()) {
                return;
            }
        }
    }

    async fn batch(&mut self, batch: RecordBatch) -> Result<()> {
        match &mut self.equal {
            Some(equal) => {
                for (rank, piece) in equal.push(batch)?.into_iter().enumerate() {
                    self.give(rank, piece).await?;
                }
            }
            None => self.offer(batch).await,
        }
        Ok(())
    }

    /// Gives a rank its piece; of one that has left it is thrown away.
    async fn give(&mut self, rank: usize, piece: RecordBatch) -> Result<()> {
        let Some(mut lane) = self.seats[rank].lane.take() else { return Ok(()) };
        let (parcel, rows) = (Parcel::of(&piece), piece.num_rows() as u64);
        let sent = {
            let mut sending = std::pin::pin!(lane.send(Ok(piece), parcel));
            let mut starving = None;
            loop {
                // Half of the limit each time: who waits at both ends of a half has waited for at least that long.
                let timer = std::pin::pin!(tokio::time::sleep(self.wait_limit / 2));
                match select(&mut sending, timer).await {
                    Either::Left((sent, _)) => break sent,
                    Either::Right(_) => {
                        let still = self.hungry_but(rank);
                        if let (Some(waits), Some(_)) = (still, starving) {
                            return Err(DataError::SplitStalled { rank, waits, limit: self.wait_limit });
                        }
                        starving = still;
                    }
                }
            }
        };
        if sent {
            self.seats[rank].lane = Some(lane);
            self.seats[rank].rows += rows;
        }
        Ok(())
    }

    fn hungry_but(&self, rank: usize) -> Option<usize> {
        let others =
            self.seats.iter().enumerate().filter(|(other, seat)| *other != rank && seat.lane.is_some());
        others.into_iter().find(|(_, seat)| seat.hungry.load(Ordering::Relaxed)).map(|(other, _)| other)
    }

    /// Gives a batch to the rank with the least that waits, then the fewest rows so far; when none has room, to the first that has.
    async fn offer(&mut self, batch: RecordBatch) {
        let parcel = Parcel::of(&batch);
        loop {
            let mut order: Vec<(usize, u64, usize)> = self
                .seats
                .iter()
                .enumerate()
                .filter_map(|(rank, seat)| Some((seat.lane.as_ref()?.queued_bytes(), seat.rows, rank)))
                .collect();
            order.sort_unstable();
            let ranks: Vec<usize> = order.into_iter().map(|(_, _, rank)| rank).collect();
            let entering =
                ranks.iter().filter_map(|rank| self.seats[*rank].lane.as_ref()?.enter(parcel.clone()).into());
            let entering: Vec<_> = entering.collect();
            if entering.is_empty() {
                return;
            }
            // Who is not first gives up its place as it is dropped.
            let (charge, first, others) = select_all(entering).await;
            drop(others);
            let seat = &mut self.seats[ranks[first]];
            let given = match (charge, &mut seat.lane) {
                (Some(charge), Some(lane)) => lane.put(Ok(batch.clone()), charge),
                _ => false,
            };
            if given {
                seat.rows += batch.num_rows() as u64;
                return;
            }
            seat.lane = None;
        }
    }

    fn fail(&mut self, error: &Arc<DataError>) {
        for lane in self.seats.iter_mut().filter_map(|seat| seat.lane.as_mut()) {
            lane.force(Err(DataError::Shared(error.clone())), Parcel::default());
        }
    }
}
