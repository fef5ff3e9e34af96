//! The workers as one batch.

use std::sync::Arc;

use air_core::process::Guard;
use serde_json::{Map, Value};

use super::PythonConfig;
use super::layout::{LOST, TERMINATED, TRUNCATED};
use super::restarts::{Restarts, WINDOW};
use super::told::Spaces;
use super::worker::{Lost, Starting, Worker};
use crate::env::space::Space;
use crate::env::vec_env::{Actions, Batch, VecEnv, expect_len};
use crate::error::{Result, RlError};
use crate::play::sampler::shares;

/// Environments in Python.
///
/// A worker that ends or does not answer is replaced; each of its episodes counts as truncated where it stood: no reward, and for its final
/// observation the one that was acted on. So does the episode of one environment that raises an exception; the others go on.
pub(super) struct PythonEnvs {
    name: String,
    kwargs: Map<String, Value>,
    config: PythonConfig,
    guard: Arc<Guard>,
    spaces: Spaces,
    slots: Vec<Slot>,
    batch: Batch,
    /// The observations acted on, `[envs, obs_len]`.
    before: Vec<f32>,
    seeds: Vec<u64>,
    steps: u64,
    /// Workers lost so far, which tells their episodes' seeds apart.
    lives: u64,
    restarts: Restarts,
}

/// A worker and the environments it has.
struct Slot {
    worker: Worker,
    first: usize,
    envs: usize,
}

impl PythonEnvs {
    pub(super) fn start(
        name: &str,
        kwargs: &Map<String, Value>,
        config: &PythonConfig,
        envs: usize,
    ) -> Result<Self> {
        if envs == 0 {
            return Err(RlError::Shape { what: "list of environments", got: 0, expected: 1 });
        }
        let failed = |why: String| RlError::Python { env: name.into(), why };
        let guard = Guard::start().map_err(|e| failed(format!("no process can be started: {e}")))?;
        let shares = shares(envs, config.workers.min(envs));
        // All are started before any is awaited.
        let starting = shares.iter().map(|&(_, n)| Starting::spawn(&guard, config, name, kwargs, Some(n)));
        let starting = starting.collect::<Result<Vec<_>, _>>().map_err(|lost| failed(lost.to_string()))?;
        let mut found: Option<Spaces> = None;
        let mut slots = Vec::with_capacity(shares.len());
        for (starting, (first, envs)) in starting.into_iter().zip(shares) {
            let (worker, spaces) =
                starting.ready::<Spaces>(config).map_err(|lost| failed(lost.to_string()))?;
            if *found.get_or_insert_with(|| spaces.clone()) != spaces {
                return Err(failed("its spaces are not always the same".into()));
            }
            slots.push(Slot { worker, first, envs });
        }
        let spaces = found.ok_or_else(|| failed("it has no worker".into()))?;
        let mut batch = Batch::new(envs, spaces.observation_space.row_len());
        if spaces.masked {
            batch = batch.masked(spaces.action_space.choices());
        }
        Ok(Self {
            name: name.into(),
            kwargs: kwargs.clone(),
            config: config.clone(),
            guard,
            spaces,
            slots,
            before: batch.obs.clone(),
            batch,
            seeds: vec![0; envs],
            steps: 0,
            lives: 0,
            restarts: Restarts::new(config.losses, WINDOW),
        })
    }

    /// Asks all workers by `ask`, then awaits all of them; those that are lost are replaced.
    fn all(&mut self, mut ask: impl FnMut(&mut Slot) -> Result<(), Lost>) -> Result<()> {
        let asked: Vec<_> = self.slots.iter_mut().map(&mut ask).collect();
        let answers: Vec<_> = self
            .slots
            .iter_mut()
            .zip(asked)
            .map(|(slot, asked)| asked.and_then(|()| slot.worker.wait()))
            .collect();
        for (at, answer) in answers.into_iter().enumerate() {
            let taken = answer.and_then(|failures| {
                self.take(at)?;
                Ok(failures)
            });
            match taken {
                Ok(failures) => {
                    for said in failures {
                        self.lost("an environment failed and is replaced", &said)?;
                    }
                }
                Err(lost) => self.replace(at, lost)?,
            }
        }
        Ok(())
    }

    /// Copies what a worker brought into the batch.
    fn take(&mut self, at: usize) -> Result<(), Lost> {
        let Slot { worker, first, envs } = &mut self.slots[at];
        let (rows, d, m) = (*first..*first + *envs, self.batch.obs_len(), self.spaces.mask_len());
        let items = rows.start * d..rows.end * d;
        let flags = worker.flags();
        if flags.iter().any(|&flag| flag != 0) {
            let ends = flags.iter().any(|&flag| flag & (TERMINATED | TRUNCATED) != 0 && flag & LOST == 0);
            if ends {
                worker.finals(&mut self.batch.final_obs[items.clone()])?;
            }
        }
        worker.observations(&mut self.batch.obs[items]);
        for (i, (reward, &flag)) in rows.clone().zip(worker.rewards().zip(worker.flags())) {
            self.batch.reward[i] = reward;
            self.batch.terminated[i] = flag & TERMINATED != 0;
            self.batch.truncated[i] = flag & TRUNCATED != 0;
            if flag & LOST != 0 {
                let row = i * d..(i + 1) * d;
                self.batch.final_obs[row.clone()].copy_from_slice(&self.before[row]);
            }
        }
        if m > 0 {
            for (to, &from) in self.batch.mask[rows.start * m..rows.end * m].iter_mut().zip(worker.masks()) {
                *to = from != 0;
            }
        }
        Ok(())
    }

    /// Books a loss, which may be one too many.
    fn lost(&mut self, what: &str, why: &str) -> Result<()> {
        self.restarts.book(&self.name, self.steps, what, why)
    }

    /// A new worker for one that is lost; its environments begin anew.
    fn replace(&mut self, at: usize, mut lost: Lost) -> Result<()> {
        let (first, envs) = (self.slots[at].first, self.slots[at].envs);
        loop {
            self.lost("a worker is lost and replaced", &lost.to_string())?;
            self.lives += 1;
            match self.another(first, envs) {
                Ok(worker) => self.slots[at].worker = worker,
                Err(again) => {
                    lost = again;
                    continue;
                }
            }
            if let Err(again) = self.take(at) {
                lost = again;
                continue;
            }
            break;
        }
        let rows = first..first + envs;
        let items = rows.start * self.batch.obs_len()..rows.end * self.batch.obs_len();
        self.batch.reward[rows.clone()].fill(0.0);
        self.batch.terminated[rows.clone()].fill(false);
        self.batch.truncated[rows].fill(true);
        self.batch.final_obs[items.clone()].copy_from_slice(&self.before[items]);
        Ok(())
    }

    /// A worker whose environments have been reset.
    fn another(&self, first: usize, envs: usize) -> Result<Worker, Lost> {
        let starting = Starting::spawn(&self.guard, &self.config, &self.name, &self.kwargs, Some(envs))?;
        let (mut worker, spaces) = starting.ready::<Spaces>(&self.config)?;
        if spaces != self.spaces {
            return Err(Lost::Said("its spaces are not always the same".into()));
        }
        // Other episodes than those that were lost, which might be lost again in the same place.
        let apart = self.lives << 48;
        let seeds: Vec<u64> =
            self.seeds[first..first + envs].iter().map(|seed| seed.wrapping_add(apart)).collect();
        worker.reset(&seeds)?;
        worker.wait()?;
        Ok(worker)
    }
}

impl VecEnv for PythonEnvs {
    fn num_envs(&self) -> usize {
        self.batch.reward.len()
    }

    fn observation_space(&self) -> &Space {
        &self.spaces.observation_space
    }

    fn action_space(&self) -> &Space {
        &self.spaces.action_space
    }

    fn reset(&mut self, seeds: &[u64]) -> Result<()> {
        expect_len("seeds", seeds.len(), self.num_envs())?;
        self.seeds.copy_from_slice(seeds);
        self.all(|slot| slot.worker.reset(&seeds[slot.first..slot.first + slot.envs]))?;
        self.batch.reward.fill(0.0);
        self.batch.terminated.fill(false);
        self.batch.truncated.fill(false);
        Ok(())
    }

    fn step(&mut self, actions: Actions<'_>) -> Result<()> {
        actions.check(&self.spaces.action_space, self.num_envs())?;
        self.before.copy_from_slice(&self.batch.obs);
        self.steps += 1;
        let k = self.spaces.action_space.row_len();
        let mut bytes = Vec::new();
        self.all(|slot| {
            let rows = slot.first * k..(slot.first + slot.envs) * k;
            bytes.clear();
            match actions {
                Actions::Discrete(choices) | Actions::MultiDiscrete(choices) => {
                    bytes.extend(choices[rows].iter().flat_map(|choice| choice.to_ne_bytes()));
                }
                Actions::Continuous(reals) => bytes.extend(reals[rows].iter().flat_map(|x| x.to_ne_bytes())),
            }
            slot.worker.step(&bytes)
        })
    }

    fn batch(&self) -> &Batch {
        &self.batch
    }
}
