//! Wrappers: environments around environments.
//!
//! | wrapper | what it changes |
//! |---|---|
//! | [`FrameStack`] | observations: the last k, oldest first |
//! | [`OneHot`] | observations: choices become rows of zeros and ones |
//! | [`ClipAction`] | actions: any real, held within the bounds |
//! | [`ClipReward`] | rewards: held within a range |
//! | [`RecordEpisodes`] | nothing; it keeps the returns and lengths of the last episodes |
//!
//! [`Wrap`] names them, as an environment's option `wrap` does: `["frame_stack=4", "clip_reward=1"]`, the innermost first.
//!
//! A limit on steps is [`TimeLimit`](crate::TimeLimit). Observations and rewards are normalised by the algorithm, which keeps
//! the running means with the policy (`normalize_observations` and `normalize_rewards` of [`PpoConfig`](crate::PpoConfig)); on the command line
//! and in files the two may stand at the end of the list, too.

mod clip;
mod frame_stack;
mod named;
mod one_hot;
mod record;

pub use clip::{ClipAction, ClipReward};
pub use frame_stack::FrameStack;
pub use named::Wrap;
pub use one_hot::OneHot;
pub use record::RecordEpisodes;

/// What a wrapper that leaves masks alone does about them.
macro_rules! same_masks {
    () => {
        fn masks_actions(&self) -> bool {
            self.env.masks_actions()
        }

        fn action_mask(&self, mask: &mut [bool]) {
            self.env.action_mask(mask);
        }
    };
}
use same_masks;
