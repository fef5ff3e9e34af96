//! What plays: a network, and how a row of its outputs becomes an action.

use air_train::nn::{Gru, GruScratch, Mlp, Module as _, Scratch};
use rand::RngExt as _;
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

use crate::env::actions::ActionRows;
use crate::env::space::Space;
use crate::env::vec_env::Actions;
use crate::env::{Action, OwnedAction};
use crate::error::{Result, RlError};
use crate::learn::normalize::Normalizer;
use crate::learn::values::ValueHead;
use crate::learn::{categorical, gaussian};

/// What a row of outputs means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// Logits of a distribution over the choices of each decision, one after another.
    Categorical,
    /// Means of independent normal distributions; what is drawn is clipped to the bounds of the action space.
    Gaussian {
        /// Log standard deviations, the same for every observation.
        log_std: Vec<f32>,
    },
    /// Values of the choices of one decision.
    Values(ValueHead),
    /// Means, then log standard deviations, of normal distributions whose draws a tanh brings into the bounds.
    Squashed,
    /// Actions within ±1 of the middle of the bounds, in half widths.
    Bounded,
}

/// How an actor departs from the best action it knows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Explore {
    /// Not at all.
    Never,
    /// Draws from the head's own distribution.
    Draw,
    /// Takes any choice with this probability, the best one otherwise.
    Epsilon(f32),
    /// Adds normal noise of this deviation, in half widths of the bounds.
    Noise(f32),
    /// Takes anything: what fills a buffer before learning begins.
    Uniform,
}

/// Log standard deviations of a [`Head::Squashed`] are held in this range, as in the authors' code.
pub(crate) const LOG_STD: (f32, f32) = (-20.0, 2.0);

/// A network, its head, and the ways it explores.
#[derive(Clone, Debug)]
pub struct Actor {
    /// What observations pass before `net`, if the policy remembers: observation and state → state, which `net` sees.
    pub memory: Option<Gru>,
    /// Observation, or state of the memory → a row that the head reads.
    pub net: Mlp,
    /// How it is read.
    pub head: Head,
    /// How it explores.
    pub explore: Explore,
    /// What observations pass before the network sees them.
    pub normalizer: Option<Normalizer>,
    pub(crate) space: Space,
}

/// Working memory of [`Actor::act`]: the actions of the last call, and the way to them.
#[derive(Debug)]
pub struct Acted {
    /// What the policy took, `[rows]`; of a box not yet clipped or scaled, which is what a learner wants.
    pub taken: ActionRows,
    /// What to step environments with, of a box, `[rows, row_len]`.
    played: Vec<f32>,
    /// Log-probability or log-density of what was taken, `[rows]`; 0 where it was not drawn from a distribution.
    pub log_prob: Vec<f32>,
    /// What the memory holds of each row, `[rows, units]`; empty without one, and before the first action.
    pub(crate) state: Vec<f32>,
    row: Vec<f32>,
    normalized: Vec<f32>,
    scratch: Scratch,
    gru: GruScratch,
}

impl Acted {
    /// For `rows` observations at a time.
    pub fn new(space: &Space, rows: usize) -> Self {
        let taken = ActionRows::new(space, rows);
        Self {
            played: taken.reals.clone(),
            row: vec![0.0; space.choices().max(space.row_len())],
            taken,
            log_prob: vec![0.0; rows],
            state: Vec::new(),
            normalized: Vec::new(),
            scratch: Scratch::default(),
            gru: GruScratch::default(),
        }
    }

    /// Room for what `actor` remembers.
    pub(crate) fn prepare(&mut self, actor: &Actor) {
        let units = actor.memory.as_ref().map_or(0, Gru::units);
        self.state.resize(self.log_prob.len() * units, 0.0);
    }

    /// Forgets what the memory holds of one row: its episode is over.
    #[inline]
    pub(crate) fn forget(&mut self, row: usize) {
        let units = self.state.len() / self.log_prob.len();
        self.state[row * units..(row + 1) * units].fill(0.0);
    }

    /// The action to take in environment `row`.
    pub fn action(&self, row: usize) -> OwnedAction {
        match self.taken.to_owned(row) {
            OwnedAction::Continuous(x) => {
                OwnedAction::Continuous(self.played[row * x.len()..(row + 1) * x.len()].to_vec())
            }
            choices => choices,
        }
    }

    /// The action to take in environment `row`, where it lies.
    pub(crate) fn borrowed(&self, row: usize) -> Action<'_> {
        match self.taken.get(row) {
            Action::Continuous(x) => Action::Continuous(&self.played[row * x.len()..(row + 1) * x.len()]),
            choices => choices,
        }
    }

    /// The actions, to step environments with.
    pub fn actions(&self) -> Actions<'_> {
        match self.taken.actions() {
            Actions::Continuous(_) => Actions::Continuous(&self.played),
            choices => choices,
        }
    }
}

impl Actor {
    /// Reads `net` by `head`, for actions of `space`.
    pub fn new(net: Mlp, head: Head, space: Space, explore: Explore) -> Result<Self> {
        let expected = head.outputs(&space);
        if net.outputs() != expected {
            return Err(RlError::Shape { what: "row of the policy's network", got: net.outputs(), expected });
        }
        let fits = match &head {
            Head::Categorical => space.choices() > 0,
            Head::Values(_) => matches!(space, Space::Discrete { .. }),
            Head::Gaussian { log_std } => log_std.len() == expected && space.choices() == 0,
            Head::Squashed | Head::Bounded => space.choices() == 0,
        };
        if !fits {
            let why = format!("cannot be acted in by the head {head:?}");
            return Err(RlError::Space { what: "action space", space: space.to_string(), why });
        }
        Ok(Self { memory: None, net, head, explore, normalizer: None, space })
    }

    /// The actions it takes.
    pub fn action_space(&self) -> &Space {
        &self.space
    }

    /// What a step of learning needs at once: the network, the head and the actions.
    pub(crate) fn parts(&mut self) -> (&mut Mlp, &mut Head, &Space) {
        (&mut self.net, &mut self.head, &self.space)
    }

    /// The same without exploring.
    pub fn greedy(&self) -> Self {
        Self { explore: Explore::Never, ..self.clone() }
    }

    /// Takes over weights and everything else that learning changes, in place.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.net.params_mut().copy_from_slice(other.net.params());
        if let (Some(to), Some(from)) = (&mut self.memory, &other.memory) {
            to.params_mut().copy_from_slice(from.params());
        }
        self.explore = other.explore;
        match (&mut self.head, &other.head) {
            (Head::Gaussian { log_std: to }, Head::Gaussian { log_std: from }) => to.clone_from(from),
            (to, from) if to != from => *to = from.clone(),
            _ => {}
        }
        self.normalizer.clone_from(&other.normalizer);
    }

    /// An action for each row of `obs[rows, inputs]`, within `mask[rows, choices]` if that is not empty, into `acted`.
    /// Row i draws from the i-th of `draws`; who never explores needs none. A memory goes on from where the last call with
    /// `acted` left it.
    pub fn act(&self, obs: &[f32], mask: &[bool], draws: &mut [Pcg64], acted: &mut Acted) -> Result<()> {
        let rows = acted.log_prob.len();
        acted.prepare(self);
        let Acted { taken, played, log_prob, state, row, normalized, scratch, gru } = acted;
        let obs = match &self.normalizer {
            Some(normalizer) => {
                normalized.clear();
                normalized.extend_from_slice(obs);
                normalizer.apply(normalized);
                normalized
            }
            None => obs,
        };
        if self.explore == Explore::Uniform {
            for (i, draw) in draws.iter_mut().enumerate() {
                self.uniform(i, masked(mask, i, row.len()), draw, taken, played);
            }
            return Ok(());
        }
        let seen = match &self.memory {
            Some(memory) => {
                memory.step(obs, state, gru).map_err(|e| RlError::Network(e.into()))?;
                state
            }
            None => obs,
        };
        let outputs = self.net.infer(seen, rows, scratch).map_err(|e| RlError::Network(e.into()))?;
        let width = self.net.outputs();
        let outputs = outputs.chunks_exact(width).enumerate();
        match &self.head {
            Head::Categorical if self.explore == Explore::Draw => {
                let groups = self.space.groups();
                for (((i, logits), draw), log_prob) in outputs.zip(draws).zip(log_prob) {
                    let (mut at, mask) = (0, masked(mask, i, width));
                    *log_prob = 0.0;
                    for (&n, choice) in groups.iter().zip(&mut taken.choices[i * groups.len()..]) {
                        let group = at..at + n as usize;
                        let log_probs = &mut row[..n as usize];
                        let mask = if mask.is_empty() { mask } else { &mask[group.clone()] };
                        at = group.end;
                        categorical::masked_log_softmax(&logits[group], mask, log_probs);
                        let action = categorical::sample(log_probs, draw.random::<f32>());
                        *choice = action as u32;
                        *log_prob += log_probs[action];
                    }
                }
            }
            Head::Categorical => {
                let groups = self.space.groups();
                for (i, logits) in outputs {
                    let (mut at, mask) = (0, masked(mask, i, width));
                    for (&n, choice) in groups.iter().zip(&mut taken.choices[i * groups.len()..]) {
                        let group = at..at + n as usize;
                        let mask = if mask.is_empty() { mask } else { &mask[group.clone()] };
                        at = group.end;
                        *choice = categorical::masked_mode(&logits[group], mask) as u32;
                    }
                }
            }
            Head::Values(head) => {
                for (i, outputs) in outputs {
                    let mask = masked(mask, i, row.len());
                    let epsilon = if let Explore::Epsilon(epsilon) = self.explore { epsilon } else { 0.0 };
                    if epsilon > 0.0 && draws[i].random::<f32>() < epsilon {
                        self.uniform(i, mask, &mut draws[i], taken, played);
                    } else {
                        head.values(outputs, row);
                        taken.choices[i] = categorical::masked_mode(row, mask) as u32;
                    }
                }
            }
            Head::Gaussian { log_std } => {
                let Space::Box { low, high, .. } = &self.space else { return Ok(()) };
                for (i, mean) in outputs {
                    let x = &mut taken.reals[i * width..(i + 1) * width];
                    x.copy_from_slice(mean);
                    if self.explore == Explore::Draw {
                        gaussian::fill(&mut draws[i], row);
                        for ((x, log_std), noise) in x.iter_mut().zip(log_std).zip(&*row) {
                            *x += log_std.exp() * noise;
                        }
                        log_prob[i] = gaussian::log_prob(x, mean, log_std);
                    }
                    let played = &mut played[i * width..(i + 1) * width];
                    for (((played, x), &low), &high) in played.iter_mut().zip(x).zip(low).zip(high) {
                        *played = x.clamp(low, high);
                    }
                }
            }
            Head::Squashed | Head::Bounded => {
                let d = self.space.row_len();
                for (i, outputs) in outputs {
                    let (mean, log_std) = outputs.split_at(d);
                    let x = &mut taken.reals[i * d..(i + 1) * d];
                    x.copy_from_slice(mean);
                    if self.explore != Explore::Never {
                        gaussian::fill(&mut draws[i], row);
                    }
                    match self.explore {
                        Explore::Draw => {
                            for ((x, log_std), noise) in x.iter_mut().zip(log_std).zip(&*row) {
                                *x += log_std.clamp(LOG_STD.0, LOG_STD.1).exp() * noise;
                            }
                        }
                        Explore::Noise(deviation) => {
                            for (x, noise) in x.iter_mut().zip(&*row) {
                                *x = (*x + deviation * noise).clamp(-1.0, 1.0);
                            }
                        }
                        _ => {}
                    }
                    if self.head == Head::Squashed {
                        for x in &mut *x {
                            *x = x.tanh();
                        }
                    }
                    self.scale(x, &mut played[i * d..(i + 1) * d]);
                }
            }
        }
        Ok(())
    }

    /// Any action; of a box any within its bounds, which must be finite.
    fn uniform(&self, i: usize, mask: &[bool], draw: &mut Pcg64, taken: &mut ActionRows, played: &mut [f32]) {
        let groups = self.space.groups();
        let mut at = 0;
        for (&n, choice) in groups.iter().zip(&mut taken.choices[i * groups.len()..]) {
            let mask = if mask.is_empty() { mask } else { &mask[at..at + n as usize] };
            at += n as usize;
            let allowed = if mask.is_empty() { n } else { mask.iter().filter(|m| **m).count() as u32 };
            let mut left = draw.random_range(0..allowed.max(1));
            *choice = if mask.is_empty() { left } else { 0 };
            for (action, _) in mask.iter().enumerate().filter(|(_, allowed)| **allowed) {
                if left == 0 {
                    *choice = action as u32;
                    break;
                }
                left -= 1;
            }
        }
        if groups.is_empty() {
            let d = self.space.row_len();
            let x = &mut taken.reals[i * d..(i + 1) * d];
            for x in &mut *x {
                *x = 2.0 * draw.random::<f32>() - 1.0;
            }
            self.scale(x, &mut played[i * d..(i + 1) * d]);
        }
    }

    /// From half widths to the bounds; clamped, for rounding may pass them.
    fn scale(&self, x: &[f32], played: &mut [f32]) {
        let Space::Box { low, high, .. } = &self.space else { return };
        for (((played, x), &low), &high) in played.iter_mut().zip(x).zip(low).zip(high) {
            *played = (low + 0.5 * (x + 1.0) * (high - low)).clamp(low, high);
        }
    }
}

impl Head {
    /// Of a policy that draws its actions: normal distributions of these log deviations for reals, logits for choices.
    pub(crate) fn drawn(space: &Space, log_std: f32) -> Self {
        match space {
            Space::Box { low, .. } => Self::Gaussian { log_std: vec![log_std; low.len()] },
            Space::Discrete { .. } | Space::MultiDiscrete { .. } => Self::Categorical,
        }
    }

    /// Outputs a network must have for actions of `space`.
    pub fn outputs(&self, space: &Space) -> usize {
        match self {
            Self::Categorical => space.choices(),
            Self::Gaussian { .. } | Self::Bounded => space.row_len(),
            Self::Values(head) => head.outputs(space.choices()),
            Self::Squashed => 2 * space.row_len(),
        }
    }
}

/// Row i of masks of `width` items; an empty one allows all.
#[inline]
fn masked(mask: &[bool], i: usize, width: usize) -> &[bool] {
    if mask.is_empty() { mask } else { &mask[i * width..(i + 1) * width] }
}
