//! What the ranks of one process share, and [`in_process`], which makes it.

use std::sync::Arc;

use bytes::BytesMut;
use parking_lot::Mutex;

use super::backend::Fate;
use super::error::CollectiveError;
use super::handle::Collective;
use super::in_process::InProcess;
use super::mail::Mail;
use super::meeting::Meeting;
use super::staging::Staging;

/// How often a rank looks before it parks, where every rank can have a core: some tens of microseconds.
const SPINS: u32 = 700;

/// Makes a group of `world` ranks that share memory; the handles are in the order of their ranks, one for each
/// thread.
pub fn in_process(world: usize) -> Vec<Collective> {
    handles(&Arc::new(Group::new(world)), world)
}

fn handles(group: &Arc<Group>, world: usize) -> Vec<Collective> {
    let lane = |rank, lane| Box::new(InProcess::new(rank, world, lane, group));
    (0..world)
        .map(|rank| {
            let background = Collective::new(rank, world, lane(rank, 1), None);
            Collective::new(rank, world, lane(rank, 0), Some(Box::new(background)))
        })
        .collect()
}

/// Two lanes on which calls do not wait for each other, and one fate.
#[derive(Debug)]
pub(super) struct Group {
    cause: Mutex<Option<CollectiveError>>,
    lanes: [Lane; 2],
}

/// What calls that come one after another need.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) meeting: Meeting<CollectiveError>,
    pub(super) staging: Staging,
    pub(super) mail: Mail,
    /// For each owner and each rank, the piece of the owner's buffer that the rank reduces.
    lent: Vec<Vec<Mutex<BytesMut>>>,
}

impl Lane {
    fn new(world: usize, spins: u32) -> Self {
        let pieces = || (0..world).map(|_| Mutex::default()).collect();
        Self {
            meeting: Meeting::new(world, spins),
            staging: Staging::new(world),
            mail: Mail::new(world),
            lent: (0..world).map(|_| pieces()).collect(),
        }
    }

    /// Puts down a piece of `owner`'s buffer for `rank`, or for the owner to have back from it.
    pub(super) fn lend(&self, owner: usize, rank: usize, piece: BytesMut) {
        *self.lent[owner][rank].lock() = piece;
    }

    /// Takes up what was put down with the same ranks.
    pub(super) fn take(&self, owner: usize, rank: usize) -> BytesMut {
        std::mem::take(&mut *self.lent[owner][rank].lock())
    }
}

impl Group {
    fn new(world: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let spins = |threads| if threads <= cores { SPINS } else { 0 };
        // Threads in the background come on top of the ranks' own.
        let lanes = [Lane::new(world, spins(world)), Lane::new(world, spins(world.saturating_mul(2)))];
        Self { cause: Mutex::new(None), lanes }
    }

    pub(super) fn lane(&self, lane: usize) -> &Lane {
        &self.lanes[lane]
    }
}

impl Fate for Group {
    fn fail(&self, cause: CollectiveError) -> bool {
        let mut first = self.cause.lock();
        if first.is_some() {
            return false;
        }
        *first = Some(cause.clone());
        // Under the lock, so that the group is never ended for one lane only.
        for lane in &self.lanes {
            lane.meeting.fail(cause.clone());
            lane.mail.close();
        }
        true
    }

    fn cause(&self) -> Option<CollectiveError> {
        self.lanes[0].meeting.cause()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::buffer::Buffer;
    use super::super::number::ReduceOp;
    use super::super::staging::{BLOCK_BYTES, LAG};
    use super::*;

    #[test]
    fn invariant_4_memory_does_not_grow_with_the_buffers() {
        let group = Arc::new(Group::new(2));
        std::thread::scope(|scope| {
            for mut rank in handles(&group, 2) {
                scope.spawn(move || {
                    let mut data = vec![1.0_f32; 1 << 20];
                    rank.all_reduce(&mut data, ReduceOp::Sum).unwrap();
                    rank.broadcast(&mut data, 1).unwrap();
                    rank.all_gather(&data, &mut vec![0.0; 2 << 20]).unwrap();
                    rank.all_to_all(&data, &mut vec![0.0; 1 << 20]).unwrap();
                    let other = 1 - rank.rank();
                    rank.send_recv(&data, other, &mut vec![0.0; 1 << 20], other).unwrap();
                    rank.all_reduce_owned(Buffer::from(&data[..]), ReduceOp::Sum).unwrap();
                    rank.barrier().unwrap();
                });
            }
        });
        let a_rank = 2 * LAG as usize * (BLOCK_BYTES + BLOCK_BYTES / 2);
        assert!(group.lanes[0].staging.held_bytes() <= 2 * a_rank);
        assert_eq!(group.lanes[1].staging.held_bytes(), 0);
        assert!(group.lanes[0].lent.iter().flatten().all(|piece| piece.lock().capacity() == 0));
    }
}
