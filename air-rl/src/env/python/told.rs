//! What a worker tells of its environments.

use std::collections::HashMap;

use serde::Deserialize;

use super::layout::Layout;
use super::worker::Lost;
use crate::env::space::Space;

/// Most items of an observation or an action of one environment, of all agents together.
const ITEMS: usize = 1 << 24;
/// Most agents of an environment.
const AGENTS: usize = 1 << 12;

/// What a worker tells of its environments, from which it follows how rows lie in the memory shared with it.
pub(super) trait Told: for<'de> Deserialize<'de> {
    /// Of so many environments, or what is wrong with them.
    fn layout(&self, envs: usize) -> Result<Layout, Lost>;
}

/// What a worker's environments are.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spaces {
    pub observation_space: Space,
    pub action_space: Space,
    pub masked: bool,
}

impl Spaces {
    pub(super) fn mask_len(&self) -> usize {
        if self.masked { self.action_space.choices() } else { 0 }
    }
}

impl Told for Spaces {
    fn layout(&self, envs: usize) -> Result<Layout, Lost> {
        check(&self.observation_space, &self.action_space)?;
        let (d, k) = (self.observation_space.row_len(), self.action_space.row_len());
        Ok(Layout::new(envs, d, k, self.mask_len()))
    }
}

fn check(observation_space: &Space, action_space: &Space) -> Result<(), Lost> {
    for (what, space) in [("observation space", observation_space), ("action space", action_space)] {
        space.validate(what).map_err(|e| Lost::Said(e.to_string()))?;
        if space.row_len().max(space.choices()) > ITEMS {
            return Err(Lost::Said(format!("{what} {space} is too large: at most {ITEMS} items")));
        }
    }
    Ok(())
}

/// One agent of an environment of several.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Agent {
    name: String,
    pub observation_space: Space,
    pub action_space: Space,
}

/// Who acts in a worker's environment of several agents. In the shared memory each agent is what an environment is otherwise, in rows that
/// are as wide as the widest.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Agents {
    #[serde(rename = "agents")]
    pub list: Vec<Agent>,
}

impl Agents {
    pub(super) fn widest_observation(&self) -> usize {
        self.list.iter().map(|agent| agent.observation_space.row_len()).max().unwrap_or(0)
    }

    pub(super) fn widest_action(&self) -> usize {
        self.list.iter().map(|agent| agent.action_space.row_len()).max().unwrap_or(0)
    }

    /// The number of each agent's team: those whose names differ only in what follows the last underscore are one.
    pub(super) fn teams(&self) -> Vec<usize> {
        let mut numbers = HashMap::new();
        let number = |agent: &Agent| {
            let team = agent.name.rsplit_once('_').map_or(agent.name.as_str(), |(team, _)| team);
            let next = numbers.len();
            *numbers.entry(team.to_owned()).or_insert(next)
        };
        self.list.iter().map(number).collect()
    }
}

impl Told for Agents {
    fn layout(&self, _: usize) -> Result<Layout, Lost> {
        let (n, d, k) = (self.list.len(), self.widest_observation(), self.widest_action());
        if n == 0 || n > AGENTS {
            return Err(Lost::Said(format!("it has {n} agents: at least 1 and at most {AGENTS}")));
        }
        for agent in &self.list {
            check(&agent.observation_space, &agent.action_space)?;
        }
        if n * d.max(k) > ITEMS {
            return Err(Lost::Said(format!(
                "{n} agents with up to {} items are too large: at most {ITEMS}",
                d.max(k)
            )));
        }
        Ok(Layout::new(n, d, k, 0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn agents(names: &[&str]) -> Agents {
        let agent = |name: &&str| Agent {
            name: (*name).into(),
            observation_space: Space::discrete(3),
            action_space: Space::discrete(2),
        };
        Agents { list: names.iter().map(agent).collect() }
    }

    #[test]
    fn agents_whose_names_differ_after_the_last_underscore_are_a_team() {
        let names = ["red_0", "blue_0", "red_1", "goal_keeper_0", "goal_keeper_1", "referee", "blue_1"];
        assert_eq!(agents(&names).teams(), [0, 1, 0, 2, 2, 3, 1]);
    }

    #[test]
    fn no_agents_and_too_many_are_refused() {
        let why = |agents: Agents| agents.layout(1).map(|_| ()).unwrap_err().to_string();
        assert_eq!(why(agents(&[])), "it has 0 agents: at least 1 and at most 4096");
        assert!(why(agents(&vec!["a"; 4097])).contains("4097 agents"));
        let wide = |agent: &Agent| Agent {
            observation_space: Space::multi_discrete(&vec![2; 5000]),
            ..agent.clone()
        };
        let many = Agents { list: agents(&vec!["a"; 4096]).list.iter().map(wide).collect() };
        assert!(why(many).contains("4096 agents with up to 5000 items are too large"));
        assert!(agents(&["a", "b"]).layout(1).is_ok());
    }
}
