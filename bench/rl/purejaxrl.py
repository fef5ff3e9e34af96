"""PureJaxRL's ppo.py, unchanged: PPO with CleanRL's settings on gymnax's CartPole, all inside one jit.

    python purejaxrl.py ppo [--seed 1]       with $AIR_BENCH_PUREJAXRL, the folder of its ppo.py

It runs a fixed number of steps, so the moment it reached the goal is found afterwards: the compilation and a share of the run.
"""

import json
import os
import sys
import time
import types

from until import BEGIN, WINDOW, arguments

# What it imports and CartPole does not need.
brax, envs, wrappers, training = (types.ModuleType(n) for n in ("brax", "brax.envs", "brax.envs.wrappers", "brax.envs.wrappers.training"))
training.EpisodeWrapper = training.AutoResetWrapper = object
brax.envs = envs
sys.modules.update({"brax": brax, "brax.envs": envs, "brax.envs.wrappers": wrappers, "brax.envs.wrappers.training": training,
                    "navix": types.ModuleType("navix")})
import gymnax
import jax
import numpy as np

MAKE = gymnax.make


def make(name):
    """gymnax 1 has two flags of an end; PureJaxRL expects the old one."""
    env, params = MAKE(name)

    class Old:
        def __getattr__(self, key):
            return getattr(env, key)

        def step(self, key, state, action, params=None):
            out = env.step(key, state, action, params)
            return out if len(out) == 5 else (*out[:3], out[3] | out[4], out[5])

    return Old(), params


def main():
    args = arguments("ppo")
    gymnax.make = make
    sys.path.insert(0, os.environ["AIR_BENCH_PUREJAXRL"])
    import ppo

    config = dict(LR=2.5e-4, NUM_ENVS=4, NUM_STEPS=128, TOTAL_TIMESTEPS=5e5, UPDATE_EPOCHS=4, NUM_MINIBATCHES=4, GAMMA=0.99, GAE_LAMBDA=0.95,
                  CLIP_EPS=0.2, ENT_COEF=0.01, VF_COEF=0.5, MAX_GRAD_NORM=0.5, ACTIVATION="tanh", ENV_NAME="CartPole-v1", ANNEAL_LR=True, DEBUG=False)
    start_s = time.perf_counter() - BEGIN
    begin = time.perf_counter()
    run = jax.jit(ppo.make_train(config)).lower(jax.random.PRNGKey(args.seed)).compile()
    compile_s = time.perf_counter() - begin
    begin = time.perf_counter()
    out = jax.block_until_ready(run(jax.random.PRNGKey(args.seed)))
    run_s = time.perf_counter() - begin
    done = np.asarray(out["metrics"]["returned_episode"]).reshape(-1)
    ends = np.flatnonzero(done)
    returns = np.asarray(out["metrics"]["returned_episode_returns"]).reshape(-1)[ends]
    means = np.convolve(returns, np.ones(WINDOW) / WINDOW, "valid")
    hits = np.flatnonzero(means >= 475)
    at = int(ends[hits[0] + WINDOW - 1]) + 1 if len(hits) else None
    print(json.dumps({"reached": at is not None, "reached_steps": at, "reached_seconds": at and compile_s + run_s * at / done.size,
                      "steps": int(done.size), "seconds": run_s, "compile_s": compile_s, "start_s": start_s}))


if __name__ == "__main__":
    main()
