//! Who plays whom: the policy of each agent, and the seats of each side.

use super::Policies;
use crate::env::multi_env::MultiEnv;
use crate::error::{Result, RlError};
use crate::play::multi_runner::Seat;
use crate::play::task::Task;

/// The policies that learn, and which of them plays each agent.
#[derive(Debug)]
pub(super) struct Cast {
    policies: Policies,
    /// The policy of each agent.
    pub players: Vec<usize>,
    /// What each policy is given to learn.
    pub tasks: Vec<Task>,
}

impl Cast {
    pub(super) fn new(policies: Policies, env: &dyn MultiEnv) -> Result<Self> {
        let agents = env.agents();
        if agents == 0 {
            return Err(RlError::Contract { why: "it has no agents".into() });
        }
        let players: Vec<usize> = match policies {
            Policies::Independent => (0..agents).collect(),
            Policies::Teams => (0..agents).map(|agent| env.team(agent)).collect(),
            Policies::Shared | Policies::SelfPlay => vec![0; agents],
        };
        let count = players.iter().max().map_or(0, |&last| last.saturating_add(1));
        let skipped = |policy| !players.contains(&policy);
        if count > agents || (0..count).any(skipped) {
            let why = format!("the numbers of its teams, {players:?}, do not go from 0 on without gaps");
            return Err(RlError::Contract { why });
        }
        let mut tasks: Vec<Option<Task>> = vec![None; count];
        for (agent, &player) in players.iter().enumerate() {
            let own = task(env, agent)?;
            let first = tasks[player].get_or_insert_with(|| own.clone());
            if own != *first {
                return Err(odd(&own, first));
            }
        }
        Ok(Self { policies, players, tasks: tasks.into_iter().flatten().collect() })
    }

    /// The seats of each side that there is: of the policies that learn, then of the past.
    pub(super) fn sides(&self, envs: usize) -> Vec<Vec<Seat>> {
        let mut sides = vec![Vec::new(); self.tasks.len() + 1];
        for env in 0..envs {
            for (agent, &player) in self.players.iter().enumerate() {
                let side = match self.policies {
                    Policies::SelfPlay => usize::from(agent != env % self.players.len()),
                    _ => player,
                };
                sides[side].push(Seat { env, agent });
            }
        }
        sides.retain(|seats| !seats.is_empty());
        sides
    }
}

/// What one agent is given to learn.
fn task(env: &dyn MultiEnv, agent: usize) -> Result<Task> {
    let (observation_space, action_space) = (env.observation_space(agent), env.action_space(agent));
    observation_space.validate("observation space")?;
    action_space.validate("action space")?;
    Ok(Task { observation_space, action_space, masked: false })
}

/// Two agents of one policy are not alike.
fn odd(own: &Task, first: &Task) -> RlError {
    let why = "differs between agents, which only independent policies can play".into();
    let (what, space) = if own.action_space == first.action_space {
        ("observation space", own.observation_space.to_string())
    } else {
        ("action space", own.action_space.to_string())
    };
    RlError::Space { what, space, why }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use air_core::BoxError;

    use super::*;
    use crate::env::space::Space;
    use crate::env::{Action, Step};

    /// Agents of these teams and with so many choices each; never played.
    struct Agents(Vec<(usize, u32)>);

    impl MultiEnv for Agents {
        fn agents(&self) -> usize {
            self.0.len()
        }

        fn team(&self, agent: usize) -> usize {
            self.0[agent].0
        }

        fn observation_space(&self, _: usize) -> Space {
            Space::discrete(2)
        }

        fn action_space(&self, agent: usize) -> Space {
            Space::discrete(self.0[agent].1)
        }

        fn reset(&mut self, _: Option<u64>, _: &[bool], _: &mut [Vec<f32>]) -> Result<(), BoxError> {
            Err("never".into())
        }

        fn step(&mut self, _: &[Action<'_>], _: &mut [Vec<f32>], _: &mut [Step]) -> Result<(), BoxError> {
            Err("never".into())
        }
    }

    #[test]
    fn every_seat_is_played_once_by_whom_the_policies_say() {
        let seat = |env, agent| Seat { env, agent };
        let alike = Agents(vec![(0, 3), (1, 3)]);
        let sides = |policies| Cast::new(policies, &alike).unwrap().sides(3);
        let all = [seat(0, 0), seat(0, 1), seat(1, 0), seat(1, 1), seat(2, 0), seat(2, 1)];
        assert_eq!(sides(Policies::Shared), [all.to_vec()]);
        let (first, second) = ([seat(0, 0), seat(1, 0), seat(2, 0)], [seat(0, 1), seat(1, 1), seat(2, 1)]);
        assert_eq!(sides(Policies::Independent), [first.to_vec(), second.to_vec()]);
        assert_eq!(sides(Policies::Teams), [first.to_vec(), second.to_vec()]);
        let (learns, past) = ([seat(0, 0), seat(1, 1), seat(2, 0)], [seat(0, 1), seat(1, 0), seat(2, 1)]);
        assert_eq!(sides(Policies::SelfPlay), [learns.to_vec(), past.to_vec()]);
    }

    #[test]
    fn a_team_is_played_by_one_policy_and_need_not_be_like_the_others() {
        let cast = Cast::new(Policies::Teams, &Agents(vec![(1, 2), (0, 5), (1, 2)])).unwrap();
        assert_eq!(cast.players, [1, 0, 1]);
        let choices: Vec<Space> = cast.tasks.iter().map(|task| task.action_space.clone()).collect();
        assert_eq!(choices, [Space::discrete(5), Space::discrete(2)]);
        let seat = |agent| Seat { env: 0, agent };
        assert_eq!(cast.sides(1), [vec![seat(1)], vec![seat(0), seat(2)]]);
    }

    #[test]
    fn teams_that_are_not_numbered_or_not_alike_are_errors() {
        let why = |policies, agents: &[(usize, u32)]| {
            Cast::new(policies, &Agents(agents.to_vec())).unwrap_err().to_string()
        };
        for teams in [[(0, 2), (2, 2)], [(1, 2), (1, 2)], [(0, 2), (usize::MAX, 2)]] {
            assert!(why(Policies::Teams, &teams).contains("do not go from 0 on without gaps"), "{teams:?}");
        }
        let other = "differs between agents, which only independent policies can play";
        assert!(why(Policies::Teams, &[(0, 2), (0, 3)]).contains(other));
        assert!(why(Policies::Shared, &[(0, 2), (1, 3)]).contains(other));
        assert!(why(Policies::Shared, &[]).contains("it has no agents"));
    }
}
