"""Ray's own microbenchmark (`ray microbenchmark`), one JSON line {name, value, unit} a test, in Ray's words and with Ray's loops.

The definitions are those of `ray/_private/ray_perf.py` of the installed package; only the pause before each test is shorter (1 s instead of 10) and
the part for Ray Client, a remote driver, is left out.
"""

import functools
import json
import logging
import sys

import ray
import ray._private.ray_perf as perf
from ray._private import ray_microbenchmark_helpers as helpers


def timeit(name, work, multiplier=1, **_):
    results = helpers.timeit(name, work, multiplier, warmup_time_sec=1)
    for result in filter(None, results):
        print(json.dumps({"name": result[0], "value": float(result[1]), "unit": "1/s"}), flush=True)
    return results


def main():
    perf.timeit = timeit
    perf.client_microbenchmark_main = lambda results: results
    ray.init = functools.partial(ray.init, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    perf.main()


if __name__ == "__main__":
    sys.exit(main())
