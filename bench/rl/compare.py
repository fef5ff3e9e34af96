"""Reinforcement learning beside others: to a goal, per step, from the start. Each run has the next seed: 1, 2, 3."""

import os
import tempfile
import time
from itertools import count
from pathlib import Path

from lib import Comparison, Failed, Missing, Peer, Row, built, python, run, run_json, version

HERE = Path(__file__).parent
CLEANRL = {"envs": 4, "steps": 128, "hidden": "[64,64]", "lr": 2.5e-4, "gamma": 0.99, "lambda": 0.95, "value_clip": 0.2, "entropy": 0.01,
           "epochs": 4, "minibatch": 128}
RLTOOLS_STEPS = 10_000
# Seconds a peer is given where it may not reach the goal at all: DQN and SAC.
PATIENCE_S = 90
# Peers that are no packages of the benchmarks' Python, by the variables that say where they are.
NAMED = {
    "AIR_BENCH_CLEANRL": "CleanRL's ppo.py",
    "AIR_BENCH_CLEANRL_PYTHON": "a Python with torch, gymnasium 0.29, NumPy 1 and tyro",
    "AIR_BENCH_PUREJAXRL": "the folder of PureJaxRL's ppo.py",
    "AIR_BENCH_JAX_PYTHON": "a Python with jax, gymnax, flax and distrax",
    "AIR_BENCH_PUFFER_PYTHON": "a Python with pufferlib 3",
    "AIR_BENCH_RLTOOLS": "RLtools' example of SAC on Pendulum, built with MKL",
}


def timed(command, **options):
    """What a command prints, and the seconds its process takes from start to end."""
    begin = time.perf_counter()
    result = run_json(command, **options)
    return result, time.perf_counter() - begin


def seeds():
    return count(1)


OURS, SB3_SEEDS, CLEANRL_SEEDS, RLLIB_SEEDS, JAX_SEEDS = seeds(), seeds(), seeds(), seeds(), seeds()


def train(algorithm, env, *options):
    return timed([built("air-rl"), "train", algorithm, env, "--json", "--quiet", *options])


def goal(prefix, algorithm, env, target, seed):
    """To a goal, and then 20 episodes of what was learned."""
    with tempfile.TemporaryDirectory() as out:
        result, process_s = train(algorithm, env, "--seed", seed, "--until-return", target)
        # Once more and saved: the same run, whose time does not count.
        train(algorithm, env, "--seed", seed, "--until-return", target, "--out", out)
        played = run_json([built("air-rl"), "eval", out, "--episodes", 20, "--seed", seed, "--json"])
    return {f"{prefix}_process_s": process_s, f"{prefix}_s": result["seconds"], f"{prefix}_steps": result["steps"],
            f"{prefix}_steps_per_s": result["steps_per_second"], f"{prefix}_return": played["mean_return"]}


def stepping(env, envs, *options):
    return run_json([built("air-rl"), "bench", env, "--envs", envs, "--seconds", 3, "--json", *options])["steps_per_second"]


def ours():
    seed = next(OURS)
    values = goal("ppo", "ppo", "CartPole-v1", 475, seed) | goal("dqn", "dqn", "CartPole-v1", 475, seed) | goal("sac", "sac", "Pendulum-v1", -200, seed)
    settings = [part for key, value in CLEANRL.items() for part in ("--set", f"{key}={value}")]
    cleanrl, _ = train("ppo", "CartPole-v1", "--no-preset", *settings, "--seed", seed, "--steps", 300_000)
    values["cleanrl_steps_per_s"] = cleanrl["steps_per_second"]
    both, _ = train("ppo", "CartPole-v1", "--no-preset", *settings, "--set", "threads=2", "--seed", seed, "--steps", 300_000)
    values["cleanrl2_steps_per_s"] = both["steps_per_second"]
    _, values["sac10k_process_s"] = train("sac", "Pendulum-v1", "--no-preset", "--seed", seed, "--steps", RLTOOLS_STEPS)
    _, values["first_update_s"] = train("ppo", "CartPole-v1", "--seed", seed, "--iterations", 1)
    values["step64"], values["step1024"] = stepping("CartPole-v1", 64), stepping("CartPole-v1", 1024)
    try:
        version("gymnasium")
        values["python8"] = stepping("gym:CartPole-v1", 8, "--python", python())
    except Missing:
        pass  # the row stays empty
    return values


def script(name, work, seed, interpreter=None, limit_s=120):
    """A peer's script; what it reached under `work`."""
    command = [interpreter or python(), HERE / name, work, "--seed", seed, "--limit", limit_s]
    result, process_s = timed(command, env={"OMP_NUM_THREADS": "1"})
    values = {f"{work}_steps_per_s": result["steps"] / result["seconds"]}
    if result["reached"]:
        # What the script does after the goal, evaluating above all, does not count.
        values |= {f"{work}_process_s": result["start_s"] + result["reached_seconds"], f"{work}_steps": result["reached_steps"]}
    if "return" in result:
        values[f"{work}_return"] = result["return"]
    if "first_update_s" in result:
        values["first_update_s"] = result["first_update_s"]
    return values


def sb3():
    seed = next(SB3_SEEDS)
    patience = {"limit_s": PATIENCE_S}
    return script("sb3.py", "ppo", seed) | script("sb3.py", "dqn", seed, **patience) | script("sb3.py", "sac", seed, **patience)


def named(variable):
    """What an environment variable names; `Missing` where it is not set."""
    if value := os.environ.get(variable):
        return value
    raise Missing(f"${variable} does not name {NAMED[variable]}")


def asks(*variables):
    """For peers that are no packages: they are there if their variables are set, and have no version."""

    def version_there():
        for variable in variables:
            named(variable)
        return ""

    return version_there


def cleanrl():
    return script("cleanrl.py", "ppo", next(CLEANRL_SEEDS), named("AIR_BENCH_CLEANRL_PYTHON"))


def rllib():
    return script("rllib.py", "ppo", next(RLLIB_SEEDS), limit_s=300)


def purejaxrl():
    return script("purejaxrl.py", "ppo", next(JAX_SEEDS), named("AIR_BENCH_JAX_PYTHON"))


def puffer():
    interpreter = named("AIR_BENCH_PUFFER_PYTHON")
    return {f"step{envs}": run_json([interpreter, HERE / "stepping.py", "puffer", envs])["steps_per_s"] for envs in (64, 1024)}


def gymnasium():
    return {"python8": run_json([python(), HERE / "stepping.py", "gymnasium-async", 8])["steps_per_s"]}


def rltools():
    """Its example of SAC on Pendulum, 10 000 steps, built from its repository with MKL."""
    begin = time.perf_counter()
    run([named("AIR_BENCH_RLTOOLS")])
    return {"sac10k_process_s": time.perf_counter() - begin}


SB3, PUREJAXRL, RLLIB, PUFFER, RLTOOLS = "Stable-Baselines3", "PureJaxRL", "RLlib", "PufferLib's C", "RLtools"


def faster(label, key, peer, floor, note=""):
    return Row(label, "s", key, key, peer, higher_is_better=False, floor=floor, note=note)


NEVER = f"no figure where the peer did not reach it in {PATIENCE_S} s of training"
COMPARISON = Comparison(
    title="RL: to a goal, per step, from the start",
    about="Until the mean return of the last 100 training episodes is at least 475 (CartPole-v1) or −200 (Pendulum-v1). Times to a goal are of whole processes, "
    "start and imports included. Stable-Baselines3 runs with the settings of rl-baselines3-zoo, RLlib with its tuned example, "
    "CleanRL's and PureJaxRL's ppo.py as they are; returns are means of 20 episodes without exploration.",
    ours=ours,
    peers=[
        Peer(SB3, sb3, package="stable-baselines3"),
        Peer("CleanRL", cleanrl, asks=asks("AIR_BENCH_CLEANRL", "AIR_BENCH_CLEANRL_PYTHON")),
        Peer(RLLIB, rllib, package="ray"),
        Peer(PUREJAXRL, purejaxrl, asks=asks("AIR_BENCH_PUREJAXRL", "AIR_BENCH_JAX_PYTHON")),
        Peer(PUFFER, puffer, asks=asks("AIR_BENCH_PUFFER_PYTHON")),
        Peer(RLTOOLS, rltools, asks=asks("AIR_BENCH_RLTOOLS")),
        Peer("Gymnasium", gymnasium, package="gymnasium"),
    ],
    rows=[
        faster("PPO, CartPole to 475", "ppo_process_s", SB3, 40),
        faster("PPO, CartPole to 475", "ppo_process_s", "CleanRL", 100),
        faster("PPO, CartPole to 475", "ppo_process_s", PUREJAXRL, 25),
        faster("PPO, CartPole to 475", "ppo_process_s", RLLIB, 200),
        Row("PPO, environment steps to 475", "steps", "ppo_steps", "ppo_steps", SB3, higher_is_better=False, floor=0.8),
        Row("PPO, steps with CleanRL's settings", "steps/s", "cleanrl_steps_per_s", "ppo_steps_per_s", PUREJAXRL, "without compiling", floor=1.1),
        Row("the same, two threads", "steps/s", "cleanrl2_steps_per_s", "ppo_steps_per_s", PUREJAXRL, "without compiling", floor=1.8),
        Row("PPO, steps with CleanRL's settings", "steps/s", "cleanrl_steps_per_s", "ppo_steps_per_s", "CleanRL", floor=20),
        faster("DQN, CartPole to 475", "dqn_process_s", SB3, 16, NEVER),
        Row("DQN, steps", "steps/s", "dqn_steps_per_s", "dqn_steps_per_s", SB3, floor=16),
        faster("SAC, Pendulum to −200", "sac_process_s", SB3, 80, NEVER),
        Row("SAC, steps", "steps/s", "sac_steps_per_s", "sac_steps_per_s", SB3, "256 × 256 units, ours 32 × 32", floor=16),
        faster("SAC, 10 000 steps with RLtools' settings", "sac10k_process_s", RLTOOLS, 1),
        Row("CartPole, 64 environments, one thread", "steps/s", "step64", "step64", PUFFER, floor=1.5),
        Row("CartPole, 1024 environments, one thread", "steps/s", "step1024", "step1024", PUFFER, floor=1.3),
        Row("Python's CartPole, 8 environments in one worker", "steps/s", "python8", "python8", "Gymnasium", "AsyncVectorEnv", floor=5),
        faster("process start to the end after one update", "first_update_s", RLLIB, 250),
        Row("PPO, return", "return", "ppo_return", "ppo_return", SB3, floor=0.99),
        Row("DQN, return", "return", "dqn_return", "dqn_return", SB3, floor=0.99),
        Row("SAC, return (less negative is better)", "return", "sac_return", "sac_return", SB3, higher_is_better=False, floor=0.9),
    ],
)
