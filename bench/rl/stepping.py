"""CartPole-v1 stepped with random actions: PufferLib's environment in C, or Gymnasium's in Python.

    python stepping.py puffer|gymnasium-async|gymnasium-sync ENVS

Prints {"steps_per_s": n}. PufferLib 3 is built by hand where its set-up does not run: only its CartPole is needed.
"""

import json
import sys
import time

import numpy as np

SECONDS = 3.0


def main():
    which, envs = sys.argv[1], int(sys.argv[2])
    if which == "puffer":
        from pufferlib.ocean.cartpole.cartpole import Cartpole

        env = Cartpole(num_envs=envs, report_interval=128)
    else:
        import gymnasium

        env = gymnasium.make_vec("CartPole-v1", envs, vectorization_mode=which.removeprefix("gymnasium-"))
    env.reset()
    actions = [np.random.default_rng(i).integers(0, 2, envs) for i in range(64)]
    for action in actions:
        env.step(action)
    begin, batches = time.perf_counter(), 0
    while time.perf_counter() - begin < SECONDS:
        for action in actions:
            env.step(action)
        batches += len(actions)
    print(json.dumps({"steps_per_s": batches * envs / (time.perf_counter() - begin)}))
    env.close()


if __name__ == "__main__":
    main()
