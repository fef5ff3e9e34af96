//! What the ranks of one process share, and [`in_process`], which makes it.

use std::sync::Arc;

use parking_lot::Mutex;

use super::backend::Fate;
use super::error::CollectiveError;
use super::handle::Collective;
use super::in_process::InProcess;
use super::loan::Loans;
use super::mail::{Mail, QUEUE};
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
    pub(super) loans: Loans,
}

impl Lane {
    fn new(world: usize, spins: u32, room: usize) -> Self {
        Self {
            meeting: Meeting::new(world, spins),
            staging: Staging::new(world),
            mail: Mail::new(world, spins, room),
            loans: Loans::new(world),
        }
    }
}

impl Group {
    fn new(world: usize) -> Self {
        Self::with_room(world, QUEUE)
    }

    /// Of ranks on devices. Who sends waits for who receives: on a device, too, a message goes on only when both are there.
    pub(super) fn of_devices(world: usize) -> Self {
        Self::with_room(world, 0)
    }

    fn with_room(world: usize, room: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let spins = |threads| if threads <= cores { SPINS } else { 0 };
        // Threads in the background come on top of the ranks' own.
        let lanes = [world, world.saturating_mul(2)].map(|threads| Lane::new(world, spins(threads), room));
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
    use super::super::in_process::STAGED_BYTES;
    use super::super::number::ReduceOp;
    use super::*;

    #[test]
    fn invariant_4_memory_does_not_grow_with_the_buffers() {
        let group = Arc::new(Group::new(2));
        std::thread::scope(|scope| {
            for mut rank in handles(&group, 2) {
                scope.spawn(move || {
                    for len in [1 << 10, STAGED_BYTES / 8, 1 << 20] {
                        let mut data = vec![1.0_f32; len];
                        rank.all_reduce(&mut data, ReduceOp::Sum).unwrap();
                        rank.broadcast(&mut data, 1).unwrap();
                        rank.all_gather(&data, &mut vec![0.0; 2 * len]).unwrap();
                        rank.all_to_all(&data, &mut vec![0.0; len]).unwrap();
                        let other = 1 - rank.rank();
                        rank.send_recv(&data, other, &mut vec![0.0; len], other).unwrap();
                        rank.barrier().unwrap();
                    }
                });
            }
        });
        let held = group.lanes[0].staging.held_bytes();
        assert!((STAGED_BYTES..=2 * STAGED_BYTES).contains(&held), "{held}");
        assert_eq!(group.lanes[1].staging.held_bytes(), 0);
    }
}
