//! From logits to the next token: a pure type. What it draws depends on its settings, the seed and the number of the token alone, so that a text
//! can be had again whatever else runs.

use std::collections::{HashMap, HashSet};

use air_core::seed::Seed;

/// How the next token is chosen.
#[derive(Clone, Debug)]
pub(crate) struct Sampling {
    /// 0 takes the likeliest.
    pub temperature: f32,
    /// The likeliest tokens that together have this probability.
    pub top_p: f32,
    /// The likeliest tokens; 0 is all.
    pub top_k: usize,
    /// Taken from the logits of tokens that the text has.
    pub presence_penalty: f32,
    /// Taken as often as the text has them.
    pub frequency_penalty: f32,
    /// What logits of tokens that text or prompt have are divided by, or times which if they are negative (Keskar et al., 2019).
    pub repetition_penalty: f32,
    /// Added to the logits of tokens.
    pub logit_bias: Vec<(u32, f32)>,
    pub seed: Seed,
}

/// Which tokens a text has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    prompt: HashSet<u32>,
    text: HashMap<u32, u32>,
    len: u64,
}

impl Seen {
    pub(crate) fn new(prompt: &[u32]) -> Self {
        Seen { prompt: prompt.iter().copied().collect(), ..Seen::default() }
    }

    pub(crate) fn push(&mut self, id: u32) {
        *self.text.entry(id).or_default() += 1;
        self.len += 1;
    }
}

/// A token and how likely it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LogProb {
    pub id: u32,
    pub logprob: f32,
}

/// The logarithms of probabilities, of these logits as they are.
pub(crate) struct LogProbs<'a> {
    logits: &'a [f32],
    log_sum: f64,
}

impl<'a> LogProbs<'a> {
    pub(crate) fn new(logits: &'a [f32]) -> Self {
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|logit| f64::from(logit - most).exp()).sum();
        LogProbs { logits, log_sum: f64::from(most) + sum.ln() }
    }

    pub(crate) fn of(&self, id: u32) -> LogProb {
        LogProb { id, logprob: (f64::from(self.logits[id as usize]) - self.log_sum) as f32 }
    }

    /// The likeliest, the likelier before; of those equally likely the lower id.
    pub(crate) fn top(&self, count: usize) -> Vec<LogProb> {
        likeliest(self.logits, count).into_iter().map(|id| self.of(id)).collect()
    }
}

fn likeliest(logits: &[f32], count: usize) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    let order = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if count < ids.len() {
        ids.select_nth_unstable_by(count, order);
        ids.truncate(count);
    }
    ids.sort_unstable_by(order);
    ids
}

impl Sampling {
    /// Chooses the next token; the logits are changed on the way.
    pub(crate) fn choose(&self, logits: &mut [f32], seen: &Seen) -> u32 {
        self.penalise(logits, seen);
        if self.temperature == 0.0 {
            return greedy(logits);
        }
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |id: u32| (f64::from(logits[id as usize] - most) / f64::from(self.temperature)).exp();
        let drawn = unit(self.seed.child("token", seen.len));
        if self.top_k == 0 && self.top_p >= 1.0 {
            return draw((0..logits.len() as u32).map(|id| (id, weight(id))), drawn)
                .unwrap_or_else(|| greedy(logits));
        }
        // Most often few tokens have nearly all of the probability: more are put in order only where it takes more.
        let limit = if self.top_k == 0 { logits.len() } else { self.top_k.min(logits.len()) };
        let mut count = limit.min(64);
        loop {
            let ids = likeliest(logits, count);
            // Of the probability of those that `top_k` leaves.
            let all = if self.top_k == 0 {
                (0..logits.len() as u32).map(weight).sum::<f64>()
            } else if count == limit {
                ids.iter().map(|id| weight(*id)).sum()
            } else {
                f64::INFINITY
            };
            let mut sum = 0.0;
            let enough = ids.iter().position(|id| {
                sum += weight(*id);
                sum >= f64::from(self.top_p) * all
            });
            if let Some(last) = enough.or((count == limit).then_some(limit - 1)) {
                let kept = ids[..=last].iter().map(|id| (*id, weight(*id)));
                return draw(kept, drawn).unwrap_or_else(|| greedy(logits));
            }
            count = limit.min(count * 8);
        }
    }

    fn penalise(&self, logits: &mut [f32], seen: &Seen) {
        for (id, bias) in &self.logit_bias {
            logits[*id as usize] += bias;
        }
        if self.repetition_penalty != 1.0 {
            let prompt = seen.prompt.iter();
            for id in prompt.chain(seen.text.keys().filter(|id| !seen.prompt.contains(id))) {
                let logit = &mut logits[*id as usize];
                *logit = if *logit > 0.0 {
                    *logit / self.repetition_penalty
                } else {
                    *logit * self.repetition_penalty
                };
            }
        }
        if self.presence_penalty != 0.0 || self.frequency_penalty != 0.0 {
            for (id, count) in &seen.text {
                logits[*id as usize] -= self.presence_penalty + self.frequency_penalty * *count as f32;
            }
        }
    }
}

/// The likeliest; of those equally likely the lowest id.
fn greedy(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

/// A number from 0 up to 1.
fn unit(seed: Seed) -> f64 {
    (seed.value() >> 11) as f64 / (1_u64 << 53) as f64
}

/// The one at this share of the weights; none where they are no numbers.
fn draw(weights: impl Iterator<Item = (u32, f64)> + Clone, share: f64) -> Option<u32> {
    let mut left = share * weights.clone().map(|(_, weight)| weight).sum::<f64>();
    let mut last = None;
    for (id, weight) in weights.filter(|(_, weight)| *weight > 0.0) {
        last = Some(id);
        left -= weight;
        if left < 0.0 {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(temperature: f32, top_p: f32, top_k: usize, seed: u64) -> Sampling {
        Sampling {
            temperature,
            top_p,
            top_k,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            logit_bias: Vec::new(),
            seed: Seed::new(seed),
        }
    }

    /// How often each of these tokens is drawn in 20 000 draws.
    fn shares(logits: &[f32], temperature: f32, top_p: f32, top_k: usize) -> Vec<f64> {
        let mut counts = vec![0.0; logits.len()];
        for seed in 0..20_000 {
            let id = sampling(temperature, top_p, top_k, seed).choose(&mut logits.to_vec(), &Seen::default());
            counts[id as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn close(shares: &[f64], expected: &[f64]) {
        for (share, expected) in shares.iter().zip(expected) {
            // Five deviations of the share of so many draws, at its largest.
            assert!((share - expected).abs() < 0.018, "{shares:?} {expected}");
        }
    }

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_likely() {
        let logits = [0.1_f32, 0.2, 0.4, 0.3].map(f32::ln);
        close(&shares(&logits, 1.0, 1.0, 0), &[0.1, 0.2, 0.4, 0.3]);
        let squares = [0.01, 0.04, 0.16, 0.09].map(|square| square / 0.3);
        close(&shares(&logits, 0.5, 1.0, 0), &squares);
        close(&shares(&logits, 1.0, 1.0, 2), &[0.0, 0.0, 4.0 / 7.0, 3.0 / 7.0]);
        close(&shares(&logits, 1.0, 0.65, 0), &[0.0, 0.0, 4.0 / 7.0, 3.0 / 7.0]);
        close(&shares(&logits, 1.0, 0.75, 0), &[0.0, 2.0 / 9.0, 4.0 / 9.0, 3.0 / 9.0]);
        // Of the three that `top_k` leaves, 0.4 and 0.3 are 7/9.
        close(&shares(&logits, 1.0, 0.77, 3), &[0.0, 0.0, 4.0 / 7.0, 3.0 / 7.0]);
        assert_eq!(shares(&logits, 0.0, 1.0, 0), shares(&logits, 1.0, 1.0, 1));
    }

    #[test]
    fn a_wide_nucleus_is_found_among_many_tokens() {
        // All equally likely: half of the probability is half of the tokens, those with the lower ids.
        let logits = vec![0.0; 1000];
        for seed in 0..200 {
            let id = sampling(1.0, 0.5, 0, seed).choose(&mut logits.clone(), &Seen::default());
            assert!(id < 501, "{id}");
        }
    }

    #[test]
    fn one_seed_gives_one_token_and_another_place_another_draw() {
        let logits = vec![0.0; 5000];
        let mut seen = Seen::default();
        let first = sampling(1.0, 1.0, 0, 7).choose(&mut logits.clone(), &seen);
        assert_eq!(sampling(1.0, 1.0, 0, 7).choose(&mut logits.clone(), &seen), first);
        assert_ne!(sampling(1.0, 1.0, 0, 8).choose(&mut logits.clone(), &seen), first);
        seen.push(first);
        assert_ne!(sampling(1.0, 1.0, 0, 7).choose(&mut logits.clone(), &seen), first);
    }

    #[test]
    fn penalties_and_biases_change_logits_as_documented() {
        let mut seen = Seen::new(&[0]);
        for id in [1, 1, 2] {
            seen.push(id);
        }
        let mut how = sampling(0.0, 1.0, 0, 0);
        (how.presence_penalty, how.frequency_penalty) = (0.5, 0.25);
        (how.repetition_penalty, how.logit_bias) = (2.0, vec![(3, 1.5)]);
        let mut logits = [4.0, -1.0, 2.0, 1.0];
        assert_eq!(how.choose(&mut logits, &seen), 3);
        assert_eq!(logits, [2.0, -3.0, 0.25, 2.5]);
    }

    #[test]
    fn log_probabilities_are_those_of_the_softmax_and_in_order() {
        let logits = [1.0, 3.0, 2.0, 3.0];
        let all = LogProbs::new(&logits);
        let sum: f32 = (0..4).map(|id| all.of(id).logprob.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6);
        let top: Vec<u32> = all.top(3).into_iter().map(|one| one.id).collect();
        assert_eq!(top, [1, 3, 2]);
        assert_eq!(all.top(9).len(), 4);
    }
}
