//! Attention of tokens' heads over the pages of their past (Vaswani et al., 2017), a group of query heads for each head of keys and values
//! (Ainslie et al., 2023).
//!
//! A few queries go over the pages together, so that what is read of a page serves all; each has its past in order all the same. So what a token
//! sees does not depend on how a prompt was cut into pieces.

use air_core::team::Team;
use pulp::{Arch, Simd, WithSimd};

use super::math::softmax;
use super::pages::{Cache, TOKENS};

/// Tokens that go together.
const TOGETHER: usize = 4;
/// Vectors of values that are read at a time.
const VALUES: usize = 4;
/// Multiply-adds below which it stays on one thread.
const WORTH_SHARING: usize = 1 << 16;

/// What heads there are.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub queries: usize,
    /// Of keys and values.
    pub kv: usize,
    pub dim: usize,
}

/// All heads of all tokens, `to` being `[tokens, heads.queries, heads.dim]`. A token is the number of its sequence and how many tokens of that it sees; its
/// queries begin a row of `queries`, which are so many rows.
pub(super) fn attend<'a>(
    team: &Team,
    heads: Heads,
    layer: usize,
    tokens: &[(usize, usize)],
    cache: impl Fn(usize) -> &'a Cache + Sync,
    queries: &[f32],
    to: &mut [f32],
) {
    let (stride, width) = (queries.len() / tokens.len().max(1), heads.queries * heads.dim);
    let seen: usize = tokens.iter().map(|(_, seen)| seen).sum();
    let is_shared = seen * width >= WORTH_SHARING;
    if is_shared && tokens.len() < 2 * team.count() {
        // Too few tokens to go round: their heads are shared out.
        let group = width / heads.kv;
        return team.each(to.chunks_mut(group).enumerate(), |(number, to)| {
            let (token, head) = (number / heads.kv, number % heads.kv);
            let cache = cache(tokens[token].0);
            let queries = &queries[token * stride..][..stride];
            let pages = cache.head(layer, head);
            Memory::default().run(heads, head, &tokens[token..=token], pages, queries, (to, group, 0));
        });
    }
    // Later tokens of a prompt take longer, so that more pieces than threads are needed to keep all busy.
    let pieces = if is_shared { 4 * team.count() } else { 1 };
    let share = tokens.len().div_ceil(pieces).next_multiple_of(TOGETHER).max(1);
    let work = tokens.chunks(share).zip(queries.chunks(share * stride)).zip(to.chunks_mut(share * width));
    team.each(work, |((tokens, queries), to)| {
        let mut memory = Memory::default();
        let (mut queries, mut to) = (queries, to);
        for run in tokens.chunk_by(|one, two| one.0 == two.0).flat_map(|run| run.chunks(TOGETHER)) {
            let (mine, others) = queries.split_at(run.len() * stride);
            let (mine_to, rest) = to.split_at_mut(run.len() * width);
            (queries, to) = (others, rest);
            let cache = cache(run[0].0);
            for head in 0..heads.kv {
                let to = (&mut *mine_to, width, head * width / heads.kv);
                memory.run(heads, head, run, cache.head(layer, head), mine, to);
            }
        }
    });
}

/// Working memory of one thread.
#[derive(Default)]
struct Memory {
    queries: Vec<f32>,
    seen: Vec<usize>,
    attended: Vec<f32>,
    scores: Vec<f32>,
}

impl Memory {
    /// The queries of a few tokens of one sequence that look at one head of keys and values. The result of a token begins at the same place of each row of `to`.
    fn run<'p, P: Iterator<Item = (&'p [f32], &'p [f32])> + Clone>(
        &mut self,
        heads: Heads,
        head: usize,
        tokens: &[(usize, usize)],
        pages: P,
        queries: &[f32],
        (to, width, at): (&mut [f32], usize, usize),
    ) {
        let group = heads.queries / heads.kv * heads.dim;
        self.queries.clear();
        self.seen.clear();
        for (queries, (_, seen)) in queries.chunks_exact(queries.len() / tokens.len()).zip(tokens) {
            self.queries.extend_from_slice(&queries[head * group..][..group]);
            self.seen.extend(std::iter::repeat_n(*seen, heads.queries / heads.kv));
        }
        self.attended.resize(self.queries.len(), 0.0);
        Arch::new().dispatch(Attention {
            queries: &self.queries,
            head_dim: heads.dim,
            pages,
            seen: &self.seen,
            to: &mut self.attended,
            scores: &mut self.scores,
        });
        for (to, attended) in to.chunks_exact_mut(width).zip(self.attended.chunks_exact(group)) {
            to[at..][..group].copy_from_slice(attended);
        }
    }
}

/// One head of keys and values, and queries that look at it.
struct Attention<'a, P> {
    /// `[queries, head_dim]`.
    queries: &'a [f32],
    head_dim: usize,
    /// Keys as `[head_dim, TOKENS]` and values as `[TOKENS, head_dim]`.
    pages: P,
    /// Tokens that each query sees.
    seen: &'a [usize],
    /// `[queries, head_dim]`.
    to: &'a mut [f32],
    scores: &'a mut Vec<f32>,
}

impl<'p, P: Iterator<Item = (&'p [f32], &'p [f32])> + Clone> WithSimd for Attention<'_, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // A page is as many vectors as it takes for its tokens; as many queries go together as there are registers for.
        match S::F32_LANES {
            16 => blocks::<S, 1, 4, P>(simd, self),
            8 => blocks::<S, 2, 2, P>(simd, self),
            4 => blocks::<S, 4, 2, P>(simd, self),
            _ => blocks::<S, TOKENS, 1, P>(simd, self),
        }
    }
}

#[inline(always)]
fn blocks<'p, S: Simd, const V: usize, const M: usize, P: Iterator<Item = (&'p [f32], &'p [f32])> + Clone>(
    simd: S,
    attention: Attention<'_, P>,
) {
    let Attention { queries, head_dim, pages, seen, to, scores } = attention;
    let whole = seen.len() / M * M;
    let ((queries, last), (seen, last_seen)) = (queries.split_at(whole * head_dim), seen.split_at(whole));
    let (to, last_to) = to.split_at_mut(whole * head_dim);
    for ((queries, seen), to) in
        queries.chunks_exact(M * head_dim).zip(seen.chunks_exact(M)).zip(to.chunks_exact_mut(M * head_dim))
    {
        block::<S, V, M, P>(simd, queries, pages.clone(), seen, to, scores);
    }
    for ((query, seen), to) in
        last.chunks_exact(head_dim).zip(last_seen.chunks_exact(1)).zip(last_to.chunks_exact_mut(head_dim))
    {
        block::<S, V, 1, P>(simd, query, pages.clone(), seen, to, scores);
    }
}

/// `M` queries.
#[inline(always)]
fn block<'p, S: Simd, const V: usize, const M: usize, P: Iterator<Item = (&'p [f32], &'p [f32])> + Clone>(
    simd: S,
    queries: &[f32],
    pages: P,
    seen: &[usize],
    to: &mut [f32],
    scores: &mut Vec<f32>,
) {
    let head_dim = queries.len() / M;
    let most = seen.iter().copied().max().unwrap_or_default();
    let stride = most.next_multiple_of(TOKENS);
    scores.resize(M * stride, 0.0);
    let mut of: [&[f32]; M] = [&[]; M];
    for (of, query) in of.iter_mut().zip(queries.chunks_exact(head_dim)) {
        *of = query;
    }
    let scale = simd.splat_f32s(1.0 / (head_dim as f32).sqrt());
    for (page, (keys, _)) in pages.clone().take(stride / TOKENS).enumerate() {
        let keys = &S::as_simd_f32s(keys).0.as_chunks::<V>().0[..head_dim];
        // Two sums, so that one can be added to while the other is not ready.
        let mut sums = [[[simd.splat_f32s(0.0); V]; M]; 2];
        for pair in 0..head_dim / 2 {
            for (i, sums) in sums.iter_mut().enumerate() {
                multiply_add(simd, &of, 2 * pair + i, &keys[2 * pair + i], sums);
            }
        }
        if !head_dim.is_multiple_of(2) {
            multiply_add(simd, &of, head_dim - 1, &keys[head_dim - 1], &mut sums[0]);
        }
        for (m, scores) in scores.chunks_exact_mut(stride).enumerate() {
            let to = S::as_mut_simd_f32s(&mut scores[page * TOKENS..][..TOKENS]).0;
            for (v, to) in to.iter_mut().enumerate() {
                *to = simd.mul_f32s(simd.add_f32s(sums[0][m][v], sums[1][m][v]), scale);
            }
        }
    }
    for (scores, seen) in scores.chunks_exact_mut(stride).zip(seen) {
        softmax(&mut scores[..*seen]);
        scores[*seen..].fill(0.0);
    }
    to.fill(0.0);
    for (page, (_, values)) in pages.take(stride / TOKENS).enumerate() {
        let there = TOKENS.min(most - page * TOKENS);
        let mut of: [&[f32]; M] = [&[]; M];
        for (of, scores) in of.iter_mut().zip(scores.chunks_exact(stride)) {
            *of = &scores[page * TOKENS..][..there];
        }
        weighted(simd, &of, &values[..there * head_dim], to);
    }
}

#[inline(always)]
fn multiply_add<S: Simd, const V: usize, const M: usize>(
    simd: S,
    queries: &[&[f32]; M],
    at: usize,
    keys: &[S::f32s; V],
    sums: &mut [[S::f32s; V]; M],
) {
    for (query, sums) in queries.iter().zip(sums) {
        let x = simd.splat_f32s(query[at]);
        for (key, sum) in keys.iter().zip(sums) {
            *sum = simd.mul_add_f32s(x, *key, *sum);
        }
    }
}

/// Adds rows of values to each query's, each times its score.
#[inline(always)]
fn weighted<S: Simd, const M: usize>(simd: S, scores: &[&[f32]; M], values: &[f32], to: &mut [f32]) {
    let head_dim = to.len() / M;
    let (many, one) = (VALUES * S::F32_LANES, S::F32_LANES);
    let mut at = 0;
    while at + many <= head_dim {
        columns::<S, M, VALUES>(simd, scores, values, to, at);
        at += many;
    }
    while at + one <= head_dim {
        columns::<S, M, 1>(simd, scores, values, to, at);
        at += one;
    }
    for (to, scores) in to.chunks_exact_mut(head_dim).zip(scores) {
        for (i, to) in to.iter_mut().enumerate().skip(at) {
            for (score, values) in scores.iter().zip(values.chunks_exact(head_dim)) {
                *to += score * values[i];
            }
        }
    }
}

/// `U` vectors of each.
#[inline(always)]
fn columns<S: Simd, const M: usize, const U: usize>(
    simd: S,
    scores: &[&[f32]; M],
    values: &[f32],
    to: &mut [f32],
    at: usize,
) {
    let (head_dim, width) = (to.len() / M, U * S::F32_LANES);
    let mut sums = [[simd.splat_f32s(0.0); U]; M];
    for (sums, to) in sums.iter_mut().zip(to.chunks_exact(head_dim)) {
        *sums = S::as_simd_f32s(&to[at..at + width]).0.as_chunks::<U>().0[0];
    }
    for (token, values) in values.chunks_exact(head_dim).enumerate() {
        let values = S::as_simd_f32s(&values[at..at + width]).0.as_chunks::<U>().0[0];
        for (sums, scores) in sums.iter_mut().zip(scores) {
            let score = simd.splat_f32s(scores[token]);
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum = simd.mul_add_f32s(score, value, *sum);
            }
        }
    }
    for (sums, to) in sums.iter().zip(to.chunks_exact_mut(head_dim)) {
        S::as_mut_simd_f32s(&mut to[at..at + width]).0.copy_from_slice(sums);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::llm::net::pages::{PageShape, Pool};

    fn numbers(len: usize, salt: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7919 + salt * 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    /// Two sequences, some of whose last tokens ask; every count of queries that go together, and head widths that fill vectors and that do not.
    #[test]
    fn equals_the_definition_whoever_shares_the_work() {
        for (queries, kv, dim) in [(6, 2, 64), (3, 3, 24), (4, 1, 5), (7, 1, 16)] {
            let heads = Heads { queries, kv, dim };
            let pool = Pool::new(PageShape { layers: 1, kv_heads: kv, head_dim: dim }, usize::MAX);
            let lens = [37, 90];
            let caches = lens.map(|len| {
                let mut cache = pool.cache();
                assert!(cache.make_room(len));
                cache.extend(len);
                for position in 0..len {
                    let salt = position * 2 + len;
                    cache.write(0, position, &numbers(kv * dim, salt), &numbers(kv * dim, salt + 1));
                }
                cache
            });
            let asks = [(0, 5), (1, 22)];
            let tokens: Vec<(usize, usize)> = asks
                .iter()
                .flat_map(|(sequence, count)| {
                    let len = lens[*sequence];
                    (len - count + 1..=len).map(move |seen| (*sequence, seen))
                })
                .collect();
            // A row has more than the queries.
            let stride = queries * dim + 3;
            let rows = numbers(tokens.len() * stride, 9);
            let run = |threads, tokens: &[(usize, usize)], rows: &[f32]| {
                let mut to = vec![f32::NAN; tokens.len() * queries * dim];
                let team = Team::new(threads).unwrap();
                attend(&team, heads, 0, tokens, |sequence| &caches[sequence], rows, &mut to);
                to
            };
            let got = run(3, &tokens, &rows);
            for (row, (token, got)) in tokens.iter().zip(got.chunks_exact(queries * dim)).enumerate() {
                let row = &rows[row * stride..][..stride];
                assert_eq!(run(2, &[*token], row), got, "alone");
                let (sequence, seen) = *token;
                let past = |position: usize, head: usize, salt: usize| {
                    let all = numbers(kv * dim, position * 2 + lens[sequence] + salt);
                    all[head * dim..][..dim].iter().map(|x| f64::from(*x)).collect::<Vec<_>>()
                };
                for (query, got) in got.chunks_exact(dim).enumerate() {
                    let head = query * kv / queries;
                    let q = &row[query * dim..][..dim];
                    let score = |position| {
                        let key = past(position, head, 0);
                        let dot: f64 = key.iter().zip(q).map(|(k, q)| k * f64::from(*q)).sum();
                        (dot / (dim as f64).sqrt()).exp()
                    };
                    let scores: Vec<f64> = (0..seen).map(score).collect();
                    let total: f64 = scores.iter().sum();
                    for (i, got) in got.iter().enumerate() {
                        let expected: f64 = (0..seen)
                            .map(|position| scores[position] / total * past(position, head, 1)[i])
                            .sum();
                        assert!((f64::from(*got) - expected).abs() < 1e-5, "{got} {expected}");
                    }
                }
            }
        }
    }
}
