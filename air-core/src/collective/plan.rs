//! What a rank has its device do for a call.

use super::call::{Call, Verb};
use crate::device::cuda::Step;

/// The steps of rank `me` of `world`. Where NCCL has no such call, ranks send each other their parts, all at once.
pub(super) fn plan(call: &Call, me: usize, world: usize) -> Vec<Step> {
    let len = call.part_bytes();
    let part = |rank: usize| rank * len..(rank + 1) * len;
    let send = |to, part: usize| Step::Send { to, range: part * len..(part + 1) * len };
    match call.verb {
        // Nothing to do, or nothing to do it with.
        _ if call.len == 0 => Vec::new(),
        Verb::Barrier => Vec::new(),
        Verb::AllReduce(op) => vec![Step::AllReduce(op)],
        Verb::ReduceScatter(op) => vec![Step::ReduceScatter(op)],
        Verb::AllGather => vec![Step::AllGather],
        Verb::Broadcast { root } => vec![Step::Broadcast { root }],
        Verb::AllToAll => (0..world)
            .flat_map(|rank| [send(rank, rank), Step::Receive { from: rank, range: part(rank) }])
            .collect(),
        Verb::Gather { root } => {
            let all = (0..world).filter(|_| me == root);
            let receives = all.map(|rank| Step::Receive { from: rank, range: part(rank) });
            std::iter::once(send(root, 0)).chain(receives).collect()
        }
        Verb::Scatter { root } => {
            let sends = (0..world).filter(|_| me == root).map(|rank| send(rank, rank));
            sends.chain([Step::Receive { from: root, range: 0..len }]).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collective::ReduceOp;
    use crate::tensor::DType;

    const VERBS: [Verb; 8] = [
        Verb::AllReduce(ReduceOp::Sum),
        Verb::ReduceScatter(ReduceOp::Max),
        Verb::AllGather,
        Verb::AllToAll,
        Verb::Broadcast { root: 1 },
        Verb::Gather { root: 1 },
        Verb::Scatter { root: 0 },
        Verb::Barrier,
    ];

    /// What is sent is received, by whom it is sent to, in one call; what is not alike on all ranks would hang a device.
    #[test]
    fn the_steps_of_all_ranks_fit_each_other() {
        for verb in VERBS {
            let call = Call { verb, dtype: DType::F32, len: 3 };
            let plans: Vec<_> = (0..3).map(|rank| plan(&call, rank, 3)).collect();
            let mut sent = Vec::new();
            let mut received = Vec::new();
            for (me, steps) in plans.iter().enumerate() {
                for step in steps {
                    match step {
                        Step::Send { to, range } => sent.push((me, *to, range.len())),
                        Step::Receive { from, range } => received.push((*from, me, range.len())),
                        alike => {
                            assert!(plans.iter().all(|plan| plan == std::slice::from_ref(alike)), "{verb:?}");
                        }
                    }
                }
            }
            sent.sort_unstable();
            received.sort_unstable();
            assert_eq!(sent, received, "{verb:?}");
        }
    }

    #[test]
    fn nothing_is_done_with_nothing() {
        for verb in VERBS {
            assert_eq!(plan(&Call { verb, dtype: DType::F64, len: 0 }, 1, 3), []);
        }
    }
}
