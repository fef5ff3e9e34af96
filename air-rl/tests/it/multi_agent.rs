//! Several agents: environments that keep their contract, policies that are shared, apart, or against their own past.

use air_core::checkpoint::{CheckpointStore, Retention};
use air_core::storage::Storage;
use air_rl::envs::{MultiCartPole, Pursuit, RockPaperScissors};
use air_rl::rng::NumpyRng;
use air_rl::{
    Action, Algorithm as _, BoxError, MultiEnv, MultiEnvSpec, MultiPpo, MultiPpoConfig, Policies, Policy,
    PpoConfig, Reason, Space, Step, Stop, check_multi_env,
};
use air_train::nn::Scratch;

fn poles() -> MultiEnvSpec {
    MultiEnvSpec::new("MultiCartPole", || MultiCartPole::new(2))
}

fn config(policies: Policies) -> MultiPpoConfig {
    MultiPpoConfig { policies, ..MultiPpoConfig::default() }
}

#[test]
fn the_environments_keep_their_contract_and_who_breaks_it_is_told_how() {
    check_multi_env(&mut MultiCartPole::new(3)).unwrap();
    check_multi_env(&mut RockPaperScissors::default()).unwrap();

    /// One agent, which is shown what it must not be.
    struct Wrong(f32, f64);
    impl MultiEnv for Wrong {
        fn agents(&self) -> usize {
            1
        }
        fn observation_space(&self, _: usize) -> Space {
            Space::bounded(&[0.0], &[1.0])
        }
        fn action_space(&self, _: usize) -> Space {
            Space::discrete(2)
        }
        fn reset(&mut self, _: Option<u64>, _: &[bool], obs: &mut [Vec<f32>]) -> Result<(), BoxError> {
            obs[0][0] = 0.5;
            Ok(())
        }
        fn step(
            &mut self,
            _: &[Action<'_>],
            obs: &mut [Vec<f32>],
            steps: &mut [Step],
        ) -> Result<(), BoxError> {
            obs[0][0] = self.0;
            steps[0] = Step { reward: self.1, ..Step::default() };
            Ok(())
        }
    }
    let says = |mut env: Wrong| check_multi_env(&mut env).unwrap_err().to_string();
    assert!(
        says(Wrong(7.0, 0.0)).contains("observation [7.0] of agent 0 is outside Box(0, 1, [1]) at step 1")
    );
    assert!(says(Wrong(0.5, f64::NAN)).contains("reward NaN of agent 0 is not finite at step 0"));

    let mut ppo =
        MultiPpo::new(MultiPpoConfig::default(), MultiEnvSpec::new("Wrong", || Wrong(f32::NAN, 0.0)), 0)
            .unwrap();
    let error = ppo.train().unwrap_err().to_string();
    assert_eq!(error, "observation of environment 0 is not finite at its step 1");
}

/// Each pole ends alone, and nobody else's episode with it.
#[test]
fn agents_end_apart_or_together_as_the_environment_says() {
    let mut env = MultiCartPole::new(2);
    let mut obs = vec![vec![0.0; 4]; 2];
    let mut steps = [Step::default(); 2];
    env.reset(Some(1), &[true, true], &mut obs).unwrap();
    assert_ne!(obs[0], obs[1], "both poles begin alike");
    let mut lengths = [0, 0];
    for _ in 0..60 {
        env.step(&[Action::Discrete(1), Action::Discrete(0)], &mut obs, &mut steps).unwrap();
        lengths = lengths.map(|n| n + 1);
        if steps[0].ended() {
            let other = obs[1].clone();
            env.reset(None, &[true, false], &mut obs).unwrap();
            assert_eq!(obs[1], other);
            assert!(obs[0].iter().all(|x| x.abs() <= 0.05), "{:?}", obs[0]);
            assert!(lengths[0] < 20);
            return;
        }
    }
    panic!("a pole that is always pushed right does not fall");
}

#[test]
fn a_round_goes_to_who_beats_the_other() {
    let mut env = RockPaperScissors::new([1.0, 2.0, 3.0]);
    let mut obs = vec![vec![9.0; 3]; 2];
    let mut steps = [Step::default(); 2];
    env.reset(None, &[true, true], &mut obs).unwrap();
    assert_eq!(obs, [[0.0; 3]; 2]);
    for (mine, theirs, reward) in
        [(0, 0, 0.0), (0, 1, -2.0), (0, 2, 1.0), (1, 0, 2.0), (2, 1, 3.0), (1, 2, -3.0)]
    {
        env.step(&[Action::Discrete(mine), Action::Discrete(theirs)], &mut obs, &mut steps).unwrap();
        assert_eq!((steps[0].reward, steps[1].reward), (reward, -reward), "{mine} against {theirs}");
        assert!(obs[0][theirs as usize] == 1.0 && obs[1][mine as usize] == 1.0);
        assert!(!steps[0].ended());
    }
    assert!(env.step(&[Action::Discrete(3), Action::Discrete(0)], &mut obs, &mut steps).is_err());
}

#[test]
fn shared_and_independent_policies_balance_every_pole_on_three_seeds() {
    for policies in [Policies::Shared, Policies::Independent] {
        for seed in 1..=3 {
            let mut ppo = MultiPpo::new(config(policies), poles(), seed).unwrap();
            let outcome = ppo.train_until(&Stop::at_return(450.0).or_steps(300_000)).unwrap();
            assert_eq!(outcome.reason, Reason::MeanReturn, "{policies:?} {seed}: {:?}", outcome.last);
            let learning = if policies == Policies::Shared { 1 } else { 2 };
            assert_eq!(outcome.last.learner.policies.len(), learning);
            let cartpole = crate::promises::spec("CartPole-v1");
            for agent in 0..2 {
                let played = ppo.policy_of(agent).evaluate(&cartpole, 10, seed, 500).unwrap();
                let mean = played.iter().map(|p| p.total).sum::<f64>() / 10.0;
                assert!(mean > 400.0, "{policies:?} {seed}: agent {agent} has {mean}");
            }
        }
    }
}

/// The probabilities of the three choices, whatever the other chose last.
fn choices(policy: &Policy) -> Vec<[f32; 3]> {
    let mut scratch = Scratch::default();
    let shown = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    shown
        .iter()
        .map(|obs| {
            let logits = policy.actor().infer(obs, 1, &mut scratch).unwrap();
            let sum: f32 = logits.iter().map(|l| l.exp()).sum();
            [0, 1, 2].map(|i| logits[i].exp() / sum)
        })
        .collect()
}

/// A win by rock is worth three, so the best is rock 1/5, paper 3/5, scissors 1/5, and even choice loses 2/3 a round to rock.
/// Against all of its past, self-play is fictitious play, whose mean comes to that (Robinson 1951). On the way there it loses less than half
/// of what even choice does to whoever knows it.
#[test]
fn self_play_of_a_lopsided_game_is_hard_to_exploit_on_three_seeds() {
    let env = MultiEnvSpec::new("RockPaperScissors", || RockPaperScissors::new([3.0, 1.0, 1.0]));
    let ppo = PpoConfig { entropy: 0.05, gamma: 0.0, lr: 1e-3, envs: 32, ..PpoConfig::default() };
    let config = MultiPpoConfig { copy_every: 1, copies: 1000, ppo, ..config(Policies::SelfPlay) };
    for seed in 1..=3 {
        let mut ppo = MultiPpo::new(config.clone(), env.clone(), seed).unwrap();
        // The mean over what was played: no single policy stays put.
        let mut mean = [0.0; 3];
        for iteration in 0..400 {
            ppo.train().unwrap();
            for probabilities in choices(&ppo.policy()).iter().filter(|_| iteration >= 100) {
                mean.iter_mut().zip(probabilities).for_each(|(mean, p)| *mean += p / 1200.0);
            }
        }
        let [rock, paper, scissors] = mean;
        let against = [3.0 * scissors - paper, rock - scissors, paper - 3.0 * rock];
        let lost = against.into_iter().fold(f32::MIN, f32::max);
        assert!(lost < 1.0 / 3.0, "seed {seed}: {mean:?} loses {lost}");
    }
}

/// Catches of an episode, when some teams play what they have learned and the others anything.
fn catches(ppo: &MultiPpo, learned: [bool; 2], seed: u64) -> f64 {
    const EPISODES: u64 = 100;
    let mut env = Pursuit::new(2, 2);
    let (mut obs, mut rng, mut caught) = (vec![vec![0.0; 8]; 4], NumpyRng::new(seed), 0.0);
    let policies: Vec<Policy> = (0..4).map(|agent| ppo.policy_of(agent)).collect();
    for episode in 0..EPISODES {
        let mut steps = [Step::default(); 4];
        env.reset(Some(1000 * seed + episode), &[true; 4], &mut obs).unwrap();
        while !steps[0].ended() {
            let choices = [0, 1, 2, 3].map(|agent| {
                if learned[agent / 2] {
                    policies[agent].act(&obs[agent]).unwrap().discrete().unwrap()
                } else {
                    rng.integers(0, 5) as u32
                }
            });
            env.step(&choices.map(Action::Discrete), &mut obs, &mut steps).unwrap();
            caught += steps[0].reward;
        }
    }
    caught / EPISODES as f64
}

#[test]
fn two_teams_learn_to_chase_and_to_flee_on_three_seeds() {
    let env = MultiEnvSpec::new("Pursuit", || Pursuit::new(2, 2));
    let ppo = PpoConfig { gamma: 0.95, entropy: 0.01, lr: 1e-3, ..PpoConfig::default() };
    for seed in 1..=3 {
        let config = MultiPpoConfig { ppo: ppo.clone(), ..config(Policies::Teams) };
        let mut trainer = MultiPpo::new(config, env.clone(), seed).unwrap();
        let last = trainer.train_until(&Stop::default().or_steps(100_000)).unwrap().last;
        assert_eq!(last.learner.policies.len(), 2);
        let [chance, chased, both] =
            [[false, false], [true, false], [true, true]].map(|learned| catches(&trainer, learned, seed));
        assert!(chased > 3.0 * chance, "seed {seed}: {chased} catches of who learned to, {chance} by chance");
        assert!(
            both < 0.6 * chased,
            "seed {seed}: {both} catches of who learned to flee, {chased} of others"
        );
    }
}

#[test]
fn runs_repeat_and_go_on_from_checkpoints() {
    for policies in [Policies::Shared, Policies::Independent, Policies::SelfPlay] {
        let small = PpoConfig { envs: 3, steps: 32, hidden: vec![8], ..PpoConfig::default() };
        let config = MultiPpoConfig { ppo: small, copy_every: 2, ..config(policies) };
        let told = |ppo: &mut MultiPpo| {
            let last = ppo.train_until(&Stop::after_iterations(12)).unwrap().last;
            format!("{} {} {:?} {:?}", last.steps, last.episodes, last.mean_return, last.learner)
        };
        let run = |seed| {
            let mut ppo = MultiPpo::new(config.clone(), poles(), seed).unwrap();
            let said = told(&mut ppo);
            (ppo, said)
        };
        let (mut ppo, first) = run(1);
        assert_eq!(first, run(1).1);
        assert_ne!(first, run(2).1);

        let dir = tempfile::tempdir().unwrap();
        let location = dir.path().to_str().unwrap();
        let store = CheckpointStore::open(Storage::open(location).unwrap(), Retention::default()).unwrap();
        ppo.save(&store).unwrap();
        let loaded = MultiPpo::load(location, poles()).unwrap();
        for agent in 0..2 {
            let obs = [0.3, -0.2, 0.1, 0.9];
            let outputs = |ppo: &MultiPpo| {
                let mut scratch = Scratch::default();
                ppo.policy_of(agent).actor().infer(&obs, 1, &mut scratch).unwrap().to_vec()
            };
            assert_eq!(outputs(&ppo), outputs(&loaded), "{policies:?} {agent}");
        }
        let resume = || told(&mut MultiPpo::load(location, poles()).unwrap());
        assert_eq!(resume(), resume());
    }
}

#[test]
fn what_cannot_be_shared_is_said() {
    /// Two agents with different actions.
    struct Uneven;
    impl MultiEnv for Uneven {
        fn agents(&self) -> usize {
            2
        }
        fn observation_space(&self, _: usize) -> Space {
            Space::bounded(&[0.0], &[1.0])
        }
        fn action_space(&self, agent: usize) -> Space {
            Space::discrete(2 + agent as u32)
        }
        fn reset(&mut self, _: Option<u64>, _: &[bool], obs: &mut [Vec<f32>]) -> Result<(), BoxError> {
            for obs in obs {
                obs[0] = 0.0;
            }
            Ok(())
        }
        fn step(&mut self, _: &[Action<'_>], _: &mut [Vec<f32>], steps: &mut [Step]) -> Result<(), BoxError> {
            steps.fill(Step { reward: 1.0, terminated: true, truncated: false });
            Ok(())
        }
    }
    let made = |policies| MultiPpo::new(config(policies), MultiEnvSpec::new("Uneven", || Uneven), 0);
    made(Policies::Independent).unwrap().train().unwrap();
    for policies in [Policies::Shared, Policies::SelfPlay] {
        let error = made(policies).map(|_| ()).unwrap_err().to_string();
        assert_eq!(
            error,
            "action space Discrete(3) differs between agents, which only independent policies can play"
        );
    }
    let ppo = PpoConfig { runners: 2, ..PpoConfig::default() };
    let error = MultiPpo::new(MultiPpoConfig { ppo, ..MultiPpoConfig::default() }, poles(), 0).map(|_| ());
    assert!(error.unwrap_err().to_string().contains("runners and parallel do not apply"));
}
