//! Wrappers by name, as they stand in an environment's options.

use std::fmt;
use std::str::FromStr;

use air_core::BoxError;
use serde_json::Value;

use super::{ClipAction, ClipReward, FrameStack, OneHot};
use crate::env::Env;
use crate::env::space::Space;
use crate::env::time_limit::TimeLimit;

const KNOWN: &str = "frame_stack=K, one_hot, clip_action, clip_reward=LIMIT, time_limit=STEPS";

/// A wrapper and its setting, in text `frame_stack=4`, `one_hot`, `clip_action`, `clip_reward=1` (between −1 and 1) or `time_limit=200`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wrap {
    /// [`FrameStack`] of this many.
    FrameStack(usize),
    /// [`OneHot`].
    OneHot,
    /// [`ClipAction`].
    ClipAction,
    /// [`ClipReward`] between this and its negative.
    ClipReward(f64),
    /// [`TimeLimit`] of this many steps.
    TimeLimit(u32),
}

impl Wrap {
    /// Wrappers from a JSON array of texts, the innermost first. None may stand twice.
    pub fn list(texts: Value) -> Result<Vec<Self>, BoxError> {
        let texts = serde_json::from_value::<Vec<String>>(texts)?;
        let mut wraps: Vec<Self> = Vec::with_capacity(texts.len());
        for text in texts {
            let wrap: Self = text.parse()?;
            if let Some(other) = wraps.iter().find(|other| other.name() == wrap.name()) {
                return Err(
                    format!("the wrapper `{}` stands twice: `{other}` and `{wrap}`", wrap.name()).into()
                );
            }
            wraps.push(wrap);
        }
        Ok(wraps)
    }

    /// The environment inside this wrapper; an error if the wrapper has nothing to do there.
    pub fn try_around(self, env: Box<dyn Env>) -> Result<Box<dyn Env>, BoxError> {
        let idle = |what: &str, space: &Space| -> BoxError {
            format!("the wrapper `{self}` has nothing to do: the {what} inside it is {space}").into()
        };
        let (observations, actions) = (env.observation_space(), env.action_space());
        match (self, &observations, &actions) {
            (Self::OneHot, Space::Box { .. }, _) => Err(idle("observation space", &observations)),
            (Self::ClipAction, _, Space::Discrete { .. } | Space::MultiDiscrete { .. }) => {
                Err(idle("action space", &actions))
            }
            _ => Ok(self.around(env)),
        }
    }

    /// The environment inside this wrapper.
    pub fn around(self, env: Box<dyn Env>) -> Box<dyn Env> {
        match self {
            Self::FrameStack(k) => Box::new(FrameStack::new(env, k)),
            Self::OneHot => Box::new(OneHot::new(env)),
            Self::ClipAction => Box::new(ClipAction::new(env)),
            Self::ClipReward(limit) => Box::new(ClipReward::new(env, -limit, limit)),
            Self::TimeLimit(steps) => Box::new(TimeLimit::new(env, steps)),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::FrameStack(_) => "frame_stack",
            Self::OneHot => "one_hot",
            Self::ClipAction => "clip_action",
            Self::ClipReward(_) => "clip_reward",
            Self::TimeLimit(_) => "time_limit",
        }
    }
}

impl FromStr for Wrap {
    type Err = BoxError;

    fn from_str(text: &str) -> Result<Self, BoxError> {
        let (name, setting) = text.split_once('=').unwrap_or((text, ""));
        let bad = |what: &str| -> BoxError { format!("the wrapper `{text}` {what}").into() };
        match (name, setting) {
            ("one_hot", "") => Ok(Self::OneHot),
            ("clip_action", "") => Ok(Self::ClipAction),
            ("frame_stack", k) => match k.parse() {
                Ok(k @ 1..=1024) => Ok(Self::FrameStack(k)),
                _ => Err(bad("needs a number of observations, 1 to 1024, such as frame_stack=4")),
            },
            ("clip_reward", limit) => match limit.parse() {
                Ok(limit) if limit > 0.0 && f64::is_finite(limit) => Ok(Self::ClipReward(limit)),
                _ => Err(bad("needs a positive limit, such as clip_reward=1")),
            },
            ("time_limit", steps) => match steps.parse() {
                Ok(steps @ 1..) => Ok(Self::TimeLimit(steps)),
                _ => Err(bad("needs a number of steps, such as time_limit=200")),
            },
            ("one_hot" | "clip_action", _) => Err(bad(&format!("takes no setting: write `{name}`"))),
            _ => Err(bad(&format!("is not known; known: {KNOWN}"))),
        }
    }
}

impl fmt::Display for Wrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrameStack(k) => write!(f, "frame_stack={k}"),
            Self::OneHot => write!(f, "one_hot"),
            Self::ClipAction => write!(f, "clip_action"),
            Self::ClipReward(limit) => write!(f, "clip_reward={limit}"),
            Self::TimeLimit(steps) => write!(f, "time_limit={steps}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_others_are_refused() {
        for text in ["frame_stack=4", "one_hot", "clip_action", "clip_reward=0.5", "time_limit=200"] {
            assert_eq!(text.parse::<Wrap>().unwrap().to_string(), text);
        }
        for text in [
            "frame_stack",
            "frame_stack=0",
            "one_hot=1",
            "clip_reward=-1",
            "clip_reward=inf",
            "time_limit=0",
            "stack",
        ] {
            let error = text.parse::<Wrap>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("the wrapper `{text}` ")), "{error}");
        }
    }

    #[test]
    fn a_list_is_in_order_and_holds_nothing_twice() {
        let list = Wrap::list(json!(["one_hot", "frame_stack=2"])).unwrap();
        assert_eq!(list, [Wrap::OneHot, Wrap::FrameStack(2)]);
        let error = Wrap::list(json!(["time_limit=9", "one_hot", "time_limit=5"])).unwrap_err().to_string();
        assert_eq!(error, "the wrapper `time_limit` stands twice: `time_limit=9` and `time_limit=5`");
    }
}
