"""Stable-Baselines3 with the settings of rl-baselines3-zoo, until its goal.

    python sb3.py ppo|dqn|sac [--seed 1] [--limit 120]

`return` is the mean of 20 episodes of the trained policy without exploration.
"""

from until import Until, arguments

from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy


def falling(value):
    """A schedule that falls linearly to zero."""
    return lambda left: left * value


class Watch(BaseCallback):
    def __init__(self, until):
        super().__init__()
        self.until = until

    def _on_step(self):
        for info in self.locals["infos"]:
            if "episode" in info and self.until.episode(info["episode"]["r"], self.num_timesteps):
                return False
        return not self.until.over()


def main():
    args = arguments("ppo", "dqn", "sac")
    name, goal = ("Pendulum-v1", -200.0) if args.work == "sac" else ("CartPole-v1", 475.0)
    envs = make_vec_env(name, n_envs=8 if args.work == "ppo" else 1, seed=args.seed)
    if args.work == "ppo":
        steps = 100_000
        model = PPO("MlpPolicy", envs, n_steps=32, batch_size=256, gae_lambda=0.8, gamma=0.98, n_epochs=20, ent_coef=0.0,
                    learning_rate=falling(1e-3), clip_range=falling(0.2), seed=args.seed, device="cpu")
    elif args.work == "dqn":
        steps = 400_000  # the zoo's 50 000 do not reach it; exploration ends where it does there
        model = DQN("MlpPolicy", envs, learning_rate=2.3e-3, batch_size=64, buffer_size=100_000, learning_starts=1000, gamma=0.99,
                    target_update_interval=10, train_freq=256, gradient_steps=128, exploration_fraction=8000 / steps,
                    exploration_final_eps=0.04, policy_kwargs=dict(net_arch=[256, 256]), seed=args.seed, device="cpu")
    else:
        steps = 60_000
        model = SAC("MlpPolicy", envs, learning_rate=1e-3, seed=args.seed, device="cpu")
    until = Until(goal, args.limit)
    model.learn(steps, callback=Watch(until))
    trained = model.num_timesteps
    mean, _ = evaluate_policy(model, make_vec_env(name, n_envs=1, seed=args.seed + 1000), n_eval_episodes=20)
    until.tell(trained, **{"return": float(mean)})


if __name__ == "__main__":
    main()
