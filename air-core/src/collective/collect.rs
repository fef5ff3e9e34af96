//! What a rank takes from what all ranks show each other, verb by verb.

use std::ops::Range;

use super::call::{Call, Verb};
use super::reduce::reduce;

/// Fills `output` of rank `me` from what all ranks `shown`, in their order: of each part of a buffer the bytes `range`.
///
/// A part is what one rank has in a verb whose buffers are as long as all parts together.
pub(super) fn collect(call: Call, me: usize, shown: &[&[u8]], output: &mut [u8], range: Range<usize>) {
    let len = call.part_bytes();
    let Range { start, end } = range;
    let part = move |rank: usize| rank * len + start..rank * len + end;
    match call.verb {
        Verb::Barrier => {}
        Verb::AllReduce(op) if range.len() == len => reduce(call.dtype, op, shown, output),
        Verb::AllReduce(op) => reduce(call.dtype, op, &each(shown, &range), &mut output[range]),
        Verb::ReduceScatter(op) => {
            reduce(call.dtype, op, &each(shown, &part(me)), &mut output[range]);
        }
        Verb::Broadcast { root } => output[range.clone()].copy_from_slice(&shown[root][range]),
        Verb::Scatter { root } => output[range].copy_from_slice(&shown[root][part(me)]),
        Verb::AllGather | Verb::Gather { .. } => {
            for (rank, shown) in shown.iter().enumerate() {
                output[part(rank)].copy_from_slice(&shown[range.clone()]);
            }
        }
        Verb::AllToAll => {
            for (rank, shown) in shown.iter().enumerate() {
                output[part(rank)].copy_from_slice(&shown[part(me)]);
            }
        }
    }
}

fn each<'a>(shown: &[&'a [u8]], range: &Range<usize>) -> Vec<&'a [u8]> {
    shown.iter().map(|shown| &shown[range.clone()]).collect()
}

/// The parts in which so many bytes are gone through, for someone to look up in between.
pub(super) fn strides(len: usize) -> impl Iterator<Item = Range<usize>> {
    // A multiple of every element's width.
    const STRIDE_BYTES: usize = 256 << 10;
    (0..len).step_by(STRIDE_BYTES).map(move |start| start..len.min(start + STRIDE_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collective::ReduceOp;
    use crate::tensor::DType;

    /// What rank 1 of 3 has of a verb over parts of 6 bytes; in pieces it is the same as at once.
    fn collected(verb: Verb, shown: [&[u8]; 3], output: usize) -> Vec<u8> {
        let call = Call { verb, dtype: DType::F16, len: 3 };
        let mut at_once = vec![0xEE; output];
        collect(call, 1, &shown, &mut at_once, 0..6);
        let mut in_pieces = vec![0xEE; output];
        collect(call, 1, &shown, &mut in_pieces, 0..2);
        collect(call, 1, &shown, &mut in_pieces, 2..6);
        assert_eq!(at_once, in_pieces, "{verb:?}");
        at_once
    }

    #[test]
    fn every_verb_takes_what_is_its_own() {
        let parts = |rank: u8| (0..18).map(|at| rank * 18 + at).collect::<Vec<u8>>();
        let all = [parts(0), parts(1), parts(2)];
        let part = [&all[0][..6], &all[1][..6], &all[2][..6]];
        assert_eq!(collected(Verb::Broadcast { root: 2 }, [&[], &[], part[2]], 6), part[2]);
        assert_eq!(collected(Verb::Scatter { root: 0 }, [&all[0], &[], &[]], 6), all[0][6..12]);
        assert_eq!(collected(Verb::AllGather, part, 18), part.concat());
        assert_eq!(collected(Verb::Gather { root: 1 }, part, 18), part.concat());
        let mine: Vec<u8> = all.iter().flat_map(|all| all[6..12].to_vec()).collect();
        assert_eq!(collected(Verb::AllToAll, [&all[0], &all[1], &all[2]], 18), mine);
        // As numbers of two bytes these are positive and in the order of the ranks.
        assert_eq!(collected(Verb::AllReduce(ReduceOp::Max), part, 6), part[2]);
        let scattered = collected(Verb::ReduceScatter(ReduceOp::Min), [&all[0], &all[1], &all[2]], 6);
        assert_eq!(scattered, all[0][6..12]);
    }

    #[test]
    fn strides_cover_a_buffer_once() {
        for len in [0, 8, 256 << 10, (256 << 10) + 8, 1_000_000] {
            assert_eq!(strides(len).flatten().collect::<Vec<_>>(), (0..len).collect::<Vec<_>>());
        }
    }
}
