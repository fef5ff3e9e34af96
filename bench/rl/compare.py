"""PPO on CartPole-v1 to a mean return of 475, beside Stable-Baselines3. Each run has the next seed: 1, 2, 3."""

from itertools import count
from pathlib import Path

from lib import Comparison, Failed, Peer, Row, built, peer_script, run_json

HERE = Path(__file__).parent
SEEDS = {"ours": count(1), "sb3": count(1)}


def values(result):
    if result["mean_return"] < 475:
        raise Failed(f"stopped at a mean return of {result['mean_return']}")
    return {"seconds": result["seconds"], "steps": result["steps"], "steps_per_s": result["steps"] / result["seconds"]}


def ours():
    options = ["--seed", next(SEEDS["ours"]), "--until-return", 475, "--json"]
    return values(run_json([built("air-rl"), "train", "ppo", "CartPole-v1", *options]))


def stable_baselines():
    return values(peer_script(HERE / "sb3_ppo.py", "--seed", next(SEEDS["sb3"]), package="stable-baselines3"))


SB3 = "Stable-Baselines3"
COMPARISON = Comparison(
    title="RL: CartPole-v1 to 475",
    about="PPO until the mean return of the last 100 training episodes is at least 475. Stable-Baselines3 runs with the settings of "
    "rl-baselines3-zoo for this environment; starting Python is not counted.",
    ours=ours,
    peers=[Peer(SB3, stable_baselines, package="stable-baselines3")],
    rows=[
        Row("time to 475", "s", "seconds", "seconds", SB3, higher_is_better=False),
        Row("environment steps to 475", "steps", "steps", "steps", SB3, higher_is_better=False, floor=0.8),
        Row("training speed", "steps/s", "steps_per_s", "steps_per_s", SB3),
    ],
)
