"""Ray's calls and tasks per second on this machine, one JSON line {name, value, unit} each.

The workloads are those of Ray's own microbenchmark (`ray microbenchmark`, ray/_private/ray_perf.py): an actor whose method
returns two bytes, and a task that does the same, from one driver.

    actor_sync         1:1 actor calls, each waited for before the next
    actor_async_64     1:1 actor calls, 64 in flight
    actor_async_1000   the same with 1 000 in flight, Ray's own setting
    task_sync          tasks, each waited for before the next
    task_async_64      tasks, 64 in flight
    task_async_1000    tasks, 1 000 in flight
"""

import json
import logging
import statistics
import sys
import time

import ray

WARM_S, WINDOW_S, WINDOWS = 1.0, 1.0, 3


@ray.remote(num_cpus=0)
class Actor:
    def small_value(self):
        return b"ok"


@ray.remote
def small_value():
    return b"ok"


def per_second(work, calls):
    """The median rate of a few windows, after a warm-up."""
    work()
    end = time.perf_counter() + WARM_S
    while time.perf_counter() < end:
        work()
    rates = []
    for _ in range(WINDOWS):
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < WINDOW_S:
            work()
            count += calls
        rates.append(count / (time.perf_counter() - start))
    return statistics.median(rates)


def main():
    ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    actor = Actor.remote()
    calls = {"actor": actor.small_value.remote, "task": small_value.remote}
    for name, call in calls.items():
        workloads = [("sync", lambda: ray.get(call()), 1)]
        for n in (64, 1000):
            workloads.append((f"async_{n}", lambda n=n: ray.get([call() for _ in range(n)]), n))
        for kind, work, count in workloads:
            print(json.dumps({"name": f"{name}_{kind}", "value": per_second(work, count), "unit": "1/s"}), flush=True)
    ray.shutdown()


if __name__ == "__main__":
    sys.exit(main())
