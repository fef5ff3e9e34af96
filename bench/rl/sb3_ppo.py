"""Stable-Baselines3's PPO on CartPole-v1 until the mean return of the last 100 training episodes reaches 475.

    python sb3_ppo.py [--seed 1]

Prints {"steps": n, "seconds": s, "mean_return": r, "start_s": s}: `seconds` is the training alone, `start_s` the imports and set-up
before it. The settings are those of rl-baselines3-zoo, tuned for this environment.
"""

import argparse
import json
import time
from collections import deque

BEGIN = time.perf_counter()
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

TARGET, WINDOW, MOST_STEPS = 475.0, 100, 100_000


def falling(value):
    """A schedule that falls linearly to zero."""
    return lambda left: left * value


class Until(BaseCallback):
    """Stops the training once the target is reached."""

    def __init__(self):
        super().__init__()
        self.returns = deque(maxlen=WINDOW)

    def mean(self):
        return sum(self.returns) / len(self.returns) if self.returns else 0.0

    def reached(self):
        return len(self.returns) == WINDOW and self.mean() >= TARGET

    def _on_step(self):
        self.returns.extend(info["episode"]["r"] for info in self.locals["infos"] if "episode" in info)
        return not self.reached()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    seed = parser.parse_args().seed
    envs = make_vec_env("CartPole-v1", n_envs=8, seed=seed)
    model = PPO("MlpPolicy", envs, n_steps=32, batch_size=256, gae_lambda=0.8, gamma=0.98, n_epochs=20, ent_coef=0.0,
                learning_rate=falling(1e-3), clip_range=falling(0.2), seed=seed, device="cpu")
    until = Until()
    start_s = time.perf_counter() - BEGIN
    start = time.perf_counter()
    model.learn(MOST_STEPS, callback=until)
    seconds = time.perf_counter() - start
    if not until.reached():
        raise SystemExit(f"seed {seed}: {until.mean():.1f} after {model.num_timesteps} steps instead of {TARGET}")
    print(json.dumps({"steps": model.num_timesteps, "seconds": seconds, "mean_return": until.mean(), "start_s": start_s}))


if __name__ == "__main__":
    main()
