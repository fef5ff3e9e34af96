//! Learn to walk down a corridor: PPO with three rollout workers, five iterations; then one episode in a shorter one.
//!
//! ```text
//! cargo run --release -p air-rl --example rl_quickstart
//! ```

use air_rl::envs::SimpleCorridor;
use air_rl::{Algorithm, EnvSpec, Ppo, PpoConfig, RlError};

fn main() -> Result<(), RlError> {
    // 12 environments shared by 3 runners, 4 008 steps an iteration. λ = 1, because here the whole walk earns its end.
    let config = PpoConfig { runners: 3, envs: 12, steps: 334, lambda: 1.0, ..PpoConfig::default() };
    let env = EnvSpec::new("SimpleCorridor", || SimpleCorridor::new(20));
    let mut ppo = Ppo::new(config, env, 0)?;
    for i in 0..5 {
        let mean = ppo.train()?.mean_return.unwrap_or(f64::NAN);
        println!("Iter: {i}; avg. reward={mean:.2}");
    }

    let played = ppo.policy().play(SimpleCorridor::new(10), 0, 1_000)?;
    println!("Played 1 episode; total-reward={:.1}", played.total);
    Ok(())
}
