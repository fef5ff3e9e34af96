"""Ray Tune's time for trials that do nothing: one uniform parameter, one reported value, or up to 100 under ASHA.

    python ray_tune.py [--trials 1000] [--fresh] [--asha]

Prints {"seconds": s, "trials": n, "start_s": s}: `seconds` is `Tuner.fit` alone, after Ray was imported and started (`start_s`).
Trials reuse their worker processes (`reuse_actors=True`), which suits Ray best; `--fresh` measures its default, a new process
for each, about a second a trial.
"""

import argparse
import json
import os
import shutil
import tempfile
import time

BEGIN = time.perf_counter()
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
import ray
from ray import tune

REPORTS = 100


def trivial(config):
    return {"loss": config["x"]}


def stepped(config):
    for step in range(1, REPORTS + 1):
        tune.report({"loss": config["x"] / step})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--asha", action="store_true")
    options = parser.parse_args()
    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    start_s = time.perf_counter() - BEGIN
    folder = tempfile.mkdtemp(prefix="ray-tune-")
    scheduler = tune.schedulers.ASHAScheduler(max_t=REPORTS, grace_period=1, reduction_factor=3) if options.asha else None
    tuner = tune.Tuner(
        stepped if options.asha else trivial,
        param_space={"x": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(metric="loss", mode="min", num_samples=options.trials, scheduler=scheduler, reuse_actors=not options.fresh),
        run_config=tune.RunConfig(storage_path=folder, name="bench", verbose=0),
    )
    start = time.perf_counter()
    grid = tuner.fit()
    seconds = time.perf_counter() - start
    done = sum(result.error is None and "loss" in result.metrics for result in grid)
    shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({"seconds": seconds, "trials": done, "start_s": start_s}))


if __name__ == "__main__":
    main()
