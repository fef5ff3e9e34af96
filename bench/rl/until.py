"""What the peers' scripts share: when a run has reached its goal, and what is told of it.

A run has reached a goal when the mean return of its last 100 finished training episodes, exploration included, is at least that.
"""

import argparse
import json
import time
from collections import deque

BEGIN = time.perf_counter()
WINDOW = 100


def arguments(*works):
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=works)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds of training after which it is given up")
    return parser.parse_args()


class Until:
    def __init__(self, goal, limit_s):
        self.goal, self.limit_s = goal, limit_s
        self.returns, self.reached_at = deque(maxlen=WINDOW), None
        self.start_s = time.perf_counter() - BEGIN
        self.begin = time.perf_counter()

    def episode(self, value, steps):
        """Books an episode that ended after so many steps of the run; says whether to stop."""
        self.returns.append(float(value))
        if len(self.returns) == WINDOW and sum(self.returns) / WINDOW >= self.goal:
            self.reach(steps)
        return self.over()

    def reach(self, steps):
        self.reached_at = self.reached_at or (steps, time.perf_counter() - self.begin)

    def over(self):
        return self.reached_at is not None or time.perf_counter() - self.begin > self.limit_s

    def tell(self, steps, **more):
        """Prints one JSON object: steps and seconds of the training, whether and when the goal was reached, the start before it."""
        at, seconds = self.reached_at or (None, None)
        trained = time.perf_counter() - self.begin
        print(json.dumps({"reached": self.reached_at is not None, "reached_steps": at, "reached_seconds": seconds, "steps": steps,
                          "seconds": trained, "start_s": self.start_s, **more}))
