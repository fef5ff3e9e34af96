//! Actions of every kind, from the environment to the policy: several choices, reals, and choices that are ruled out.

use air_core::checkpoint::{CheckpointStore, Retention};
use air_core::storage::Storage;
use air_rl::{
    Action, Actions, Algorithm as _, BoxError, Env, EnvSpec, OwnedAction, Policy, Ppo, PpoConfig, Reason,
    RlError, Space, Step, Stop, VecEnv, Vectorized, check_env, rng::NumpyRng,
};

/// Sixteen rounds of guessing what is shown: each observation is a target that the action should name.
struct Guess {
    kind: Kind,
    rng: NumpyRng,
    target: [f64; 2],
    round: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// One of five, of which the observation rules two out: taking one of those is an error.
    Masked,
    /// One of three and one of four.
    Multi,
    /// Two reals.
    Reals,
}

impl Guess {
    fn new(kind: Kind) -> Self {
        Self { kind, rng: NumpyRng::new(0), target: [0.0; 2], round: 0 }
    }

    fn spec(kind: Kind) -> EnvSpec {
        EnvSpec::new("Guess", move || Self::new(kind))
    }

    fn ask(&mut self, obs: &mut [f32]) {
        let integer = |rng: &mut NumpyRng, n| rng.integers(0, n) as f64;
        self.target = match self.kind {
            Kind::Masked => [integer(&mut self.rng, 5), 0.0],
            Kind::Multi => [integer(&mut self.rng, 3), integer(&mut self.rng, 4)],
            Kind::Reals => [self.rng.uniform(-0.8, 0.8), self.rng.uniform(-0.8, 0.8)],
        };
        obs.copy_from_slice(&self.target.map(|x| x as f32));
    }

    /// Forbidden: the two choices after the target.
    fn forbids(&self, choice: usize) -> bool {
        (1..=2).any(|k| choice == (self.target[0] as usize + k) % 5)
    }
}

impl Env for Guess {
    fn observation_space(&self) -> Space {
        Space::bounded(&[-1.0; 2], &[5.0; 2])
    }

    fn action_space(&self) -> Space {
        match self.kind {
            Kind::Masked => Space::discrete(5),
            Kind::Multi => Space::multi_discrete(&[3, 4]),
            Kind::Reals => Space::bounded(&[-1.0; 2], &[1.0; 2]),
        }
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        if let Some(seed) = seed {
            self.rng = NumpyRng::new(seed);
        }
        self.round = 0;
        self.ask(obs);
        Ok(())
    }

    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        let reward = match action {
            Action::Discrete(choice) if self.forbids(choice as usize) => {
                return Err("a masked action was taken".into());
            }
            Action::Discrete(choice) => f64::from(u8::from(f64::from(choice) == self.target[0])),
            Action::MultiDiscrete(choices) => {
                choices.iter().zip(self.target).filter(|(c, t)| f64::from(**c) == *t).count() as f64 / 2.0
            }
            Action::Continuous(x) => {
                1.0 - x.iter().zip(self.target).map(|(x, t)| (f64::from(*x) - t).powi(2)).sum::<f64>()
            }
        };
        self.round += 1;
        self.ask(obs);
        Ok(Step { reward, terminated: self.round == 16, truncated: false })
    }

    fn masks_actions(&self) -> bool {
        self.kind == Kind::Masked
    }

    fn action_mask(&self, mask: &mut [bool]) {
        for (choice, allowed) in mask.iter_mut().enumerate() {
            *allowed = !self.forbids(choice);
        }
    }
}

fn learned(kind: Kind, seed: u64, target: f64) -> Ppo {
    let config = PpoConfig { gamma: 0.0, log_std: -0.7, ..PpoConfig::default() };
    let mut ppo = Ppo::new(config, Guess::spec(kind), seed).unwrap();
    let outcome = ppo.train_until(&Stop::at_return(target).or_steps(200_000)).unwrap();
    assert_eq!(outcome.reason, Reason::MeanReturn, "seed {seed}: {outcome:?}");
    ppo
}

/// Best: 16. Random: 5.3; and not one masked action is taken, exploring or not, or the environment ends the run.
#[test]
fn masked_choices_are_never_taken_and_the_rest_is_learned() {
    for seed in 1..=3 {
        let ppo = learned(Kind::Masked, seed, 15.5);
        let played = ppo.policy().evaluate(&Guess::spec(Kind::Masked), 20, seed, 100).unwrap();
        assert!(played.iter().map(|p| p.total).sum::<f64>() >= 15.5 * 20.0, "{played:?}");
    }
}

/// Best: 16. Random: 4.7.
#[test]
fn several_choices_at_once_are_learned() {
    for seed in 1..=3 {
        let policy = learned(Kind::Multi, seed, 15.0).policy();
        assert_eq!(policy.act(&[2.0, 1.0]).unwrap(), OwnedAction::MultiDiscrete(vec![2, 1]));
        let played = policy.evaluate(&Guess::spec(Kind::Multi), 20, seed, 100).unwrap();
        assert!(played.iter().all(|p| p.total >= 14.0 && p.length == 16), "{played:?}");
    }
}

/// Best: 16. Standing still: 9.2; what is drawn with the first deviation around the best: 8.
#[test]
fn reals_are_learned_and_their_deviation_shrinks() {
    for seed in 1..=3 {
        let ppo = learned(Kind::Reals, seed, 15.5);
        let policy = ppo.policy();
        let OwnedAction::Continuous(x) = policy.act(&[0.5, -0.5]).unwrap() else { panic!("not reals") };
        assert!((x[0] - 0.5).abs() < 0.2 && (x[1] + 0.5).abs() < 0.2, "{x:?}");
        // Far outside of what was seen, the mean is still clipped to the bounds.
        let OwnedAction::Continuous(x) = policy.act(&[5.0, -5.0]).unwrap() else { panic!("not reals") };
        assert!(policy.action_space().contains(&x), "{x:?}");
    }
}

#[test]
fn policies_of_every_kind_come_back_from_a_checkpoint_and_runs_go_on() {
    for kind in [Kind::Masked, Kind::Multi, Kind::Reals] {
        let dir = tempfile::tempdir().unwrap();
        let location = dir.path().to_str().unwrap();
        let config =
            PpoConfig { normalize_observations: true, normalize_rewards: true, ..PpoConfig::default() };
        let mut ppo = Ppo::new(config, Guess::spec(kind), 4).unwrap();
        ppo.train_until(&Stop::after_iterations(10)).unwrap();
        let store = CheckpointStore::open(Storage::open(location).unwrap(), Retention::default()).unwrap();
        ppo.save(&store).unwrap();
        let (trained, loaded) = (ppo.policy(), Policy::load(location).unwrap());
        let mask = [true, false, false, true, true];
        let mask = if kind == Kind::Masked { &mask[..] } else { &[] };
        for i in 0..5 {
            let obs = [i as f32 * 0.7, 0.3];
            assert_eq!(trained.act_masked(&obs, mask).unwrap(), loaded.act_masked(&obs, mask).unwrap());
        }
        let resume = || {
            let mut ppo = Ppo::load(location, Guess::spec(kind)).unwrap();
            format!("{:?}", ppo.train_until(&Stop::after_iterations(5)).unwrap().last.learner)
        };
        assert_eq!(resume(), resume());
    }
}

#[test]
fn results_do_not_depend_on_runners_whatever_the_actions_and_with_normalisers() {
    for kind in [Kind::Masked, Kind::Multi, Kind::Reals] {
        let run = |runners, parallel| {
            let (normalize_observations, normalize_rewards) = (true, true);
            let config = PpoConfig {
                runners,
                parallel,
                normalize_observations,
                normalize_rewards,
                ..PpoConfig::default()
            };
            let mut ppo = Ppo::new(config, Guess::spec(kind), 5).unwrap();
            let last = ppo.train_until(&Stop::after_iterations(10)).unwrap().last;
            format!("{:?} {:?}", last.mean_return, last.learner)
        };
        let one = run(1, false);
        assert_eq!(one, run(3, false));
        assert_eq!(one, run(2, true));
    }
}

#[test]
fn a_batch_checks_actions_of_every_kind() {
    let mut multi = Vectorized::new(vec![Guess::new(Kind::Multi), Guess::new(Kind::Multi)]).unwrap();
    multi.reset(&[1, 2]).unwrap();
    multi.step(Actions::MultiDiscrete(&[2, 3, 0, 0])).unwrap();
    let error = multi.step(Actions::MultiDiscrete(&[0, 0, 0, 4])).unwrap_err().to_string();
    assert_eq!(error, "action [0, 4] of environment 1 is outside MultiDiscrete([3, 4])");
    let error = multi.step(Actions::MultiDiscrete(&[0, 0])).unwrap_err().to_string();
    assert_eq!(error, "actions has length 2, expected 4");
    assert!(matches!(multi.step(Actions::Discrete(&[0, 0])), Err(RlError::Space { .. })));

    let mut masked = Vectorized::new(vec![Guess::new(Kind::Masked)]).unwrap();
    masked.reset(&[1]).unwrap();
    for _ in 0..40 {
        let target = masked.batch().obs[0] as usize;
        let forbidden: Vec<usize> = (0..5).filter(|&choice| !masked.batch().mask[choice]).collect();
        let mut expected = [(target + 1) % 5, (target + 2) % 5];
        expected.sort_unstable();
        assert_eq!(forbidden, expected);
        masked.step(Actions::Discrete(&[target as u32])).unwrap();
        assert_eq!(masked.batch().reward, [1.0]);
    }
    for kind in [Kind::Multi, Kind::Reals] {
        check_env(&mut Guess::new(kind)).unwrap();
    }
}

#[test]
fn a_mask_that_rules_everything_out_is_an_error() {
    struct Stuck;
    impl Env for Stuck {
        fn observation_space(&self) -> Space {
            Space::bounded(&[0.0], &[1.0])
        }
        fn action_space(&self) -> Space {
            Space::multi_discrete(&[2, 2])
        }
        fn reset(&mut self, _: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
            obs[0] = 0.0;
            Ok(())
        }
        fn step(&mut self, _: Action<'_>, _: &mut [f32]) -> Result<Step, BoxError> {
            Ok(Step::default())
        }
        fn masks_actions(&self) -> bool {
            true
        }
        fn action_mask(&self, mask: &mut [bool]) {
            mask.copy_from_slice(&[true, true, false, false]);
        }
    }
    let error = Vectorized::new(vec![Stuck]).unwrap().reset(&[0]).unwrap_err().to_string();
    assert_eq!(error, "environment breaks its contract: environment 0 rules every action out");
}
