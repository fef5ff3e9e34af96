//! From what a policy sees back to what the environment showed, and to its picture.

use super::canvas::Canvas;
use super::scenes::{self, Draw};
use crate::env::space::Space;
use crate::env::wrap::Wrap;
use crate::envs::{EnvSpec, Registry};
use crate::error::{Result, RlError};

/// Draws the observations of one environment.
///
/// ```
/// use air_rl::{Registry, view::{Viewer, text}};
///
/// let registry = Registry::default();
/// let viewer = Viewer::new(&registry, &registry.spec("CartPole-v1")?)?;
/// let picture = viewer.draw(&[0.0, 0.0, 0.1, 0.0], 60, 30);
/// println!("{}", text(&picture, false));
/// # Ok::<(), air_rl::RlError>(())
/// ```
pub struct Viewer {
    draw: Draw,
    /// What wrappers did to an observation, the outermost first.
    undo: Vec<Undo>,
}

/// How what a wrapper did to an observation is undone.
enum Undo {
    /// The newest of so many.
    Newest(usize),
    /// The place of each one among zeros.
    Choices(Vec<u32>),
}

impl Viewer {
    /// For observations of `env`, in its wrappers. An error if it is none of the environments that can be drawn.
    pub fn new(registry: &Registry, env: &EnvSpec) -> Result<Self> {
        let bad = |source| RlError::EnvOptions { name: env.name().to_owned(), source };
        let mut options = env.options().clone();
        let wraps = options.remove("wrap").map_or(Ok(Vec::new()), Wrap::list).map_err(bad)?;
        let Some(draw) = scenes::of(env.name(), &options).map_err(bad)? else {
            return Err(RlError::NotDrawn {
                name: env.name().to_owned(),
                drawn: scenes::DRAWN.iter().map(|name| (*name).to_owned()).collect(),
            });
        };
        let mut undo = Vec::new();
        if !wraps.is_empty() {
            let mut space = registry.spec_with(env.name(), options)?.make(1)?.observation_space().clone();
            for wrap in wraps {
                match wrap {
                    Wrap::FrameStack(k) => {
                        undo.push(Undo::Newest(k));
                        space = match space {
                            Space::Box { .. } => space,
                            choices => Space::multi_discrete(&choices.groups().repeat(k)),
                        };
                    }
                    Wrap::OneHot if space.choices() > 0 => {
                        undo.push(Undo::Choices(space.groups().to_vec()));
                        space = Space::bounded(&[0.0], &[1.0]);
                    }
                    _ => {}
                }
            }
            undo.reverse();
        }
        Ok(Self { draw, undo })
    }

    /// The picture of an observation as the environment in its wrappers shows it, `width × height` pixels.
    pub fn draw(&self, obs: &[f32], width: usize, height: usize) -> Canvas {
        let mut row = obs.to_vec();
        for undo in &self.undo {
            match undo {
                Undo::Newest(k) => {
                    let len = row.len() / k;
                    row.drain(..row.len() - len);
                }
                Undo::Choices(groups) => {
                    let mut rest = &row[..];
                    let mut choices = Vec::with_capacity(groups.len());
                    for &n in groups {
                        let (one, others) = rest.split_at((n as usize).min(rest.len()));
                        choices.push(one.iter().position(|&x| x > 0.5).unwrap_or_default() as f32);
                        rest = others;
                    }
                    row = choices;
                }
            }
        }
        Canvas::draw(&(self.draw)(&row), width, height)
    }
}
