//! Where what lies in the memory shared with a worker.

use serde::Serialize;

/// Offsets in bytes of the rows of `envs` environments; numbers are in the machine's own order. What a step brings lies together, so that
/// it is one read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Layout {
    /// Items of an observation, of an action, of a mask (0: nothing is ever ruled out).
    pub obs_len: usize,
    pub action_len: usize,
    pub mask_len: usize,
    /// `[envs]` u64.
    pub seeds: usize,
    /// `[envs, action_len]`, u32 or f32.
    pub actions: usize,
    /// `[envs]` f64.
    pub reward: usize,
    /// `[envs, obs_len]` f32.
    pub obs: usize,
    /// `[envs]`, see [`TERMINATED`] and the others.
    pub flags: usize,
    /// `[envs, mask_len]`, 0 or 1.
    pub mask: usize,
    /// Last observations of episodes that ended, `[envs, obs_len]` f32.
    pub r#final: usize,
    /// Size of the whole.
    pub bytes: usize,
}

/// Of the flags of a step: the episode ended in the task.
pub(super) const TERMINATED: u8 = 1;
/// The episode was cut off.
pub(super) const TRUNCATED: u8 = 2;
/// The environment failed and has been replaced; there is no final observation.
pub(super) const LOST: u8 = 4;

impl Layout {
    pub(super) fn new(envs: usize, obs_len: usize, action_len: usize, mask_len: usize) -> Self {
        let seeds = 0;
        let actions = seeds + 8 * envs;
        let reward = (actions + 4 * envs * action_len).next_multiple_of(8);
        let obs = reward + 8 * envs;
        let flags = obs + 4 * envs * obs_len;
        let mask = flags + envs;
        let r#final = (mask + envs * mask_len).next_multiple_of(4);
        let bytes = r#final + 4 * envs * obs_len;
        Self { obs_len, action_len, mask_len, seeds, actions, reward, obs, flags, mask, r#final, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other_aligned_and_without_overlap() {
        for (envs, obs, action, mask) in [(1, 1, 1, 0), (3, 5, 1, 7), (8, 4, 1, 2), (2, 100, 3, 9)] {
            let l = Layout::new(envs, obs, action, mask);
            assert_eq!((l.seeds, l.reward % 8, l.actions % 4, l.obs % 4, l.r#final % 4), (0, 0, 0, 0, 0));
            let ends = [
                (l.seeds + 8 * envs, l.actions),
                (l.actions + 4 * envs * action, l.reward),
                (l.reward + 8 * envs, l.obs),
                (l.obs + 4 * envs * obs, l.flags),
                (l.flags + envs, l.mask),
                (l.mask + envs * mask, l.r#final),
                (l.r#final + 4 * envs * obs, l.bytes),
            ];
            assert!(ends.iter().all(|(end, next)| end <= next && next - end < 8), "{l:?}");
        }
    }
}
