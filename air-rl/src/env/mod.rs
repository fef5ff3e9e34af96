//! One environment, and what is around it.
//!
//! | file | idea |
//! |---|---|
//! | `mod.rs`, `space.rs` | the contract, and what observations and actions may be |
//! | `vec_env.rs`, `actions.rs` | many as one; actions in rows |
//! | `multi_env.rs` | environments of several agents |
//! | `check.rs`, `time_limit.rs`, `wrap/` | what is wrong with one; what may be put around one |
//! | `rng.rs` | NumPy's random streams |
//! | `python/` | environments in Python, in worker processes |

pub(crate) mod actions;
pub(crate) mod check;
pub(crate) mod multi_env;
pub(crate) mod python;
pub mod rng;
pub(crate) mod space;
pub(crate) mod time_limit;
pub(crate) mod vec_env;
pub mod wrap;

use air_core::BoxError;
use serde::{Deserialize, Serialize};

use crate::env::space::Space;
use crate::env::vec_env::Actions;
use crate::error::RlError;

/// An action, borrowed from the batch it comes in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action<'a> {
    /// A choice of a [`Space::Discrete`].
    Discrete(u32),
    /// The choices of a [`Space::MultiDiscrete`].
    MultiDiscrete(&'a [u32]),
    /// A row of a [`Space::Box`].
    Continuous(&'a [f32]),
}

/// An action that owns its row; what a [`Policy`](crate::Policy) answers. In JSON a number or an array of numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OwnedAction {
    /// See [`Action::Discrete`].
    Discrete(u32),
    /// See [`Action::MultiDiscrete`].
    MultiDiscrete(Vec<u32>),
    /// See [`Action::Continuous`].
    Continuous(Vec<f32>),
}

impl OwnedAction {
    /// Borrows the row.
    pub fn as_action(&self) -> Action<'_> {
        match self {
            Self::Discrete(choice) => Action::Discrete(*choice),
            Self::MultiDiscrete(choices) => Action::MultiDiscrete(choices),
            Self::Continuous(row) => Action::Continuous(row),
        }
    }

    /// A batch of this one action.
    pub(crate) fn alone(&self) -> Actions<'_> {
        match self {
            Self::Discrete(choice) => Actions::Discrete(std::slice::from_ref(choice)),
            Self::MultiDiscrete(choices) => Actions::MultiDiscrete(choices),
            Self::Continuous(row) => Actions::Continuous(row),
        }
    }

    /// The choice, of a discrete action.
    pub fn discrete(&self) -> Option<u32> {
        if let Self::Discrete(choice) = self { Some(*choice) } else { None }
    }
}

impl PartialEq<u32> for OwnedAction {
    fn eq(&self, other: &u32) -> bool {
        self.discrete() == Some(*other)
    }
}

/// What one step brought, besides the observation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Step {
    /// The reward of this step.
    pub reward: f64,
    /// The episode ended *in the task*: nothing comes after, its value is zero.
    pub terminated: bool,
    /// The episode was cut off from outside (a time limit): the value of what would have followed still counts.
    pub truncated: bool,
}

impl Step {
    /// Did the episode end, either way?
    #[inline]
    pub fn ended(&self) -> bool {
        self.terminated || self.truncated
    }
}

/// One environment. It writes observations into the caller's row, so a step allocates nothing.
///
/// A corridor of length 3, with −0.1 a step and +1 at its end:
///
/// ```
/// use air_rl::{Action, BoxError, Env, Space, Step};
///
/// struct Corridor(u32);
///
/// impl Env for Corridor {
///     fn observation_space(&self) -> Space { Space::bounded(&[0.0], &[3.0]) }
///     fn action_space(&self) -> Space { Space::discrete(2) }
///     fn reset(&mut self, _seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
///         self.0 = 0;
///         obs[0] = 0.0;
///         Ok(())
///     }
///     fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
///         self.0 = if action == Action::Discrete(1) { self.0 + 1 } else { self.0.saturating_sub(1) };
///         obs[0] = self.0 as f32;
///         let terminated = self.0 == 3;
///         Ok(Step { reward: if terminated { 1.0 } else { -0.1 }, terminated, truncated: false })
///     }
/// }
///
/// air_rl::check_env(&mut Corridor(0))?;
/// # Ok::<(), air_rl::RlError>(())
/// ```
pub trait Env: Send {
    /// What observations look like; the same for the life of the environment.
    fn observation_space(&self) -> Space;

    /// What actions look like; the same for the life of the environment.
    fn action_space(&self) -> Space;

    /// Starts an episode and writes its first observation into `obs` (`observation_space().row_len()` items).
    ///
    /// With a seed, everything random from here on follows from it. Without one, the stream of the last seed goes on.
    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError>;

    /// Takes one step and writes the observation after it into `obs`, the last one of an episode too.
    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError>;

    /// Does [`action_mask`](Self::action_mask) ever rule anything out? The same for the life of the environment.
    fn masks_actions(&self) -> bool {
        false
    }

    /// Which choices make sense in the present state, after a reset or a step: `action_space().choices()` items, the
    /// choices of several decisions one after another. At least one of each decision must be allowed. It is asked for
    /// only if [`masks_actions`](Self::masks_actions); policies never take what it rules out.
    fn action_mask(&self, mask: &mut [bool]) {
        mask.fill(true);
    }
}

impl<E: Env + ?Sized> Env for &mut E {
    fn observation_space(&self) -> Space {
        (**self).observation_space()
    }

    fn action_space(&self) -> Space {
        (**self).action_space()
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        (**self).reset(seed, obs)
    }

    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        (**self).step(action, obs)
    }

    fn masks_actions(&self) -> bool {
        (**self).masks_actions()
    }

    fn action_mask(&self, mask: &mut [bool]) {
        (**self).action_mask(mask);
    }
}

impl<E: Env + ?Sized> Env for Box<E> {
    fn observation_space(&self) -> Space {
        (**self).observation_space()
    }

    fn action_space(&self) -> Space {
        (**self).action_space()
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        (**self).reset(seed, obs)
    }

    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        (**self).step(action, obs)
    }

    fn masks_actions(&self) -> bool {
        (**self).masks_actions()
    }

    fn action_mask(&self, mask: &mut [bool]) {
        (**self).action_mask(mask);
    }
}

/// The observation row as an array of the length an environment knows it has.
#[inline]
pub(crate) fn row<const N: usize>(obs: &mut [f32]) -> Result<&mut [f32; N], RlError> {
    let got = obs.len();
    obs.try_into().map_err(|_| RlError::Shape { what: "observation row", got, expected: N })
}

/// The error for an action that `space` does not hold, met by an environment that is not in a batch.
#[cold]
pub(crate) fn out_of_range(action: Action<'_>, space: &Space) -> BoxError {
    Box::new(RlError::ActionOutOfRange { env: 0, action: format!("{action:?}"), space: space.to_string() })
}
