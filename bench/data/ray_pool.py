"""Ray Data's stateful `map_batches` with a slow stage: actors that wait 5 ms a batch.

    python ray_pool.py [--workers 4] [--batches 800] [--stage-ms 5] [--runs 3]

Prints {"seconds": […], "rows": n}. Ray is up, and has run such a pool once, before the first timed run; each run starts its own actors, as ours
starts its own workers.
"""

import argparse
import json
import logging
import os
import time

import ray

ROWS_A_BATCH = 1024


class Slow:
    def __init__(self, stage_s):
        self.stage_s = stage_s

    def __call__(self, batch):
        time.sleep(self.stage_s)
        return batch


def run(workers, batches, stage_s):
    dataset = ray.data.range(batches * ROWS_A_BATCH).map_batches(
        Slow, fn_constructor_args=[stage_s], batch_size=ROWS_A_BATCH, concurrency=workers, num_cpus=0.1)
    return sum(len(batch["id"]) for batch in dataset.iter_batches(batch_size=ROWS_A_BATCH))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--batches", type=int, default=800)
    parser.add_argument("--stage-ms", type=float, default=5)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    run(options.workers, options.workers, 0)

    seconds, rows = [], 0
    for _ in range(options.runs):
        start = time.perf_counter()
        rows = run(options.workers, options.batches, options.stage_ms / 1e3)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds, "rows": rows}))


if __name__ == "__main__":
    main()
