//! Who plays: the runners of one algorithm, and the rollout they fill together.

use air_core::seed::Seed;

use crate::envs::EnvSpec;
use crate::error::Result;
use crate::play::actor::Actor;
use crate::play::async_workers::AsyncWorkers;
use crate::play::rollout::Rollout;
use crate::play::runner::EnvRunner;
use crate::play::task::Task;
use crate::play::workers::Workers;

/// Divides `envs` environments among `runners`: (first, count) of each, sizes differing by at most one.
pub(crate) fn shares(envs: usize, runners: usize) -> Vec<(usize, usize)> {
    let first = |r: usize| r * envs / runners;
    (0..runners).map(|r| (first(r), first(r + 1) - first(r))).collect()
}

/// Runs every runner on the calling thread, one after another.
pub(crate) struct Inline {
    runners: Vec<EnvRunner>,
    /// A rollout for each runner; none where one runner fills the whole.
    parts: Vec<Rollout>,
    whole: Rollout,
}

impl Inline {
    pub(crate) fn new(spec: &EnvSpec, task: &Task, shape: Sampling, seed: Seed, epoch: u64) -> Result<Self> {
        let shares = shares(shape.envs, shape.runners);
        let parts = if shape.runners == 1 { &[][..] } else { &shares[..] };
        Ok(Self {
            runners: shares
                .iter()
                .map(|&(first, envs)| EnvRunner::new(spec, first, envs, seed, epoch))
                .collect::<Result<_>>()?,
            parts: parts.iter().map(|&(_, envs)| Rollout::new(envs, shape.steps, task)).collect(),
            whole: Rollout::new(shape.envs, shape.steps, task),
        })
    }

    pub(crate) fn collect(&mut self, actor: &Actor, iteration: u64) -> Result<&mut Rollout> {
        if let [runner] = &mut self.runners[..] {
            runner.collect(actor, iteration, &mut self.whole)?;
            self.whole.version = iteration;
            return Ok(&mut self.whole);
        }
        self.whole.clear();
        self.whole.version = iteration;
        for (runner, part) in self.runners.iter_mut().zip(&mut self.parts) {
            runner.collect(actor, iteration, part)?;
            self.whole.join(runner.first_env(), part);
        }
        self.whole.order_episodes();
        Ok(&mut self.whole)
    }
}

/// The runners, wherever they run.
pub(crate) enum Sampler {
    Inline(Inline),
    Workers(Workers),
    Async(AsyncWorkers),
}

impl Sampler {
    /// Runners with environments of their own; `epoch` tells those of a resumed run from those it had before. With
    /// `asynchronous`, runners on threads play on while the learner learns, and a rollout is what one of them has played.
    pub(crate) fn new(
        spec: &EnvSpec,
        task: &Task,
        shape: Sampling,
        seed: Seed,
        epoch: u64,
        actor: &Actor,
        asynchronous: bool,
    ) -> Result<Self> {
        Ok(if shape.parallel && asynchronous {
            Self::Async(AsyncWorkers::new(spec, task, shape, seed, epoch, actor)?)
        } else if shape.parallel {
            Self::Workers(Workers::new(spec, task, shape, seed, epoch, actor)?)
        } else {
            Self::Inline(Inline::new(spec, task, shape, seed, epoch)?)
        })
    }

    /// Plays one rollout with `actor`; its random numbers follow from the iteration. One that was played on meanwhile is of an
    /// older actor, see [`Rollout::version`].
    pub(crate) fn collect(&mut self, actor: &Actor, iteration: u64) -> Result<&mut Rollout> {
        match self {
            Self::Inline(runners) => runners.collect(actor, iteration),
            Self::Workers(runners) => runners.collect(actor, iteration),
            Self::Async(runners) => runners.collect(actor, iteration),
        }
    }
}

/// Who plays how much in one iteration.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// Environments, over all runners.
    pub envs: usize,
    /// Steps of each.
    pub steps: usize,
    /// Runners the environments are divided among.
    pub runners: usize,
    /// Each runner on a thread of its own.
    pub parallel: bool,
}
