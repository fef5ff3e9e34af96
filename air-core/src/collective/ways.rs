//! [`Ways`]: what is on its way between the ranks, and who waits for whom.
//!
//! A pure state, told of every move: so where ranks wait for each other in a circle, whoever closes the circle sees it, at
//! once. A rank is blocked only while nothing it waits for can move, so a circle is never seen where a message is there
//! already.

use std::collections::VecDeque;

/// What a blocked rank waits for. It goes on as soon as one of these moves, and is done only when all have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// That this rank takes a packet, for no more may be on their way.
    pub(super) room_to: Option<usize>,
    /// That this rank sends a packet, of which there is none on its way.
    pub(super) packet_from: Option<usize>,
}

impl Needs {
    const NONE: Self = Self { room_to: None, packet_from: None };

    fn ranks(self) -> impl Iterator<Item = usize> {
        self.room_to.into_iter().chain(self.packet_from)
    }
}

/// The ways between all ranks, with packets `P` on them.
#[derive(Debug)]
pub(super) struct Ways<P> {
    world: usize,
    /// Packets that may be on their way between two ranks; with none, who sends waits for who receives.
    room: usize,
    /// From each rank to each rank.
    queues: Vec<VecDeque<P>>,
    /// What each rank is blocked on; nothing while it goes on.
    needs: Vec<Needs>,
}

impl<P> Ways<P> {
    pub(super) fn new(world: usize, room: usize) -> Self {
        let queues = (0..world * world).map(|_| VecDeque::new()).collect();
        Self { world, room, queues, needs: vec![Needs::NONE; world] }
    }

    pub(super) fn has_room(&self, from: usize, to: usize) -> bool {
        // A rank cannot meet itself.
        let room = self.room.max(usize::from(from == to));
        self.queues[from * self.world + to].len() < room || self.needs[to].packet_from == Some(from)
    }

    /// Sends a packet where there [is room](Self::has_room); says whether `to` was blocked on it and goes on now.
    pub(super) fn put(&mut self, from: usize, to: usize, packet: P) -> bool {
        self.queues[from * self.world + to].push_back(packet);
        self.needs[to].packet_from == Some(from) && self.free(to)
    }

    /// Receives a packet, if there is one; says whether `from` was blocked on that and goes on now.
    pub(super) fn take(&mut self, from: usize, to: usize) -> Option<(P, bool)> {
        let packet = self.queues[from * self.world + to].pop_front()?;
        Some((packet, self.needs[from].room_to == Some(to) && self.free(from)))
    }

    /// Says that nothing `rank` needs can move now; the rank that goes on because of that, for it may send what is waited for.
    pub(super) fn block(&mut self, rank: usize, needs: Needs) -> Option<usize> {
        self.needs[rank] = needs;
        let sender = needs.packet_from.filter(|&from| self.needs[from].room_to == Some(rank))?;
        self.free(sender).then_some(sender)
    }

    /// Says that `rank` goes on; whether it was blocked.
    pub(super) fn free(&mut self, rank: usize) -> bool {
        std::mem::take(&mut self.needs[rank]) != Needs::NONE
    }

    pub(super) fn is_blocked(&self, rank: usize) -> bool {
        self.needs[rank] != Needs::NONE
    }

    /// The shortest circle of ranks from `start`, each of which waits for the next and the last for the first; the lowest
    /// comes first.
    ///
    /// `passed` says how many steps a rank has passed in calls of all ranks. In a call it waits for all that have passed fewer.
    pub(super) fn circle(&self, start: usize, passed: impl Fn(usize) -> u64) -> Option<Vec<usize>> {
        let mut reached_from = vec![None; self.world];
        let mut to_do = VecDeque::from([start]);
        while let Some(rank) = to_do.pop_front() {
            let needs = self.needs[rank];
            let steps = if needs == Needs::NONE { passed(rank) } else { 0 };
            for next in needs.ranks().chain((0..self.world).filter(|&other| passed(other) < steps)) {
                if reached_from[next].is_none() {
                    reached_from[next] = Some(rank);
                    to_do.push_back(next);
                }
            }
            if reached_from[start].is_some() {
                break;
            }
        }
        let mut circle = vec![reached_from[start]?];
        while let Some(&rank) = circle.last().filter(|&&rank| rank != start) {
            circle.extend(reached_from[rank]);
        }
        circle.reverse();
        let lowest = (0..circle.len()).min_by_key(|&at| circle[at])?;
        circle.rotate_left(lowest);
        Some(circle)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One call of a program.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// So many packets to the one rank while as many come from the other.
        Exchange { send: Option<(usize, usize)>, receive: Option<(usize, usize)> },
        /// The call of all ranks.
        All,
    }

    type Programs = Vec<Vec<Step>>;

    /// What a rank has still to do of its call, and how many calls of all it has begun.
    #[derive(Debug, Clone, Copy, Default)]
    struct Now {
        send: Option<(usize, usize)>,
        receive: Option<(usize, usize)>,
        passed: u64,
        at: usize,
    }

    fn begin(now: &mut Now, program: &[Step]) {
        match program.get(now.at) {
            Some(Step::Exchange { send, receive }) => (now.send, now.receive) = (*send, *receive),
            Some(Step::All) => now.passed += 1,
            None => {}
        }
    }

    fn one_less(packets: &mut Option<(usize, usize)>) {
        *packets = packets.map(|(rank, left)| (rank, left - 1)).filter(|(_, left)| *left > 0);
    }

    /// Takes one rank after another as far as it comes, as `mail` does, in the order of `turns`; the first circle seen.
    fn run(programs: &Programs, room: usize, turns: &[usize]) -> Option<Vec<usize>> {
        let world = programs.len();
        let mut ways = Ways::new(world, room);
        let mut now = vec![Now::default(); world];
        for (now, program) in now.iter_mut().zip(programs) {
            begin(now, program);
        }
        // Enough for everything to come to rest, whatever the turns are.
        let more = (0..40 * world).map(|turn| turn % world);
        for rank in turns.iter().map(|turn| turn % world).chain(more) {
            let mut mine = now[rank];
            let mut moved = false;
            if let Some((to, _)) = mine.send.filter(|(to, _)| ways.has_room(rank, *to)) {
                ways.put(rank, to, ());
                one_less(&mut mine.send);
                moved = true;
            }
            if let Some((from, _)) = mine.receive
                && ways.take(from, rank).is_some()
            {
                one_less(&mut mine.receive);
                moved = true;
            }
            assert!(!(moved && ways.is_blocked(rank)), "a blocked rank could move");
            now[rank] = mine;
            let is_done = match programs[rank].get(mine.at) {
                None => continue,
                Some(Step::All) => now.iter().all(|other| other.passed >= mine.passed),
                Some(Step::Exchange { .. }) => mine.send.is_none() && mine.receive.is_none(),
            };
            if is_done {
                now[rank].at += 1;
                begin(&mut now[rank], &programs[rank]);
            } else if !moved && matches!(programs[rank][mine.at], Step::Exchange { .. }) {
                let needs = Needs {
                    room_to: mine.send.map(|(to, _)| to),
                    packet_from: mine.receive.map(|(from, _)| from),
                };
                ways.block(rank, needs);
            } else if moved {
                continue;
            }
            if let Some(circle) = ways.circle(rank, |rank| now[rank].passed) {
                return Some(circle);
            }
        }
        None
    }

    /// Whether a circle is left once nothing moves any more, by striking out again and again whoever waits for nobody that is
    /// left. Where nothing can overtake anything, the order of moves does not matter to where they end.
    fn ends_in_a_circle(programs: &Programs, room: usize) -> bool {
        let world = programs.len();
        let mut on_the_way = vec![0_usize; world * world];
        let waits = |receive: Option<(usize, usize)>, from| receive.is_some_and(|(rank, _)| rank == from);
        let mut now = vec![Now::default(); world];
        for (now, program) in now.iter_mut().zip(programs) {
            begin(now, program);
        }
        let mut moved = true;
        while moved {
            moved = false;
            for rank in 0..world {
                while let Some((to, _)) = now[rank].send.filter(|&(to, _)| {
                    let so_many = on_the_way[rank * world + to];
                    so_many < room.max(usize::from(to == rank))
                        || so_many == 0 && waits(now[to].receive, rank)
                }) {
                    on_the_way[rank * world + to] += 1;
                    one_less(&mut now[rank].send);
                    moved = true;
                }
                while let Some((from, _)) =
                    now[rank].receive.filter(|(from, _)| on_the_way[from * world + rank] > 0)
                {
                    on_the_way[from * world + rank] -= 1;
                    one_less(&mut now[rank].receive);
                    moved = true;
                }
                let done = now[rank].send.is_none()
                    && now[rank].receive.is_none()
                    && now.iter().all(|other| other.passed >= now[rank].passed);
                if done && now[rank].at < programs[rank].len() {
                    now[rank].at += 1;
                    begin(&mut now[rank], &programs[rank]);
                    moved = true;
                }
            }
        }
        let mut left: Vec<usize> = (0..world).filter(|&rank| now[rank].at < programs[rank].len()).collect();
        loop {
            let waits_for = |rank: usize, other: usize| match programs[rank][now[rank].at] {
                Step::All => now[other].passed < now[rank].passed,
                Step::Exchange { .. } => {
                    [now[rank].send, now[rank].receive].iter().flatten().any(|(needed, _)| *needed == other)
                }
            };
            let still: Vec<usize> = left
                .iter()
                .copied()
                .filter(|&rank| left.iter().any(|&other| waits_for(rank, other)))
                .collect();
            if still.len() == left.len() {
                return !left.is_empty();
            }
            left = still;
        }
    }

    fn programs() -> impl Strategy<Value = Programs> {
        (2..5_usize).prop_flat_map(|world| {
            let packets = move || prop::option::weighted(0.6, (0..world, 1..4_usize));
            let step = prop_oneof![
                5 => (packets(), packets()).prop_map(|(send, receive)| Step::Exchange { send, receive }),
                1 => Just(Step::All),
            ];
            prop::collection::vec(prop::collection::vec(step, 0..5), world)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

        /// In whatever order the ranks come: a circle is seen where there will be one, and nowhere else.
        #[test]
        fn a_circle_is_seen_exactly_where_there_is_one(
            programs in programs(), room in 0..3_usize, turns in prop::collection::vec(0..60_usize, 0..60),
        ) {
            prop_assert_eq!(run(&programs, room, &turns).is_some(), ends_in_a_circle(&programs, room));
        }
    }

    #[test]
    fn a_circle_of_any_length_is_told_from_its_lowest_rank() {
        for world in 1..9 {
            let mut ways = Ways::<()>::new(world + 1, 2);
            for rank in (0..world).rev() {
                assert_eq!(ways.circle(rank, |_| 0), None);
                ways.block(rank, Needs { packet_from: Some((rank + 1) % world), room_to: None });
            }
            assert_eq!(ways.circle(0, |_| 0), Some((0..world).collect()));
            assert_eq!(ways.circle(world, |_| 0), None, "who is in no circle");
            // Rank 0 sees one as soon as it goes into the call, too, and not before.
            ways.free(0);
            assert_eq!(ways.circle(0, |_| 0), None);
            let circle = if world == 1 { None } else { Some(vec![0, world - 1]) };
            assert_eq!(ways.circle(0, |rank| u64::from(rank == 0)), circle);
        }
    }
}
