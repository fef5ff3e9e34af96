"""RLlib's tuned example of PPO on CartPole-v1 (rllib/examples/algorithms/ppo), until a mean return of 475 over 100 episodes.

    python rllib.py ppo [--seed 1] [--limit 300]
"""

import logging
import time

from until import BEGIN, Until, arguments

import ray
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig


def main():
    args = arguments("ppo")
    ray.init(num_cpus=8, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    config = (PPOConfig().environment("CartPole-v1")
              .env_runners(num_env_runners=4, num_envs_per_env_runner=16)
              .learners(num_learners=1)
              .training(lr=0.0003, num_epochs=6, vf_loss_coeff=0.01)
              .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[32], fcnet_activation="linear", vf_share_layers=True))
              .reporting(metrics_num_episodes_for_smoothing=100, min_time_s_per_iteration=0)
              .debugging(seed=args.seed, log_level="ERROR"))
    until, steps, first = Until(475.0, args.limit), 0, None
    algorithm = config.build_algo()
    while not until.over():
        result = algorithm.train()["env_runners"]
        first = first or time.perf_counter() - BEGIN
        steps = int(result.get("num_env_steps_sampled_lifetime", steps))
        if result.get("num_episodes_lifetime", 0) >= 100 and result.get("episode_return_mean", 0.0) >= 475.0:
            until.reach(steps)
    until.tell(steps, first_update_s=first)
    algorithm.stop()
    ray.shutdown()


if __name__ == "__main__":
    main()
